"""Six panels: who is pushed, what an update is worth, what luck does, what attenuation buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import curve_band
from jaxrl_lab.phenomena.advantage_symmetry.analysis import (
    FAMILIES,
    exact_by_difficulty,
    expected_path,
)
from jaxrl_lab.phenomena.advantage_symmetry.claims import ACCURACY
from jaxrl_lab.phenomena.core import Analysis, Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "grpo": "GRPO",
    "attenuated": "right × 0.2",
    "scaled": "its step alone",
    "shifted": "its baseline alone",
    "hard": "hard focus",
    "easy": "easy focus",
    "easy_to_hard": "easy to hard",
    "disco": "DisCO (basic)",
    "sgd": "nothing",
    "inner_steps": "4 inner\nsteps",
    "adam": "Adam",
    "shared_parameters": "shared\nMLP",
}


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Push, weight by difficulty, noise between equals, frontier, two starts, focus."""
    outcomes = tally([v.outcome for v in verdicts])
    seeds = len(runs["flat"].seeds)
    note = (
        f"{seeds} seed{'s' * (seeds > 1)}; shades and bars are 95 % t intervals over seeds; exact: "
        f"the curves through dots and the wide grey lines. Claims: {outcomes}."
    )
    title = "Advantage symmetry: attenuating right rollouts turns luck down, not the direction"
    shape, axes = plots.panels.new_figure(2, 3, title, note)
    _draw_push(axes[0, 0], analysis)
    _draw_weight(axes[0, 1], runs, analysis)
    _draw_noise(axes[0, 2], runs, analysis)
    _draw_frontier(axes[1, 0], analysis)
    _draw_starts(axes[1, 1], runs)
    _draw_focus(axes[1, 2], runs["focus"])
    return shape


def _name(arm: str) -> str:
    return LABELS.get(arm, arm)


def _draw_push(ax: Axes, analysis: Analysis) -> None:
    pushed = analysis.series["pushed"]
    for i, sample in enumerate(pushed.values()):
        plots.panels.dots(ax, [i], [sample], None, 0, join=False)
    ax.set_xticks(range(len(pushed)), [_name(a) for a in pushed])
    ax.grid(visible=False, axis="x")
    ax.set_ylim(-0.05, None)
    plots.panels.reference(ax, 0.1, "claimed: above this")
    label = "move of unsampled / of sampled arms"
    plots.panels.finish(ax, "Who moves what nobody gave", "change to SGD, one step, a table", label)


def _draw_weight(ax: Axes, runs: Runs, analysis: Analysis) -> None:
    arms = runs["difficulty"].arms | {name: runs["focus"].arms[name] for name in ("hard", "easy")}
    chosen = ("grpo", "attenuated", "hard", "easy", "disco")
    _exact_and_measured(ax, {n: arms[n] for n in chosen if n in arms}, analysis, "weight")
    ax.set_ylim(0.4, 20)
    title, label = "What an update is worth", "weight w: E[Δz] = η w ∇p"
    plots.panels.finish(ax, title, "pass@1 of the prompt", label, legend=False)
    ax.legend(loc="upper center", ncols=3)


def _draw_noise(ax: Axes, runs: Runs, analysis: Analysis) -> None:
    arms = runs["difficulty"].arms
    _exact_and_measured(ax, {n: arms[n] for n in FAMILIES if n in arms}, analysis, "luck")
    label = "variance between equals, v / w²"
    plots.panels.finish(ax, "Luck at equal speed", "pass@1 of the prompt", label, legend=False)
    ax.legend(loc="lower left")


def _exact_and_measured(ax: Axes, arms: Mapping[str, Arm], analysis: Analysis, name: str) -> None:
    """The exact curves, and on those that were run a dot per class of difficulty."""
    measured = analysis.series["measured"]
    for i, (arm, built) in enumerate(arms.items()):
        if arm in measured:
            rates = measured[arm]["rate"].mean(0)
            plots.panels.dots(ax, rates, list(measured[arm][name].T), _name(arm), i, join=False)
        exact = exact_by_difficulty(built)
        label = None if arm in measured else f"{_name(arm)}, exact"
        look = plots.panels.look(i) | {"linewidth": 1.0, "zorder": 0}
        ax.plot(exact["rate"], exact[name], label=label, **look)
    ax.set_xscale("logit")
    ax.set_yscale("log")
    _plain_odds(ax)


def _plain_odds(ax: Axes) -> None:
    """Ticks in words of one digit on a log-odds axis, and none of the minor ones."""
    ax.set_xticks([0.02, 0.1, 0.5, 0.9], ["0.02", "0.1", "0.5", "0.9"])
    ax.set_xticks([], minor=True)


def _draw_frontier(ax: Axes, analysis: Analysis) -> None:
    for i, (name, family) in enumerate(analysis.series["families"].items()):
        arrived = {a: x for a, x in family.items() if np.isfinite(x["updates"]).all()}
        order = sorted(arrived.values(), key=lambda x: float(x["updates"].mean()))
        if order:
            at = [float(x["updates"].mean()) for x in order]
            plots.panels.dots(ax, at, [x["solutions"] for x in order], _name(name), i)
    ax.set_xscale("log")
    ax.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    ax.set_xticks([], minor=True)
    title = f"Four learning rates each, at accuracy {ACCURACY:g}"
    plots.panels.finish(ax, title, "updates needed", "effective solutions (of 4)")


def _draw_starts(ax: Axes, runs: Runs) -> None:
    for start in ("flat", "preference"):
        path = expected_path(runs[start])
        ax.plot(path["accuracy"], path["solutions"], **plots.panels.EXACT)
        for i, arm in enumerate(FAMILIES):
            if arm in runs[start].arms:
                mean = {n: curve_band(runs[start].curve(n, arm)) for n in ("accuracy", "solutions")}
                label = _name(arm) if start == "flat" else None
                x, y = mean["accuracy"].mean, mean["solutions"].mean
                ax.plot(x, y, label=label, **plots.panels.look(i))
    ax.plot([], [], label="exact expected update", **plots.panels.EXACT)
    ax.annotate("uniform start", (0.5, 4.08), fontsize=7.5)
    ax.annotate("one answer ahead", (0.17, 2.75), fontsize=7.5)
    ax.set_ylim(0.0, 4.4)
    title = "Luck can be turned down, a lead stays"
    plots.panels.finish(ax, title, "accuracy", "effective solutions (of 4)", legend=False)
    ax.legend(loc="lower left", ncols=2, fontsize=7)


def _draw_focus(ax: Axes, run: Result) -> None:
    for i, arm in enumerate(run.arms):
        plots.panels.band(ax, run.update, run.curve("accuracy", arm), _name(arm), i)
        hard = curve_band(run.curve("accuracy_hard", arm)).mean
        ax.plot(run.update, hard, linewidth=0.7, **{**plots.panels.look(i), "linestyle": ":"})
    ax.set_xscale("symlog", linthresh=2.0)
    ax.set_xticks([0, 2, 10, 60], ["0", "2", "10", "60"])
    ax.set_ylim(0, 1)
    title = "Focus on difficulty (dotted: hard third)"
    plots.panels.finish(ax, title, "updates (batches)", "accuracy")
