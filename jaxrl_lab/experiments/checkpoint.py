"""Checkpoints: what a killed run needs to go on, chunk by chunk, and nothing that can execute.

While a study runs, ``DIR.unfinished`` stands beside the run directory it will become:

manifest.json                      the configuration and the versions it runs under
<experiment>/<program>/state-N.npz parameters, optimizer, memories, stream after N updates
<experiment>/<program>/points-N.npz the points measured in the chunk that ended at N

Keys are not stored: the key of an update is a hash of the seed and the update's number, so a
resumed run draws what the uninterrupted one would have drawn. Files are written beside their place
and moved there, in a thread of their own; the last two states are kept, so that a damaged file
costs one chunk.
"""

from __future__ import annotations

import difflib
import json
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import numpy as np
from jaxrl_envs import BadInput

from jaxrl_lab.cache import read_archive, write_archive
from jaxrl_lab.types import LearnerState

MANIFEST = "manifest.json"
KEPT = 2
"""States kept of each program."""

Points = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Partway:
    """A program after ``done`` updates: its states, and the points of every chunk so far."""

    done: int
    states: LearnerState
    points: Sequence[Points]


@dataclass(frozen=True)
class Checkpoints:
    """The unfinished part of a study."""

    folder: Path

    def program(self, experiment: str, index: int) -> ProgramCheckpoints:
        """The checkpoints of one program of an experiment."""
        return ProgramCheckpoints(self.folder / experiment / str(index), [])

    def remove(self) -> None:
        """The study is finished: its run directory has everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


def place_of(folder: Path) -> Path:
    """Where the unfinished part of a run directory stands."""
    return folder.with_name(folder.name + ".unfinished")


def create(folder: Path, config: str, versions: Mapping[str, str]) -> Checkpoints:
    """Begin a study that will become ``folder``.

    Raises:
        BadInput: an unfinished run stands there already, or the place cannot be written.
    """
    place = place_of(folder)
    if place.exists():
        raise BadInput("out", str(folder), f"no unfinished run (jaxrl-lab resume {folder})")
    try:
        place.mkdir(parents=True)
        text = json.dumps({"config": config, "versions": dict(versions)}, indent=2)
        (place / MANIFEST).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput("out", str(folder), f"a writable place ({error.strerror})") from None
    return Checkpoints(place)


def reopen(folder: Path, versions: Mapping[str, str]) -> tuple[Checkpoints, str]:
    """The unfinished study of a run directory, and its configuration.

    Raises:
        BadInput: there is none, it is damaged, or it ran under other versions or another device.
    """
    place = place_of(folder)
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        config, then = manifest["config"], dict(manifest["versions"])
    except FileNotFoundError:
        raise BadInput("DIR", str(folder), f"an unfinished run ({place.name} beside it)") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput("DIR", str(folder), f"a readable {place.name}/{MANIFEST}") from None
    if then != dict(versions):
        before, after = (json.dumps(v, indent=0).splitlines() for v in (then, dict(versions)))
        changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
        raise BadInput("DIR", str(folder), "the versions it began with: " + " ".join(changed))
    return Checkpoints(place), str(config)


@dataclass(frozen=True)
class ProgramCheckpoints:
    """States and points of one program."""

    folder: Path
    pending: list[Future[None]]

    def save(self, done: int, states: LearnerState, points: Points) -> None:
        """Keep the states after ``done`` updates and the points measured since the last save.

        A place that can no longer be written is reported once and costs nothing but the safety.
        """
        leaves = {str(i): np.array(x) for i, x in enumerate(jax.tree.leaves(states))}
        points = {name: np.asarray(x) for name, x in points.items()}
        self.wait()
        self.pending.append(_writer().submit(self._write, done, leaves, points))

    def wait(self) -> None:
        """Until what was saved last is on disk."""
        while self.pending:
            try:
                self.pending.pop().result()
            except OSError as error:
                _warn(f"checkpoint not written: {error.strerror} ({self.folder})")

    def _write(self, done: int, leaves: dict[str, np.ndarray], points: Points) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_archive(self._points(done), points)  # first: a state stands for its points
        write_archive(self._state(done), leaves)
        for old in self._saved()[KEPT:]:
            self._state(old).unlink(missing_ok=True)

    def load(self, like: LearnerState) -> Partway | None:
        """The latest readable state and its points, or None.

        Args:
            like: a tree with the shapes and dtypes of the states.
        """
        for done in self._saved():
            try:
                states = self._read_states(done, like)
                ends = sorted(int(p.stem.split("-")[1]) for p in self.folder.glob("points-*.npz"))
                points = [read_archive(self._points(n)) for n in ends if n <= done]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
                _warn(f"damaged checkpoint passed over: {self._state(done)} ({error})")
                continue
            return Partway(done, states, points)
        return None

    def _saved(self) -> list[int]:
        found = [int(p.stem.split("-")[1]) for p in self.folder.glob("state-*.npz")]
        return sorted(found, reverse=True)

    def _read_states(self, done: int, like: LearnerState) -> LearnerState:
        stored, wanted = read_archive(self._state(done)), jax.tree.leaves(like)
        if len(stored) != len(wanted):
            raise ValueError(f"{len(stored)} arrays where {len(wanted)} belong")
        leaves = []
        for i, leaf in enumerate(wanted):
            x = stored[str(i)]
            # Small floats that NumPy does not know come back as raw bytes of the same size.
            x = x.view(leaf.dtype) if x.dtype.itemsize == leaf.dtype.itemsize else x
            if x.shape != leaf.shape or x.dtype != leaf.dtype:
                raise ValueError(f"array {i} is {x.dtype}{x.shape}, not {leaf.dtype}{leaf.shape}")
            leaves.append(jax.numpy.asarray(x))
        states: LearnerState = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return states

    def _state(self, done: int) -> Path:
        return self.folder / f"state-{done}.npz"

    def _points(self, done: int) -> Path:
        return self.folder / f"points-{done}.npz"


def _warn(text: str) -> None:
    print(f"jaxrl-lab: {text}", file=sys.stderr)


@cache
def _writer() -> ThreadPoolExecutor:
    """The one thread that writes, so that training never waits for a disk."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="jaxrl-lab-checkpoint")
