"""Where a verdict holds and where it flips: the claims of a study in every cell of its box.

All cells of an experiment are one population: cells that differ in numbers only share a program,
so a box costs as many compilations as it has structures, however many cells.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxrl_envs.errors import expect

from jaxrl_lab.experiments.box import Box
from jaxrl_lab.experiments.checkpoint import Checkpoints
from jaxrl_lab.experiments.progress import Progress
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.robustness import BoxReport as BoxReport
from jaxrl_lab.experiments.robustness import percent as percent
from jaxrl_lab.experiments.robustness import read_box as read_box
from jaxrl_lab.experiments.run import start_arms
from jaxrl_lab.experiments.spec import Experiment, Study
from jaxrl_lab.programs import forget_programs

if TYPE_CHECKING:
    from jaxrl_lab.phenomena.core import Phenomenon

MIN_ARRIVED = 0.8
"""Share of a cell's seeds that must arrive for the cell to count."""


def run_box(
    phenomenon: Phenomenon,
    study: Study,
    quiet: bool = True,
    checkpoints: Checkpoints | None = None,
) -> BoxReport:
    """Train every cell of a study's box, and ask every claim of every cell.

    Args:
        checkpoints: of the study; what was trained of the box before a cut is not trained again.

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
        first = cells[next(iter(members))].experiments[name]
        progress = Progress(quiet, f"{study.name}/box/{name}")
        running = start_arms(arms, **first.sizes, **phenomenon.measuring(name))
        place = f"box {name} {sizes[0]}x{sizes[1]}"
        kept = partial(checkpoints.program, place) if checkpoints else None
        whole = running.result(progress, kept)
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
