"""What is lost, at what accuracy and distance, and what predicts it: six panels, or nine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import curve_band
from jaxrl_lab.phenomena.core import Analysis, Runs
from jaxrl_lab.phenomena.entropy_collapse.analysis import ACCURACIES, PREFIX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Remedies, a row more of them where they ran; then KL, first order, the law."""
    main, further = runs["interventions"], runs.get("further")
    outcomes = tally([v.outcome for v in verdicts])
    others = f"{len(further.seeds)} in the second row, " if further else ""
    about = "Claims (none about the second row)" if further else "Claims"
    note = (
        f"{len(main.seeds)} seeds ({others}{len(runs['breakdown'].seeds)} in the first-order "
        f"panel); shades and bars are 95 % t intervals over seeds. {about}: {outcomes}."
    )
    shape, axes = plots.panels.new_figure(
        3 if further else 2, 3, "Entropy collapse: better, and narrower than needed", note
    )
    _draw_curves(axes[0, 0], main, "Entropy falls")
    _draw_phase(axes[0, 1], main, analysis.series["flow"], "What accuracy costs")
    _draw_matched(axes[0, 2], main, analysis.series["solutions"])
    if further:
        _draw_curves(axes[1, 0], further, "Further remedies: entropy", legend=False)
        _draw_phase(axes[1, 1], further, {}, "Further remedies: what accuracy costs")
        _draw_matched(axes[1, 2], further, analysis.series["further"])
    _draw_kl(axes[-1, 0], main, analysis)
    _draw_breakdown(axes[-1, 1], analysis)
    _draw_law(axes[-1, 2], main, analysis)
    return shape


def _draw_curves(ax: Axes, run: Result, title: str, legend: bool = True) -> None:
    for i, arm in enumerate(run.arms):
        plots.panels.band(ax, run.update, run.curve("entropy", arm), arm, i)
    label = "entropy of the policy (nats)"
    plots.panels.finish(ax, title, "updates (batches)", label, legend)


def _draw_phase(ax: Axes, run: Result, flow: Mapping[str, np.ndarray], title: str) -> None:
    """Solutions against accuracy; a panel with a flow names the flow, one without its arms."""
    for i, arm in enumerate(run.arms):
        accuracy, solutions = (curve_band(run.curve(n, arm)) for n in ("accuracy", "solutions"))
        name = None if flow else arm
        ax.plot(accuracy.mean, solutions.mean, label=name, **plots.panels.look(i))
    mean = {name: x.mean(0) for name, x in flow.items()}
    if mean:
        label = "exact GRPO flow, no sampling noise"
        ax.plot(mean["accuracy"], mean["solutions"], label=label, **plots.panels.EXACT)
    start = float(np.mean(run.curve("solutions", "grpo")[:, 0]))
    best = float(_modes(run))
    plots.panels.reference(ax, start, "exact natural gradient")
    plots.panels.reference(ax, best, "entropy-regularized optimum")
    ax.set_ylim(0.9, best + 0.25)
    label = f"effective solutions (of {best:g})"
    plots.panels.finish(ax, title, "accuracy", label, legend=False)
    if flow:
        ax.legend(loc="lower left")
    else:  # between the two references, where nothing goes
        ax.legend(loc="upper left", ncols=2, bbox_to_anchor=(0.0, 0.9))


def _draw_matched(ax: Axes, run: Result, solutions: Mapping[str, np.ndarray]) -> None:
    for i, arm in enumerate(run.arms):
        x = _beside(i, run, len(ACCURACIES))
        plots.panels.dots(ax, x, list(solutions[arm].T), arm, i, join=False)
    ax.set_xticks(range(len(ACCURACIES)), [f"{a:g}" for a in ACCURACIES])
    ax.grid(visible=False, axis="x")
    plots.panels.finish(
        ax, "At matched accuracy", "accuracy", f"effective solutions (of {_modes(run)})"
    )


def _draw_kl(ax: Axes, run: Result, analysis: Analysis) -> None:
    levels = analysis.series["kls"]
    for i, arm in enumerate(run.arms):
        x = _beside(i, run, len(levels))
        plots.panels.dots(ax, x, list(analysis.series["by_kl"][arm].T), arm, i, join=False)
    ax.set_xticks(range(len(levels)), [f"{k:g}" for k in levels])
    ax.grid(visible=False, axis="x")
    label = f"effective solutions (of {_modes(run)})"
    plots.panels.finish(ax, "At matched KL", "KL to the initial policy (nats)", label, legend=False)


def _draw_breakdown(ax: Axes, analysis: Analysis) -> None:
    error = analysis.series["error"]
    for i, (prefix, label) in enumerate(
        [("sgd", "SGD, tabular, clipped"), ("unclipped", "SGD, tabular, unclipped")]
    ):
        of = {float(arm.split()[1]): x for arm, x in error.items() if arm.startswith(prefix)}
        plots.panels.dots(ax, list(of), list(of.values()), label, i)
    others = {"adam": "Adam 0.1, tabular", "shared": "Adam 0.01, shared MLP"}
    for i, (arm, label) in enumerate(others.items(), start=2):
        plots.panels.level(ax, error[arm], label, i)
    plots.panels.reference(ax, 0.1, "claimed: above this")
    ax.set_xscale("log")
    ax.set_yscale("log")
    plots.panels.finish(
        ax, "Where first order breaks", "learning rate of SGD", "Σ|ΔH − predicted| / Σ|ΔH|"
    )


def _draw_law(ax: Axes, run: Result, analysis: Analysis) -> None:
    plots.panels.band(ax, run.update, run.curve("accuracy", "grpo"), "GRPO", 0)
    labels = {"exponential": "−a·exp(H) + b", "linear": "−a·H + b", "logistic": "logistic in time"}
    for i, (name, fit) in enumerate(analysis.series["laws"].items(), start=1):
        plots.panels.band(ax, run.update, fit["prediction"], labels[name], i)
    ax.axvspan(0, PREFIX * run.update[-1], color="#BBBBBB", alpha=0.3, linewidth=0)
    ax.set_ylim(0, 1.5)
    plots.panels.finish(ax, "Laws fitted on the shaded fifth", "updates (batches)", "accuracy")


def _beside(i: int, run: Result, places: int) -> np.ndarray:
    """Where the dots of the i-th arm stand around each of some places."""
    share = (i + 0.5) / len(run.arms) - 0.5
    return np.arange(places) + 0.6 * share


def _modes(run: Result) -> int:
    return int(run.arms["grpo"].env.modes)  # type: ignore[attr-defined]
