"""Six panels: where PPO stalls, what lifts it, and which numbers foretell it.

Two more in the verdict tier, on the way to 2^16 environments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.phenomena.core import Analysis, Runs
from jaxrl_lab.phenomena.ppo_stagnation.analysis import (
    GROWTH,
    LARGE,
    LINEAR,
    MIDDLE,
    SMALL,
    rates,
)
from jaxrl_lab.phenomena.ppo_stagnation.gaps import home

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAMILIES = {
    "ppo": "PPO, 4 epochs",
    "open": "without clip",
    "once": "without clip, 1 epoch",
}
CURVES = {
    SMALL: "N = 32",
    MIDDLE: "N = 128",
    LARGE: "N = 512",
    "drop 32": "N = 32, rate ÷ 5 in mid-run",
    "decay 32": "N = 32, rate to 0",
}
REMEDIES = {
    SMALL: "PPO, N = 32",
    "once 32": "1 epoch",
    "slow 32": "rate ÷ 5",
    "drop 32": "drop",
    "decay 32": "decay",
    "polyak 32": "averaged",
    "ewma 32 16": "anchor 16",
    "ewma 32 64": "anchor 64",
    "ewma 32 256": "anchor 256",
    MIDDLE: "N = 128",
    LARGE: "N = 512",
    "long 64": "N 64, T 32",
}


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Plateaus over N, learning curves, step sizes, the diagnostic, and all remedies."""
    outcomes = tally([v.outcome for v in verdicts])
    seeds = len(runs["grid_32"].seeds)
    note = (
        f"{seeds} seeds; shades and bars are 95 % t intervals over seeds; gray: exact to first "
        f"order. Minibatch, rate and transitions are the same for every N. Claims: {outcomes}."
    )
    title = "PPO stalls at the noise of its outer step: environments help, smaller steps help more"
    larger = analysis.series["larger"]
    if larger:
        note += f" Right column: {len(home(runs)[larger[0]].seeds)} seeds, no claim."
    shape, axes = plots.panels.new_figure(2, 4 if larger else 3, title, note)
    _draw_bandit(axes[0, 0], analysis)
    _draw_curves(axes[0, 1], runs, analysis, CURVES)
    over = "transitions (thousands)", "gap"
    plots.panels.finish(axes[0, 1], "Gridworld, Adam: the stall", *over)
    _draw_rates(axes[0, 2], runs, analysis)
    _draw_anchor(axes[1, 0], analysis)
    _draw_diagnostic(axes[1, 1], analysis)
    _draw_remedies(axes[1, 2], analysis)
    if larger:
        _draw_larger(axes[0, 3], analysis)
        sizes = {arm: f"N = {n}" for n, arm in _by_size(analysis).items()}
        _draw_curves(axes[1, 3], runs, analysis, sizes)
        plots.panels.finish(axes[1, 3], "Gridworld: have they arrived?", *over)
    return shape


def _draw_bandit(ax: Axes, analysis: Analysis) -> None:
    """Plateau over the number of environments, on the quadratic's."""
    end, exact = analysis.series["end"], analysis.series["exact"]
    for i, (family, label) in enumerate(FAMILIES.items()):
        own = [a for a in analysis.series["bandit"] if a.split()[0] == family]
        arms = {int(a.split()[1].removeprefix("n")): a for a in own}
        sizes = sorted(arms)
        known = [(n, exact[arms[n]]) for n in sizes if arms[n] in exact]
        if known:
            text = "quadratic" if family == "open" else None
            ax.plot(*zip(*known, strict=True), label=text, **plots.panels.EXACT)
        plots.panels.dots(ax, sizes, [end[arms[n]] for n in sizes], label, i)
    _log_axes(ax, (64, 512, 4096))
    plots.panels.finish(
        ax, "Bandit, SGD: where it stalls", "transitions per update N · T", "gap at the end"
    )


def _draw_curves(ax: Axes, runs: Runs, analysis: Analysis, labels: Mapping[str, str]) -> None:
    """The gap of some arms over transitions, in thousands; the axes are left to be named."""
    where = home(runs)
    for i, (arm, label) in enumerate(labels.items()):
        spent = where[arm].curve("tokens", arm)
        x = np.nanmean(np.nan_to_num(spent), axis=0) / 1000
        plots.panels.band(ax, x, np.log10(analysis.series["curves"][arm]), label, i)
    ticks = np.arange(-3, 1)
    ax.set_yticks(ticks, [f"{10.0**k:g}" for k in ticks])


def _draw_rates(ax: Axes, runs: Runs, analysis: Analysis) -> None:
    """512 environments in 16 minibatches or in one, at three learning rates each."""
    run, end = runs["grid_512"], analysis.series["end"]
    for i, (method, label) in enumerate(
        {LARGE: "16 minibatches", "whole 512": "1 minibatch"}.items()
    ):
        arms = rates(run, method)
        plots.panels.dots(ax, list(arms), [end[a] for a in arms.values()], label, i)
    base = min(rates(run, "whole 512"))
    for power, name in ((0.0, "kept"), (0.5, "× √16"), (1.0, "× 16")):
        ax.axvline(base * GROWTH**power, color="#888888", linewidth=1, linestyle=(0, (6, 2)))
        ax.text(base * GROWTH**power, 0.98, f" {name}", va="top", fontsize=7.5,
                transform=ax.get_xaxis_transform())  # fmt: skip
    _log_axes(ax, (0.015, 0.03, 0.06, 0.12, 0.48))
    plots.panels.finish(ax, "How N = 512 is used", "learning rate", "gap at the end")


def _draw_anchor(ax: Axes, analysis: Analysis) -> None:
    """PPO-EWMA: the gap over the age of the anchor."""
    end = analysis.series["end"]
    ages = {int(a.split()[2]): a for a in end if a.startswith("ewma 32 ")}
    shown = [SMALL, *(ages[k] for k in sorted(ages))]
    plots.panels.dots(ax, range(len(shown)), [end[a] for a in shown], "N = 32, older anchor", 0)
    for i, arm in enumerate((MIDDLE, LARGE)):
        plots.panels.level(ax, end[arm], f"PPO, {CURVES[arm]}", i + 1)
    ax.set_xticks(range(len(shown)), ["PPO", *(str(k) for k in sorted(ages))])
    _log_gap(ax)
    label = "center of mass of the anchor (gradient steps)"
    plots.panels.finish(ax, "An older anchor is a smaller step", label, "gap at the end")


def _draw_diagnostic(ax: Axes, analysis: Analysis) -> None:
    """Data-to-divergence ratio against the gap; every arm of either world is a point."""
    end, ratio = analysis.series["end"], analysis.series["ratio"]
    bandit, grid = analysis.series["bandit"], analysis.series["grid"]
    groups = {
        "gridworld": [a for a in grid if not a.startswith("whole")],
        "gridworld, 1 minibatch": [a for a in grid if a.startswith("whole")],
        "bandit": [a for a in bandit if a.split()[0] not in LINEAR],
        "bandit without clip": [a for a in bandit if a.split()[0] in LINEAR],
    }
    for i, (name, arms) in enumerate(groups.items()):
        points = [(np.mean(ratio[a]), np.mean(end[a])) for a in arms]
        style: dict[str, Any] = {"color": plots.panels.COLORS[i], "marker": plots.panels.MARKERS[i]}
        ax.plot(*zip(*points, strict=True), linestyle="none", markersize=5, label=name, **style)
    _log_axes(ax)
    label = "transitions per nat of policy change"
    plots.panels.finish(ax, "The data-to-divergence ratio", label, "gap at the end")


def _draw_remedies(ax: Axes, analysis: Analysis) -> None:
    """Everything that lowers the plateau of 32 environments, at equal transitions."""
    end = analysis.series["end"]
    shown = [arm for arm in REMEDIES if arm in end]
    for k, arm in enumerate(shown):
        i = 2 if arm in (MIDDLE, LARGE, "long 64") else 0 if arm == SMALL else 1
        plots.panels.dots(ax, [k], [end[arm]], None, i, join=False)
    names = [REMEDIES[arm] for arm in shown]
    ax.set_xticks(range(len(shown)), names, fontsize=7, rotation=60, ha="right")
    _log_gap(ax)
    ax.grid(visible=False, axis="x")
    plots.panels.finish(ax, "All remedies, equal transitions", "", "gap at the end")


def _draw_larger(ax: Axes, analysis: Analysis) -> None:
    """Plateaus from 2^8 to 2^16 environments, beside smaller steps with 2^8."""
    end = analysis.series["end"]
    arms = _by_size(analysis)
    plots.panels.dots(ax, list(arms), [end[a] for a in arms.values()], "PPO", 0)
    small = min(arms)
    for i, (name, label) in enumerate({"slow": "rate ÷ 5", "decay": "rate to 0"}.items()):
        plots.panels.level(ax, end[f"{name} {small}"], f"N = {small}, {label}", i + 1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(arms))
    ax.set_yscale("log")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 6)  # room for the legend
    _log_gap(ax)
    title = "Gridworld: up to 65 536 environments"
    plots.panels.finish(ax, title, "environments N", "gap at the end")


def _by_size(analysis: Analysis) -> dict[int, str]:
    """The arms of PPO by their number of environments."""
    plain = [a for a in analysis.series["larger"] if a.startswith("ppo ")]
    return {int(a.split()[1]): a for a in plain}


def _log_axes(ax: Axes, at: Sequence[float] = ()) -> None:
    """Logarithmic axes, ticks on x where they are given, and plain numbers on y."""
    ax.set_xscale("log")
    if at:
        ax.set_xticks(at, [f"{x:g}" for x in at])
        ax.minorticks_off()
    _log_gap(ax)


def _log_gap(ax: Axes) -> None:
    """A logarithmic y axis with ticks at 1, 2 and 5."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ticks = [m * 10.0**k for k in range(-6, 2) for m in (1, 2, 5)]
    shown = [y for y in ticks if low <= y <= high]
    ax.set_yticks(shown, [f"{y:g}" for y in shown])
    ax.set_yticks([], minor=True)
