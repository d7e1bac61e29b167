"""What a phenomenon is made of, and how one is run from its configuration to its verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxrl_envs import BadInput

from jaxrl_lab import plots
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.checkpoint import Checkpoints, ProgramCheckpoints
from jaxrl_lab.experiments.claims import Claim, Verdict, claims_hash, decide
from jaxrl_lab.experiments.live import Logger
from jaxrl_lab.experiments.members import Measure
from jaxrl_lab.experiments.own import as_data
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.progress import Progress
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import start_arms
from jaxrl_lab.experiments.running import Running
from jaxrl_lab.experiments.spec import Study
from jaxrl_lab.phenomena.box import BoxReport, run_box
from jaxrl_lab.phenomena.studies import load_study as load_study
from jaxrl_lab.phenomena.studies import names as names
from jaxrl_lab.programs import run_ahead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Mapping[str, Result]
"""Results by name of the experiment."""


@dataclass(frozen=True)
class Analysis:
    """What the curves say, before any decision.

    Attributes:
        samples: the metric of every claim, one number per seed; NaN where a seed never arrived.
        tables: text for the terminal.
        series: further arrays the figure draws.
    """

    samples: dict[str, np.ndarray]
    tables: list[str] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Phenomenon:
    """Claims fixed before the run, what to measure, and how to look at it.

    Attributes:
        measures: per experiment, the measure and a ``{name: (unit, description)}`` of it.
        optional: experiments that a tier may leave out (``without``): no claim is about them.
        analyze: runs → numbers. figure: runs, analysis, verdicts → a matplotlib figure.
    """

    name: str
    claims: tuple[Claim, ...]
    measures: Mapping[str, tuple[Measure, Mapping[str, tuple[str, str]]]]
    analyze: Callable[[Runs], Analysis]
    figure: Callable[[Runs, Analysis, Sequence[Verdict]], Figure]
    optional: frozenset[str] = frozenset()

    def measuring(self, experiment: str) -> dict[str, Any]:
        """The measure of an experiment, as :func:`start_arms` takes it."""
        measure, describe = self.measures[experiment]
        return {"measure": measure, "describe": describe}


@dataclass(frozen=True)
class Report:
    """A phenomenon that has run."""

    phenomenon: Phenomenon
    study: Study
    runs: dict[str, Result]
    analysis: Analysis
    verdicts: list[Verdict]
    seconds: float = 0.0
    folder: Path | None = None
    box: BoxReport | None = None

    def figure(self) -> Figure:
        """The figure that tells the story in one look."""
        with plots.panels.styled():
            return self.phenomenon.figure(self.runs, self.analysis, self.verdicts)

    def __str__(self) -> str:
        frozen = [line for run in self.runs.values() for line in run.frozen()]
        shown = frozen[:10] + ([f"… and {len(frozen) - 10} more"] if len(frozen) > 10 else [])
        shown += self._about_blame()
        return "\n\n".join(
            [
                *self.analysis.tables,
                *(
                    ["Frozen members, left out of every average:\n" + "\n".join(shown)]
                    * bool(frozen)
                ),
                *self._about_settings(),
                *([str(self.box)] if self.box else []),
                *self._about_claims(),
            ]
        )

    def _about_blame(self) -> list[str]:
        """How to find the mechanism that broke the first frozen member of a stored run."""
        for name, run in self.runs.items() if self.folder else ():
            for arm, seed in run.frozen_members():
                where = f"lab.load({str(self.folder)!r}).runs[{name!r}]"
                call = f"lab.blame({where}, arm={arm!r}, seed={seed})"
                return [f'Where: python -c "import jaxrl_lab as lab; print({call})"']
        return []

    def _about_settings(self) -> list[str]:
        """A line that says so where the run is not what the claims are about."""
        given = ", ".join(f"{k} = {v}" for k, v in self.study.departures.items())
        return [f"Not the settings the claims are about: {given}"] if given else []

    def _about_claims(self) -> list[str]:
        lines = [f"  {verdict.line()}" for verdict in self.verdicts]
        return ["\n".join(["Verdicts", *lines])] if lines else []

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "phenomenon": self.phenomenon.name,
            "question": self.study.question,
            "tier": self.study.tier,
            "changed": as_data(self.study.departures),
            "claims_hash": claims_hash(self.phenomenon.claims),
            "claims": {c.id: c.text for c in self.phenomenon.claims},
            "verdicts": [v.as_dict() for v in self.verdicts],
            "box": None if self.box is None else self.box.as_dict(),
            "frozen": [line for run in self.runs.values() for line in run.frozen()],
            "seconds": round(self.seconds, 2),
            "versions": store.versions(),
            "folder": None if self.folder is None else str(self.folder),
            "figure": None if self.folder is None else str(self.folder / "figure.png"),
        }

    def save(self, folder: Path) -> Report:
        """Write the run directory.

        Raises:
            BadInput: the folder holds something already, or cannot be written.
        """
        done = replace(self, folder=folder)

        def fill(building: Path) -> None:
            store.write_study(building, self.study)
            datasets = {name: run.dataset for name, run in self.runs.items()}
            store.write_results(building, datasets, store.study_text(self.study))
            store.write_params(building, {name: run.params for name, run in self.runs.items()})
            store.write_json(building / store.VERDICTS, done.as_dict())
            save_figure(self.figure(), building)

        store.write(folder, fill)
        return done


def save_figure(figure: Figure, folder: Path) -> None:
    """The figure as PNG and SVG."""
    plots.panels.write(figure, folder / "figure")


def require_arms(runs: Runs, needed: Mapping[str, Sequence[str]]) -> None:
    """Refuse runs without the arms that claims are about: ``{experiment: arms}``.

    Raises:
        BadInput: naming the arm that is missing.
    """
    for name, arms in needed.items():
        for arm in arms:
            if arm not in runs[name].arms:
                key = f"experiments.{name}.arms.{arm}"
                raise BadInput(key, None, "an arm: a claim is about it")


def run_study(
    phenomenon: Phenomenon,
    study: Study,
    quiet: bool = True,
    checkpoints: Callable[[], Checkpoints] | None = None,
    log: Sequence[Logger] = (),
) -> Report:
    """Run every experiment of a study, or what is left of it, and decide its claims.

    Args:
        checkpoints: called when nothing can be refused any more, before anything is trained.
        log: loggers that are told of every chunk.
    """
    begin = time.perf_counter()
    running: dict[str, Running] = {}
    opened: list[ProgramCheckpoints] = []
    check_experiments(phenomenon, study)
    try:
        # The programs of the first experiments compile while the others are built.
        for name, experiment in study.experiments.items():
            arms = experiment.build()
            running[name] = start_arms(arms, **experiment.sizes, **phenomenon.measuring(name))
        run_ahead(_import_for_the_end)
        saved = checkpoints() if checkpoints else None

        def keep(experiment: str, program: int) -> ProgramCheckpoints:
            opened.append(saved.program(experiment, program))  # type: ignore[union-attr]
            return opened[-1]

        runs = {}
        for name, one in running.items():
            progress = Progress(quiet, f"{study.name}/{name}")
            kept = partial(keep, name) if saved else None
            runs[name] = one.result(progress, kept, log)
    except BaseException:
        for one in running.values():
            one.stop()
        for program in opened:
            program.wait()  # what is lost is the chunk that ran, not one that was kept
        raise
    report = conclude(phenomenon, study, runs)
    if study.tier == "verdict" and study.box is not None:
        report = replace(report, box=run_box(phenomenon, study, quiet, saved))
    return replace(report, seconds=time.perf_counter() - begin)


def _import_for_the_end() -> None:
    """What analysis and figure need takes as long to import as a small run to train."""
    import h5netcdf  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import xarray  # noqa: F401


def build_study(phenomenon: Phenomenon, study: Study) -> dict[str, dict[str, Arm]]:
    """The arms of every experiment, all of them checked before any is trained.

    Raises:
        BadInput: an experiment too many or too few, or a setting that cannot be used.
    """
    check_experiments(phenomenon, study)
    return {name: experiment.build() for name, experiment in study.experiments.items()}


def check_experiments(phenomenon: Phenomenon, study: Study) -> None:
    """Refuse a study whose experiments are not those of its phenomenon.

    Raises:
        BadInput: an experiment too many or too few.
    """
    for name in study.experiments:
        if name not in phenomenon.measures:
            raise BadInput("experiments", name, "an experiment", phenomenon.measures)
    for name in phenomenon.measures:
        if name not in study.experiments and name not in phenomenon.optional:
            raise BadInput(f"experiments.{name}", None, "an experiment of this phenomenon")


def conclude(phenomenon: Phenomenon, study: Study, runs: dict[str, Result]) -> Report:
    """Analysis and verdicts of finished runs."""
    analysis = phenomenon.analyze(runs)
    verdicts = decide(phenomenon.claims, analysis.samples)
    return Report(phenomenon, study, runs, analysis, verdicts)
