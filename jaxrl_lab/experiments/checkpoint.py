"""Checkpoints: what a killed run needs to go on, chunk by chunk, and nothing that can execute.

While a study runs, ``DIR.unfinished`` stands beside the run directory it will become:

manifest.json                      the configuration, the versions it runs under, and their digest
<experiment>/<program>/state-N.npz parameters, optimizer, memories, stream after N updates
<experiment>/<program>/points-N.npz the points measured in the chunk that ended at N

Keys are not stored: the key of an update is a hash of the seed and the update's number, so a
resumed run draws what the uninterrupted one would have drawn. Every file is written beside its
place and moved there, points before the state that stands for them, in a thread of their own. A
state names its study and the points it needs, so that what is damaged, missing or of another study
is noticed; the last two states are kept, so that it costs one chunk. Chunks shorter than half a
second share a state.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxrl_envs import BadInput

from jaxrl_lab.cache import in_one_step, read_archive, write_archive
from jaxrl_lab.experiments.place import MANIFEST, place_of
from jaxrl_lab.types import LearnerState

KEPT = 2
"""States kept of each program."""
PATIENCE = 0.02
"""Share of the time since the last save that training waits for a write; the rest overlaps."""
SPACING = 0.5
"""Seconds between the saves of a program: what takes less is sooner trained again than kept."""
SHOWN = 8
"""Lines of a difference that a refusal shows."""

Points = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Partway:
    """A program after ``done`` updates: its states, and the points of every chunk so far."""

    done: int
    states: LearnerState
    points: Sequence[Points]


@dataclass(frozen=True)
class Checkpoints:
    """The unfinished part of a study.

    Attributes:
        study: digest of its configuration and versions; states of another one are passed over.
    """

    folder: Path
    study: str = ""

    def program(self, experiment: str, index: int) -> ProgramCheckpoints:
        """The checkpoints of one program of an experiment.

        Raises:
            BadInput: a name that would lead out of the folder.
        """
        if not re.fullmatch(r"(?!\.\.?$)[^/\\\0]+", experiment):
            raise BadInput("experiments", experiment, "a name that a folder can have")
        return ProgramCheckpoints(self.folder / experiment / str(index), self.study)

    def remove(self) -> None:
        """The study is finished: its run directory has everything."""
        if not self.folder.is_dir():
            return
        for inside in self.folder.iterdir():  # the manifest last: until then it can be reopened
            if inside.name != MANIFEST:
                shutil.rmtree(inside, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def create(folder: Path, config: str, versions: Mapping[str, str]) -> Checkpoints:
    """Begin a study that will become ``folder``; its place appears with its manifest in it.

    Raises:
        BadInput: an unfinished run stands there already, or the place cannot be written.
    """
    place = place_of(folder)
    manifest = _manifest(config, versions)
    text = json.dumps(manifest, indent=2) + "\n"
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise BadInput("out", str(folder), _already(folder, config))
        in_one_step(place, lambda new: (new / MANIFEST).write_text(text, encoding="utf-8"))
    except OSError as error:
        raise BadInput("out", str(folder), f"a writable place ({error.strerror})") from None
    return Checkpoints(place, str(manifest["digest"]))


def reopen(folder: Path, versions: Mapping[str, str]) -> tuple[Checkpoints, str]:
    """The unfinished study of a run directory, and its configuration.

    Raises:
        BadInput: there is none, it is damaged, or it ran under other versions or another device.
    """
    place = place_of(folder)
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        config, then = str(manifest["config"]), dict(manifest["versions"])
        whole = manifest == _manifest(config, then)
    except FileNotFoundError:
        raise BadInput("DIR", str(folder), f"an unfinished run ({place.name} beside it)") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise BadInput("DIR", str(folder), f"a readable {place.name}/{MANIFEST}") from None
    if not whole:
        expected = f"{place.name}/{MANIFEST} as it was written: its digest is of something else"
        raise BadInput("DIR", str(folder), expected)
    if then != dict(versions):
        before, after = (json.dumps(v, indent=0, sort_keys=True) for v in (then, dict(versions)))
        changed = _difference(before, after)
        raise BadInput("DIR", str(folder), "the versions it began with: " + changed)
    return Checkpoints(place, str(manifest["digest"])), config


def _manifest(config: str, versions: Mapping[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {"config": config, "versions": dict(versions)}
    text = json.dumps(said, sort_keys=True)
    return said | {"digest": hashlib.sha256(text.encode()).hexdigest()}


def _already(folder: Path, config: str) -> str:
    """What was expected in place of an unfinished run, and how its configuration differs."""
    expected = f"no unfinished run (jaxrl-lab resume {folder})"
    try:
        text = (place_of(folder) / MANIFEST).read_text(encoding="utf-8")
        changed = _difference(str(json.loads(text)["config"]), config)
    except (OSError, ValueError, KeyError, TypeError):
        return expected
    return f"{expected}; it has another configuration: {changed}" if changed else expected


def _difference(before: str, after: str) -> str:
    """The lines that differ, on one line: ``- jax: 1 + jax: 2``."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))
    changed = [f"{line[0]} {line[1:].strip()}" for line in lines[2:] if line[0] in "+-"]
    more = [f"… {len(changed) - SHOWN} more lines"] * (len(changed) > SHOWN)
    return " ".join([*changed[:SHOWN], *more])


@dataclass
class ProgramCheckpoints:
    """States and points of one program.

    Attributes:
        ends: updates after which points were measured so far.
        unsaved: points that are not on disk, by their end: of this save, or of one that failed.
        writing: the write under way. saved: when the last one began.
    """

    folder: Path
    study: str = ""
    ends: list[int] = field(default_factory=list)
    unsaved: dict[int, Points] = field(default_factory=dict)
    writing: futures.Future[None] | None = None
    saved: float = field(default_factory=time.perf_counter)

    def save(self, done: int, states: LearnerState, points: Points, must: bool = True) -> None:
        """Note the points of the chunk that ended after ``done`` updates, and keep the states.

        Unless they ``must`` be kept, that waits for the first chunk :data:`SPACING` after the last.
        """
        self.wait()
        self.ends.append(done)
        self.unsaved[done] = {name: np.asarray(x) for name, x in points.items()}
        if must or time.perf_counter() - self.saved >= SPACING:
            self.keep(done, states)

    def keep(self, done: int, states: LearnerState) -> None:
        """Keep the states after ``done`` updates and all points noted, unless they are on disk.

        What was saved before is on disk when this returns. So is this, unless writing takes more
        than :data:`PATIENCE` of the time since then: that is all that training waits.

        A place that can no longer be written is reported and costs nothing but the safety.
        """
        self.wait()
        if not self.unsaved:
            return
        leaves = {str(i): np.array(x) for i, x in enumerate(jax.tree.leaves(states))}
        header = {"study": np.array(self.study), "ends": np.array(self.ends)}
        self.writing = _writer().submit(self._write, done, header | _pack(leaves))
        now = time.perf_counter()
        futures.wait([self.writing], timeout=PATIENCE * (now - self.saved))
        self.saved = now

    def wait(self) -> None:
        """Until what was saved last is on disk."""
        writing, self.writing = self.writing, None
        try:
            if writing:
                writing.result()
        except OSError as error:
            _warn(f"checkpoint not written: {error.strerror} ({self.folder})")

    def _write(self, done: int, state: dict[str, np.ndarray]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for end, points in self.unsaved.items():  # first: a state stands for its points
            write_archive(self._points(end), _pack(points))
        write_archive(self._state(done), state)
        self.unsaved.clear()
        for old in self._saved()[KEPT:]:
            self._state(old).unlink(missing_ok=True)

    def load(self, like: LearnerState) -> Partway | None:
        """The latest readable state and its points, or None.

        Args:
            like: a tree with the shapes and dtypes of the states.
        """
        for done in self._saved():
            try:
                states, ends = self._read_states(done, like)
                points = [_unpack(read_archive(self._points(end))) for end in ends]
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                zipfile.BadZipFile,
                EOFError,
            ) as error:
                _warn(f"damaged checkpoint passed over: {self._state(done)} ({error})")
                continue
            self.ends = ends
            return Partway(done, states, points)
        return None

    def _saved(self) -> list[int]:
        names = (re.fullmatch(r"state-(\d+)\.npz", p.name) for p in self.folder.glob("state-*"))
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def _read_states(self, done: int, like: LearnerState) -> tuple[LearnerState, list[int]]:
        archive, wanted = read_archive(self._state(done)), jax.tree.leaves(like)
        if str(archive["study"]) != self.study:
            raise ValueError("it belongs to another study")
        ends, stored = [int(n) for n in archive["ends"]], _unpack(archive)
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
        return states, ends

    def _state(self, done: int) -> Path:
        return self.folder / f"state-{done}.npz"

    def _points(self, done: int) -> Path:
        return self.folder / f"points-{done}.npz"


def _pack(arrays: Points) -> dict[str, np.ndarray]:
    """Arrays as one, with names, types and shapes: an archive takes long for each it holds."""
    form = [(name, x.dtype.str, x.shape) for name, x in arrays.items()]
    flat = [np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in arrays.values()]
    flat.append(np.zeros(0, np.uint8))  # where there are no arrays
    return {"form": np.array(json.dumps(form)), "bytes": np.concatenate(flat)}


def _unpack(archive: Points) -> dict[str, np.ndarray]:
    """What :func:`_pack` was given."""
    arrays, left = {}, archive["bytes"]
    for name, kind, shape in json.loads(str(archive["form"])):
        size = math.prod(shape) * np.dtype(kind).itemsize
        arrays[name] = left[:size].view(kind).reshape(shape)
        left = left[size:]
    if left.size:
        raise ValueError(f"{left.size} bytes too many")
    return arrays


def _warn(text: str) -> None:
    print(f"jaxrl-lab: {text}", file=sys.stderr)


@cache
def _writer() -> futures.ThreadPoolExecutor:
    """The one thread that writes, so that training does not wait for a slow disk."""
    return futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="jaxrl-lab-checkpoint")
