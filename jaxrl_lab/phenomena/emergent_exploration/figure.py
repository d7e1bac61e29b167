"""Where exploring begins, what it needs, and why reward does not show it: six panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import mean_interval
from jaxrl_lab.phenomena.core import Analysis, Runs
from jaxrl_lab.phenomena.emergent_exploration.analysis import (
    ABLATED,
    FULL,
    LEARNERS,
    discounts,
    exact_gap,
    places,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"sampling": "samples in training", "greedy": "greedy in training"}
RULES = {
    "greedy": "greedy mean",
    "thompson": "Thompson",
    "ucb": "UCB",
    "optimal": "Bayes-optimal",
}
"""The reference rules that are drawn; uniform play lies far outside."""


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """The switch in value, decision and pay; then the ablations and the bandit."""
    main, bandit = runs["switch"], runs["bandit"]
    outcomes = tally([v.outcome for v in verdicts])
    note = (
        f"{len(main.seeds)} seeds; shades and bars are 95 % t intervals over seeds; "
        f"gray and crosses: exact. Claims: {outcomes}."
    )
    title = "Emergent exploration: agents that only exploit search where it pays later"
    shape, axes = plots.panels.new_figure(2, 3, title, note)
    _draw_gap(axes[0, 0], main, analysis)
    _draw_share(axes[0, 1], main, analysis)
    _draw_ablations(axes[0, 2], main)
    _draw_learning(axes[1, 0], main)
    _draw_trade(axes[1, 1], bandit, analysis)
    _draw_coverage(axes[1, 2], bandit, analysis)
    return shape


def _mark_switch(ax: Axes, analysis: Analysis) -> None:
    ax.axvline(analysis.series["solved"], color="#444444", linewidth=1, linestyle=(0, (6, 2)))


def _draw_gap(ax: Axes, run: Result, analysis: Analysis) -> None:
    """Learned values on the exact curve."""
    fine = np.linspace(0.0, max(discounts(run, "sampling")), 91)
    ax.plot(fine, exact_gap(run, fine), label="exact", **plots.panels.EXACT)
    for i, kind in enumerate(LEARNERS):
        swept = discounts(run, kind)
        gaps = [run.curve("gap", arm)[:, -1] for arm in swept.values()]
        plots.panels.dots(ax, list(swept), gaps, LABELS[kind], i)
    ax.axhline(0.0, color="#444444", linewidth=1)
    _mark_switch(ax, analysis)
    label = "value of searching first − of safe"
    plots.panels.finish(ax, "What a search is worth", "discount across trials", label)


def _draw_share(ax: Axes, run: Result, analysis: Analysis) -> None:
    """The greedy first decision of a block."""
    at = analysis.series["solved"]
    ax.plot([0.0, at, at, 1.0], [0.0, 0.0, 1.0, 1.0], label="exact", **plots.panels.EXACT)
    for i, kind in enumerate(LEARNERS):
        swept = discounts(run, kind)
        shares = [run.curve("searches", arm)[:, -1] for arm in swept.values()]
        plots.panels.dots(ax, list(swept), shares, LABELS[kind], i)
    ax.set_ylim(-0.05, 1.3)  # room for the legend
    label = "share of agents that search first"
    plots.panels.finish(ax, "Where exploring begins", "discount across trials", label)


def _draw_ablations(ax: Axes, run: Result) -> None:
    """Pay with each condition removed, between the two exact policies."""
    world = places(run)
    stays = 1.0 - 1.0 / world["block"]
    search = world["reward"] * np.mean(stays ** np.arange(world["cells"]))
    plots.panels.reference(ax, search, "search until found, exact")
    plots.panels.reference(ax, world["safe"], "always safe, exact")
    arms = {"full": FULL} | {f"no {what}": arm for what, arm in ABLATED.items()}
    pays = [run.curve("pay", arm)[:, -1] for arm in arms.values()]
    plots.panels.dots(ax, np.arange(len(arms)), pays, None, 0, join=False)
    ax.set_xticks(np.arange(len(arms)), list(arms))
    ax.set_ylim(0.0, 1.05)
    plots.panels.finish(ax, "Three conditions, at discount 0.9", "", "exact pay per trial")


def _draw_learning(ax: Axes, run: Result) -> None:
    """Pay of the greedy policy while the agent learns."""
    swept = discounts(run, "sampling")
    for i, at in enumerate((0.0, 0.4, 0.6, 0.9)):
        if at in swept:
            label = f"discount {at:g}"
            plots.panels.band(ax, run.update, run.curve("pay", swept[at]), label, i)
    ax.set_ylim(0.0, 1.05)
    plots.panels.finish(ax, "Learning to search", "updates (batches)", "exact pay per trial")


def _draw_trade(ax: Axes, run: Result, analysis: Analysis) -> None:
    """Pay per pull against giving the best arm up."""
    ends, rules = analysis.series["ends"], analysis.series["rules"]
    for i, arm in enumerate(run.arms):
        x, y = (mean_interval(ends[name][arm]) for name in ("suffix_failure", "reward"))
        style = plots.panels.look(i)
        marker = plots.panels.MARKERS[i]
        errors: dict[str, Any] = {
            "xerr": [[x.mean - x.low], [x.high - x.mean]],
            "yerr": [[y.mean - y.low], [y.high - y.mean]],
        }
        ax.errorbar(
            x.mean, y.mean, **errors, color=style["color"], marker=marker, markersize=6,
            capsize=2, linestyle="none", label=arm,
        )  # fmt: skip
    for name, label in RULES.items():
        rule = rules[name]
        ax.plot(rule.suffix_failure, rule.reward, marker="x", color="#444444")
        side = "right" if name in ("greedy", "optimal") else "left"
        at = (-6, 3) if name == "optimal" else (20, 5) if name == "greedy" else (6, -9)
        where = (rule.suffix_failure, rule.reward)
        ax.annotate(label, where, at, textcoords="offset points", ha=side, fontsize=7.5)
    ax.margins(0.2)
    label = "best arm never pulled in the second half"
    plots.panels.finish(ax, "More pay, more given up", label, "exact pay per pull", legend=False)
    ax.legend(loc="lower right")


def _draw_coverage(ax: Axes, run: Result, analysis: Analysis) -> None:
    """Arms tried, and greedy pulls, of agents and rules."""
    ends, rules = analysis.series["ends"], analysis.series["rules"]
    names = [*run.arms, *RULES.values()]
    for i, (name, label) in enumerate((("coverage", "arms tried"), ("greedy", "greedy pulls"))):
        samples = [ends[name][arm] for arm in run.arms]
        plots.panels.dots(ax, np.arange(len(run.arms)), samples, label, i, join=False)
        exact = [getattr(rules[rule], name) for rule in RULES]
        marks = np.arange(len(run.arms), len(names))
        color = plots.panels.look(i)["color"]
        ax.plot(marks, exact, marker="x", color=color, linestyle="none")
    ax.set_xticks(np.arange(len(names)), names, rotation=35, ha="right", fontsize=7.5)
    plots.panels.finish(ax, "Coverage and greed", "", "share")
