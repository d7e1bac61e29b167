"""Six panels: how many groups are dead, and what each remedy learns from the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxrl_lab import plots
from jaxrl_lab.exact import informative_chance
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import curve_band
from jaxrl_lab.phenomena.core import Analysis, Runs
from jaxrl_lab.phenomena.dead_groups.analysis import (
    MATCHED,
    METHODS,
    TARGET,
    at_tokens,
    mean_rollouts,
    rates,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "grpo": "GRPO",
    "rescaled": "GRPO, rate ÷ informative share",
    "dynamic_sampling": "dynamic sampling",
    "knapsack": "knapsack",
    "knapsack_equal": "knapsack, prompts weigh the same",
    "replay": "replay of opposites",
    "hints": "hints, evaluated without",
}


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Shares, accuracy over tokens, and what is left when every method has its best rate."""
    run = runs["budget"]
    outcomes = tally([v.outcome for v in verdicts])
    note = (
        f"{len(run.seeds)} seeds; shades and bars are 95 % t intervals over seeds; gray: exact. "
        f"Tokens include thrown-away ones. Claims: {outcomes}."
    )
    title = "Dead groups: most remedies are a larger step, some find more"
    shape, axes = plots.panels.new_figure(2, 3, title, note)
    _draw_share(axes[0, 0], run)
    _draw_shares(axes[0, 1], run, analysis)
    _draw_tokens(axes[0, 2], run, analysis, "accuracy", "At the common learning rate")
    _draw_tokens(axes[1, 0], run, analysis, "accuracy_hard", "The hardest third of the prompts")
    _draw_rates(axes[1, 1], run, analysis)
    _draw_savings(axes[1, 2], analysis)
    return shape


def methods(run: Result) -> list[tuple[int, str]]:
    """The methods that were run, each with the number of its look."""
    return [(i, m) for i, m in enumerate(METHODS) if m in run.arms]


def _draw_share(ax: Axes, run: Result) -> None:
    """Counted shares on the closed form, and what the mean accuracy would say."""
    x, size = run.update[1:], mean_rollouts(run)
    shown = (
        ("grpo", "groups", "GRPO: groups = rollouts"),
        ("knapsack", "groups", "knapsack: groups"),
        ("knapsack", "rollouts", "knapsack: rollouts"),
    )
    for i, (arm, name, label) in enumerate(shown):
        exact = curve_band(run.curve(f"expected_{name}", arm)[:, 1:]).mean
        ax.plot(
            x,
            exact,
            label="1 − p^n − (1−p)^n, mean over prompts" if i == 0 else None,
            **plots.panels.EXACT,
        )
        plots.panels.band(ax, x, run.curve(name, arm)[:, 1:], label, (0, 3, 2)[i])
    mean = np.nanmean(run.curve("accuracy", "grpo")[:, 1:], axis=0)
    naive = np.asarray(informative_chance(jnp.asarray(mean, jnp.float32), jnp.float32(size)))
    ax.plot(x, naive, color="#444444", linewidth=1, linestyle=(0, (6, 2)))
    says = "the same at GRPO's mean accuracy"
    ax.text(x[-1], naive[-1] - 0.02, says, ha="right", va="top", fontsize=7.5)
    ax.set_ylim(0, 1.05)
    plots.panels.finish(ax, "Who can teach", "updates (batches)", "informative share")


def _draw_shares(ax: Axes, run: Result, analysis: Analysis) -> None:
    """Groups and rollouts apart, where every arm is equally good."""
    shown = methods(run)
    for i, name in enumerate(("groups", "rollouts")):
        samples = [analysis.series["shares"][m][name] for _, m in shown]
        at = np.arange(len(shown)) + (-0.1, 0.1)[i]
        plots.panels.dots(ax, at, samples, f"of {name}", i, join=False)
    _name_methods(ax, [m for _, m in shown])
    label = f"informative share at accuracy {MATCHED:g}"
    plots.panels.finish(ax, "Groups or rollouts", "", label)


def _draw_tokens(ax: Axes, run: Result, analysis: Analysis, name: str, title: str) -> None:
    """A curve over generated tokens, on a common grid of them."""
    grid = np.linspace(0.0, analysis.series["budget"], 41)
    for i, method in methods(run):
        curve = np.stack([at_tokens(run, method, tokens, name) for tokens in grid], axis=1)
        plots.panels.band(ax, grid / 1000, curve, LABELS[method], i)
    label = "accuracy (exact pass@1)"
    plots.panels.finish(ax, title, "generated tokens (thousands)", label, name != "accuracy")


def _draw_rates(ax: Axes, run: Result, analysis: Analysis) -> None:
    """How much of a difference is the size of the step."""
    half = analysis.series["budget"] / 2
    for i, method in methods(run):
        arms = rates(run, method)
        samples = [at_tokens(run, arm, half) for arm in arms.values()]
        plots.panels.dots(ax, list(arms), samples, LABELS[method], i)
    updates = np.interp(half, np.nanmean(run.curve("tokens", "grpo"), axis=0), run.update)
    limit = float(np.interp(updates, run.update, analysis.series["limit"]))
    ax.axhline(limit, **plots.panels.EXACT)
    ax.text(0.02, limit, "equal groups, if one\ninformative group were enough", va="bottom",
            fontsize=7.5, transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set_xscale("log")
    label = f"accuracy after {half / 1000:.0f} thousand tokens"
    plots.panels.finish(ax, "The size of the step", "learning rate", label, legend=False)


def _draw_savings(ax: Axes, analysis: Analysis) -> None:
    """Tokens to the target with every method at its best rate."""
    saved = analysis.series["saved"]
    shown = [m for m in METHODS if m in saved and m != "grpo"]
    for k, method in enumerate(shown):
        number = METHODS.index(method)
        plots.panels.dots(ax, [k], [saved[method]], None, number, join=False)
    plots.panels.reference(ax, 0.0, "GRPO")
    plots.panels.reference(ax, -0.32, "claimed: below this")
    _name_methods(ax, shown)
    ticks = np.arange(-2, 2)
    ax.set_yticks(ticks, [f"{2.0**k:g}" for k in ticks])
    label = f"tokens to accuracy {TARGET:g}, over GRPO's"
    plots.panels.finish(ax, "Each at its best learning rate", "", label)


def _name_methods(ax: Axes, names: Sequence[str]) -> None:
    """Methods along the x axis."""
    text = [name.replace("_", "\n") for name in names]
    ax.set_xticks(range(len(names)), text, fontsize=7)
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.grid(visible=False, axis="x")
