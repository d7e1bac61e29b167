"""Experiments about which nothing is claimed: trained, tabled and drawn, and nothing decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Verdict
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import no_measure
from jaxrl_lab.experiments.spec import Experiment, Study
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena.core import Analysis, Phenomenon, Runs
from jaxrl_lab.phenomena.tables import cell, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("return", "accuracy", "solutions", "entropy", "kl", "clipped")
"""Variables worth a look in any experiment, where it has them."""
COLUMNS = 4
"""Variables that a figure of curves shows."""


def without_claims(study: Study, measured_as: Phenomenon | None = None) -> Phenomenon:
    """A phenomenon without claims, for the experiments of a study.

    Args:
        measured_as: whose measures experiments of the same name take. The others take the exact
            ones of ``bandit/modes`` in that world, and what every update reports in another.
    """
    known = measured_as.measures if measured_as else {}
    measures = {name: known.get(name) or _measure(e) for name, e in study.experiments.items()}
    return Phenomenon(study.name, (), measures, _analyze, _figure)


def _measure(experiment: Experiment) -> tuple[Any, Mapping[str, tuple[str, str]]]:
    worlds = {(experiment.settings | a).get("environment.id") for a in experiment.arms.values()}
    exact = worlds == {"bandit/modes"}
    return (one_step.measure, one_step.DESCRIBE) if exact else (no_measure, {})


def shown(run: Result) -> list[str]:
    """The variables of a run that tables and figures show."""
    return [name for name in SHOWN if name in run.dataset]


def heading(run: Result, name: str) -> str:
    """A variable with its unit."""
    return f"{name} ({run.dataset[name].attrs['units']})"


def final_table(name: str, run: Result) -> str:
    """Where every arm ends: mean ± half of the 95 % interval, and seeds that lack a value."""
    columns, seeds = shown(run), len(run.seeds)
    title = f"{name}: after {run.updates} updates, mean ± 95 % over {seeds} seeds"
    ends = {arm: [run.curve(column, arm)[:, -1] for column in columns] for arm in run.arms}
    everyone = f" ({seeds}/{seeds})"
    rows = {arm: [cell(end).removesuffix(everyone) for end in row] for arm, row in ends.items()}
    return table(title, columns, rows)


def _analyze(runs: Runs) -> Analysis:
    return Analysis({}, [final_table(name, run) for name, run in runs.items()])


def _figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Curves: a row per experiment, a column per variable."""
    panels = plots.panels
    drawn = {name: shown(run)[:COLUMNS] for name, run in runs.items()}
    columns = max(len(variables) for variables in drawn.values())
    seeds = ", ".join(str(len(run.seeds)) for run in runs.values())
    note = f"mean and 95 % interval over {seeds} seeds"
    figure, axes = panels.new_figure(len(runs), columns, " · ".join(runs), note)
    for row, (name, run) in zip(axes, runs.items(), strict=True):
        for ax in row[len(drawn[name]) :]:
            ax.set_axis_off()
        for i, (ax, variable) in enumerate(zip(row, drawn[name], strict=False)):
            for k, arm in enumerate(run.arms):
                panels.band(ax, run.update, run.curve(variable, arm), arm, k)
            title = f"{name}: {variable}"
            panels.finish(ax, title, "updates", heading(run, variable), legend=i == 0)
    return figure
