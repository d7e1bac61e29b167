"""``gridworld/two_goals``: two equally good goals, many shortest routes to each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxrl_envs import threefry
from jaxrl_envs.core import Box, Discrete, Solutions, Transition, split_ids
from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.gridworlds.moves import (
    LARGEST,
    LONGEST,
    Clock,
    coordinates,
    drawing,
    first_clock,
    neighbors,
    picture,
    slipped,
    slippery,
    tick,
)
from jaxrl_envs.picture import Picture
from jaxrl_envs.tabular import TabularMDP


class Geometry(NamedTuple):
    """Everything about the grids of one size, as static NumPy tables.

    The rows of ``rotation``, ``row``, ``start`` and ``goals[:, 2]`` are levels, in a fixed
    shuffled order; ``binomial[u, l]`` is the number of routes that go u cells up and l to the
    side.
    """

    rotation: np.ndarray
    row: np.ndarray
    start: np.ndarray
    goals: np.ndarray
    binomial: np.ndarray


@cache
def geometry(size: int) -> Geometry:
    """The tables of an N×N grid. Cached: they are constants of every program that uses them."""
    mid = size // 2
    order = np.random.RandomState(0).permutation(4 * (size - 1))  # this generator is frozen
    rotation, row = np.divmod(order, size - 1)
    row = row + 1

    def turned(r: np.ndarray, c: np.ndarray) -> np.ndarray:
        for quarter in range(1, 4):
            r, c = np.where(rotation >= quarter, (c, size - 1 - r), (r, c))
        return r * size + c

    zero, far = np.zeros_like(row), np.full_like(row, size - 1)
    goals = np.stack([turned(zero, zero), turned(zero, far)], axis=1)
    binomial = [[comb(u + side, side) for side in range(mid + 1)] for u in range(size)]
    return Geometry(
        rotation=rotation.astype(np.int32),
        row=row.astype(np.int32),
        start=turned(row, np.full_like(row, mid)).astype(np.uint8),
        goals=goals.astype(np.uint8),
        binomial=np.array(binomial, np.int32),
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        second_reward: what goal 1 pays (goal 0 pays 1).
        slip: probability that the move goes to one of the two perpendicular directions instead.
        step_cost: subtracted at every step.
    """

    second_reward: Float[Array, ""]
    slip: Float[Array, ""]
    step_cost: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One grid: its number, the quarter turns applied to it, and where things are.

    ``row`` is the start's row before the turns, so the goals are ``row + N//2`` steps away.
    """

    id: Int[Array, ""]
    rotation: Int[Array, ""]
    row: Int[Array, ""]
    start: UInt8[Array, ""]
    goals: UInt8[Array, "2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Where the agent stands and how many steps it took: 2 bytes (3 with a horizon above 255)."""

    cell: UInt8[Array, ""]
    clock: Clock


@dataclass(frozen=True)
class TwoGoals:
    """An empty N×N grid with a goal in each of two neighboring corners.

    Up to a rotation the goals are the corners (0, 0) and (0, N-1), and the agent starts in row r
    of the center column, r = 1 .. N-1: both goals are d = r + (N-1)/2 steps away, with
    C(d, r) shortest routes to each. Actions are up, right, down, left; a move into the wall
    stays. Reaching goal 0 pays 1, goal 1 ``second_reward``, every step costs ``step_cost``. The
    episode terminates at a goal and is truncated at the horizon; both may happen at once.

    Observation: ``"cell"``, the number ``level * N² + cell`` (one row per level and cell, for
    tabular policies), or ``"coordinates"``, (row, column) of the agent, of goal 0 and of goal 1,
    scaled to [-1, 1]. The clock is never observed. Exact facts: the optimal value, the number of
    shortest routes, the whole transition table. ``mode_id`` is the goal that was reached.

    Attributes:
        size: N, odd.
        slippery: whether the world draws noise (one uniform per step) at all.
        horizon: time limit; 0 means ``4 * size``.
        observation: ``"cell"`` or ``"coordinates"``.
        levels, test_levels: how many of the 4(N-1) grids are in each split.

    Raises:
        BadInput: an even or too large size, too many levels, a horizon out of range.

    Source: multiplicity of optimal policies as a cause of collapse (arXiv 2507.20150).
    """

    size: int = 5
    slippery: bool = False
    horizon: int = 0
    observation: Literal["cell", "coordinates"] = "cell"
    levels: int = 1
    test_levels: int = 0

    truncates = True

    def __post_init__(self) -> None:
        odd = 3 <= self.size <= LARGEST and self.size % 2 == 1
        expect(odd, "size", self.size, f"an odd number, 3 to {LARGEST}")
        expect(
            0 <= self.horizon <= LONGEST,
            "horizon",
            self.horizon,
            f"0 (4 * size) to {LONGEST} steps",
        )
        most = 4 * (self.size - 1)
        expect(1 <= self.levels <= most, "levels", self.levels, f"1 to {most} (4 * (size - 1))")
        rest = most - self.levels
        expect(
            0 <= self.test_levels <= rest,
            "test_levels",
            self.test_levels,
            f"0 to {rest} (4 * (size - 1) - levels)",
        )
        if self.horizon == 0:
            object.__setattr__(self, "horizon", 4 * self.size)

    @property
    def default_params(self) -> Params:
        return Params(jnp.float32(1.0), jnp.float32(0.0), jnp.float32(0.0))

    def check_params(self, params: Params) -> None:
        """Refuse slip that nobody would see, and numbers outside their range."""
        slip, cost = float(params.slip), float(params.step_cost)
        if not self.slippery:
            expect(slip == 0.0, "slip", slip, "0 unless the world is built with slippery = true")
        expect(0.0 <= slip <= 1.0, "slip", slip, "a probability")
        expect(0.0 <= cost < float("inf"), "step_cost", cost, "a finite cost of 0 or more")
        second = float(params.second_reward)
        expect(bool(np.isfinite(second)), "second_reward", second, "a finite number")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "cell":
            return Discrete((self.levels + self.test_levels) * self.size**2)
        return Box(-1.0, 1.0, (6,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(4)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.levels, self.test_levels)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        g = geometry(self.size)
        index = jnp.asarray(level_id, jnp.int32)
        tables = (g.rotation, g.row, g.start, g.goals)
        return Level(index, *(jnp.asarray(table)[index] for table in tables))

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.slippery else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        return State(jnp.asarray(level.start, jnp.uint8), first_clock(self.horizon))

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        move = jnp.clip(jnp.asarray(action, jnp.int32), 0, 3)
        if self.slippery:
            assert not isinstance(noise, tuple)  # what `draw` gave
            move = slipped(move, noise, params.slip)
        over = jnp.any(state.cell == level.goals)  # a finished episode stands still, without pay
        cell = jnp.where(over, state.cell, jnp.asarray(neighbors(self.size))[state.cell, move])
        clock = tick(state.clock, self.horizon)
        at_goal = cell == level.goals
        pay = jnp.where(at_goal[0], 1.0, jnp.where(at_goal[1], params.second_reward, 0.0))
        reward = jnp.where(over, 0.0, pay - params.step_cost)
        return Transition(
            state=State(cell, clock),
            reward={"true": reward.astype(jnp.float32)},
            terminated=jnp.any(at_goal),
            truncated=clock >= self.horizon,
            info={
                "correct": jnp.any(at_goal),
                "mode_id": jnp.where(at_goal[0], 0, jnp.where(at_goal[1], 1, -1)),
            },
        )

    def observe(self, params: Params, level: Level, state: State) -> Array:
        if self.observation == "cell":
            return level.id * self.size**2 + state.cell.astype(jnp.int32)
        return coordinates(jnp.concatenate([state.cell[None], level.goals]), self.size)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """The best expected return within the horizon, by backward induction over the clock."""
        return self.tabular(params, level).best_return()

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The shortest routes to the better goal, or to both where they pay the same.

        A route is numbered by its goal and its lexicographic rank (toward the goals before
        sideways), so codes are 0 .. count-1. Without a step cost a detour earns as much; it is
        still not counted as a solution. None are counted where the horizon is too short.

        Raises:
            BadInput: in a slippery world, where the optimum is a policy and not a route.
        """
        if self.slippery:
            raise BadInput("slippery", True, "false: a slippery world has no optimal routes")
        binomial = jnp.asarray(geometry(self.size).binomial)
        mid = self.size // 2
        routes, distance = binomial[level.row, mid], level.row + mid
        best = jnp.stack([params.second_reward <= 1.0, params.second_reward >= 1.0])
        count = jnp.where(distance <= self.horizon, jnp.sum(best) * routes, 0)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            # Undo the rotation: a shortest route is r times up (0) and mid times one side.
            move = (jnp.asarray(actions, jnp.int32) - level.rotation) % 4
            active = jnp.arange(move.shape[0]) < length
            goal = jnp.where(jnp.any(active & (move == 1)), 1, 0)
            up, aside = move == 0, move == jnp.where(goal == 1, 1, 3)
            ups, sides = (jnp.cumsum(active & m, dtype=jnp.int32) for m in (up, aside))
            optimal = jnp.all((up | aside) | ~active) & (length == distance)
            optimal &= (ups[-1] == level.row) & (sides[-1] == mid) & best[goal]
            # Going aside skips all routes that go up here: C(u - 1 + l, l) of them.
            left_up, left_aside = level.row - ups, mid - sides + 1
            skipped = binomial[jnp.clip(left_up - 1, 0), jnp.clip(left_aside, 0, mid)]
            rank = jnp.sum(jnp.where(active & aside & (left_up > 0), skipped, 0), dtype=jnp.int32)
            first = jnp.where(best[0], 0, 1)  # codes start at 0 where only goal 1 counts
            return jnp.where(optimal, (goal - first) * routes + rank, -1)

        return Solutions(count.astype(jnp.float32), label)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are cells; the clock is left to the caller through ``horizon``."""
        ahead = jnp.asarray(neighbors(self.size)).astype(jnp.int32)
        cells = jnp.arange(self.size**2)
        goals = level.goals.astype(jnp.int32)
        terminal = jnp.zeros(self.size**2, bool).at[goals].set(True)
        ahead = jnp.where(terminal[:, None], cells[:, None], ahead)
        pay = jnp.zeros(self.size**2).at[goals].set(jnp.stack([1.0, params.second_reward]))
        reward, P = pay[ahead], None
        if self.slippery:
            P = slippery(ahead, params.slip)
            reward = P @ pay
        return TabularMDP(
            reward=jnp.where(terminal[:, None], 0.0, reward - params.step_cost),
            start=jax.nn.one_hot(level.start, self.size**2),
            terminal=terminal,
            row=level.id * self.size**2 + cells.astype(jnp.int32),
            next=None if self.slippery else ahead,
            P=P,
            horizon=self.horizon,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`: its cell."""
        return state.cell.astype(jnp.int32)

    def _marks(self, level: Level) -> dict[int, str]:
        return {goal: str(number) for number, goal in enumerate(level.goals.tolist())}

    def picture(self, params: Params, level: Level) -> Picture:
        """The goals, and where each state of :meth:`tabular` stands."""
        marks = {int(level.start): "S", **self._marks(level)}
        return picture(self.size, np.arange(self.size**2), marks)

    def render(self, params: Params, level: Level, state: State) -> str:
        """The grid: 0 and 1 are the goals, A the agent, * the agent on a goal."""
        marks = self._marks(level)
        cell = int(state.cell)
        marks[cell] = "*" if cell in marks else "A"
        return drawing(self.size, marks, f"level {int(level.id)}  step {int(state.clock)}")
