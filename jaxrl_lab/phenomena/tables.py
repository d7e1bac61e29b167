"""Numbers as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrl_lab.experiments.result import Result, summary
from jaxrl_lab.experiments.statistics import mean_interval


def cell(sample: np.ndarray) -> str:
    """mean ± half interval (seeds that arrived/seeds)."""
    arrived = sample[np.isfinite(sample)]
    if not len(arrived):
        return f"never (0/{len(sample)})"
    interval = mean_interval(arrived)
    half = f" ± {interval.high - interval.mean:.3f}" if len(arrived) > 1 else ""
    return f"{interval.mean:.3f}{half} ({len(arrived)}/{len(sample)})"


def table(title: str, headings: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A title, a heading line, and one line per row."""
    width = max(len(name) for name in rows)
    cells = [*headings, *(c for row in rows.values() for c in row)]
    column = max(len(c) for c in cells) + 2
    lines = [title, " " * width + "".join(f"{h:>{column}}" for h in headings)]
    lines += [f"{n:<{width}}" + "".join(f"{c:>{column}}" for c in row) for n, row in rows.items()]
    return "\n".join(lines)


def final(run: Result, columns: Mapping[str, str]) -> str:
    """Where every arm ends: ``{variable: heading}``, mean over seeds."""
    title = f"After {run.updates} updates, mean over {len(run.seeds)} seeds"
    return f"{title}\n{summary(run.dataset, list(columns), list(columns.values()))}"
