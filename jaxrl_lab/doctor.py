"""Is this installation well? Versions, devices, cache, free memory and disk, and what is wrong.

Nothing here may fail: what cannot be found out is a finding.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "jaxrl-lab", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "xarray", "h5netcdf",
    "matplotlib", "pydantic", "click", "gymnax", "six",
)  # fmt: skip
IMPORTED = ("jax", "flax", "optax", "xarray", "matplotlib", "gymnax")
"""Packages whose import has failed for somebody although every version was installed."""

VARIABLES = ("JAX_", "XLA_", "JAXRL_LAB_", "CUDA_VISIBLE_DEVICES")
"""Beginnings of the environment variables that change what a run does."""

SCARCE = 1_000_000_000
"""Bytes of memory or disk below which a run may fail."""

KNOWN_BAD: tuple[tuple[dict[str, str], str], ...] = (
    ({"flax": "0.12.9", "jax": "0.11.2"}, "flax cannot be imported (google/flax #5596)"),
    ({"gymnax": "1.0.1", "six": ""}, "gymnax imports six, which it does not require"),
)
"""Versions that do not work together, and how it shows; an empty one stands for not installed."""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        topic: what it is about. text: what is so. problem: what is wrong with it, if anything.
    """

    topic: str
    text: str
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.topic:<18}{self.text}" + (f"  <- {self.problem}" if self.problem else "")


def examine() -> list[Finding]:
    """Everything there is to say, in the order in which it is read."""
    found = versions()
    return [
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        *(_package(name, found[name]) for name in PACKAGES),
        *bad_pairs(found),
        *(_attempt(f"import {name}", partial(_import, name)) for name in IMPORTED),
        _attempt("devices", _devices),
        _cache(),
        _free("memory", free_memory()),
        _free("disk", shutil.disk_usage(".").free),
        *(Finding("variable", f"{k}={v}") for k, v in sorted(os.environ.items()) if _matters(k)),
    ]


def versions() -> dict[str, str]:
    """Installed versions by package; empty where there is none."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def bad_pairs(found: dict[str, str]) -> list[Finding]:
    """What is known not to work together among the versions found."""
    bad = [
        Finding("versions", _listed(pair.items()), symptom)
        for pair, symptom in KNOWN_BAD
        if all(found.get(name, "") == version for name, version in pair.items())
    ]
    pair = {name: found.get(name, "") for name in ("jax", "jaxlib")}
    if all(pair.values()) and pair["jax"].split(".")[:2] != pair["jaxlib"].split(".")[:2]:
        bad.append(Finding("versions", _listed(pair.items()), "jax needs a jaxlib of its release"))
    return bad


def _listed(pair: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version or 'not installed'}" for name, version in pair)


def _package(name: str, version: str) -> Finding:
    return Finding(name, version or "-", "" if version else "not installed")


def _attempt(topic: str, look: Callable[[], str]) -> Finding:
    """A finding even where looking fails, whatever a foreign package raises."""
    try:
        return Finding(topic, look())
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Finding(topic, "-", reason[:200])


def _import(name: str) -> str:
    importlib.import_module(name)
    return "works"


def _devices() -> str:
    import jax

    return ", ".join(f"{d.platform}: {d.device_kind}" for d in jax.devices())


def _cache() -> Finding:
    from jaxrl_lab.cache import CACHE_VARIABLE, cache_folder

    folder = cache_folder()
    if folder is None:
        return Finding("cache", f"off ({CACHE_VARIABLE})")
    files = [p.stat().st_size for p in folder.rglob("*") if p.is_file()] if folder.exists() else []
    text = f"{folder}: {len(files)} files, {sum(files) / 1e6:.1f} MB"
    return Finding("cache", text, "" if _is_writable(folder) else "cannot be written")


def _is_writable(folder: Path) -> bool:
    try:
        existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def free_memory() -> int | None:
    """Bytes a process could still get, or None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if "MemAvailable" in line) * 1024
    except (OSError, StopIteration):
        return None


def _free(topic: str, size: int | None) -> Finding:
    if size is None:
        return Finding(topic, "unknown")
    scarce = "less than a run may need" if size < SCARCE else ""
    return Finding(topic, f"{size / 1e9:.1f} GB free", scarce)


def _matters(variable: str) -> bool:
    return variable.startswith(VARIABLES)
