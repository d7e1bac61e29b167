"""``gridworld/four_rooms``: the classic four rooms with slip, under gymnax's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, UInt8, UInt16, UInt32

from jaxrl_envs import threefry
from jaxrl_envs.core import Discrete, MultiDiscrete, Solutions, Transition, split_ids
from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.gridworlds.draws import half_words, pick, pick_two, skip
from jaxrl_envs.gridworlds.moves import LONGEST, MOVES, Clock, first_clock, tick
from jaxrl_envs.gridworlds.rooms import CELLS, around, geometry
from jaxrl_envs.gridworlds.routes import rank, shortest
from jaxrl_envs.gridworlds.views import FREE, GOAL, OUTSIDE, WALL
from jaxrl_envs.picture import Picture
from jaxrl_envs.tabular import TabularMDP

FULL = 1 << 16
"""How many outcomes one draw of slip noise has."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        slip: probability that the move goes to one of the three other directions instead, each
            equally likely (gymnax's ``fail_prob``); rounded to a multiple of 3/65536.
        step_cost: subtracted at every step (gymnax has none).
    """

    slip: Float[Array, ""]
    step_cost: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its number and its goal (which ``goal="random"`` ignores)."""

    id: Int[Array, ""]
    goal: UInt8[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Where the agent stands, how many steps it took and, where it is drawn, its goal.

    2 to 4 bytes: the clock takes two with a horizon above 255, ``goal`` is None unless random.
    """

    cell: UInt8[Array, ""]
    clock: Clock
    goal: UInt8[Array, ""] | None = None


@dataclass(frozen=True)
class FourRooms:
    """Four rooms, four doors, 104 cells, one goal.

    Actions are up, right, down, left; a move into a wall stays. With probability ``slip`` one of
    the three other moves is made. Entering the goal pays 1 and terminates; the episode is
    truncated at the horizon; both may happen at once. Start and goal are fixed, or drawn uniformly
    at every reset: the goal from all cells, a random start from all but the goal. A random goal
    may fall on a fixed start; that episode begins on its goal and ends when it comes back to it.

    Observation: ``"cell"``, one row per goal and cell, for tabular policies (numbered by level,
    or by goal where it is random); ``"coordinates"``, (row, column) of agent and goal; ``"view"``,
    the tile codes of the window of ``view * view`` cells around the agent (free, wall, goal). The
    clock is never observed. Exact facts: the optimal value, distances, the number of shortest
    routes (without slip, from a fixed start), the transition table (of one goal), successor
    measures. ``mode_id`` is 0 at the goal.

    Attributes:
        start: ``"fixed"`` or ``"random"`` (gymnax's ``resample_init_pos``).
        goal: ``"fixed"`` for the level, or ``"random"`` (gymnax's ``resample_goal_pos``).
        start_cell, goal_cell: (row, column) of the fixed ones.
        slippery: whether the world draws noise (16 bits per step) at all.
        horizon: time limit. observation: see above. view: side of the window, odd.
        levels, test_levels: prompts in each split. Level 0 has its goal at ``goal_cell``, the
            others elsewhere, in a fixed shuffled order; a random goal leaves one level only.

    Raises:
        BadInput: a start or goal in a wall or on each other, too many levels, an even window, a
            horizon out of range.

    Source: Sutton, Precup and Singh 1999; the rules of ``FourRooms-misc`` in gymnax 1.0.
    """

    start: Literal["fixed", "random"] = "fixed"
    goal: Literal["fixed", "random"] = "fixed"
    start_cell: tuple[int, int] = (4, 1)
    goal_cell: tuple[int, int] = (8, 9)
    slippery: bool = True
    horizon: int = 500
    observation: Literal["cell", "coordinates", "view"] = "cell"
    view: int = 5
    levels: int = 1
    test_levels: int = 0

    truncates = True

    def __post_init__(self) -> None:
        free = "(row, column) of a free cell"
        expect(geometry().number(self.start_cell) >= 0, "start_cell", self.start_cell, free)
        expect(geometry().number(self.goal_cell) >= 0, "goal_cell", self.goal_cell, free)
        fixed = self.start == "fixed"
        if fixed and self.goal == "fixed":
            apart = self.goal_cell != self.start_cell
            expect(apart, "goal_cell", self.goal_cell, f"not the start, {self.start_cell}")
        expect(1 <= self.horizon <= LONGEST, "horizon", self.horizon, f"1 to {LONGEST} steps")
        odd = 1 <= self.view <= 25 and self.view % 2 == 1
        expect(odd, "view", self.view, "an odd number, 1 to 25")
        most = 1 if self.goal == "random" else CELLS - fixed
        why = "goals that differ" if self.goal == "fixed" else "a random goal makes levels alike"
        expect(1 <= self.levels <= most, "levels", self.levels, f"1 to {most} ({why})")
        rest = most - self.levels
        expect(
            0 <= self.test_levels <= rest,
            "test_levels",
            self.test_levels,
            f"0 to {rest} ({most} - levels: {why})",
        )

    @property
    def default_params(self) -> Params:
        return Params(jnp.float32(1 / 3 if self.slippery else 0.0), jnp.float32(0.0))

    def check_params(self, params: Params) -> None:
        """Refuse slip that nobody would see, and numbers outside their range."""
        slip, cost = float(params.slip), float(params.step_cost)
        if not self.slippery:
            expect(slip == 0.0, "slip", slip, "0 unless the world is built with slippery = true")
        expect(0.0 <= slip <= 0.75, "slip", slip, "0 to 0.75 (all four moves equally likely)")
        expect(0.0 <= cost < float("inf"), "step_cost", cost, "a finite cost of 0 or more")

    @property
    def observation_space(self) -> Discrete | MultiDiscrete:
        if self.observation == "cell":
            goals = CELLS if self.goal == "random" else self.levels + self.test_levels
            return Discrete(goals * CELLS)
        if self.observation == "coordinates":
            return MultiDiscrete(geometry().walls.shape * 2)
        return MultiDiscrete((GOAL + 1,) * self.view**2)

    @property
    def action_space(self) -> Discrete:
        return Discrete(4)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.levels, self.test_levels)

    @property
    def _goals(self) -> np.ndarray:
        """The goal of each level: the chosen one first, never the fixed start."""
        first, start = (geometry().number(c) for c in (self.goal_cell, self.start_cell))
        others = np.random.RandomState(0).permutation(CELLS)  # this generator is frozen
        others = others[(others != first) & ((others != start) | (self.start == "random"))]
        return np.concatenate([[first], others]).astype(np.uint8)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        index = jnp.asarray(level_id, jnp.int32)
        return Level(index, jnp.asarray(self._goals)[index])

    def draw_reset(
        self, key: Array, batch_shape: tuple[int, ...]
    ) -> UInt32[Array, "..."] | tuple[()]:
        if self.start == self.goal == "fixed":
            return ()
        return threefry.bits(key, batch_shape)

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> UInt16[Array, "..."] | tuple[()]:
        return half_words(key, batch_shape) if self.slippery else ()

    def reset(self, params: Params, level: Level, noise: UInt32[Array, ""] | tuple[()]) -> State:
        clock = first_clock(self.horizon)
        start = jnp.uint8(geometry().number(self.start_cell))
        if isinstance(noise, tuple):
            return State(start, clock)
        if self.goal == "fixed":
            other, _ = pick(noise, CELLS - 1)
            start = skip(other, level.goal).astype(jnp.uint8)
            return State(start, clock)
        goal, other = pick_two(noise, CELLS)
        start = other.astype(jnp.uint8) if self.start == "random" else start
        return State(start, clock, goal.astype(jnp.uint8))

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: UInt16[Array, ""] | tuple[()],
    ) -> Transition:
        move = jnp.clip(jnp.asarray(action, jnp.int32), 0, 3)
        if self.slippery:
            assert not isinstance(noise, tuple)  # what `draw` gave
            turns = noise.astype(jnp.int32) < self._third(params) * jnp.arange(1, 4)
            move = (move + jnp.sum(turns, dtype=jnp.int32)) & 3
        goal = self._goal(level, state)
        # A finished episode stands still, without pay; one that begins on its goal is not over.
        over = state.cell == goal
        if self.start == "fixed" and self.goal == "random":  # elsewhere none begins there
            over &= state.clock > 0
        ahead = jnp.asarray(geometry().next.ravel())[state.cell.astype(jnp.int32) * 4 + move]
        cell = jnp.where(over, state.cell, ahead)
        clock = tick(state.clock, self.horizon)
        at_goal = cell == goal
        reward = jnp.where(over, 0.0, at_goal.astype(jnp.float32) - params.step_cost)
        return Transition(
            state=State(cell, clock, state.goal),
            reward={"true": reward},
            terminated=at_goal,
            truncated=clock >= self.horizon,
            info={"correct": at_goal, "mode_id": jnp.where(at_goal, 0, -1).astype(jnp.int32)},
        )

    def _third(self, params: Params) -> Int[Array, ""]:
        """How many of the 65536 outcomes of a draw slip to each of the three other moves."""
        return jnp.round(params.slip * (FULL / 3)).astype(jnp.int32)

    def _goal(self, level: Level, state: State) -> UInt8[Array, ""]:
        return level.goal if state.goal is None else state.goal

    def observe(self, params: Params, level: Level, state: State) -> Integer[Array, "..."]:
        goal = self._goal(level, state)
        if self.observation == "cell":
            block = level.id if state.goal is None else goal.astype(jnp.int32)
            return block * CELLS + state.cell.astype(jnp.int32)
        if self.observation == "coordinates":
            # Row and column share a word: one look-up per place instead of two.
            pairs = jnp.asarray(geometry().places @ [1, 256], jnp.uint32)
            both = pairs[state.cell] | pairs[goal] << 16
            return (both >> jnp.arange(0, 32, 8, dtype=jnp.uint32)).astype(jnp.uint8)
        seen = jnp.asarray(around(self.view))[state.cell]
        codes = [jnp.uint8(code) for code in (WALL, GOAL, FREE)]
        return jnp.where(seen == OUTSIDE, codes[0], jnp.where(seen == goal, codes[1], codes[2]))

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """The best expected return within the horizon, starts and random goals averaged.

        V_h(s) = max_a E[[s' = g] - cost + [s' ≠ g] V_{h-1}(s')], with V_0 = 0.
        """
        goals = jnp.arange(CELLS) if self.goal == "random" else level.goal.astype(jnp.int32)[None]
        at_goal = jax.nn.one_hot(goals, CELLS).T
        P = self._chances(params)

        def backward(value: Float[Array, "S K"], _: None) -> tuple[Float[Array, "S K"], None]:
            ahead = at_goal + (1.0 - at_goal) * value
            return jnp.max(jnp.einsum("sat,tk->ask", P, ahead), axis=0) - params.step_cost, None

        value, _ = jax.lax.scan(backward, jnp.zeros(at_goal.shape), length=self.horizon)
        starts = jax.vmap(self._starts)(goals).T
        return jnp.mean(jnp.sum(starts * value, axis=0))

    def _chances(self, params: Params) -> Float[Array, "S A S"]:
        """Transition probabilities over cells, whatever the goal."""
        ahead = jax.nn.one_hot(jnp.asarray(geometry().next), CELLS)
        if not self.slippery:
            return ahead
        third = self._third(params).astype(jnp.float32) / FULL
        others = jnp.sum(ahead, axis=1, keepdims=True) - ahead
        return (1.0 - 3 * third) * ahead + third * others

    def _starts(self, goal: Int[Array, ""]) -> Float[Array, "S"]:
        if self.start == "fixed":
            return jax.nn.one_hot(geometry().number(self.start_cell), CELLS)
        return jnp.where(jnp.arange(CELLS) == goal, 0.0, 1 / (CELLS - 1))

    def distances(self) -> Int[Array, "S S"]:
        """Steps of the shortest route from each cell to each goal, without slip."""
        ahead = jnp.asarray(geometry().next, jnp.int32)
        find = jax.vmap(lambda goal: shortest(ahead, goal, CELLS)[0], out_axes=1)
        return find(jnp.arange(CELLS))

    def successor_measure(
        self, params: Params, policy: Float[Array, "S A"], discount: float
    ) -> Float[Array, "S S"]:
        """Discounted visits to each cell from each cell: (I - γ P_π)^-1, goals disregarded.

        So ``successor_measure(...) @ r`` is the value of any reward r(s) paid at each step.
        """
        P = jnp.einsum("sa,sat->st", policy, self._chances(params))
        return jnp.linalg.inv(jnp.eye(CELLS) - discount * P)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The shortest routes from the fixed start to the level's goal, in lexicographic order.

        Codes are 0 .. count-1. Without a step cost a detour earns as much; it is still not
        counted as a solution. None are counted where the horizon is too short.

        Raises:
            BadInput: in a slippery world, where the optimum is a policy and not a route; and
                where start or goal are random, so that a level has no routes of its own.
        """
        for name, wrong, right in (
            ("slippery", True, "false: a slippery world has no optimal routes"),
            ("start", "random", "fixed: routes are counted from one start"),
            ("goal", "random", "fixed: routes are counted to the level's goal"),
        ):
            if getattr(self, name) == wrong:
                raise BadInput(name, wrong, right)
        ahead = jnp.asarray(geometry().next, jnp.int32)
        distance, ways = shortest(ahead, level.goal.astype(jnp.int32), CELLS)
        start = jnp.int32(geometry().number(self.start_cell))
        count = jnp.where(distance[start] <= self.horizon, ways[start], 0)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            return rank(ahead, distance, ways, start, actions, length)

        return Solutions(count.astype(jnp.float32), label)

    @property
    def tabular(self) -> Callable[[Params, Level], TabularMDP]:
        """States are cells; the clock is left to the caller through ``horizon``.

        Raises:
            AttributeError: the goal is random. Cells times goals are too many for a table, so
                that world has no such member.
        """
        if self.goal == "random":
            raise AttributeError("tabular: only where the goal is fixed")
        return self._tabular

    def _tabular(self, params: Params, level: Level) -> TabularMDP:
        cells = jnp.arange(CELLS, dtype=jnp.int32)
        terminal = cells == level.goal.astype(jnp.int32)
        P = self._chances(params)
        reward = P @ terminal.astype(jnp.float32) - params.step_cost
        ahead = jnp.asarray(geometry().next, jnp.int32)
        return TabularMDP(
            reward=jnp.where(terminal[:, None], 0.0, reward),
            start=self._starts(level.goal.astype(jnp.int32)),
            terminal=terminal,
            row=level.id * CELLS + cells,
            next=None if self.slippery else jnp.where(terminal[:, None], cells[:, None], ahead),
            P=P if self.slippery else None,
            horizon=self.horizon,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`: its cell."""
        return state.cell.astype(jnp.int32)

    def picture(self, params: Params, level: Level) -> Picture:
        """The rooms for drawing, with S at a fixed start and G at a fixed goal."""
        g = geometry()
        marks = {self.start_cell: "S"} if self.start == "fixed" else {}
        if self.goal == "fixed":
            row, column = g.places[int(level.goal)].tolist()
            marks[row, column] = "G"
        return Picture(g.walls, np.flatnonzero(~g.walls.ravel()), MOVES, marks)

    def render(self, params: Params, level: Level, state: State) -> str:
        """The grid: # is wall, G the goal, A the agent, * the agent on the goal."""
        g = geometry()
        tiles = np.where(g.walls, "#", ".")
        cell, goal = int(state.cell), int(self._goal(level, state))
        tiles[tuple(g.places[goal])] = "G"
        tiles[tuple(g.places[cell])] = "*" if cell == goal else "A"
        rows = [" ".join(row) for row in tiles]
        return "\n".join([f"level {int(level.id)}  step {int(state.clock)}", *rows])
