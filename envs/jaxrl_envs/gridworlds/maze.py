"""``gridworld/maze``: mazes without end, each grown in parallel from its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt8, UInt32

from jaxrl_envs import threefry
from jaxrl_envs.core import Discrete, MultiDiscrete, Solutions, Transition, split_ids
from jaxrl_envs.counter import mix, scramble
from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.gridworlds.draws import pick_two
from jaxrl_envs.gridworlds.moves import (
    LARGEST,
    LONGEST,
    MOVES,
    Clock,
    drawing,
    first_clock,
    neighbors,
    tick,
)
from jaxrl_envs.gridworlds.routes import FAR, rank, shortest
from jaxrl_envs.gridworlds.views import AGENT, FREE, GOAL, OUTSIDE, WALL, windows
from jaxrl_envs.picture import Picture
from jaxrl_envs.tabular import TabularMDP

COINS, LOOPS, ENDS = 0x2545F491, 0x9E3779B9, 0x6C62272E
"""Separate what the level's number is hashed to."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        loops: probability that an inner wall between two rooms is removed (0: one route only).
        step_cost: subtracted at every step. goal_reward: paid on entering the goal.
        p_spont: probability, per step, of being put on the goal whatever the action; it takes
            exploration away as a confounder.
    """

    loops: Float[Array, ""]
    step_cost: Float[Array, ""]
    goal_reward: Float[Array, ""]
    p_spont: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One maze: its number, a bit per cell (1 is wall, cell c in bit c mod 32 of word c // 32)."""

    id: Int[Array, ""]
    walls: UInt32[Array, "W"]
    start: UInt8[Array, ""]
    goal: UInt8[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Where the agent stands and how many steps it took: 2 bytes (3 with a horizon above 255)."""

    cell: UInt8[Array, ""]
    clock: Clock


@dataclass(frozen=True)
class Maze:
    """An N×N maze of ((N+1)/2)² rooms, made from the level's number in O(1) depth.

    Rooms are the cells with even row and column. Binary-tree carving: every room opens one way,
    up or left by a fair coin of its own (the first row left, the first column up), so that the
    open cells are a tree and any two rooms are joined by one route of at most 4(N-1) steps. Then
    every wall left between two rooms is removed with probability ``loops``. The coins are an
    invertible function of the number, so without loops no two levels are the same maze.

    Actions are up, right, down, left; a move into a wall stays. Every step costs ``step_cost``,
    the goal pays ``goal_reward``: the defaults (1, 0) are "-1 per step until the goal", (0, 1) the
    sparse reward. The episode terminates at the goal and is truncated at the horizon; both may
    happen at once.

    Observation: ``"cell"``, the number ``level * N² + cell``; ``"view"``, tile codes (free, wall,
    goal) of the ``view * view`` cells around the agent; ``"map"``, tile codes of all cells (free,
    wall, goal, agent). Without ``goal_visible`` the goal's tile is shown as free. The clock is
    never observed. Exact facts: distances, the number of shortest routes, the optimal value, the
    transition table. ``mode_id`` is 0 at the goal.

    Attributes:
        size: N, odd. ends: start and goal ``"random"`` (two different rooms, drawn by the level's
            number) or in opposite ``"corners"``, from the lower right to the upper left one,
            always 2(N-1) steps apart.
        spontaneous: whether the world draws noise (one uniform per step) for ``p_spont`` at all.
        horizon: time limit; 0 means N². observation, goal_visible: see above.
        view: side of the window, odd.
        levels, test_levels: mazes in each split.

    Raises:
        BadInput: an even or too large size, more levels than mazes, an even or too large window, a
            horizon out of range.

    Source: the maze of the study of model-based generalization (arXiv 2211.02222), which carves
    depth first and has a fifth, idle action.
    """

    size: int = 11
    ends: Literal["random", "corners"] = "random"
    spontaneous: bool = False
    horizon: int = 0
    observation: Literal["cell", "view", "map"] = "cell"
    view: int = 5
    goal_visible: bool = True
    levels: int = 64
    test_levels: int = 0

    truncates = True

    def __post_init__(self) -> None:
        odd = 3 <= self.size <= LARGEST and self.size % 2 == 1
        expect(odd, "size", self.size, f"an odd number, 3 to {LARGEST}")
        expect(
            0 <= self.horizon <= LONGEST, "horizon", self.horizon, f"0 (size²) to {LONGEST} steps"
        )
        widest = 2 * self.size - 1
        fits = 1 <= self.view <= widest and self.view % 2 == 1
        expect(fits, "view", self.view, f"an odd number, 1 to {widest} (2 * size - 1)")
        most = min(1 << self._coins, 2**31 - 1)
        why = f"{most} different mazes of this size"
        expect(1 <= self.levels <= most, "levels", self.levels, f"1 to {most} ({why})")
        rest = most - self.levels
        expect(
            0 <= self.test_levels <= rest,
            "test_levels",
            self.test_levels,
            f"0 to {rest} ({why}, levels = {self.levels})",
        )
        if self.horizon == 0:
            object.__setattr__(self, "horizon", self.size**2)

    @property
    def _rooms(self) -> int:
        """Rooms along one side."""
        return (self.size + 1) // 2

    @property
    def _coins(self) -> int:
        """Rooms that have a choice."""
        return (self._rooms - 1) ** 2

    @property
    def open_cells(self) -> int:
        """Cells that are not wall, without loops: (N+1)²/2 - 1, a bound on any route's length."""
        return 2 * self._rooms**2 - 1

    @property
    def default_params(self) -> Params:
        """With ``spontaneous``, luck that helps in a tenth of the walks through all open cells."""
        luck = 0.1 / self.open_cells if self.spontaneous else 0.0
        return Params(jnp.float32(0.0), jnp.float32(1.0), jnp.float32(0.0), jnp.float32(luck))

    def check_params(self, params: Params) -> None:
        """Refuse luck that nobody would see, and numbers outside their range."""
        for name in ("loops", "p_spont"):
            value = float(getattr(params, name))
            expect(0.0 <= value <= 1.0, name, value, "a probability")
        luck = float(params.p_spont)
        if not self.spontaneous:
            expect(luck == 0.0, "p_spont", luck, "0 unless the world is built spontaneous")
        for name in ("step_cost", "goal_reward"):
            value = float(getattr(params, name))
            expect(0.0 <= value < float("inf"), name, value, "a finite number of 0 or more")

    @property
    def observation_space(self) -> Discrete | MultiDiscrete:
        if self.observation == "cell":
            return Discrete((self.levels + self.test_levels) * self.size**2)
        if self.observation == "view":
            return MultiDiscrete((GOAL + 1,) * self.view**2)
        return MultiDiscrete((AGENT + 1,) * self.size**2)

    @property
    def action_space(self) -> Discrete:
        return Discrete(4)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.levels, self.test_levels)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        index = jnp.asarray(level_id, jnp.int32)
        word = index.astype(jnp.uint32)
        if self.ends == "corners":
            start, goal = jnp.uint32(self._rooms**2 - 1), jnp.uint32(0)
        else:
            start, goal = pick_two(mix(mix(word ^ jnp.uint32(ENDS))), self._rooms**2)
        walls = self._pack(~self._carve(params, word))
        return Level(index, walls, self._cell_of(start), self._cell_of(goal))

    def _carve(self, params: Params, word: UInt32[Array, ""]) -> Bool[Array, "N N"]:
        """The open cells: rooms, the way each room opens, and the walls that loops remove."""
        free, number = self._rooms - 1, jnp.arange(self._coins, dtype=jnp.uint32)
        # The first 32 coins are a bijection of the number, the others a hash of it.
        first = scramble(word, min(self._coins, 32))
        words = jnp.stack([first, mix(word ^ jnp.uint32(COINS))])
        up = (words[number >> 5] >> (number & 31) & 1).astype(bool)
        luck = mix(mix(word ^ jnp.uint32(LOOPS)) + number * jnp.uint32(LOOPS))
        removed = (luck >> 8).astype(jnp.float32) * 2.0**-24 < params.loops
        cells = jnp.zeros((self.size, self.size), bool)
        cells = cells.at[::2, ::2].set(True).at[0].set(True).at[:, 0].set(True)
        cells = cells.at[1::2, 2::2].set((up | removed).reshape(free, free))
        return cells.at[2::2, 1::2].set((~up | removed).reshape(free, free))

    def _pack(self, bits: Bool[Array, "N N"]) -> UInt32[Array, "W"]:
        padded = jnp.pad(bits.ravel(), (0, -(self.size**2) % 32)).reshape(-1, 32)
        place = jnp.arange(32, dtype=jnp.uint32)[None, :]
        return jnp.sum(padded.astype(jnp.uint32) << place, axis=1, dtype=jnp.uint32)

    def _cell_of(self, room: UInt32[Array, ""]) -> UInt8[Array, ""]:
        row, column = room // self._rooms, room % self._rooms
        return (2 * (row * self.size + column)).astype(jnp.uint8)

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.spontaneous else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        return State(level.start, first_clock(self.horizon))

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        move = jnp.clip(jnp.asarray(action, jnp.int32), 0, 3)
        cell = jnp.asarray(neighbors(self.size))[state.cell, move]
        cell = jnp.where(_bit(level.walls, cell), state.cell, cell)
        if self.spontaneous:
            assert not isinstance(noise, tuple)  # what `draw` gave
            cell = jnp.where(noise < params.p_spont, level.goal, cell)
        over = state.cell == level.goal  # a finished episode stands still, without pay
        cell = jnp.where(over, state.cell, cell)
        clock = tick(state.clock, self.horizon)
        at_goal = cell == level.goal
        pay = jnp.where(at_goal, params.goal_reward, 0.0) - params.step_cost
        return Transition(
            state=State(cell, clock),
            reward={"true": jnp.where(over, 0.0, pay)},
            terminated=at_goal,
            truncated=clock >= self.horizon,
            info={"correct": at_goal, "mode_id": jnp.where(at_goal, 0, -1).astype(jnp.int32)},
        )

    def observe(self, params: Params, level: Level, state: State) -> Integer[Array, "..."]:
        if self.observation == "cell":
            return level.id * self.size**2 + state.cell.astype(jnp.int32)
        if self.observation == "map":
            cells = jnp.arange(self.size**2, dtype=jnp.uint8)
            return jnp.where(cells == state.cell, jnp.uint8(AGENT), self._tiles(level, cells))
        return self._tiles(level, jnp.asarray(windows(self.size, self.size, self.view))[state.cell])

    def _tiles(self, level: Level, cells: UInt8[Array, "K"]) -> UInt8[Array, "K"]:
        """Tile codes of cells given by number; what lies outside is wall."""
        wall = (cells == OUTSIDE) | _bit(level.walls, cells)
        seen = (cells == level.goal) & self.goal_visible
        return jnp.where(seen, GOAL, jnp.where(wall, WALL, FREE)).astype(jnp.uint8)

    def wall_map(self, level: Level) -> Bool[Array, "N N"]:
        """The walls as a picture."""
        return _bit(level.walls, jnp.arange(self.size**2)).reshape(self.size, self.size)

    def _ahead(self, level: Level) -> Int[Array, "S A"]:
        """Where each move leads from each cell, walls included (nobody stands there)."""
        ahead = jnp.asarray(neighbors(self.size), jnp.int32)
        cells = jnp.arange(self.size**2, dtype=jnp.int32)
        return jnp.where(_bit(level.walls, ahead), cells[:, None], ahead)

    def distances(self, level: Level) -> tuple[Int[Array, "S"], Int[Array, "S"]]:
        """Steps to the goal and number of shortest routes, for every cell.

        Breadth-first search of 4(N-1) waves, which reach every room of every maze. Walls are
        ``FAR`` away and have no route.
        """
        depth = 4 * (self.size - 1)
        distance, ways = shortest(self._ahead(level), level.goal.astype(jnp.int32), depth)
        wall = self.wall_map(level).ravel()
        return jnp.where(wall, FAR, distance), jnp.where(wall, 0, ways)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """The return of a shortest route, which no return exceeds (rewards as checked).

        With luck p the episode lasts longer than k < d steps with probability (1-p)^k, so
        V = (p g - c) Σ_{k < d-1} (1-p)^k + (g - c) (1-p)^(d-1); a goal beyond the horizon H is only
        reached by luck, V = (p g - c) Σ_{k < H} (1-p)^k.
        """
        distance = self.distances(level)[0][level.start]
        luck = params.p_spont if self.spontaneous else jnp.float32(0.0)
        steps = jnp.minimum(distance, self.horizon)
        k = jnp.arange(self.horizon)
        running = jnp.where(k < steps, (1.0 - luck) ** k.astype(jnp.float32), 0.0)
        sure = (k == distance - 1).astype(jnp.float32)
        win = luck + (1.0 - luck) * sure
        return jnp.sum(running * (win * params.goal_reward - params.step_cost))

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The shortest routes from start to goal, in lexicographic order.

        Codes are 0 .. count-1. Without a step cost a detour earns as much; it is still not
        counted as a solution. None are counted where the horizon is too short.

        Raises:
            BadInput: in a world with luck, where the optimum is a policy and not a route.
        """
        if self.spontaneous:
            raise BadInput("spontaneous", True, "false: with luck there are no optimal routes")
        distance, ways = self.distances(level)
        ahead, start = self._ahead(level), level.start.astype(jnp.int32)
        count = jnp.where(distance[start] <= self.horizon, ways[start], 0)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            return rank(ahead, distance, ways, start, actions, length)

        return Solutions(count.astype(jnp.float32), label)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are cells, walls included; the clock is left to the caller through ``horizon``."""
        cells = jnp.arange(self.size**2, dtype=jnp.int32)
        goal = level.goal.astype(jnp.int32)
        terminal = cells == goal
        ahead = jnp.where(terminal[:, None], cells[:, None], self._ahead(level))
        won, P = (ahead == goal).astype(jnp.float32), None
        if self.spontaneous:
            luck = params.p_spont
            P = (1.0 - luck) * jax.nn.one_hot(ahead, cells.shape[0])
            P = P + luck * terminal.astype(jnp.float32)[None, None, :]
            won = won + luck * (1.0 - won)
        pay = won * params.goal_reward - params.step_cost
        return TabularMDP(
            reward=jnp.where(terminal[:, None], 0.0, pay),
            start=jax.nn.one_hot(level.start, cells.shape[0]),
            terminal=terminal,
            row=level.id * self.size**2 + cells,
            next=None if self.spontaneous else ahead,
            P=P,
            horizon=self.horizon,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`: its cell."""
        return state.cell.astype(jnp.int32)

    def picture(self, params: Params, level: Level) -> Picture:
        """The maze for drawing, with S at the start and G at the goal."""
        marks = {divmod(int(c), self.size): s for c, s in ((level.start, "S"), (level.goal, "G"))}
        return Picture(np.asarray(self.wall_map(level)), np.arange(self.size**2), MOVES, marks)

    def render(self, params: Params, level: Level, state: State) -> str:
        """The grid: # is wall, G the goal, A the agent, * the agent on the goal."""
        marks = dict.fromkeys(np.flatnonzero(np.asarray(self.wall_map(level))).tolist(), "#")
        cell, goal = int(state.cell), int(level.goal)
        marks |= {goal: "G"} | {cell: "*" if cell == goal else "A"}
        return drawing(self.size, marks, f"level {int(level.id)}  step {int(state.clock)}")


def _bit(words: UInt32[Array, "W"], index: Int[Array, "..."]) -> Bool[Array, "..."]:
    """The bits at given places, read from packed words; places beyond the last word are clipped."""
    place = jnp.asarray(index, jnp.uint32)
    return (words[place >> 5] >> (place & 31) & 1).astype(bool)
