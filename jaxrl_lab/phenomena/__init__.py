"""Phenomena: ``run(name)`` trains, measures, decides, and writes the figure."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxrl_envs import BadInput

from jaxrl_lab import config
from jaxrl_lab.experiments import checkpoint, store
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.spec import Study
from jaxrl_lab.phenomena.box import BoxReport, read_box
from jaxrl_lab.phenomena.core import (
    Analysis,
    Phenomenon,
    Report,
    build_study,
    conclude,
    load_study,
    names,
    run_study,
)


def find(name: str) -> Phenomenon:
    """The phenomenon of that name.

    Raises:
        BadInput: unknown name, with the nearest one.
    """
    if name not in names():
        raise BadInput("phenomenon", name, "a phenomenon", names())
    phenomenon: Phenomenon = importlib.import_module(f"{__name__}.{name}").PHENOMENON
    return phenomenon


def run(
    name: str,
    *,
    tier: str = "default",
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    quiet: bool = True,
) -> Report:
    """Run a phenomenon: ``lab.run("entropy_collapse", seeds=64)``.

    Args:
        tier: ``quick``, ``default`` or ``verdict``.
        seeds: of every experiment, in place of the tier's.
        settings: dotted paths and values, in place of the configuration's.
        out: run directory to write; nothing is written without it.

    Raises:
        BadInput: anything that cannot be used, before any training starts.
    """
    phenomenon, study = find(name), load_study(name, tier)
    if seeds is not None:
        study = study.with_setting("seeds", seeds)
    for path, value in (settings or {}).items():
        study = study.with_setting(path, value)
    if out is None:
        return run_study(phenomenon, study, quiet)
    folder, text = Path(out), store.study_text(study)  # refused now, not after the training
    store.claim_folder(folder)
    begin = partial(checkpoint.create, folder, text, store.versions())
    return _finish(phenomenon, study, quiet, begin, folder)


def resume(folder: str | Path, *, quiet: bool = True) -> Report:
    """Go on with a run that was cut: ``lab.resume("runs/entropy_collapse/…")``.

    Nothing is lost but the chunk that was running, and the result has the bits of a run that was
    never cut, on the same device and versions.

    Raises:
        BadInput: no unfinished run, a damaged one, or one begun under other versions.
    """
    folder = Path(folder)
    saved, text = checkpoint.reopen(folder, store.versions())
    store.claim_folder(folder)
    study = store.parse_study(config.parse_yaml(text, "manifest.json"))
    return _finish(find(study.name), study, quiet, lambda: saved, folder)


def _finish(
    phenomenon: Phenomenon,
    study: Study,
    quiet: bool,
    begin: Callable[[], checkpoint.Checkpoints],
    folder: Path,
) -> Report:
    report = run_study(phenomenon, study, quiet, begin).save(folder)
    checkpoint.Checkpoints(checkpoint.place_of(folder)).remove()
    return report


def load(folder: str | Path) -> Report:
    """The report of a run directory, analyzed again from its curves.

    Raises:
        BadInput: not a run directory, a damaged one, or one of another phenomenon.
    """
    folder = Path(folder)
    study = store.read_study(folder)
    phenomenon = find(study.name)
    arms = build_study(phenomenon, study)
    datasets = store.read_results(folder, list(study.experiments))
    runs = {
        name: Result(
            dataset,
            arms[name],
            study.experiments[name].updates,
            tuple(int(s) for s in dataset["seed"].values),
            phenomenon.measures[name][0],
        )
        for name, dataset in datasets.items()
    }
    report = conclude(phenomenon, study, runs)
    said = store.read_verdicts(folder)
    if said.get("box") is not None and said.get("claims_hash") == claims_hash(phenomenon.claims):
        report = replace(report, box=read_box(said["box"], phenomenon.claims))
    return replace(report, folder=folder)


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
]
