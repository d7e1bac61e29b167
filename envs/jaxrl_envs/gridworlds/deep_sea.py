"""``gridworld/deep_sea``: one sequence of N actions in 2^N finds the treasure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt32

from jaxrl_envs import threefry
from jaxrl_envs.core import Box, Discrete, Solutions, Transition, split_ids
from jaxrl_envs.counter import mix, scramble
from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.picture import Picture
from jaxrl_envs.tabular import TabularMDP

LARGEST = 255
"""Rows and columns must fit into one byte, the floor below the last row included."""
LEFT, RIGHT = 0, 1


def cell_number(row: Int[Array, "..."], column: Int[Array, "..."]) -> Int[Array, "..."]:
    """Reachable cells (column <= row) row by row; cell (N, 0) is the first one of the floor."""
    return row * (row + 1) // 2 + column


class Geometry(NamedTuple):
    """The sea of one size as static NumPy tables over its S = N(N+1)/2 cells and the floor.

    ``cells[S, 2]`` is (row, column) without the floor, which is state S; ``next[S + 1, 3]`` is
    where a move to the left, to the right, and a blown-off one to the right lead.
    """

    cells: np.ndarray
    next: np.ndarray


@cache
def geometry(size: int) -> Geometry:
    cells = np.array([(row, column) for row in range(size) for column in range(row + 1)])
    row, column = cells.T
    floor = len(cells)
    below = (row + 1) * (row + 2) // 2
    moved = np.stack([np.maximum(column - 1, 0), column + 1, column], axis=1)
    after = np.minimum(below[:, None] + moved, floor)
    return Geometry(cells, np.concatenate([after, np.full((1, 3), floor)]).astype(np.int32))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        move_cost: cost of moving right at every step of the episode (one move costs 1/N of it).
        wind: probability that a move to the right stays in its column; windy worlds only.
        reward_noise: standard deviation of the reward of the first and the last column's last
            step; windy worlds only.
    """

    move_cost: Float[Array, ""]
    wind: Float[Array, ""]
    reward_noise: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One sea: its number, and the seed of its action labels (their first 32 bits)."""

    id: Int[Array, ""]
    seed: UInt32[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """2 bytes. The row is the clock; the floor is row N, and column N of it is the treasure."""

    row: UInt8[Array, ""]
    column: UInt8[Array, ""]


@dataclass(frozen=True)
class DeepSea:
    """A diver sinks one row per step through an N×N sea and moves to the left or to the right.

    It starts in the upper left corner. Moving left is free, moving right costs
    ``move_cost / N``; moving right out of the lower right corner pays 1, so that just one
    sequence of N actions earns ``1 - move_cost`` and a uniform policy finds it with probability
    2^-N. Which of the two actions is "right" differs from cell to cell (``swap``): bit
    hash(level, row, column). No two levels have the same labels. In the ``windy`` sea a move to
    the right fails with probability ``wind`` (1/N), and the last step from the first and from
    the last column gets N(0, ``reward_noise``²) on top. Episodes last exactly N steps.

    Observation: ``"cell"``, one number per level and reachable cell (and one per level for the
    floor; for tabular policies), or ``"grid"``, a one-hot N×N picture, flat, zero on the floor.
    The picture does not show the labels: with several levels they can only be found by trying.
    Exact facts: the optimal value, the one solution, the transition table. ``correct`` and
    ``mode_id`` (0 or -1) say that the treasure was found.

    Attributes:
        size: N.
        swap: whether labels are swapped at random; off, action 1 is always "right".
        windy: whether the world draws noise (one normal per step) at all.
        observation: ``"cell"`` or ``"grid"``.
        levels, test_levels: how many seas, differently labeled, are in each split.

    Raises:
        BadInput: a size out of range, more levels than there are labelings.

    Source: the deep sea of bsuite (arXiv 1908.03568), whose rules hold here, also as gymnax has
    them, with these differences: labels come from the level and not from a seed of the
    environment or of each reset; a step beyond the end changes nothing; ``wind`` and
    ``reward_noise`` are numbers of their own; one normal serves a whole step, since the last
    step needs no wind. bsuite's ``optimal_return`` of the windy sea, (1 - 1/N)^(N-1) - 0.01, is
    the value of always moving right: the optimum is slightly higher, because a diver blown off
    the diagonal stops paying (see :meth:`optimal_value`).
    """

    size: int = 8
    swap: bool = True
    windy: bool = False
    observation: Literal["cell", "grid"] = "cell"
    levels: int = 1
    test_levels: int = 0

    truncates = False

    def __post_init__(self) -> None:
        expect(2 <= self.size <= LARGEST, "size", self.size, f"2 to {LARGEST} rows")
        most = 2 ** min(self.cells, 30) if self.swap else 1
        why = "labelings" if self.swap else "without swapped labels there is one level"
        expect(1 <= self.levels <= most, "levels", self.levels, f"1 to {most} ({why})")
        rest = most - self.levels
        expect(
            0 <= self.test_levels <= rest,
            "test_levels",
            self.test_levels,
            f"0 to {rest} ({most} labelings - levels)",
        )

    @property
    def cells(self) -> int:
        """S, the number of reachable cells."""
        return self.size * (self.size + 1) // 2

    @property
    def horizon(self) -> int:
        return self.size

    @property
    def default_params(self) -> Params:
        wind, noise = (1.0 / self.size, 1.0) if self.windy else (0.0, 0.0)
        return Params(jnp.float32(0.01), jnp.float32(wind), jnp.float32(noise))

    def check_params(self, params: Params) -> None:
        """Refuse noise that nobody would see, and numbers outside their range."""
        cost, wind, noise = map(float, (params.move_cost, params.wind, params.reward_noise))
        expect(0.0 <= cost < 1.0, "move_cost", cost, "0 or more, and less than the treasure's 1")
        if not self.windy:
            for name, value in (("wind", wind), ("reward_noise", noise)):
                expect(value == 0.0, name, value, "0 unless the world is built with windy = true")
        expect(0.0 <= wind <= 1.0, "wind", wind, "a probability")
        expect(0.0 <= noise < float("inf"), "reward_noise", noise, "a standard deviation")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "cell":
            return Discrete((self.levels + self.test_levels) * (self.cells + 1))
        return Box(0.0, 1.0, (self.size**2,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.levels, self.test_levels)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        index = jnp.asarray(level_id, jnp.int32)
        return Level(index, scramble(index.astype(jnp.uint32), min(self.cells, 32)))

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.normal(key, batch_shape) if self.windy else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        return State(jnp.zeros((), jnp.uint8), jnp.zeros((), jnp.uint8))

    def swapped(self, level: Level, cell: Int[Array, "..."]) -> Bool[Array, "..."]:
        """Whether action 0 is "right" in a cell, given by its number."""
        if not self.swap:
            return jnp.zeros(cell.shape, bool)
        word, place = (cell >> 5).astype(jnp.uint32), (cell & 31).astype(jnp.uint32)
        # The level's seed itself labels the first 32 cells: seeds differ, so labelings do.
        bits = jnp.where(word == 0, level.seed, mix(level.seed ^ mix(word)))
        return (bits >> place) % np.uint32(2) == 1

    def _price(self, params: Params) -> Float[Array, ""]:
        # One rounding, the same in every program: a division may compile to a reciprocal.
        return params.move_cost * (1.0 / self.size)

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        row, column = state.row.astype(jnp.int32), state.column.astype(jnp.int32)
        over, last = row >= self.size, row == self.size - 1
        label = jnp.clip(jnp.asarray(action, jnp.int32), 0, 1)
        right = (label == RIGHT) ^ self.swapped(level, cell_number(row, column))
        treasure = right & (column == self.size - 1)
        pay = jnp.where(treasure, 1.0, 0.0) - jnp.where(right, self._price(params), 0.0)
        moved = right
        if self.windy:
            assert not isinstance(noise, tuple)  # what `draw` gave
            # Comparing normals keeps their quantile out of the step of every instance.
            moved = right & ((noise >= ndtri(params.wind)) | last)
            edge = last & ((column == 0) | (column == self.size - 1))
            pay = pay + jnp.where(edge, params.reward_noise * noise, 0.0)
        shift = jnp.where(moved, 1, jnp.where(right, 0, -1))
        column = jnp.where(over, column, jnp.clip(column + shift, 0))
        found = column == self.size  # column N exists on the floor only
        return Transition(
            state=State(jnp.where(over, row, row + 1).astype(jnp.uint8), column.astype(jnp.uint8)),
            reward={"true": jnp.where(over, 0.0, pay).astype(jnp.float32)},
            terminated=over | last,
            truncated=jnp.bool_(False),
            info={"correct": found, "mode_id": jnp.where(found, 0, -1)},
        )

    def observe(self, params: Params, level: Level, state: State) -> Array:
        if self.observation == "cell":
            return level.id * (self.cells + 1) + self.state_index(params, level, state)
        row, column = state.row.astype(jnp.int32), state.column.astype(jnp.int32)
        cell = jnp.where(row < self.size, row * self.size + column, -1)
        return jax.nn.one_hot(cell, self.size**2, dtype=jnp.float32)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """max(0, q^(N-1) - (move_cost / N) Σ_{k<N} q^k) with q = 1 - wind.

        The diver moves right until the wind fails it once; from then on only moving left is
        free. Where that does not pay it never moves right at all.
        """
        calm = (1.0 - params.wind) ** jnp.arange(self.size, dtype=jnp.float32)
        return jnp.maximum(calm[-1] - self._price(params) * jnp.sum(calm), 0.0)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The one way to the treasure, of code 0.

        Raises:
            BadInput: in a windy world, where the optimum is a policy and not a sequence.
        """
        if self.windy:
            raise BadInput("windy", True, "false: a windy world has no optimal sequence")
        row = jnp.arange(self.size)
        wanted = jnp.where(self.swapped(level, cell_number(row, row)), LEFT, RIGHT)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            given = jnp.asarray(actions, jnp.int32)
            if given.shape[0] < self.size:
                return jnp.int32(-1)
            found = jnp.all(given[: self.size] == wanted) & (length == self.size)
            return jnp.where(found, 0, -1)

        return Solutions(jnp.float32(1.0), label)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are the reachable cells, row by row, and the floor."""
        g, total = geometry(self.size), self.cells + 1
        row, column = g.cells.T
        corner = (row == self.size - 1) & (column == self.size - 1)
        right = jnp.asarray(corner, jnp.float32) - self._price(params)
        pay = jnp.stack([jnp.zeros(self.cells), right], axis=1)
        swap = self.swapped(level, jnp.arange(self.cells))[:, None]
        ahead, P = jnp.asarray(g.next), None
        if self.windy:
            to = jax.nn.one_hot(ahead, total)
            blown = (1.0 - params.wind) * to[:, RIGHT] + params.wind * to[:, 2]
            P = jnp.stack([to[:, LEFT], blown], axis=1)
            P = P.at[:-1].set(jnp.where(swap[..., None], P[:-1, ::-1], P[:-1]))
        moves = ahead[:, :2]
        return TabularMDP(
            reward=jnp.concatenate([jnp.where(swap, pay[:, ::-1], pay), jnp.zeros((1, 2))]),
            start=jax.nn.one_hot(0, total),
            terminal=jnp.arange(total) == self.cells,
            row=level.id * total + jnp.arange(total),
            next=None
            if self.windy
            else moves.at[:-1].set(jnp.where(swap, moves[:-1, ::-1], moves[:-1])),
            P=P,
            horizon=self.horizon,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`; all of the floor is its last state."""
        row, column = state.row.astype(jnp.int32), state.column.astype(jnp.int32)
        return jnp.minimum(cell_number(row, column), self.cells)

    def picture(self, params: Params, level: Level) -> Picture:
        """The sea: the diver's start S, the treasure T below the last cell, nobody above the
        diagonal. Which action moves right is drawn as each cell has it."""
        row, column = geometry(self.size).cells.T
        walls = np.triu(np.ones((self.size + 1, self.size + 1), bool), 1)
        walls[-1] = False
        cell = np.append(row * (self.size + 1) + column, -1)
        swap = np.append(np.asarray(self.swapped(level, jnp.arange(self.cells))), False)
        ways = np.array([[1, -1], [1, 1]])
        moves = np.where(swap[:, None, None], ways[::-1], ways)
        return Picture(walls, cell, moves, {(0, 0): "S", (self.size, self.size): "T"})

    def render(self, params: Params, level: Level, state: State) -> str:
        """The sea: in each cell the action that moves right, ``#`` where nobody gets, D the diver,
        and the floor with the treasure T (``*`` when found)."""
        right = 1 - np.asarray(self.swapped(level, jnp.arange(self.cells))).astype(int)
        picture = np.full((self.size + 1, self.size + 1), "#")
        picture[tuple(geometry(self.size).cells.T)] = right.astype(str)
        picture[:-1, -1] = " "
        picture[-1], picture[-1, -1] = "_", "T"
        here = (int(state.row), int(state.column))
        picture[here] = "*" if picture[here] == "T" else "D"
        title = f"level {int(level.id)}  step {here[0]}"
        return "\n".join([title, *(" ".join(row).rstrip() for row in picture)])
