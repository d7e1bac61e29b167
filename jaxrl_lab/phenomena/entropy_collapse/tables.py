"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrl_lab.phenomena.tables import cell, table

Samples = Mapping[str, np.ndarray]

COLUMNS = {
    "accuracy": "accuracy",
    "solutions": "solutions",
    "entropy": "entropy",
    "kl": "KL to start",
    "tokens": "tokens",
}


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
