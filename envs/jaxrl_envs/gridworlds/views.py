"""What an agent in a grid sees around itself: static tables of cell numbers, and tile codes."""

from __future__ import annotations

from functools import cache

import numpy as np

FREE, WALL, GOAL, AGENT = range(4)
"""Tile codes of observations; beyond the border everything is wall."""
OUTSIDE = 255
"""Stands for a cell beyond the border; so grids have at most 255 cells."""


@cache
def windows(rows: int, columns: int, view: int) -> np.ndarray:
    """For each cell, the numbers of the ``view * view`` cells around it, row by row.

    ``uint8[rows * columns, view * view]``; cells beyond the border are :data:`OUTSIDE`.
    """
    number = np.arange(rows * columns).reshape(rows, columns)
    padded = np.pad(number, view // 2, constant_values=OUTSIDE)
    around = np.lib.stride_tricks.sliding_window_view(padded, (view, view))
    return around.reshape(rows * columns, view * view).astype(np.uint8)
