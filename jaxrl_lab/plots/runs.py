"""A run as it went and as it ended: curves, final values, and a sweep as a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from jaxrl_envs.errors import expect
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import mean_interval
from jaxrl_lab.plots import panels


def curves(
    result: Result, name: str, arms: Sequence[str] | None = None, ax: Axes | None = None
) -> Figure:
    """One variable over the updates: mean over seeds, its 95 % t interval shaded.

    Raises:
        BadInput: a variable or an arm that the result does not have.
    """
    with panels.styled():
        ax = panels.own(ax)
        for i, arm in enumerate(arms if arms is not None else result.names):
            panels.band(ax, result.update, result.curve(name, arm), arm, i)
        note = f"mean over {seeds(result)}; shade: 95 % t interval"
        panels.finish(ax, name, "update", label(result, name), note=note)
    return panels.figure_of(ax)


def finals(
    result: Result, name: str, arms: Sequence[str] | None = None, ax: Axes | None = None
) -> Figure:
    """Where every arm ends: its seeds as points, their mean with the 95 % t interval below them.

    Raises:
        BadInput: a variable or an arm that the result does not have.
    """
    shown = list(arms) if arms is not None else result.names
    with panels.styled():
        ax = panels.own(ax, height=1.3 + 0.4 * len(shown))
        for i, arm in enumerate(shown):
            sample = result.curve(name, arm)[:, -1]
            sample = sample[np.isfinite(sample)]
            if not sample.size:
                continue
            look = panels.look(i)["color"]
            heap = 0.12 + 0.22 * np.argsort(np.argsort(_jitter(sample.size))) / sample.size
            ax.plot(sample, i - heap, ".", color=look, alpha=0.45, markersize=4, zorder=1)
            found = mean_interval(sample)
            bounds = [[found.mean - found.low], [found.high - found.mean]]
            ax.errorbar(
                [found.mean], [i], xerr=bounds if sample.size > 1 else None, color=look, zorder=3,
                marker=panels.MARKERS[i % len(panels.MARKERS)], markersize=6, capsize=3,
            )  # fmt: skip
        ax.set_yticks(range(len(shown)), shown)
        ax.set_ylim(len(shown) - 0.6, -0.6)
        ax.grid(visible=False, axis="y")
        note = f"{seeds(result)} as points; bar: 95 % t interval of the mean"
        title = f"{name} after {int(result.update[-1])} updates"
        panels.finish(ax, title, label(result, name), "", legend=False, note=note)
    return panels.figure_of(ax)


def heat_map(
    result: Result, name: str, axes: Mapping[str, Sequence[Any]], ax: Axes | None = None
) -> Figure:
    """Final values of a sweep over two settings: mean ± half of the 95 % t interval in each cell.

    Args:
        axes: the two settings and their values, as :func:`jaxrl_lab.sweep` took them; the first
            runs down the rows.

    Raises:
        BadInput: other than two settings, or as many values as the result has no arms for.
    """
    expect(len(axes) == 2, "axes", list(axes), "two settings")
    (rows, down), (columns, across) = axes.items()
    size = prod(len(values) for values in axes.values())
    expect(size == len(result.names), "axes", size, f"values for {len(result.names)} arms")
    ends = [result.curve(name, arm)[:, -1] for arm in result.names]
    alive = [end[np.isfinite(end)] for end in ends]
    mean = np.array([end.mean() if end.size else np.nan for end in alive])
    with panels.styled():
        ax = panels.own(ax, 2.2 + 0.8 * len(across), 1.5 + 0.5 * len(down))
        shape, middle = (len(down), len(across)), (np.nanmin(mean) + np.nanmax(mean)) / 2
        image = ax.imshow(mean.reshape(shape), cmap="cividis", aspect="auto")
        for k, end in enumerate(alive):
            color = "black" if mean[k] > middle else "white"
            ax.text(
                k % shape[1], k // shape[1], _cell(end), color=color, fontsize=8,
                ha="center", va="center",
            )  # fmt: skip
        ax.set_xticks(range(shape[1]), [f"{v}" for v in across])
        ax.set_yticks(range(shape[0]), [f"{v}" for v in down])
        ax.grid(visible=False)
        panels.figure_of(ax).colorbar(image, ax=ax).set_label(label(result, name))
        note = f"mean over {seeds(result)} ± half of the 95 % t interval"
        title = f"{name} after {int(result.update[-1])} updates"
        panels.finish(ax, title, columns, rows, legend=False, note=note)
    return panels.figure_of(ax)


def label(result: Result, name: str) -> str:
    """A variable with its unit, for an axis."""
    unit = result.dataset[name].attrs.get("units", "1")
    return name if unit == "1" else f"{name} ({unit})"


def seeds(result: Result) -> str:
    """How many seeds a result has, in words."""
    return panels.many([result.dataset.sizes["seed"]])


def _cell(sample: np.ndarray) -> str:
    if not sample.size:
        return "–"
    found = mean_interval(sample)
    half = f"\n±{found.high - found.mean:.2g}" if sample.size > 1 else ""
    return f"{found.mean:.3g}{half}"


def _jitter(n: int) -> np.ndarray:
    """n numbers spread evenly over (0, 1), neighbors far apart: the golden-ratio sequence."""
    return np.arange(n) * 0.6180339887498949 % 1.0
