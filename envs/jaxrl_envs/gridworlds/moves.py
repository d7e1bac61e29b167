"""What empty N×N grids share: moves, slips, the clock, and places by level."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8, UInt16

from jaxrl_envs.picture import Picture

LARGEST = 15
"""Largest N: a cell number must fit into one byte."""
LONGEST = 65535
"""Largest horizon: a clock must fit into two bytes."""
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
"""Row and column change of up, right, down, left; a quarter turn clockwise adds 1 (mod 4)."""

Clock = UInt8[Array, ""] | UInt16[Array, ""]


@cache
def neighbors(size: int) -> np.ndarray:
    """``uint8[N², 4]``: where each move leads; the cell itself at a wall."""
    cells = np.stack(np.divmod(np.arange(size * size), size), axis=1)
    moved = np.clip(cells[:, None, :] + MOVES, 0, size - 1)  # clipping is staying: one axis moves
    return (moved @ [size, 1]).astype(np.uint8)


def slipped(
    move: Int[Array, ""], noise: Float[Array, ""], slip: Float[Array, ""]
) -> Int[Array, ""]:
    """The move made: with probability ``slip`` one of the two perpendicular ones."""
    turn = jnp.where(noise < slip / 2, 1, jnp.where(noise < slip, 3, 0))
    return (move + turn) % 4


def slippery(ahead: Int[Array, "S 4"], slip: Float[Array, ""]) -> Float[Array, "S 4 S"]:
    """Transition probabilities under :func:`slipped` moves with successors ``ahead``."""
    to = jax.nn.one_hot(ahead, ahead.shape[0])
    aside = jnp.roll(to, 1, axis=1) + jnp.roll(to, -1, axis=1)
    return (1.0 - slip) * to + (slip / 2) * aside


def first_clock(horizon: int) -> Clock:
    """0, in the smallest integers that reach the horizon."""
    return jnp.zeros((), jnp.uint8 if horizon <= 255 else jnp.uint16)


def tick(clock: Clock, horizon: int) -> Clock:
    """One step later; stands still at the horizon, so that it never wraps."""
    return jnp.where(clock >= horizon, clock, clock + 1)


def coordinates(places: UInt8[Array, "M"], size: int) -> Float[Array, "2M"]:
    """Row and column of each place, scaled to [-1, 1]."""
    cells = places.astype(jnp.int32)
    rows_columns = jnp.stack([cells // size, cells % size], axis=1)
    return 2.0 * rows_columns.reshape(-1).astype(jnp.float32) / (size - 1) - 1.0


def scatter(
    size: int,
    things: int,
    count: int,
    identity: Callable[[list[int]], Hashable],
    accept: Callable[[list[int]], bool] = lambda cells: True,
) -> np.ndarray:
    """Different random cells for the things of each level, ``uint8[count, things]``.

    No two levels have the same ``identity``, and the first levels do not depend on ``count``.
    The caller leaves room: each draw that is refused costs time, and there must be enough others.
    """
    random = np.random.RandomState(0)  # this generator is frozen
    levels: dict[Hashable, list[int]] = {}
    while len(levels) < count:
        cells = random.permutation(size * size)[:things].tolist()
        if accept(cells):
            levels.setdefault(identity(cells), cells)
    return np.array(list(levels.values()), np.uint8).reshape(count, things)


def picture(size: int, cell: np.ndarray, marks: dict[int, str]) -> Picture:
    """An empty grid for the eye: ``cell[S]`` is where each state stands, ``marks`` by cell."""
    placed = {divmod(int(at), size): text for at, text in marks.items()}
    return Picture(np.zeros((size, size), bool), cell, MOVES, placed)


def drawing(size: int, marks: dict[int, str], title: str) -> str:
    """A title, and below it the grid with one character per marked cell."""
    text = [marks.get(cell, ".") for cell in range(size * size)]
    rows = [" ".join(text[i : i + size]) for i in range(0, len(text), size)]
    return "\n".join([title, *rows])
