"""Run directories: written in one piece or not at all, and never over something else.

config.yaml     the study as it ran, every number in it
results.nc      labelled curves, one group per experiment, versions as attributes
params.npz      final parameters of every member, where they are small
verdicts.json   claims, their hash, the verdicts
figure.png      and figure.svg
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from jaxrl_envs import BadInput
from jaxrl_envs.errors import expect, unknown_key

from jaxrl_lab import config
from jaxrl_lab.cache import in_one_step, read_archive, write_archive
from jaxrl_lab.experiments import own as outside
from jaxrl_lab.experiments.box import parse_box
from jaxrl_lab.experiments.spec import Study, parse_experiment
from jaxrl_lab.types import Tree

if TYPE_CHECKING:
    import xarray as xr

CONFIG, RESULTS, VERDICTS = "config.yaml", "results.nc", "verdicts.json"
PARAMS = "params.npz"
MOST_PARAMS = 64 * 2**20
"""Bytes of final parameters that a run directory holds at most; beyond, they are trained again."""
PACKAGES = ("jaxrl-lab", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "xarray")


def versions() -> dict[str, str]:
    """Versions and hardware that belong to a result."""
    import jax

    found = {name: metadata.version(name) for name in PACKAGES}
    device = jax.devices()[0]
    return found | {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.platform}: {device.device_kind}",
        "cores": str(os.cpu_count()),
    }


def default_folder(name: str) -> Path:
    """``runs/<name>/<time>``, below the current folder."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path("runs") / name / stamp
    number = 2
    while folder.exists():
        folder = Path("runs") / name / f"{stamp}-{number}"
        number += 1
    return folder


def claim_folder(folder: Path) -> None:
    """Make sure, before any work is done, that a run can be written there.

    Raises:
        BadInput: the folder exists already and is not empty, or cannot be made.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput("out", str(folder), "a folder that does not exist yet or is empty")
        # Parents are made when there is something to write: a refused run leaves nothing behind.
        existing = next(p for p in folder.resolve().parents if p.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise BadInput("out", str(folder), f"a writable place ({error.strerror})") from None


def write(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a folder beside the final one, then move it into place in one step."""
    claim_folder(folder)
    try:
        in_one_step(folder.resolve(), fill)
    except OSError as error:
        raise BadInput("out", str(folder), f"a writable place ({error.strerror})") from None


def study_text(study: Study) -> str:
    """The configuration of a run as YAML.

    Raises:
        BadInput: a setting that is not plain data, such as an object given from Python.
    """
    data: dict[str, Any] = {
        "phenomenon": study.name,
        "question": study.question,
        "source": study.source,
        "tier": study.tier,
        "experiments": {name: e.to_mapping() for name, e in study.experiments.items()},
    }
    if study.box is not None:
        data["box"] = study.box.to_mapping()
    if study.changed:
        data["changed"] = study.changed
    if own := outside.sources(data):
        data["own"] = own
    try:
        return config.dump_yaml(outside.as_data(data))
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise BadInput("settings", reason, "plain values, which a configuration can hold") from None


def write_study(folder: Path, study: Study) -> None:
    """The configuration of the run."""
    (folder / CONFIG).write_text(study_text(study), encoding="utf-8")


def write_results(folder: Path, datasets: Mapping[str, xr.Dataset], about: str = "") -> None:
    """All curves in one file, one group per experiment, with versions and configuration."""
    attributes = versions() | {"config": about}
    for name, dataset in datasets.items():
        mode: Literal["a", "w"] = "a" if (folder / RESULTS).exists() else "w"
        stamped = dataset.assign_attrs(attributes)
        stamped.to_netcdf(folder / RESULTS, mode=mode, group=name, engine="h5netcdf")


def write_params(folder: Path, params: Mapping[str, Mapping[str, Tree]]) -> None:
    """Final parameters by experiment and arm, leading axis ``seed``; nothing where they are large.

    An archive of plain arrays, each named by its path as a JSON list.
    """
    arrays: dict[str, np.ndarray] = {}
    for experiment, by_arm in params.items():
        for arm, tree in by_arm.items():
            for path, leaf in _leaves(tree):
                arrays[json.dumps([experiment, arm, *path])] = np.asarray(leaf)
    if arrays and sum(x.nbytes for x in arrays.values()) <= MOST_PARAMS:
        write_archive(folder / PARAMS, arrays)


def read_params(folder: Path) -> dict[str, dict[str, Tree]]:
    """Final parameters by experiment and arm; empty where the run directory has none.

    Raises:
        BadInput: a damaged file.
    """
    if not os.path.isfile(folder / PARAMS):
        return {}
    params: dict[str, Any] = {}
    try:
        for name, leaf in read_archive(folder / PARAMS).items():
            inner, path = params, json.loads(name)
            if not isinstance(path, list):
                raise ValueError("no path")
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = leaf
    except Exception as error:  # whatever a damaged archive and names of another program make
        reason = type(error).__name__
        raise BadInput("DIR", str(folder), f"a readable {PARAMS} ({reason})") from None
    return params


def _leaves(tree: Tree, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Leaves of nested dicts, with their keys."""
    if not isinstance(tree, Mapping):
        return [(path, tree)]
    return [found for key, inner in tree.items() for found in _leaves(inner, (*path, key))]


def write_json(path: Path, data: Any) -> None:
    """Readable JSON without NaN."""
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_study(folder: Path, own: Iterable[type[Any]] = ()) -> Study:
    """The configuration of a run directory.

    Raises:
        BadInput: not a run directory, or a damaged one, or one that needs other classes than
            ``own``.
    """
    if not os.path.isfile(folder / CONFIG):  # Path.is_file raises where a name is too long
        raise BadInput("DIR", str(folder), f"a run directory (with {CONFIG} and {RESULTS})")
    return parse_study(config.read_yaml(folder / CONFIG), own)


def read_verdicts(folder: Path) -> dict[str, Any]:
    """What a run directory says of its claims; empty where it says nothing.

    Raises:
        BadInput: a damaged file.
    """
    if not os.path.isfile(folder / VERDICTS):
        return {}
    try:
        found = json.loads((folder / VERDICTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput("DIR", str(folder), f"a readable {VERDICTS} ({error})") from None
    return found if isinstance(found, dict) else {}


OF_A_STUDY = (
    "phenomenon", "question", "source", "tier", "experiments", "tiers", "changed", "box", "own",
)  # fmt: skip
"""Entries of a configuration file that holds a study."""


def parse_study(data: Mapping[str, Any], own: Iterable[type[Any]] = ()) -> Study:
    """A study from the mapping of a configuration file, tiers left aside.

    Args:
        own: mechanisms of the user that it names.

    Raises:
        BadInput: unknown entries, values of the wrong type, or ``own`` classes that are missing or
            not what they were.
    """
    for key in data:
        if key not in OF_A_STUDY:
            raise unknown_key(key, data[key], OF_A_STUDY)
    if data.get("own"):
        outside.check_sources(data["own"], own)
        data = outside.from_data(data, own)
    experiments = data.get("experiments")
    if not isinstance(experiments, Mapping) or not experiments:
        raise BadInput("experiments", experiments, "a mapping of at least one experiment")
    for name, inner in experiments.items():
        if not isinstance(inner, Mapping):
            raise BadInput(f"experiments.{name}", inner, "a mapping")
    changed = data.get("changed") or {}
    expect(isinstance(changed, Mapping), "changed", changed, "a mapping")
    return Study(
        name=str(data.get("phenomenon", "")),
        question=str(data.get("question", "")),
        source=str(data.get("source", "")),
        tier=str(data.get("tier", "default")),
        changed=dict(changed),
        box=parse_box(data["box"]) if data.get("box") is not None else None,
        experiments={n: parse_experiment(e, f"experiments.{n}") for n, e in experiments.items()},
    )


def read_results(folder: Path, names: list[str]) -> dict[str, xr.Dataset]:
    """The curves of a run directory.

    Raises:
        BadInput: a missing or damaged file.
    """
    import xarray as xr

    path = folder / RESULTS
    try:
        found = {n: xr.load_dataset(path, group=n, engine="h5netcdf") for n in names}
    except Exception as error:  # whatever the readers of HDF5 make of a damaged file
        reason = type(error).__name__
        raise BadInput("DIR", str(folder), f"a readable {RESULTS} ({reason})") from None
    for name, dataset in found.items():
        whole = {"arm", "seed", "update"} <= set(dataset.coords) and "stopped" in dataset
        expected = f"a {RESULTS} with arms, seeds and updates in {name}"
        expect(whole, "DIR", str(folder), expected)
    return found
