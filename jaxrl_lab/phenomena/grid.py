"""A phenomenon over a grid of settings: its claims are asked at every point.

One family: Holm's correction covers every claim at every point, so that looking at many settings
does not decide more. The claims are meant for the settings of the phenomenon; away from them a
verdict says where its region ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from jaxrl_envs import BadInput

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Claim, Verdict
from jaxrl_lab.experiments.sweep import Sweep
from jaxrl_lab.phenomena.core import Analysis, Phenomenon, Runs
from jaxrl_lab.phenomena.unclaimed import final_table, heading, shown
from jaxrl_lab.programs import forget_programs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
"""Panels in a row of the figure."""


def swept(phenomenon: Phenomenon, sweep: Sweep) -> Phenomenon:
    """The phenomenon whose runs are all points of a sweep, with its claims at every one."""
    claims = tuple(
        replace(claim, id=_at(claim, point))
        for claim in phenomenon.claims
        for point in sweep.points
    )

    def analyze(runs: Runs) -> Analysis:
        tables = [final_table(name, run) for name, run in runs.items()]
        samples: dict[str, np.ndarray] = {}
        for point, members in zip(sweep.points, sweep.members, strict=True):
            if not phenomenon.claims:
                break
            of_point = {n: runs[place].part(arms) for n, (place, arms) in members.items()}
            try:
                found = phenomenon.analyze(of_point).samples
            except BadInput as error:  # a setting that the phenomenon cannot be asked about
                tables.append(f"At {point} nothing is decided: {error}")
                seeds = max(len(run.seeds) for run in of_point.values())
                found = {claim.id: np.full(seeds, np.nan) for claim in phenomenon.claims}
            samples |= {_at(claim, point): found[claim.id] for claim in phenomenon.claims}
            forget_programs()  # analyses compile their exact references
        return Analysis(samples, tables)

    def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
        return _figure(phenomenon, sweep, runs, analysis)

    measures = {place: phenomenon.measures[name] for place, name in sweep.places.items()}
    return replace(phenomenon, claims=claims, measures=measures, analyze=analyze, figure=figure)


def _at(claim: Claim, point: str) -> str:
    return f"{claim.id} at {point}"


def _figure(phenomenon: Phenomenon, sweep: Sweep, runs: Runs, analysis: Analysis) -> Figure:
    """Final values of the first experiment against the points, then the metric of each claim."""
    panels, first = plots.panels, next(iter(sweep.members[0]))
    one = runs[sweep.members[0][first][0]]
    variables, at, joined = shown(one), range(len(sweep.points)), len(sweep.axes) == 1
    drawn = len(variables) + len(phenomenon.claims)
    columns = min(COLUMNS, drawn)
    title = f"{first} over {', '.join(sweep.axes)}"
    note = f"mean and 95 % interval over {len(one.seeds)} seeds, after the last update"
    figure, axes = panels.new_figure(ceil(drawn / columns), columns, title, note)
    free = iter(axes.flat)
    for variable, ax in zip(variables, free, strict=False):
        for k, (arm, samples) in enumerate(_ends(sweep, runs, first, variable).items()):
            panels.dots(ax, at, samples, arm, k, join=joined)
        panels.finish(ax, variable, "", heading(one, variable), legend=variable == variables[0])
        ax.set_xticks(at, sweep.points, rotation=30, ha="right")
    for claim, ax in zip(phenomenon.claims, free, strict=False):
        metric = [analysis.samples[_at(claim, point)] for point in sweep.points]
        panels.dots(ax, at, metric, None, 0, join=joined)
        than = ">" if claim.direction == "greater" else "<"
        panels.reference(ax, claim.effect, f"claimed {than} {claim.effect:g}")
        panels.finish(ax, claim.id, "", claim.unit, legend=False)
        ax.set_xticks(at, sweep.points, rotation=30, ha="right")
    for ax in free:
        ax.set_axis_off()
    return figure


def _ends(sweep: Sweep, runs: Runs, name: str, variable: str) -> dict[str, list[np.ndarray]]:
    """Final values of a variable by arm, for every point the seeds of it."""
    ends: dict[str, list[np.ndarray]] = {}
    for members in sweep.members:
        place, arms = members[name]
        for there, arm in arms.items():
            ends.setdefault(arm, []).append(runs[place].curve(variable, there)[:, -1])
    return ends
