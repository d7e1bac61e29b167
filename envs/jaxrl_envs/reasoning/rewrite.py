"""``reasoning/rewrite``: derive a goal string from a start string by rewriting rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt8, UInt16

from jaxrl_envs import threefry
from jaxrl_envs.core import Discrete, MultiDiscrete, Solutions, Transition, check_prompts, split_ids
from jaxrl_envs.difficulty import spread_rate
from jaxrl_envs.errors import expect
from jaxrl_envs.reasoning.strings import (
    OFFSETS,
    RULES,
    Derivations,
    action_words,
    as_text,
    derivations,
    index,
    prompts_of,
    rewritten,
    successors,
    unpacked,
)
from jaxrl_envs.tabular import TabularMDP

LONGEST = 8
"""A string of 2-bit letters must fit into 16 bits."""
EXACT = 6
"""Longest strings with exact facts, which need tables over all (5461) strings."""
MOST_CODES = 2**31 - 1
"""Derivations are numbered in int32."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        false_positive: probability that the channel ``process`` calls an illegal step legal.
        false_negative: probability that it calls a legal step illegal.
        hardest: prescribed pass@1 of a base policy on the hardest prompt.
        easiest: the same on the easiest prompt; log-odds are spread evenly in between.
    """

    false_positive: Float[Array, ""]
    false_negative: Float[Array, ""]
    hardest: Float[Array, ""]
    easiest: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its number, and the letters and lengths of the start and of the goal."""

    id: Int[Array, ""]
    start: UInt16[Array, ""]
    start_length: UInt8[Array, ""]
    goal: UInt16[Array, ""]
    goal_length: UInt8[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """The current string, letter i in bits 2i and 2i + 1, and the steps taken: 4 bytes."""

    letters: UInt16[Array, ""]
    length: UInt8[Array, ""]
    clock: UInt8[Array, ""]


@dataclass(frozen=True)
class Rewrite:
    """Strings over the letters a, b, c, d, rewritten by the rules of one of three systems.

    Action ``rule * max_length + position`` replaces the rule's left side, where it stands at that
    position, by its right side. It is illegal where the left side does not stand there, or where
    the result would be longer than ``max_length``; then the string stays, and the step is spent.
    The episode terminates at the goal and is truncated after ``horizon`` steps; both may happen at
    once. Either way nothing happens any more.

    * ``"confluent"``: ba→ab and the other five swaps that sort, aa→a, dd→d. Every derivation ends
      in the same string; the goal is that string. Only the budget can be missed.
    * ``"non_confluent"``: ab→c, bc→d, cd→a, da→b and the swaps ba→ab, cb→bc, dc→cd, ad→da. Every
      derivation ends, but in different strings; the goal is one of them, the others are traps.
    * ``"reversible"``: ab↔ba, cd↔dc, aa↔c, bb↔d. Every step can be undone, so that steps can be
      wasted at will; the goal is some string a few steps away.

    The start of a prompt is a string chosen by its id, no two alike; the goal is what a hidden
    random derivation of at most ``horizon`` steps ends in, so that every prompt can be solved.

    Channels: ``true``, 1 on reaching the goal; ``process``, a verifier's verdict on each step, +1
    for legal and -1 for illegal, false at the rates of the params in a ``noisy`` world;
    ``proxy``, 1 for each applied step, useful or not.

    Observation: ``"state"``, the number ``prompt * S + string`` of S strings (for tabular
    policies); or ``"letters"``, the letters of the string and of the goal, 1 to 4 and 0 for
    padding. The clock is never observed.

    Exact facts, from the graph of all S = (4^(max_length + 1) - 1) / 3 strings, and therefore
    only where ``max_length`` is at most 6 (5461 strings): the transition table, the number of
    derivations and the number of each, :meth:`distance`, :meth:`reachable`, and in ``info``
    ``alive`` (the goal can be reached within the steps left; the first step after which it is
    false is the first error). ``mode_id`` is 0 at the goal and -1 elsewhere: which derivation led
    there depends on the whole path, ask ``solutions(...).label``.

    Attributes:
        system: ``"confluent"``, ``"non_confluent"`` or ``"reversible"``.
        max_length: no string grows longer, and most starts are as long.
        horizon: L, the number of steps.
        noisy: whether the verifier can err, and the world draws noise (one uniform per step).
        observation: ``"state"`` or ``"letters"``.
        prompts, test_prompts: how many prompts there are in each split.

    Raises:
        BadInput: a size out of range, or more prompts than starts with a derivation.
    """

    system: Literal["confluent", "non_confluent", "reversible"] = "confluent"
    max_length: int = 5
    horizon: int = 8
    noisy: bool = False
    observation: Literal["state", "letters"] = "state"
    prompts: int = 16
    test_prompts: int = 0

    truncates = True

    def __post_init__(self) -> None:
        expect(self.system in RULES, "system", self.system, f"one of {', '.join(RULES)}")
        expect(2 <= self.max_length <= LONGEST, "max_length", self.max_length, f"2 to {LONGEST}")
        # A distance of L + 1 must fit into a byte.
        expect(1 <= self.horizon <= 254, "horizon", self.horizon, "1 to 254 steps")
        check_prompts(self.prompts, self.test_prompts)
        have = len(self._prompts)
        expect(self.prompts <= have, "prompts", self.prompts, f"1 to {have} (no more starts)")
        rest = have - self.prompts
        expect(
            self.test_prompts <= rest,
            "test_prompts",
            self.test_prompts,
            f"0 to {rest} (prompts = {self.prompts}, no more starts)",
        )

    @property
    def _total(self) -> int:
        return self.prompts + self.test_prompts

    @property
    def _prompts(self) -> np.ndarray:
        return prompts_of(self.system, self.max_length, self.horizon, self._total)

    @property
    def _strings(self) -> int:
        return int(OFFSETS[self.max_length + 1])

    @property
    def exact(self) -> bool:
        """Whether the exact facts are known: strings are short enough."""
        return self.max_length <= EXACT

    def _check_exact(self) -> None:
        expect(self.exact, "max_length", self.max_length, f"at most {EXACT}, for exact facts")

    @property
    def _derivations(self) -> Derivations:
        self._check_exact()
        return derivations(self.system, self.max_length, self.horizon, self._total)

    @property
    def default_params(self) -> Params:
        return Params(*map(jnp.float32, (0.0, 0.0, 0.02, 0.9)))

    def check_params(self, params: Params) -> None:
        """Refuse verdicts that nobody would hear, and rates out of range."""
        for name in ("false_positive", "false_negative"):
            rate = float(getattr(params, name))
            if not self.noisy:
                expect(rate == 0.0, name, rate, "0 unless the world is built with noisy = true")
            expect(0.0 <= rate <= 1.0, name, rate, "a probability")
        for name in ("hardest", "easiest"):
            rate = float(getattr(params, name))
            expect(0.0 < rate < 1.0, name, rate, "a pass rate strictly between 0 and 1")

    @property
    def observation_space(self) -> Discrete | MultiDiscrete:
        if self.observation == "state":
            return Discrete(self._total * self._strings)
        return MultiDiscrete((5,) * (2 * self.max_length))

    @property
    def action_space(self) -> Discrete:
        return Discrete(len(RULES[self.system]) * self.max_length)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        number = jnp.asarray(level_id, jnp.int32)
        length = np.searchsorted(OFFSETS, self._prompts, side="right") - 1
        letters = jnp.asarray(self._prompts - OFFSETS[length], jnp.uint16)[number]
        lengths = jnp.asarray(length, jnp.uint8)[number]
        return Level(number, letters[0], lengths[0], letters[1], lengths[1])

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.noisy else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        return State(level.start, level.start_length, jnp.uint8(0))

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        clamped = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.action_space.n - 1)
        late = state.clock >= self.horizon
        over = late | self._at_goal(level, state)  # a finished episode stands still, without pay
        legal, letters, length = self._apply(state, clamped)
        applied = legal & ~over
        after = State(
            jnp.where(applied, letters.astype(jnp.uint16), state.letters),
            jnp.where(applied, length.astype(jnp.uint8), state.length),
            jnp.where(over, state.clock, state.clock + 1),
        )
        verdict = legal
        if self.noisy:
            assert not isinstance(noise, tuple)  # what `draw` gave
            verdict ^= noise < jnp.where(legal, params.false_negative, params.false_positive)
        correct = self._at_goal(level, after)
        info = {"correct": correct, "mode_id": jnp.where(correct, 0, -1)}
        if self.exact:
            info["alive"] = self.alive(level, after)
        return Transition(
            state=after,
            reward={
                "true": (correct & ~over).astype(jnp.float32),
                "process": jnp.where(over, 0.0, jnp.where(verdict, 1.0, -1.0)),
                "proxy": applied.astype(jnp.float32),
            },
            terminated=correct,
            truncated=after.clock >= self.horizon,
            info=info,
        )

    def _apply(self, state: State, action: Int[Array, ""]) -> tuple[Array, Array, Array]:
        # Looked up as five numbers per instance they would fill the memory.
        words = jnp.asarray(action_words(self.system, self.max_length))
        rule, position = unpacked(words[action])
        letters, length = state.letters.astype(jnp.int32), state.length.astype(jnp.int32)
        return rewritten(letters, length, rule, position, self.max_length)

    def _at_goal(self, level: Level, state: State) -> Bool[Array, ""]:
        return (state.letters == level.goal) & (state.length == level.goal_length)

    def observe(self, params: Params, level: Level, state: State) -> Integer[Array, "..."]:
        if self.observation == "state":
            return level.id * self._strings + self._index(state)
        place = jnp.arange(self.max_length)

        def shown(letters: UInt16[Array, ""], length: UInt8[Array, ""]) -> Int[Array, "n"]:
            letter = (letters.astype(jnp.int32) >> 2 * place) & 3
            return jnp.where(place < length.astype(jnp.int32), 1 + letter, 0)

        now, goal = shown(state.letters, state.length), shown(level.goal, level.goal_length)
        return jnp.concatenate([now, goal]).astype(jnp.uint8)

    def pass_rate(self, params: Params, level: Level) -> Float[Array, ""]:
        """Prescribed pass@1 of a base policy: log-odds spread evenly over the prompts' ranks."""
        return spread_rate(level.id, params.hardest, params.easiest)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        return jnp.float32(1.0)

    def distance(self, level: Level) -> Int[Array, "S"]:
        """Length of the shortest derivation of the goal from every string; L + 1 if longer.

        Raises:
            BadInput: strings too long for exact facts; so do all methods below.
        """
        row = jnp.asarray(self._derivations.row)[level.id]
        return jnp.asarray(self._derivations.distance)[row].astype(jnp.int32)

    def alive(self, level: Level, state: State) -> Bool[Array, ""]:
        """Whether the goal can still be reached within the steps left."""
        row = jnp.asarray(self._derivations.row)[level.id]
        steps = jnp.asarray(self._derivations.distance)[row, self._index(state)]
        return steps.astype(jnp.int32) + state.clock.astype(jnp.int32) <= self.horizon

    def reachable(self, params: Params, level: Level) -> Bool[Array, "S"]:
        """Which strings an episode can visit."""
        mdp = self.tabular(params, level)

        def spread(found: Bool[Array, "S"], _: None) -> tuple[Bool[Array, "S"], None]:
            return found.at[mdp.next].max(found[:, None]), None

        found, _ = jax.lax.scan(spread, mdp.start > 0, length=self.horizon)
        return found

    def solutions(self, params: Params, level: Level) -> Solutions:
        """All derivations of the goal: at most L steps, all legal, none after the goal.

        Their number is n_L(start), with n_j(goal) = 1 and n_j(x) = Σ_legal n_{j-1}(x'), n_0 = 0.
        Each is coded by its lexicographic rank among them, 0 .. count - 1. Trajectories that
        waste steps on illegal actions earn as much; they are still not counted as solutions.

        Raises:
            BadInput: also where a prompt has more derivations than int32 has numbers.
        """
        counts = self._derivations.solutions
        most = float(counts.max())
        expect(most <= MOST_CODES, "horizon", self.horizon, f"fewer steps ({most:.2g} derivations)")
        start, goal = index(level.start, level.start_length), index(level.goal, level.goal_length)
        legal, ahead = self._successors()
        at_goal = jnp.arange(self._strings) == goal

        def backward(ways: Int[Array, "S"], _: None) -> tuple[Int[Array, "S"], Int[Array, "S"]]:
            # Numbers above int32 wrap, but only in strings that no counted derivation visits.
            through = jnp.sum(jnp.where(legal, ways[ahead], 0), axis=1, dtype=jnp.int32)
            return jnp.where(at_goal, 1, through), ways

        _, ways = jax.lax.scan(backward, at_goal.astype(jnp.int32), length=self.horizon)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            def take(carry: tuple[Array, ...], at: tuple[Array, Array]) -> tuple[Any, None]:
                (x, code, good), (t, action) = carry, at
                earlier = legal[x] & (jnp.arange(self.action_space.n) < action)
                left = jnp.maximum(self.horizon - 1 - t, 0)
                skipped = jnp.sum(jnp.where(earlier, ways[left, ahead[x]], 0), dtype=jnp.int32)
                fine = good & legal[x, action] & (x != goal)
                after = (ahead[x, action], code + skipped, fine)
                return jax.tree.map(partial(jnp.where, t < length), after, carry), None

            chosen = jnp.clip(jnp.asarray(actions, jnp.int32), 0, self.action_space.n - 1)
            steps = (jnp.arange(chosen.shape[0]), chosen)
            (x, code, good), _ = jax.lax.scan(take, (start, jnp.int32(0), jnp.bool_(True)), steps)
            fits = length <= min(chosen.shape[0], self.horizon)
            return jnp.where(good & (x == goal) & fits, code, -1)

        return Solutions(jnp.asarray(counts, jnp.float32)[level.id], label)

    def _successors(self) -> tuple[Bool[Array, "S A"], Int[Array, "S A"]]:
        self._check_exact()
        legal, ahead = successors(self.system, self.max_length)
        return jnp.asarray(legal), jnp.asarray(ahead, jnp.int32)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are all strings; the clock is left to the caller through ``horizon``."""
        _, ahead = self._successors()
        strings = jnp.arange(self._strings)
        terminal = strings == index(level.goal, level.goal_length)
        reward = terminal[ahead] & ~terminal[:, None]
        return TabularMDP(
            reward=reward.astype(jnp.float32),
            start=jax.nn.one_hot(index(level.start, level.start_length), self._strings),
            terminal=terminal,
            row=level.id * self._strings + strings,
            next=jnp.where(terminal[:, None], strings[:, None], ahead),
            horizon=self.horizon,
        )

    def _index(self, state: State) -> Int[Array, ""]:
        return index(state.letters, state.length)

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`: that of its string."""
        return self._index(state)

    def render(self, params: Params, level: Level, state: State) -> str:
        """The prompt, the string as it stands, and the rules."""
        start, goal, now = (
            as_text(int(letters), int(length))
            for letters, length in (
                (level.start, level.start_length),
                (level.goal, level.goal_length),
                (state.letters, state.length),
            )
        )
        rules = " ".join(f"{left}→{right}" for left, right in RULES[self.system])
        return (
            f"prompt {int(level.id)}  {start} → {goal}"
            f"  step {int(state.clock)}/{self.horizon}  string {now}  rules {rules}"
        )
