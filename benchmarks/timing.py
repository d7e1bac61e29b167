"""What the benchmarks share: their options, the spread of what they time, the peak of memory."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrl_lab.experiments import store


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def in_brackets(found: dict[str, float], digits: int, unit: float = 1.0, width: int = 0) -> str:
    """A spread as text: ``median [lowest, highest]``."""
    middle, low, high = (unit * found[name] for name in ("median", "low", "high"))
    return f"{middle:{width}.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def about() -> dict[str, Any]:
    """Versions, machine, and how busy it is."""
    return store.versions() | {"load": round(os.getloadavg()[0], 2)}


def heading(about: dict[str, Any]) -> str:
    """The same on one line."""
    return ", ".join(f"{k} {v}" for k, v in about.items())


def peak_memory() -> float:
    """Largest resident size of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # the maximum of getrusage is that of the parent too, inherited by a fork
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def options(doc: str, quick: str, repeats: int = 5) -> argparse.ArgumentParser:
    """``--quick``, ``--repeats``, ``--json``, described by the first line of ``doc``."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", help="also write the numbers there")
    return parser


def save(report: dict[str, Any], path: str | None) -> None:
    """The numbers as JSON, where they are wanted."""
    if path:
        Path(path).write_text(json.dumps(report, indent=2), encoding="utf-8")
