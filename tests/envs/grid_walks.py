"""How one walks on an empty grid, written out in Python: the oracle of several worlds."""

from __future__ import annotations

UP, RIGHT, DOWN, LEFT, STAY = range(5)
MOVES = {UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1), STAY: (0, 0)}


def walk(size: int, cell: int, action: int) -> int:
    row, column = divmod(cell, size)
    down, right = MOVES[action]
    if 0 <= row + down < size and 0 <= column + right < size:
        return (row + down) * size + column + right
    return cell
