"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrl_lab.experiments.result import Result, summary
from jaxrl_lab.experiments.statistics import mean_interval

Samples = Mapping[str, np.ndarray]


def cell(sample: np.ndarray) -> str:
    """mean ± half interval (seeds that arrived/seeds)."""
    arrived = sample[np.isfinite(sample)]
    if not len(arrived):
        return f"never (0/{len(sample)})"
    interval = mean_interval(arrived)
    half = f" ± {interval.high - interval.mean:.3f}" if len(arrived) > 1 else ""
    return f"{interval.mean:.3f}{half} ({len(arrived)}/{len(sample)})"


def table(title: str, headings: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A title, a heading line, and one line per row."""
    width = max(len(name) for name in rows)
    lines = [title, " " * width + "".join(f"{h:>24}" for h in headings)]
    lines += [f"{n:<{width}}" + "".join(f"{c:>24}" for c in cells) for n, cells in rows.items()]
    return "\n".join(lines)


def final(run: Result) -> str:
    """Where every arm ends."""
    names = ["accuracy", "solutions", "entropy", "kl", "tokens"]
    headings = ["accuracy", "solutions", "entropy", "KL to start", "tokens"]
    title = f"After {run.updates} updates, mean over {len(run.seeds)} seeds"
    return f"{title}\n{summary(run.dataset, names, headings)}"


def matched(solutions: Samples, accuracies: Sequence[float]) -> str:
    """Solutions at equal accuracy."""
    rows = {arm: [cell(x) for x in by_level.T] for arm, by_level in solutions.items()}
    title = "Effective solutions at matched accuracy: mean ± 95 % (seeds that arrived)"
    return table(title, [f"accuracy {a:g}" for a in accuracies], rows)


def budget(by_kl: Samples, kls: Sequence[float], by_tokens: Samples, counts: np.ndarray) -> str:
    """Solutions at equal distance from the start and at equal numbers of generated tokens."""
    rows = {arm: [cell(x) for x in (*by_kl[arm].T, *by_tokens[arm].T)] for arm in by_kl}
    headings = [f"KL {k:g}" for k in kls] + [f"{n:.0f} tokens" for n in counts]
    title = "Effective solutions at matched KL to the start and matched tokens"
    return table(title, headings, rows)


def breakdown(error: Samples, updates: int) -> str:
    """How far first order is off."""
    rows = {arm: [cell(x)] for arm, x in error.items()}
    title = f"First-order entropy change: Σ|ΔH − predicted| / Σ|ΔH|, first {updates} updates"
    return table(title, ["relative error"], rows)


def laws(fits: Mapping[str, Samples], reward: np.ndarray, prefix: float) -> str:
    """Prediction error on the rest of the training, and the ceilings."""
    rows = {name: [cell(f["rmse"]), cell(f["ceiling"])] for name, f in fits.items()}
    rows["actual"] = ["", cell(reward[:, -1])]
    title = f"Laws fitted on the first {prefix:.0%} of GRPO's training"
    return table(title, ["RMSE on the rest", "ceiling"], rows)
