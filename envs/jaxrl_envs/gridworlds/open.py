"""``gridworld/open``: an empty grid with any number of goals, equal or graded."""

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
from jaxrl_envs.gridworlds import moves
from jaxrl_envs.gridworlds.moves import LARGEST, LONGEST, neighbors
from jaxrl_envs.gridworlds.routes import FAR, rank, shortest
from jaxrl_envs.picture import Picture
from jaxrl_envs.tabular import TabularMDP

MOST_GOALS = 8
LEAST = 1e-30
"""Keeps a quotient finite whose value is not used."""
TIE = 1e-6
"""Returns closer than this are equally good."""
TURNS = 4
"""Levels of the corner layout: the quarter turns."""


class Places(NamedTuple):
    """Where things are in each level: ``start[L]``, ``goals[L, M]`` by value and by number."""

    start: np.ndarray
    goals: np.ndarray
    ascending: np.ndarray


@cache
def places(layout: str, size: int, goals: int, random_start: bool, levels: int) -> Places:
    """The levels of a structure as static tables; the first ones do not depend on ``levels``."""
    if layout == "corner":
        far = size - 1
        corners = np.array([0, far, size * size - 1, far * size])  # clockwise
        turned = (np.arange(levels)[:, None] + [0, 2, 1, 3]) % 4  # the opposite one comes first
        table = corners[turned][:, : goals + 1].astype(np.uint8)
    else:

        def identity(cells: list[int]) -> tuple[int, frozenset[int]]:
            return -1 if random_start else cells[0], frozenset(cells[1:])

        table = moves.scatter(size, goals + 1, levels, identity)
    # A start that is drawn is no part of the level.
    start = np.zeros_like(table[:, 0]) if random_start else table[:, 0]
    return Places(start, table[:, 1:], np.sort(table[:, 1:], axis=1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        gap: goal m pays ``1 - gap * m``.
        step_cost: subtracted at every step.
        slip: probability that the move goes to one of the two perpendicular directions instead.
        p_spont: probability per step of being carried to a goal (each equally likely).
    """

    gap: Float[Array, ""]
    step_cost: Float[Array, ""]
    slip: Float[Array, ""]
    p_spont: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One grid: its number and where things are.

    ``goals`` are in order of value and ``ascending`` the same cells in order of their number;
    ``start`` is 0 where starts are drawn.
    """

    id: Int[Array, ""]
    start: UInt8[Array, ""]
    goals: UInt8[Array, "M"]
    ascending: UInt8[Array, "M"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Where the agent stands and how many steps it took: 2 bytes (3 with a horizon above 255)."""

    cell: UInt8[Array, ""]
    clock: moves.Clock


@dataclass(frozen=True)
class OpenGrid:
    """An empty N×N grid with M goals, equally good or graded.

    Actions are up, right, down, left; a move into the wall stays. Goal m pays ``1 - gap * m``
    and ends the episode; every step costs ``step_cost`` (cost 1 is the reward of -1 per step,
    up to a constant). With ``noisy`` moves may slip, and at each step the agent is carried to a
    random goal with probability ``p_spont``: success that needs no exploration (0.1/N is usual).
    Without goals nothing pays and only the time limit ends an episode: the reward-free mode.
    ``gridworld/two_goals`` is the variant whose two goals are always equally far.

    Layouts: ``"corner"`` starts in a corner, with goals in the other corners, the opposite one
    first (C(2N-2, N-1) shortest routes); its four levels are quarter turns. ``"scattered"`` has
    start and goals anywhere, different in every level.

    Observation: ``"cell"``, the number ``level * N² + cell`` (for tabular policies), or
    ``"coordinates"``, (row, column) of the agent and of each goal in order of value, scaled to
    [-1, 1]. The clock is never observed. Exact facts: the optimal value, distances and numbers
    of shortest routes to each goal, a policy's shares of the goals, the transition table.
    ``mode_id`` is the goal that was reached.

    Attributes:
        size: N. goals: M.
        layout: ``"corner"`` or ``"scattered"``.
        start: ``"fixed"``, or ``"random"``: drawn at each reset from all cells without a goal.
        noisy: whether the world draws noise (one uniform per step) at all.
        horizon: time limit; 0 means ``4 * size``.
        observation: ``"cell"`` or ``"coordinates"``.
        levels, test_levels: how many grids are in each split.

    Raises:
        BadInput: sizes or a horizon out of range, more goals or levels than the layout has.

    Source: the grid of spontaneous successes (arXiv 2211.02222); else a classic.
    """

    size: int = 5
    goals: int = 1
    layout: Literal["corner", "scattered"] = "corner"
    start: Literal["fixed", "random"] = "fixed"
    noisy: bool = False
    horizon: int = 0
    observation: Literal["cell", "coordinates"] = "cell"
    levels: int = 1
    test_levels: int = 0

    truncates = True

    def __post_init__(self) -> None:
        expect(2 <= self.size <= LARGEST, "size", self.size, f"2 to {LARGEST}")
        room = min(self.size**2 - 2, MOST_GOALS)
        room = room if self.layout == "scattered" else 3
        expect(0 <= self.goals <= room, "goals", self.goals, f"0 to {room} goals")
        steps = f"0 (4 * size) to {LONGEST} steps"
        expect(0 <= self.horizon <= LONGEST, "horizon", self.horizon, steps)
        most = self._most_levels
        expect(1 <= self.levels <= most, "levels", self.levels, f"1 to {most} levels")
        rest = most - self.levels
        why = f"0 to {rest} ({most} - levels)"
        expect(0 <= self.test_levels <= rest, "test_levels", self.test_levels, why)
        if self.horizon == 0:
            object.__setattr__(self, "horizon", 4 * self.size)

    @property
    def _most_levels(self) -> int:
        """The turns; half of all different scattered grids, to draw them with few refusals."""
        if self.layout == "corner":
            return 1 if self.start == "random" and self.goals == 0 else TURNS
        cells, fixed = self.size**2, self.start == "fixed"
        grids = comb(cells - fixed, self.goals) * (cells if fixed else 1)
        return min(max(grids // 2, 1), 65536)

    @property
    def default_params(self) -> Params:
        return Params(jnp.float32(0.0), jnp.float32(0.0), jnp.float32(0.0), jnp.float32(0.0))

    def check_params(self, params: Params) -> None:
        """Refuse noise that nobody would see, and numbers outside their range."""
        steepest = 1.0 / max(self.goals - 1, 1)
        gap, cost = float(params.gap), float(params.step_cost)
        expect(0.0 <= gap <= steepest, "gap", gap, f"0 to {steepest:g}: no goal pays less than 0")
        expect(0.0 <= cost < float("inf"), "step_cost", cost, "a finite cost of 0 or more")
        for name in ("slip", "p_spont"):
            chance = float(getattr(params, name))
            if not self.noisy:
                expect(chance == 0.0, name, chance, "0 unless the world is built with noisy = true")
            expect(0.0 <= chance <= 1.0, name, chance, "a probability")
        spont = float(params.p_spont)
        expect(spont == 0.0 or self.goals > 0, "p_spont", spont, "0 where there is no goal")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "cell":
            return Discrete((self.levels + self.test_levels) * self.size**2)
        return Box(-1.0, 1.0, (2 * (self.goals + 1),))

    @property
    def action_space(self) -> Discrete:
        return Discrete(4)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.levels, self.test_levels)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        index, total = jnp.asarray(level_id, jnp.int32), self.levels + self.test_levels
        table = places(self.layout, self.size, self.goals, self.start == "random", total)
        return Level(index, *(jnp.asarray(column)[index] for column in table))

    def draw_reset(
        self, key: Array, batch_shape: tuple[int, ...]
    ) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.start == "random" else ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.noisy else ()

    def reset(self, params: Params, level: Level, noise: Float[Array, ""] | tuple[()]) -> State:
        cell = level.start
        if self.start == "random":
            assert not isinstance(noise, tuple)  # what `draw_reset` gave
            free = self.size**2 - self.goals
            cell = jnp.minimum((noise * free).astype(jnp.int32), free - 1)
            for goal in level.ascending.astype(jnp.int32):  # the number of a free cell -> the cell
                cell = jnp.where(cell >= goal, cell + 1, cell)
        return State(jnp.asarray(cell, jnp.uint8), moves.first_clock(self.horizon))

    def _values(self, params: Params) -> Float[Array, "M"]:
        return 1.0 - params.gap * jnp.arange(self.goals, dtype=jnp.float32)

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        move = jnp.clip(jnp.asarray(action, jnp.int32), 0, 3)
        ahead = jnp.asarray(neighbors(self.size))
        if self.noisy:
            assert not isinstance(noise, tuple)  # what `draw` gave
            spont = params.p_spont
            rest = jnp.where(spont < 1.0, (noise - spont) / jnp.maximum(1.0 - spont, LEAST), 0.0)
            cell = ahead[state.cell, moves.slipped(move, rest, params.slip)]
            if self.goals:
                which = jnp.minimum(noise / jnp.maximum(spont, LEAST) * self.goals, self.goals - 1)
                cell = jnp.where(noise < spont, level.goals[which.astype(jnp.int32)], cell)
        else:
            cell = ahead[state.cell, move]
        over = jnp.any(state.cell == level.goals)  # a finished episode stands still, without pay
        cell = jnp.where(over, state.cell, cell)
        clock = moves.tick(state.clock, self.horizon)
        at_goal = cell == level.goals
        pay = jnp.sum(jnp.where(at_goal, self._values(params), 0.0)) - params.step_cost
        number = jnp.arange(self.goals, dtype=jnp.int32) + 1
        return Transition(
            state=State(cell, clock),
            reward={"true": jnp.where(over, 0.0, pay).astype(jnp.float32)},
            terminated=jnp.any(at_goal),
            truncated=clock >= self.horizon,
            info={
                "correct": jnp.any(at_goal),
                "mode_id": jnp.sum(jnp.where(at_goal, number, 0), dtype=jnp.int32) - 1,
            },
        )

    def observe(self, params: Params, level: Level, state: State) -> Array:
        if self.observation == "cell":
            return level.id * self.size**2 + state.cell.astype(jnp.int32)
        return moves.coordinates(jnp.concatenate([state.cell[None], level.goals]), self.size)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """The best expected return within the horizon, by backward induction over the clock."""
        return self.tabular(params, level).best_return()

    def _ahead(self, level: Level) -> Int[Array, "S 4"]:
        """Successors without noise; goals keep whoever reaches them."""
        goals = level.goals.astype(jnp.int32)
        ahead = jnp.asarray(neighbors(self.size)).astype(jnp.int32)
        return ahead.at[goals].set(goals[:, None])

    def _fields(self, level: Level) -> tuple[Int[Array, "M S"], Int[Array, "M S"]]:
        """From each cell to each goal: distance and number of shortest routes."""
        depth = min(self.horizon, self.size**2)
        find = jax.vmap(lambda goal: shortest(self._ahead(level), goal, depth))
        return find(level.goals.astype(jnp.int32))

    def routes(self, params: Params, level: Level) -> tuple[Int[Array, "M"], Int[Array, "M"]]:
        """From the fixed start to each goal: distance and number of shortest routes.

        A route does not lead through another goal. A goal that cannot be reached within the
        horizon has distance 2^20 and no route. Slips are left out.
        """
        distance, ways = self._fields(level)
        return distance[:, level.start], ways[:, level.start]

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The shortest routes to the goals of the best return, ``1 - gap * m - step_cost * d``.

        A route is numbered by its goal and its lexicographic rank, so codes are 0 .. count-1.
        Without a step cost a detour earns as much; it is still not counted as a solution, but the
        shortest routes to a further goal of the same value are.

        Raises:
            BadInput: in a noisy world, where the optimum is a policy and not a route; without a
                fixed start or without goals.
        """
        if self.noisy:
            raise BadInput("noisy", True, "false: a noisy world has no optimal routes")
        if self.start == "random":
            raise BadInput("start", self.start, "fixed: routes begin at the level's start")
        if not self.goals:
            raise BadInput("goals", 0, "at least 1 goal")
        distances, ways = self._fields(level)
        start = level.start.astype(jnp.int32)
        distance, count = distances[:, start], ways[:, start]
        reached = distance < FAR
        worth = self._values(params) - params.step_cost * distance.astype(jnp.float32)
        best = jnp.max(jnp.where(reached, worth, -jnp.inf))
        counted = reached & (worth >= best - TIE)
        count = jnp.where(counted, count, 0)
        before = jnp.cumsum(count, dtype=jnp.int32) - count

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            to = jax.vmap(rank, (None, 0, 0, None, None, None))
            codes = to(self._ahead(level), distances, ways, start, actions, length)
            return jnp.max(jnp.where(counted & (codes >= 0), before + codes, -1))

        return Solutions(jnp.sum(count, dtype=jnp.int32).astype(jnp.float32), label)

    def goal_shares(
        self, params: Params, level: Level, policy: Float[Array, "S 4"]
    ) -> Float[Array, "M"]:
        """Exact probabilities of ending at each goal, for ``policy[cell, action]``."""
        mdp = self.tabular(params, level)

        def forward(mass: Float[Array, "S"], _: None) -> tuple[Float[Array, "S"], Array]:
            arrived = mdp.push(mass[:, None] * policy)
            return jnp.where(mdp.terminal, 0.0, arrived), arrived[level.goals.astype(jnp.int32)]

        _, shares = jax.lax.scan(forward, mdp.start, length=self.horizon)
        return jnp.sum(shares, axis=0)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are cells; the clock is left to the caller through ``horizon``."""
        S, goals, ahead = self.size**2, level.goals.astype(jnp.int32), self._ahead(level)
        terminal = jnp.zeros(S, bool).at[goals].set(True)
        pay = jnp.zeros(S).at[goals].set(self._values(params))
        reward, P = pay[ahead], None
        if self.noisy:
            carried = jnp.sum(jax.nn.one_hot(goals, S), axis=0) / max(self.goals, 1)
            P = (1.0 - params.p_spont) * moves.slippery(ahead, params.slip)
            P = P + params.p_spont * carried[None, None, :]
            reward = P @ pay
        free = jnp.where(terminal, 0.0, 1.0) / (S - self.goals)
        start = jax.nn.one_hot(level.start, S) if self.start == "fixed" else free
        return TabularMDP(
            reward=jnp.where(terminal[:, None], 0.0, reward - params.step_cost),
            start=start,
            terminal=terminal,
            row=level.id * S + jnp.arange(S, dtype=jnp.int32),
            next=None if self.noisy else ahead,
            P=P,
            horizon=self.horizon,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`: its cell."""
        return state.cell.astype(jnp.int32)

    def _marks(self, level: Level) -> dict[int, str]:
        return {goal: str(number) for number, goal in enumerate(level.goals.tolist())}

    def picture(self, params: Params, level: Level) -> Picture:
        """The goals, a fixed start S, and where each state of :meth:`tabular` stands."""
        start = {int(level.start): "S"} if self.start == "fixed" else {}
        marks = {**start, **self._marks(level)}
        return moves.picture(self.size, np.arange(self.size**2), marks)

    def render(self, params: Params, level: Level, state: State) -> str:
        """The grid: numbers are the goals, A the agent, * the agent on a goal."""
        marks, cell = self._marks(level), int(state.cell)
        marks[cell] = "*" if cell in marks else "A"
        return moves.drawing(self.size, marks, f"level {int(level.id)}  step {int(state.clock)}")
