"""The map of the four rooms as static tables."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from jaxrl_envs.gridworlds.moves import MOVES
from jaxrl_envs.gridworlds.views import OUTSIDE, windows

MAP = """
xxxxxxxxxxxxx
x     x     x
x     x     x
x           x
x     x     x
x     x     x
xx xxxx     x
x     xxx xxx
x     x     x
x     x     x
x           x
x     x     x
xxxxxxxxxxxxx"""
"""13 × 13; the four doors are single cells."""
CELLS = 104
"""Cells that are not wall."""


class Geometry(NamedTuple):
    """The map as static tables; the 104 free cells are numbered row by row.

    ``walls[13, 13]``; ``places[S, 2]`` is (row, column) of each cell; ``next[S, A]`` where each
    move leads (the cell itself at a wall).
    """

    walls: np.ndarray
    places: np.ndarray
    next: np.ndarray

    def number(self, place: tuple[int, int]) -> int:
        """The number of the free cell at (row, column); -1 for a wall or a place off the map."""
        return next(iter(np.flatnonzero((self.places == place).all(axis=1)).tolist()), -1)


@cache
def geometry() -> Geometry:
    """The tables. Cached: they are constants of every program that uses them."""
    walls = np.array([[tile == "x" for tile in row] for row in MAP.strip().splitlines()])
    places = np.argwhere(~walls)
    number = np.full(walls.shape, OUTSIDE)
    number[tuple(places.T)] = np.arange(len(places))
    ahead = number[tuple(np.moveaxis(places[:, None, :] + MOVES, 2, 0))]
    ahead = np.where(ahead == OUTSIDE, np.arange(len(places))[:, None], ahead)
    return Geometry(walls, places, ahead.astype(np.uint8))


@cache
def around(view: int) -> np.ndarray:
    """The free cells, by number, in the window around each free cell, ``uint8[S, view * view]``."""
    g = geometry()
    number = np.full(g.walls.size + 1, OUTSIDE)
    number[:-1][~g.walls.ravel()] = np.arange(CELLS)
    seen = windows(*g.walls.shape, view)[np.flatnonzero(~g.walls.ravel())]
    return number[np.minimum(seen, g.walls.size)].astype(np.uint8)
