"""Where a verdict holds and where it flips: the claims of a study in every cell of its box.

All cells of an experiment are one population: cells that differ in numbers only share a program,
so a box costs as many compilations as it has structures, however many cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxrl_envs.errors import expect

from jaxrl_lab.cache import forget_programs
from jaxrl_lab.experiments.box import Box, parse_box
from jaxrl_lab.experiments.claims import Claim
from jaxrl_lab.experiments.progress import Progress
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.experiments.spec import Experiment, Study

if TYPE_CHECKING:
    from jaxrl_lab.phenomena.core import Phenomenon

MIN_ARRIVED = 0.8
"""Share of a cell's seeds that must arrive for the cell to count."""


@dataclass(frozen=True)
class BoxReport:
    """The metric of every claim in every cell.

    Attributes:
        estimate: mean over the seeds of a cell, ``[claims, *box.shape]``; NaN where too few
            seeds arrived.
    """

    box: Box
    claims: tuple[Claim, ...]
    estimate: np.ndarray

    @property
    def holds(self) -> np.ndarray:
        """Whether the mean lies beyond the smallest effect, as claimed; NaN without a mean."""
        signs = [1.0 if c.direction == "greater" else -1.0 for c in self.claims]
        effects = [c.effect for c in self.claims]
        over = (slice(None), *[None] * len(self.box.shape))
        margin = np.array(signs)[over] * (self.estimate - np.array(effects)[over])
        return np.where(np.isfinite(margin), margin > 0, np.nan)

    def share(self, claim: int, axis: int | None = None, level: int = 0) -> float:
        """Share of the cells (of one level of an axis) in which a claim holds; NaN if of none."""
        cells = self.holds[claim]
        cells = cells if axis is None else np.take(cells, level, axis)
        known = cells[np.isfinite(cells)]
        return float(known.mean()) if known.size else float("nan")

    def rows(self) -> list[tuple[str, str, int, float, list[list[float]]]]:
        """Per claim: id, effect, cells without an answer, share, and share by axis and level."""
        return [
            (
                claim.id,
                f"{'>' if claim.direction == 'greater' else '<'} {claim.effect:g}",
                int(np.isnan(self.holds[i]).sum()),
                self.share(i),
                [[self.share(i, a, k) for k in range(n)] for a, n in enumerate(self.box.shape)],
            )
            for i, claim in enumerate(self.claims)
        ]

    def __str__(self) -> str:
        cells = int(np.prod(self.box.shape))
        width = max(len(c.id) for c in self.claims)
        each = f"{self.box.seeds} seeds each"
        lines = [f"Robustness: share of {cells} cells where the claim holds ({each})"]
        for name, _, unknown, share, axes in self.rows():
            never = f", {unknown} cells without an answer" if unknown else ""
            lines.append(f"  {name:<{width}}  {percent(share)}{never}")
            for (axis, levels), shares in zip(self.box.axes.items(), axes, strict=True):
                by = ", ".join(f"{k}: {percent(s)}" for k, s in zip(levels, shares, strict=True))
                lines.append(f"  {'':<{width}}    {axis}: {by}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as strict JSON has it."""
        means = np.where(np.isfinite(self.estimate), self.estimate, np.nan).astype(object)
        means[np.isnan(self.estimate)] = None
        return {
            "box": self.box.to_mapping(),
            "estimate": {c.id: m.tolist() for c, m in zip(self.claims, means, strict=True)},
        }


def run_box(phenomenon: Phenomenon, study: Study, quiet: bool = True) -> BoxReport:
    """Train every cell of a study's box, and ask every claim of every cell.

    Raises:
        BadInput: the study has no box, or a cell cannot run; before anything is trained.
    """
    expect(study.box is not None, "box", None, "a study whose configuration has a box")
    box: Box = study.box  # type: ignore[assignment]
    cells = [
        reduce(lambda s, change: s.with_setting(*change), changes.items(), study)
        for changes in box.cells()
    ]
    runs: list[dict[str, Result]] = [{} for _ in cells]
    plans = {
        (name, sizes): _plan([cell.experiments[name] for cell in cells], sizes)
        for name in study.experiments
        for sizes in {_sizes(cell.experiments[name]) for cell in cells}
    }
    for (name, sizes), (arms, members) in plans.items():
        del sizes
        first = cells[next(iter(members))].experiments[name]
        progress = Progress(quiet, f"{study.name}/box/{name}")
        whole = run_arms(arms, **first.sizes, **phenomenon.measuring(name), progress=progress)
        for cell, names in members.items():
            runs[cell][name] = whole.part(names)
    estimate = np.full((len(phenomenon.claims), len(cells)), np.nan)
    for i, of_cell in enumerate(runs):
        samples = phenomenon.analyze(of_cell).samples
        forget_programs()  # analyses compile their exact references
        estimate[:, i] = [_mean(samples[claim.id]) for claim in phenomenon.claims]
    return BoxReport(box, phenomenon.claims, estimate.reshape(-1, *box.shape))


def _sizes(experiment: Experiment) -> tuple[int, int]:
    return experiment.updates, experiment.measure_every


def _plan(
    experiments: list[Experiment], sizes: tuple[int, int]
) -> tuple[dict[str, Any], dict[int, dict[str, str]]]:
    """The arms of all cells of one length, and per cell its arms by their name among them.

    Cells in which an experiment is the same share its arms.
    """
    arms: dict[str, Any] = {}
    members: dict[int, dict[str, str]] = {}
    seen: list[tuple[Experiment, dict[str, str]]] = []
    for cell, experiment in enumerate(experiments):
        if _sizes(experiment) != sizes:
            continue
        names = next((n for e, n in seen if e == experiment), None)
        if names is None:
            names = {f"{cell}: {arm}": arm for arm in experiment.arms}
            seen.append((experiment, names))
            built = experiment.build()
            arms |= {name: built[arm] for name, arm in names.items()}
        members[cell] = names
    return arms, members


def _mean(sample: np.ndarray) -> float:
    arrived = sample[np.isfinite(sample)]
    enough = arrived.size >= MIN_ARRIVED * sample.size and arrived.size > 0
    return float(arrived.mean()) if enough else float("nan")


def percent(share: float) -> str:
    """A share in per cent; a dash where it is of nothing."""
    return "—" if np.isnan(share) else f"{100 * share:.0f} %"


def read_box(data: Mapping[str, Any], claims: tuple[Claim, ...]) -> BoxReport:
    """A report from what :meth:`BoxReport.as_dict` wrote."""
    box = parse_box(data["box"])
    rows = [np.array(data["estimate"][c.id], dtype=np.float64) for c in claims]
    return BoxReport(box, claims, np.stack(rows).reshape(-1, *box.shape))
