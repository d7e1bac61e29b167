"""Six panels: where the boundary moves, what moves it, which methods hold it, and stage two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import curve_band
from jaxrl_lab.phenomena.capability_boundary.analysis import ACCURACIES
from jaxrl_lab.phenomena.capability_boundary.measure import ATTEMPTS, FAR
from jaxrl_lab.phenomena.capability_boundary.path import Curves, expected_curves, expected_stages
from jaxrl_lab.phenomena.core import Analysis, Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "grpo": "GRPO",
    "dr_grpo": "Dr.GRPO (not normalized)",
    "negative": "wrong answers only",
    "positive": "right answers only",
    "rl_plus": "RL-PLUS",
}
EXACT = plots.panels.EXACT | {"linewidth": 4}


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Gray under a sampled curve is the exact path of the expected update."""
    table, main, stages = runs["tabular"], runs["shared"], runs["stages"]
    outcomes = tally([v.outcome for v in verdicts])
    note = (
        f"{len(main.seeds)} seeds ({len(table.seeds)} with a row per prompt, {len(stages.seeds)} "
        "in the last panel); shades and bars are 95 % t intervals over seeds; gray: exact path "
        f"of the expected update. Claims: {outcomes}."
    )
    title = "Capability boundary: what other prompts take, and what single answers lose"
    shape, axes = plots.panels.new_figure(2, 3, title, note)
    paths = {name: expected_curves(runs[name], "grpo") for name in ("tabular", "shared")}
    _draw_attempts(axes[0, 0], table, main)
    _draw_boundary(axes[0, 1], table, main, paths)
    _draw_interference(axes[0, 2], main)
    _draw_solutions(axes[1, 0], table, main, paths)
    _draw_methods(axes[1, 1], main, analysis)
    _draw_stages(axes[1, 2], stages)
    return shape


def _draw_attempts(ax: Axes, table: Result, main: Result) -> None:
    """pass@k over k, before and after."""
    shown = ((table, "train", "a row per prompt"), (main, "train", "shared, train"))
    for i, (run, split, label) in enumerate((*shown, (main, "test", "shared, held out"))):
        curves = [run.curve(f"pass_{k}_{split}", "grpo") for k in ATTEMPTS]
        if i > 0:  # the base policies agree on train prompts
            before, named = [curve[0, 0] for curve in curves], label.partition(", ")[2]
            style = plots.panels.look(i) | {"linestyle": ":"}
            ax.plot(ATTEMPTS, before, **style, label=f"base policy, {named}")
        plots.panels.dots(ax, ATTEMPTS, [c[:, -1] for c in curves], f"GRPO, {label}", i)
    ax.set_xscale("log", base=2)
    ax.set_ylim(top=1.02)
    plots.panels.finish(ax, "More often right, and at large k?", "tries k", "pass@k")


def _draw_boundary(ax: Axes, table: Result, main: Result, paths: Mapping[str, Curves]) -> None:
    shown = (
        (table, "tabular", "train", "a row per prompt"),
        (main, "shared", "train", "shared, train"),
        (main, "shared", "test", "shared, held out"),
    )
    for i, (run, path, split, label) in enumerate(shown):
        name = f"pass_{FAR}_{split}"
        _exact(ax, run.update, paths[path], name)
        plots.panels.band(ax, run.update, run.curve(name, "grpo"), label, i)
    label = f"pass@{FAR}"
    plots.panels.finish(ax, "The boundary under GRPO", "updates (batches)", label)


def _draw_interference(ax: Axes, run: Result) -> None:
    labels = {
        "own": "added by the prompt itself",
        "helped": "added by other prompts",
        "undone": "undone by other prompts",
    }
    for i, (name, label) in enumerate(labels.items()):
        plots.panels.band(ax, run.update, run.curve(name, "grpo"), label, i)
    ax.set_yscale("log")
    ax.set_ylim(bottom=1e-3)
    label = "d log p per unit step, train prompts"
    plots.panels.finish(ax, "Interference between prompts", "updates (batches)", label)


def _draw_solutions(ax: Axes, table: Result, main: Result, paths: Mapping[str, Curves]) -> None:
    """Effective solutions and coverage at the pass@1 where they are met."""
    shown = (
        (table, "tabular", "solutions_train", 1.0, "solutions, a row per prompt"),
        (main, "shared", "solutions_train", 1.0, "solutions, shared"),
        (table, "tabular", "coverage_train", 4.0, f"found in {FAR} tries, a row per prompt"),
        (main, "shared", "coverage_train", 4.0, f"found in {FAR} tries, shared"),
    )
    for i, (run, path, name, unit, label) in enumerate(shown):
        if paths[path]:
            ax.plot(paths[path]["pass_1_train"], unit * paths[path][name], **EXACT)
        x, y = (curve_band(run.curve(n, "grpo")).mean for n in ("pass_1_train", name))
        ax.plot(x, unit * y, label=label, **plots.panels.look(i))
    ax.set_ylim(0.0, 4.9)
    plots.panels.finish(
        ax, "Single answers under GRPO", "pass@1 of train prompts", "solutions (of 4)"
    )


def _draw_methods(ax: Axes, run: Result, analysis: Analysis) -> None:
    reached = analysis.series["reached"]
    others = [arm for arm in run.arms if arm != "grpo"]
    for i, arm in enumerate(others, start=1):
        x = np.arange(len(ACCURACIES)) + 0.6 * ((i - 0.5) / len(others) - 0.5)
        gain = reached[arm] - reached["grpo"]
        plots.panels.dots(ax, x, list(gain.T), LABELS.get(arm, arm), i, join=False)
    ax.axhline(0.0, color="#444444", linewidth=0.8)
    plots.panels.reference(ax, 0.02, "claimed: above this")
    ax.set_xticks(range(len(ACCURACIES)), [f"{a:g}" for a in ACCURACIES])
    ax.grid(visible=False, axis="x")
    label = f"held-out pass@{FAR}, minus GRPO's"
    plots.panels.finish(ax, "Methods at equal pass@1", "pass@1 of train prompts", label)


def _draw_stages(ax: Axes, run: Result) -> None:
    for i, arm in enumerate(run.arms):
        _exact(ax, run.update, expected_stages(run, arm), "best")
        plots.panels.band(ax, run.update, run.curve("best", arm), LABELS.get(arm, arm), i)
    ax.set_yscale("log")
    plots.panels.finish(
        ax, "Two stages: the better answer is rare", "updates (batches)", "π(best arm)"
    )


def _exact(ax: Axes, x: np.ndarray, path: Curves, name: str) -> None:
    if path:
        ax.plot(x, path[name], **EXACT)
