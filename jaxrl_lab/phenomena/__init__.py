"""Phenomena: ``run(name)`` trains, measures, decides, and writes the figure."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxrl_lab import config
from jaxrl_lab.experiments import checkpoint, store
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.devices import is_writer
from jaxrl_lab.experiments.live import Logger
from jaxrl_lab.experiments.place import place_of
from jaxrl_lab.experiments.plan import Plan
from jaxrl_lab.experiments.plan import plan as plan_experiments
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.spec import Study
from jaxrl_lab.experiments.sweep import expand, is_sweep, with_grid
from jaxrl_lab.phenomena.box import BoxReport, read_box
from jaxrl_lab.phenomena.core import (
    Analysis,
    Phenomenon,
    Report,
    build_study,
    check_experiments,
    conclude,
    load_study,
    names,
    run_study,
)
from jaxrl_lab.phenomena.grid import swept
from jaxrl_lab.phenomena.studies import UNCLAIMED, restrict
from jaxrl_lab.phenomena.unclaimed import without_claims


def find(name: str) -> Phenomenon:
    """The phenomenon of that name.

    Raises:
        BadInput: unknown name, with the nearest one.
    """
    if name not in names():
        raise config.unknown_phenomenon(name)
    phenomenon: Phenomenon = importlib.import_module(f"{__name__}.{name}").PHENOMENON
    return phenomenon


def run(
    what: str | Path,
    *,
    tier: str = "default",
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    quiet: bool = True,
    log: Sequence[Logger] = (),
) -> Report:
    """Run a phenomenon, or a file of your own: ``lab.run("entropy_collapse", seeds=64)``.

    Args:
        what: name of a phenomenon, or path to a YAML file: a phenomenon's configuration with lines
            changed, the ``config.yaml`` of a run, or an experiment of your own, without claims.
        tier: ``quick``, ``default`` or ``verdict``.
        seeds: of every experiment, in place of the tier's.
        settings: dotted paths and values, in place of the configuration's; the value of a slot
            may be a mechanism of your own: ``{"recipe.regularizer": Cap(strength=0.1)}``.
        out: run directory to write; nothing is written without it.
        log: loggers that are told of every chunk, such as ``[lab.JsonLines("log.jsonl")]``.

    Raises:
        BadInput: anything that cannot be used, before any training starts.
    """
    settings = ({} if seeds is None else {"seeds": seeds}) | dict(settings or {})
    return start(changed_study(what, tier, settings), out, quiet, log)


def sweep(
    what: str | Path,
    axes: Mapping[str, Sequence[Any]],
    *,
    tier: str = "default",
    seeds: int = 64,
    settings: Mapping[str, Any] | None = None,
    experiment: str | None = None,
    arms: Sequence[str] = (),
    out: str | Path | None = None,
    quiet: bool = True,
    log: Sequence[Logger] = (),
) -> Report:
    """Run every point of a grid: ``sweep("entropy_collapse", {"recipe.group": [4, 8]})``.

    Args:
        axes: values by dotted path, sizes such as ``updates`` included.
        seeds: of every point, other ones than those of the claims.
        experiment, arms: all there is to train; then no claim is decided.
        what, tier, settings, out, quiet, log: as :func:`run` takes them.

    Raises:
        BadInput: anything that cannot be used, before any training starts.
    """
    study = changed_study(what, tier, settings or {}, experiment, arms)
    return start(with_grid(study, axes, seeds), out, quiet, log)


def changed_study(
    what: str | Path,
    tier: str,
    settings: Mapping[str, Any],
    experiment: str | None = None,
    arms: Sequence[str] = (),
) -> Study:
    """The study of a phenomenon or a file, restricted and changed as asked."""
    study = load_study(what, tier)
    if experiment is not None or arms:
        study = restrict(study, experiment, arms)
    for path, value in settings.items():
        study = study.with_setting(path, value)
    return study


def prepare(study: Study) -> tuple[Phenomenon, Study]:
    """What a study measures and decides, and the experiments it trains: of a sweep, all points.

    Raises:
        BadInput: an unknown phenomenon, or a sweep over what is no setting.
    """
    name = study.name.removesuffix(UNCLAIMED)
    phenomenon = find(name) if name else None
    if phenomenon is None or study.name != name:
        phenomenon = without_claims(study, phenomenon)
    if not is_sweep(study):
        return phenomenon, study
    points = expand(study)
    return swept(phenomenon, points), points.study


def plan(study: Study) -> Plan:
    """What :func:`start` would compile and run: nothing is compiled or trained for it.

    Raises:
        BadInput: as :func:`start`, but for the run directory.
    """
    phenomenon, trained = prepare(study)
    check_experiments(phenomenon, trained)
    return plan_experiments(trained.experiments)


def start(
    study: Study,
    out: str | Path | None = None,
    quiet: bool = True,
    log: Sequence[Logger] = (),
) -> Report:
    """Run a study and write its run directory, if it has one.

    Raises:
        BadInput: anything that cannot be used, before any training starts.
    """
    phenomenon, trained = prepare(study)
    if out is None:
        return replace(run_study(phenomenon, trained, quiet, log=log), study=study)
    folder, text = Path(out), store.study_text(study)  # refused now, not after the training
    if not is_writer():  # another process makes the place, and writes into it
        return _finish(study, True, lambda: checkpoint.Checkpoints(place_of(folder)), folder, ())
    store.claim_folder(folder)
    begin = partial(checkpoint.create, folder, text, store.versions())
    return _finish(study, quiet, begin, folder, log)


def resume(
    folder: str | Path,
    *,
    own: Sequence[type[Any]] = (),
    quiet: bool = True,
    log: Sequence[Logger] = (),
) -> Report:
    """Go on with a run that was cut: ``lab.resume("runs/entropy_collapse/…")``.

    Nothing is lost but the chunk that was running, and the result has the bits of a run that was
    never cut, on the same device and versions.

    Args:
        own: the classes of your own mechanisms in the run, such as ``[Cap]``; worlds of your own
            have to be registered.
        log: as :func:`run` takes it.

    Raises:
        BadInput: no unfinished run, a damaged one, or one begun under other versions or with
            other sources of your own.
    """
    folder = Path(folder)
    saved, text = checkpoint.reopen(folder, store.versions())
    if (folder / store.VERDICTS).is_file():  # cut when all was written: tidying up is left
        saved.remove()
        return load(folder, own=own)
    store.claim_folder(folder)
    study = store.parse_study(config.parse_yaml(text, "manifest.json"), own)
    return _finish(study, quiet, lambda: saved, folder, log)


def _finish(
    study: Study,
    quiet: bool,
    begin: Callable[[], checkpoint.Checkpoints],
    folder: Path,
    log: Sequence[Logger],
) -> Report:
    phenomenon, trained = prepare(study)
    report = replace(run_study(phenomenon, trained, quiet, begin, log), study=study)
    if not is_writer():
        return report
    report = report.save(folder)
    checkpoint.Checkpoints(place_of(folder)).remove()
    return report


def load(folder: str | Path, *, own: Sequence[type[Any]] = ()) -> Report:
    """The report of a run directory, analyzed again from its curves.

    Args:
        own: as :func:`resume` takes them.

    Raises:
        BadInput: not a run directory, a damaged one, one of another phenomenon, or one with
            other sources of your own.
    """
    folder = Path(folder)
    study = store.read_study(folder, own)
    phenomenon, trained = prepare(study)
    arms = build_study(phenomenon, trained)
    datasets = store.read_results(folder, list(trained.experiments))
    params = store.read_params(folder)
    runs = {
        name: Result(
            dataset,
            arms[name],
            trained.experiments[name].updates,
            tuple(int(s) for s in dataset["seed"].values),
            phenomenon.measures[name][0],
            params.get(name, {}),
            noise=trained.experiments[name].noise,
        )
        for name, dataset in datasets.items()
    }
    report = conclude(phenomenon, trained, runs)
    said = store.read_verdicts(folder)
    if said.get("box") is not None and said.get("claims_hash") == claims_hash(phenomenon.claims):
        report = replace(report, box=read_box(said["box"], phenomenon.claims))
    return replace(report, study=study, folder=folder)


__all__ = [
    "Analysis",
    "BoxReport",
    "Phenomenon",
    "Report",
    "find",
    "load",
    "load_study",
    "names",
    "resume",
    "run",
    "sweep",
]
