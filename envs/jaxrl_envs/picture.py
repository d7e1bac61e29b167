"""What is drawn of a grid: walls, named places, and where each state of the table stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Picture:
    """A level of a gridworld for the eye; concrete NumPy arrays, never traced.

    Attributes:
        walls: cells nobody can enter, ``bool[rows, columns]``.
        marks: text to write into cells, by (row, column).
        cell: the flat number of the cell each tabular state stands in, ``int[S]``; -1 for
            states that stand nowhere (the end of the episode).
        moves: row and column change of each action, ``int[A, 2]`` or, where labels differ from
            state to state, ``int[S, A, 2]``; (0, 0) for other actions.
    """

    walls: np.ndarray
    cell: np.ndarray
    moves: np.ndarray
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.walls.shape
        return rows, columns

    def over_cells(self, values: np.ndarray, mass: np.ndarray | None = None) -> np.ndarray:
        """Values of states ``[S]`` as a map ``[rows, columns]``; NaN where no state stands.

        States that share a cell are averaged with weights ``mass`` (equal ones unless given).
        """
        here = self.cell >= 0
        weight = np.ones(len(self.cell)) if mass is None else np.asarray(mass, np.float64)
        total = np.zeros(self.walls.size)
        counted = np.zeros(self.walls.size)
        np.add.at(total, self.cell[here], np.asarray(values, np.float64)[here] * weight[here])
        np.add.at(counted, self.cell[here], weight[here])
        with np.errstate(invalid="ignore"):
            return (total / np.where(counted > 0, counted, np.nan)).reshape(self.shape)

    def sum_over_cells(self, mass: np.ndarray) -> np.ndarray:
        """Mass of states ``[S]`` added up per cell, ``[rows, columns]``."""
        here = self.cell >= 0
        total = np.zeros(self.walls.size)
        np.add.at(total, self.cell[here], np.asarray(mass, np.float64)[here])
        return total.reshape(self.shape)
