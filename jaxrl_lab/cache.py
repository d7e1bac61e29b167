"""Where the laboratory keeps what is dear to compute: compiled programs and base policies."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

CACHE_VARIABLE = "JAXRL_LAB_CACHE"
"""Folder of compiled programs and base policies; ``off`` switches both caches off."""


def cache_folder() -> Path | None:
    """Where compiled programs and base policies are kept, or None when switched off."""
    chosen = os.environ.get(CACHE_VARIABLE, "")
    if chosen.lower() in ("off", "0", "no"):
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxrl_lab"


def use_compilation_cache() -> None:
    """Keep compiled programs on disk; jax's default threshold would keep almost none of them."""
    folder = cache_folder()
    if folder is not None and getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def load_arrays(file: Path, like: Any) -> Any | None:
    """The nested dict of arrays in a file, or None where there is none of the form of ``like``.

    Args:
        like: nested dicts with text keys, whose leaves have the wanted shape and dtype.
    """
    try:
        found = read_archive(file)
    except Exception:  # whatever a missing or damaged file raises, its content is built anew
        return None
    wanted = jax.tree_util.tree_leaves_with_path(like)
    forms = {_name(path): (leaf.shape, leaf.dtype) for path, leaf in wanted}
    if forms != {name: (x.shape, x.dtype) for name, x in found.items()}:
        return None
    leaves = [jax.device_put(found[_name(path)]) for path, _ in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def save_arrays(file: Path, tree: Any) -> None:
    """Written beside its place and moved there: no reader ever meets half a file.

    A full or read-only disk costs the next run some time, and this one nothing.
    """
    flat = {_name(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_archive(file, flat)


def read_archive(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a NumPy archive; nothing in it is executed.

    Raises:
        OSError, ValueError, EOFError, zipfile.BadZipFile: no archive, or a damaged one.
    """
    # Opened here, because NumPy leaves a damaged archive open.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def write_archive(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A NumPy archive, written beside its place and moved there in one step.

    Raises:
        OSError: no place, no permission, no space; nothing half-written is left.
    """
    handle, beside = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        os.replace(beside, file)
    except BaseException:
        os.unlink(beside)
        raise


def in_one_step(place: Path, fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a folder beside ``place``, which is free or empty, and move it there.

    Raises:
        OSError: no place, no permission, no space; nothing half-written is left.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".jaxrl_lab-", dir=place.parent))
    try:
        fill(building)
        building.chmod(0o755)
        if place.exists():
            place.rmdir()
        building.rename(place)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(entry.key for entry in path)
