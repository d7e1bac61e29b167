"""``gridworld/dark_room``: find a hidden goal once, and profit while it stays where it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt, UInt8, UInt32

from jaxrl_envs.bandits import tasks
from jaxrl_envs.core import Box, Discrete, MultiDiscrete, Transition, check_prompts, split_ids
from jaxrl_envs.errors import expect
from jaxrl_envs.gridworlds import moves
from jaxrl_envs.picture import Picture
from jaxrl_envs.tabular import TabularMDP

STAY = 4
"""The action after up, right, down, left."""
NOTHING, GOAL, SAFE = range(3)
"""What a move can have met."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        goal_reward: what reaching the hidden goal pays.
        safe: what staying on the start cell pays, where the world has a safe goal.
        block: mean number n of trials for which the goal stays; infinity: for the whole episode.
    """

    goal_reward: Float[Array, ""]
    safe: Float[Array, ""]
    block: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its number and the cell of its first goal."""

    id: Int[Array, ""]
    goal: UInt8[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """4 bytes (6 with more than 255 trials), and what the observation must remember.

    ``cell`` and ``moves`` (made in this trial), the number of the ``trial`` and the trial ``since``
    which the goal is where it is. ``last`` (1 byte) is 1 + 3 · action + what the move met, 0 at
    the start of a block; ``seen`` has one bit per cell entered in this block.
    """

    cell: UInt8[Array, ""]
    moves: UInt8[Array, ""]
    trial: UInt[Array, ""]
    since: UInt[Array, ""]
    last: UInt8[Array, ""] | None = None
    seen: UInt32[Array, "W"] | None = None


@dataclass(frozen=True)
class DarkRoom:
    """An N×N room in the dark: a goal that is felt only when it is reached.

    An episode is a sequence of trials. A trial begins in the center and ends at the goal (pay
    ``goal_reward``) or after ``steps`` moves (up, right, down, left, stay; a wall stops). The goal
    is any cell but the center, C = N² - 1; it is redrawn after each trial with probability 1/n, so
    that a block of trials with one goal is geometric with mean n. Goals and borders are a hash of
    (prompt, trial): all rollouts of a prompt meet the same ones. With ``safe_goal`` staying on the
    center pays ``safe`` and ends the trial, and searching is a sacrifice: see
    :mod:`~jaxrl_envs.gridworlds.search_or_safe` for the discount at which it is worth it. The
    episode is cut after ``trials`` trials (truncated), for a block has no last trial.

    Observation: ``"cell"``, the agent's cell and nothing else (a policy needs memory, and no
    policy can see what it found); ``"transcript"``, [cell, last action + 1, what it met: 0
    nothing, 1 goal, 2 safe], all an agent may know of a step, with zeros at the start of a block;
    ``"memory"``, [row, column, for each cell: entered in this block, for each cell: known goal],
    which a memoryless network can act on.

    ``info``: ``correct`` (the goal was reached), ``mode_id`` (its cell, else -1), ``trial_end``,
    ``border`` (the goal moves: no return should flow over it).

    Attributes:
        size: N, odd. steps: H, moves per trial. trials: per episode.
        safe_goal, observation: see above.
        prompts, test_prompts: how many prompts there are in each split.

    Raises:
        BadInput: a size out of range.

    Source: arXiv 2508.01287 (blocks), 2210.14215 (the room).
    """

    size: int = 7
    steps: int = 8
    trials: int = 60
    safe_goal: bool = False
    observation: Literal["cell", "transcript", "memory"] = "cell"
    prompts: int = 4096
    test_prompts: int = 0

    truncates = True

    def __post_init__(self) -> None:
        odd = 3 <= self.size <= moves.LARGEST and self.size % 2 == 1
        expect(odd, "size", self.size, f"an odd number, 3 to {moves.LARGEST}")
        expect(1 <= self.steps <= 255, "steps", self.steps, "1 to 255 moves per trial")
        expect(1 <= self.trials <= 65535, "trials", self.trials, "1 to 65535 trials")
        check_prompts(self.prompts, self.test_prompts)

    @property
    def horizon(self) -> int:
        return self.steps * self.trials

    @property
    def center(self) -> int:
        """The cell where every trial begins."""
        return self.size**2 // 2

    @property
    def default_params(self) -> Params:
        return Params(jnp.float32(1.0), jnp.float32(0.3), jnp.float32(20.0))

    def check_params(self, params: Params) -> None:
        """Refuse blocks shorter than a trial and pays that are not finite."""
        for name in ("goal_reward", "safe"):
            pay = float(getattr(params, name))
            expect(bool(np.isfinite(pay)), name, pay, "a finite number")
        block = float(params.block)
        expect(block >= 1.0, "block", block, "1 or more trials (infinity: the goal never moves)")

    @property
    def observation_space(self) -> Discrete | MultiDiscrete | Box:
        cells = self.size**2
        if self.observation == "cell":
            return Discrete(cells)
        if self.observation == "transcript":
            return MultiDiscrete((cells, STAY + 2, 3))
        return Box(-1.0, 1.0, (2 + 2 * cells,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(STAY + 1)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        index = jnp.asarray(level_id, jnp.int32)
        return Level(index, self.goal(index, jnp.int32(0)))

    def goal(self, level_id: Int[Array, ""], since: Int[Array, ""]) -> UInt8[Array, ""]:
        """The goal that a prompt has from trial ``since`` on; first goals take turns."""
        place = tasks.best_arm(self.size**2 - 1, level_id, since)
        return jnp.where(place >= self.center, place + 1, place).astype(jnp.uint8)

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        zero = jnp.zeros((), jnp.uint8 if self.trials <= 255 else jnp.uint16)
        return State(
            cell=jnp.uint8(self.center),
            moves=jnp.uint8(0),
            trial=zero,
            since=zero,
            last=jnp.uint8(0) if self.observation == "transcript" else None,
            seen=self._bit(jnp.uint8(self.center)) if self.observation == "memory" else None,
        )

    def step(
        self, params: Params, level: Level, state: State, action: Int[Array, ""], noise: tuple[()]
    ) -> Transition:
        move = jnp.clip(jnp.asarray(action, jnp.int32), 0, STAY)
        over = state.trial >= self.trials  # a finished episode stands still, without pay
        cell = self._moved(state.cell, move)
        goal = self.goal(level.id, state.since.astype(jnp.int32))
        found = (cell == goal) & ~over
        resting = (move == STAY) & (state.cell == self.center) & ~over
        safe = resting if self.safe_goal else jnp.zeros_like(resting)
        ended = (found | safe | (state.moves + 1 >= self.steps)) & ~over
        met = jnp.where(found, GOAL, jnp.where(safe, SAFE, NOTHING))
        pay = jnp.where(found, params.goal_reward, jnp.where(safe, params.safe, 0.0))
        after, border = self._next(params, level, state, cell, ended, over)
        after = self._remember(state, after, cell, 1 + 3 * move + met, border, over)
        return Transition(
            state=after,
            reward={"true": pay.astype(jnp.float32)},
            terminated=jnp.bool_(False),
            truncated=after.trial >= self.trials,
            info={
                "correct": found,
                "mode_id": jnp.where(found, goal.astype(jnp.int32), -1),
                "trial_end": ended,
                "border": border,
            },
        )

    def _moved(self, cell: UInt8[Array, ""], move: Int[Array, ""]) -> UInt8[Array, ""]:
        ahead = jnp.asarray(moves.neighbors(self.size))[cell, jnp.minimum(move, STAY - 1)]
        return jnp.where(move == STAY, cell, ahead)

    def _next(
        self,
        params: Params,
        level: Level,
        state: State,
        cell: UInt8[Array, ""],
        ended: Bool[Array, ""],
        over: Bool[Array, ""],
    ) -> tuple[State, Bool[Array, ""]]:
        """Where the next move begins, and whether the goal was redrawn for it."""
        trial = state.trial + ended.astype(state.trial.dtype)
        redrawn = tasks.border(False, params.block, level.id, trial.astype(jnp.int32))
        border = ended & redrawn
        made = jnp.where(over, state.moves, state.moves + 1)
        place = jnp.where(over, state.cell, cell)
        return State(
            cell=jnp.where(ended, jnp.uint8(self.center), place),
            moves=jnp.where(ended, jnp.uint8(0), made),
            trial=trial,
            since=jnp.where(border, trial, state.since),
        ), border

    def _remember(
        self,
        before: State,
        after: State,
        cell: UInt8[Array, ""],
        code: Int[Array, ""],
        border: Bool[Array, ""],
        over: Bool[Array, ""],
    ) -> State:
        """What the observation shows of the past, cleared where a block begins."""
        last, seen = before.last, before.seen
        if last is not None:
            last = jnp.where(over, last, jnp.where(border, 0, code).astype(jnp.uint8))
        if seen is not None:
            fresh = self._bit(jnp.uint8(self.center))
            seen = jnp.where(over, seen, jnp.where(border, fresh, seen | self._bit(cell)))
        return State(after.cell, after.moves, after.trial, after.since, last, seen)

    def _bit(self, cell: UInt8[Array, ""]) -> UInt32[Array, "W"]:
        place = cell.astype(jnp.uint32)
        here = jnp.arange(-(-(self.size**2) // 32), dtype=jnp.uint32) == place // 32
        return jnp.where(here, jnp.uint32(1) << (place % 32), jnp.uint32(0))

    def observe(self, params: Params, level: Level, state: State) -> Array:
        if self.observation == "cell":
            return state.cell.astype(jnp.int32)
        if self.observation == "transcript":
            assert state.last is not None
            code = state.last.astype(jnp.int32)
            action = jnp.where(code > 0, (code - 1) // 3 + 1, 0)
            met = jnp.where(code > 0, (code - 1) % 3, NOTHING)
            return jnp.stack([state.cell.astype(jnp.int32), action, met])
        assert state.seen is not None
        bits = (state.seen[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None, :]) & 1
        entered = bits.reshape(-1)[: self.size**2].astype(jnp.float32)
        goal = self.goal(level.id, state.since.astype(jnp.int32))
        here = jnp.arange(self.size**2) == goal.astype(jnp.int32)
        known = entered * here.astype(jnp.float32)
        return jnp.concatenate([moves.coordinates(state.cell[None], self.size), entered, known])

    def goals(self, params: Params, level: Level) -> UInt8[Array, "trials"]:
        """The goal of every trial; which blocks a prompt has does not depend on what is done."""
        since = tasks.starts(False, params.block, level.id, self.trials)
        return jax.vmap(self.goal, (None, 0))(level.id, since)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """What an agent earns that is told every goal: the best of goal and safe in each trial."""
        row, column = np.divmod(np.arange(self.size**2), self.size)
        near = np.abs(row - self.size // 2) + np.abs(column - self.size // 2) <= self.steps
        safe = jnp.maximum(params.safe, 0.0) if self.safe_goal else jnp.float32(0.0)
        reached = jnp.asarray(near)[self.goals(params, level)]
        return jnp.sum(jnp.maximum(jnp.where(reached, params.goal_reward, 0.0), safe))

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are (trial, moves made in it, cell), then the end: trials · H · N² + 1.

        The prompt fixes the goals, so that an agent with this table is told them. ``row`` is the
        cell, whatever else the observation shows.
        """
        cells, H = self.size**2, self.steps
        end = self.trials * H * cells
        goals = self.goals(params, level)

        def entry(state: Int[Array, ""], action: Int[Array, ""]) -> tuple[Array, Array]:
            move, cell = state // cells, state % cells
            trial = move // H
            resting = (action == STAY) & (cell == self.center) & self.safe_goal
            moved = self._moved(cell.astype(jnp.uint8), action)
            found = moved == goals[trial]
            pay = jnp.where(found, params.goal_reward, jnp.where(resting, params.safe, 0.0))
            following = (trial + 1) * H * cells + self.center
            ended = found | resting | (move % H == H - 1)
            after = jnp.where(
                ended, jnp.minimum(following, end), (move + 1) * cells + moved.astype(jnp.int32)
            )
            return after, pay

        states, actions = jnp.arange(end), jnp.arange(STAY + 1)
        after, pay = jax.vmap(jax.vmap(entry, (None, 0)), (0, None))(states, actions)
        return TabularMDP(
            reward=jnp.pad(pay, ((0, 1), (0, 0))).astype(jnp.float32),
            start=jnp.zeros(end + 1).at[self.center].set(1.0),
            terminal=jnp.arange(end + 1) == end,
            row=jnp.append(states % cells, self.center),
            next=jnp.pad(after, ((0, 1), (0, 0)), constant_values=end),
            horizon=self.horizon,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`."""
        cells = self.size**2
        trial, move, cell = (x.astype(jnp.int32) for x in (state.trial, state.moves, state.cell))
        number = (trial * self.steps + move) * cells + cell
        return jnp.minimum(number, self.trials * self.steps * cells)

    def picture(self, params: Params, level: Level) -> Picture:
        """The room with its first goal G and the start S."""
        marks = {int(level.goal): "G", self.center: "S"}
        cell = np.tile(np.arange(self.size**2), self.trials * self.steps)
        drawn = moves.picture(self.size, np.append(cell, -1), marks)
        return replace(drawn, moves=np.append(moves.MOVES, [[0, 0]], axis=0))  # and staying

    def render(self, params: Params, level: Level, state: State) -> str:
        """The room: G is the goal, A the agent, S the safe cell or start."""
        goal = int(self.goal(level.id, state.since.astype(jnp.int32)))
        marks = {self.center: "S", goal: "G", int(state.cell): "A"}
        title = f"prompt {int(level.id)}  trial {int(state.trial)}  move {int(state.moves)}"
        return moves.drawing(self.size, marks, title)
