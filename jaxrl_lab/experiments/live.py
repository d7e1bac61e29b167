"""Looking on while a run trains: loggers get what every chunk measured, as plain rows.

A row is ``{"arm": …, "update": …, name: value, …}`` with the mean over the seeds that are still
alive, and the names of the dataset. Anything with a method ``log`` is a logger.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxrl_envs import BadInput
from tqdm import tqdm

from jaxrl_lab.experiments.members import SUMMED
from jaxrl_lab.experiments.population import Chunk

Row = dict[str, Any]


class Logger(Protocol):
    """What is told of a run while it trains."""

    def log(self, rows: Sequence[Row]) -> None:
        """Take the rows of one chunk: one per arm of the program and measured update."""
        ...


class JsonLines:
    """A file with one JSON object per row, appended to.

    A file that can no longer be written is reported once and costs the run nothing else.

    Raises:
        BadInput: a place that cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.broken = Path(path), False
        try:
            self.path.open("a", encoding="utf-8").close()
        except OSError as error:
            raise BadInput("log", str(path), f"a writable file ({error.strerror})") from None

    def log(self, rows: Sequence[Row]) -> None:
        if self.broken:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            self.broken = True
            tqdm.write(f"jaxrl-lab: no more log: {error.strerror} ({self.path})", sys.stderr)


class Console:
    """One line per arm and chunk, above the progress bar.

    Attributes:
        names: variables to show; those of them that are measured.
    """

    def __init__(self, names: Sequence[str] = ("return", "accuracy", "entropy")) -> None:
        self.names = tuple(names)

    def log(self, rows: Sequence[Row]) -> None:
        for row in {row["arm"]: row for row in rows}.values():
            shown = [f"{name} {row[name]:.4g}" for name in self.names if name in row]
            tqdm.write("  ".join([f"{row['arm']}: update {row['update']}", *shown]), sys.stderr)


class Listening:
    """Tells loggers of every chunk of a program."""

    def __init__(self, arms: Sequence[str], every: int, loggers: Sequence[Logger]) -> None:
        self.arms, self.every, self.loggers = arms, every, loggers
        self._sums: dict[str, Any] = dict.fromkeys(SUMMED, 0.0)

    def __call__(self, chunk: Chunk) -> None:
        """Tell of a chunk; those of an earlier run have been told of, and are added up only."""
        for points in chunk.points:
            shown = self._accumulate(points)
            if chunk.alive is not None:
                rows = self._rows(chunk.done, chunk.alive, shown)
                for logger in self.loggers:
                    logger.log(rows)

    def _accumulate(self, points: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Sums over updates go on from chunk to chunk, as in the dataset."""
        shown = {name: np.asarray(x, np.float64) for name, x in points.items()}
        for name in SUMMED:
            if name in shown:
                shown[name] = self._sums[name] + np.nancumsum(shown[name], axis=0)
                self._sums[name] = shown[name][-1]
        return shown

    def _rows(self, done: int, alive: np.ndarray, points: Mapping[str, np.ndarray]) -> list[Row]:
        """Values ``[points, arms, seeds]`` as rows; what has further axes is for the dataset."""
        scalars = {name: x for name, x in points.items() if x.ndim == 3}
        count = max((len(x) for x in points.values()), default=0)
        rows = []
        for i in range(count):
            for a, arm in enumerate(self.arms):
                values = {name: x[i, a][alive[a]] for name, x in scalars.items()}
                means = {n: float(v.mean()) for n, v in values.items() if v.size}
                finite = {n: m for n, m in means.items() if np.isfinite(m)}
                rows.append({"arm": arm, "update": done - (count - 1 - i) * self.every} | finite)
        return rows
