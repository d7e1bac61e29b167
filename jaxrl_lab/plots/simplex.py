"""Three-armed bandits: paths of the policy over the triangle of its probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxrl_envs.errors import expect
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrl_lab.plots import panels

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
"""Where the policy is sure of arm 0, 1 and 2."""


def simplex(
    paths: Mapping[str, np.ndarray],
    push: Callable[[np.ndarray], np.ndarray] | None = None,
    arms: tuple[str, str, str] = ("arm 0", "arm 1", "arm 2"),
    ax: Axes | None = None,
) -> Figure:
    """Paths ``[S, T, 3]`` of sampled policies over the exact vector field of their update.

    Every seed is a thin line from a ring to a dot, the mean over seeds a wide one. An arrow shows
    where the exact update moves the probabilities, dπ_a = π_a (Δz_a - Σ_b π_b Δz_b), all arrows of
    one length: their darkness is the speed.

    Args:
        push: log-probabilities ``[N, 3]`` -> expected change of the logits ``[N, 3]``.

    Raises:
        BadInput: paths of other shapes.
    """
    for name, path in paths.items():
        right = np.ndim(path) == 3 and np.shape(path)[-1] == 3
        expect(right, f"paths.{name}", np.shape(path), "shape [seeds, time, 3]")
    with panels.styled():
        ax = panels.own(ax, 5.2, 4.9)
        ax.fill(*CORNERS.T, facecolor="none", edgecolor="#444444", linewidth=1.0)
        if push is not None:
            _field(ax, push)
        for i, (name, path) in enumerate(paths.items()):
            _paths(ax, np.asarray(path, np.float64), name, i)
        _corners(ax, arms)
        seeds = panels.many(len(path) for path in paths.values())
        about = "; arrows: exact expected update" if push is not None else ""
        note = f"{seeds}, thin from ring to dot; wide: their mean{about}"
        panels.finish(ax, "Policy over the simplex", "", "", legend=False, note=note)
        ax.set_axis_off()
        ax.set_aspect("equal")
        ax.margins(0.08)
        if len(paths) > 1:
            ax.legend(loc="upper right")
    return panels.figure_of(ax)


def _paths(ax: Axes, path: np.ndarray, name: str, i: int) -> None:
    look = panels.look(i)
    flat = path @ CORNERS
    for one in flat:
        ax.plot(*one.T, color=look["color"], linewidth=0.7, alpha=0.5, zorder=2)
    ax.plot(*flat[:, 0].T, "o", markersize=4, color=look["color"], fillstyle="none", zorder=3)
    ax.plot(*flat[:, -1].T, "o", markersize=3.5, color=look["color"], alpha=0.7, zorder=3)
    ax.plot(*np.nanmean(flat, axis=0).T, linewidth=2.6, label=name, zorder=4, **look)


def _field(ax: Axes, push: Callable[[np.ndarray], np.ndarray], steps: int = 16) -> None:
    inside = [(a, b, steps - a - b) for a in range(1, steps) for b in range(1, steps - a)]
    p = np.array(inside) / steps
    change = np.asarray(push(np.log(p)), np.float64)
    moved = p * (change - np.sum(p * change, axis=1, keepdims=True)) @ CORNERS
    speed = np.linalg.norm(moved, axis=1, keepdims=True)
    arrow = moved / np.where(speed > 0, speed, 1.0) * 0.7 / steps
    dark = np.sqrt(speed[:, 0])
    ax.quiver(
        *(p @ CORNERS).T, *arrow.T, dark, cmap="Greys", clim=(-0.35 * dark.max(), dark.max()),
        angles="xy", scale_units="xy", scale=1, width=0.004, pivot="mid", zorder=1,
    )  # fmt: skip


def _corners(ax: Axes, arms: tuple[str, str, str]) -> None:
    for at, name, side, below in zip(
        CORNERS, arms, ("right", "left", "center"), (-4, -4, 4), strict=True
    ):
        ax.annotate(
            name, at, xytext=(0, below), textcoords="offset points", ha=side,
            va="top" if below < 0 else "bottom", fontweight="bold",
        )  # fmt: skip
