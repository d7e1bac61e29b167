"""Worlds for the eye: a level as a drawing, and what a policy does in it laid over the grid.

Everything is exact: values and visits are computed from the level's table, not sampled.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import Environment, Picture, require
from jaxrl_envs.errors import expect
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jaxrl_lab.exact import occupancy, rows_to_states, value
from jaxrl_lab.plots import panels
from jaxrl_lab.plots.panels import COLORS
from jaxrl_lab.types import Tree


def level(ax: Axes, env: Environment, params: Tree, level_id: int) -> Picture:
    """Draw a grid level: walls dark, named places as text.

    Raises:
        BadInput: a world that is no grid, with those that are.
    """
    picture: Picture = require(env, "picture")(params, _level(env, params, level_id))
    rows, columns = picture.shape
    ax.imshow(np.where(picture.walls, 0.25, 1.0), cmap="gray", vmin=0, vmax=1, zorder=0)
    for (row, column), text in picture.marks.items():
        name = ax.text(column, row, text, ha="center", va="center", fontsize=9, fontweight="bold")
        name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # on dark cells too
    ax.set_xticks(np.arange(columns + 1) - 0.5, [])
    ax.set_yticks(np.arange(rows + 1) - 0.5, [])
    ax.grid(visible=True, color="#BBBBBB", linewidth=0.6)
    ax.tick_params(length=0)
    ax.set_title(f"level {level_id}")
    return picture


def arrows(ax: Axes, env: Environment, params: Tree, level_id: int, logp: Any) -> None:
    """The policy ``logp[R, K]`` as arrows: one per cell and action, as long as it is probable.

    States that share a cell are averaged by how often the policy visits them.
    """
    picture = level(ax, env, params, level_id)
    mdp, visits = _visits(env, params, level_id, logp)
    probability = np.exp(np.asarray(rows_to_states(mdp, jnp.asarray(logp))))
    rows, columns = np.indices(picture.shape)
    moves = np.broadcast_to(picture.moves, (*probability.shape, 2))
    for action in np.flatnonzero(moves.any(axis=(0, 2))):
        # Probability times direction: labels may differ between the states of a world.
        down, right = (
            np.nan_to_num(picture.over_cells(probability[:, action] * way, visits + 1e-9))
            * ~picture.walls
            for way in (moves[:, action, 0], moves[:, action, 1])
        )
        ax.quiver(
            columns, rows, 0.45 * right, 0.45 * down,
            angles="xy", scale_units="xy", scale=1, width=0.006, minlength=0, color=COLORS[2],
            zorder=2,
        )  # fmt: skip


def visit_map(ax: Axes, env: Environment, params: Tree, level_id: int, logp: Any) -> None:
    """Expected visits per episode of every cell under the policy ``logp[R, K]``."""
    _, visits = _visits(env, params, level_id, logp)
    picture = level(ax, env, params, level_id)
    _heat(ax, picture, picture.sum_over_cells(visits), "visits per episode")


def value_map(ax: Axes, env: Environment, params: Tree, level_id: int, logp: Any) -> None:
    """Expected return from every cell under the policy ``logp[R, K]``, all steps left."""
    mdp, visits = _visits(env, params, level_id, logp)
    v, _ = value(mdp, jnp.asarray(logp))
    picture = level(ax, env, params, level_id)
    _heat(ax, picture, picture.over_cells(np.asarray(v[0]), visits + 1e-9), "value (return)")


def policy_on_grid(env: Environment, params: Tree, level_id: int, logp: Any) -> Figure:
    """Where the policy ``logp[R, K]`` goes, how often it comes by, and what it gets from there.

    Raises:
        BadInput: a world that is no grid or has no table, or a level that it does not have.
    """
    with panels.styled():
        title = f"{type(env).__name__}, level {level_id}"
        note = "one policy, exact: expectations over its own luck and the world's"
        figure, ((left, middle, right),) = panels.new_figure(1, 3, title, note)
        arrows(left, env, params, level_id, logp)
        visit_map(middle, env, params, level_id, logp)
        value_map(right, env, params, level_id, logp)
        for ax, text in ((left, "Policy"), (middle, "Occupancy"), (right, "Value")):
            ax.set_title(text)
    return figure


def arms(ax: Axes, env: Environment, params: Tree, level_id: int, logp: Any = None) -> None:
    """A one-step world: what each arm pays as bars and, where given, the policy's probabilities.

    Raises:
        BadInput: a world whose episodes last more than one step.
    """
    expect(env.horizon == 1, "environment", type(env).__name__, "a world of one step")
    mdp = require(env, "tabular")(params, _level(env, params, level_id))
    pay = np.asarray(mdp.reward[0])
    at = np.arange(len(pay))
    ax.bar(at, pay, color="#CCCCCC", edgecolor="#555555", label="expected pay (reward)")
    if logp is not None:
        probability = np.exp(np.asarray(rows_to_states(mdp, jnp.asarray(logp)))[0])
        ax.plot(at, probability, "o", color=COLORS[2], markersize=4, label="policy (probability)")
    ax.set_xlabel("arm")
    ax.set_ylabel("reward, probability")
    ax.set_title(f"prompt {level_id}")
    ax.legend()


def _level(env: Environment, params: Tree, level_id: int) -> Tree:
    known = [*env.level_ids("train"), *env.level_ids("test")]
    expect(level_id in known, "level_id", level_id, f"{known[0]} to {known[-1]}")
    return env.make_level(params, jnp.int32(level_id))


def _visits(env: Environment, params: Tree, level_id: int, logp: Any) -> tuple[Any, np.ndarray]:
    mdp = require(env, "tabular")(params, _level(env, params, level_id))
    return mdp, np.asarray(jax.numpy.sum(occupancy(mdp, jnp.asarray(logp)), axis=0))


def _heat(ax: Axes, picture: Picture, values: np.ndarray, unit: str) -> None:
    shown = np.ma.masked_where(picture.walls | ~np.isfinite(values), values)
    scale = Normalize(
        vmin=float(shown.min()), vmax=max(float(shown.max()), float(shown.min()) + 1e-9)
    )
    image = ax.imshow(shown, cmap="cividis", norm=scale, alpha=0.85, zorder=1)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(unit)
