"""``reasoning/kv_hop``: look keys up with a tool, or answer from memory or by guessing."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt32

from jaxrl_envs import threefry
from jaxrl_envs.core import Discrete, MultiDiscrete, Solutions, Transition, check_prompts, split_ids
from jaxrl_envs.errors import expect
from jaxrl_envs.reasoning.hop_beliefs import Beliefs, Plan
from jaxrl_envs.reasoning.hop_levels import Level, Params, Shape, build
from jaxrl_envs.reasoning.hop_memory import BITS, SLOTS, follow, remember, remembered, writes
from jaxrl_envs.tabular import TabularMDP

WRONG, RIGHT = 254, 255
"""What ``State.clock`` holds once the answer was given; so a budget above 253 does not fit."""
MOST_STATES = 2**16
"""A larger table of transitions is refused."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Remembered results and steps taken (``WRONG`` or ``RIGHT`` after the answer): 5 bytes.

    ``asked`` and ``result`` (a byte each) are the last key and value plus 1, 0 before the first
    call; only worlds that show them (``"tokens"``) have them.
    """

    known: UInt32[Array, ""]
    clock: UInt8[Array, ""]
    asked: UInt8[Array, ""] | None = None
    result: UInt8[Array, ""] | None = None


@dataclass(frozen=True)
class KVHop:
    """A question that takes H look-ups in a hidden table of N keys, each at a price.

    ``"pointer"``: the table is a permutation f with a single cycle; question i asks for f^H(i + 1),
    H <= N/2.
    ``"index"``: the answer has H base-b digits; key j < H holds digit j (the lowest is 0), the
    other N - H keys hold random values. Actions 0 .. N-1 query a key, N + v answers v. Levels
    share questions but not tables, so only ``memory`` and ``skew`` allow an answer without the
    tool. The popular answer is 0. The answer ends the episode; the budget of steps, the answer
    included, truncates it.

    What a query returns is written by the world and seen in the next observation; ``info`` marks
    it with ``env_tokens`` = 1. The last result of every key that can matter is remembered: the
    state is what was learned, not how.

    Channels: ``true``, 1[right]; ``cost``, -c per call; ``penalized``, their sum.

    Observation: ``"state"``, a number for tabular policies: per question the remembered digits
    (``"index"``), or how far the known keys lead, ``hops * N + key`` (``"pointer"``); ``"known"``,
    [step, question, result + 1 or 0 of every remembered key]; or ``"tokens"``, [step, question,
    last key + 1 or 0, last result + 1 or 0], which needs a policy with memory. The step is hidden
    in ``"state"``, and left to the caller of the table through ``horizon``.

    Exact facts: optimal value 1; where results are always right, the belief in the right answer,
    the information gain of every useful call, the best plan; the whole transition table.
    ``info`` has ``correct``, and ``mode_id``: 1 for a right answer that was learned from the tool,
    0 for one recalled or guessed, else -1.

    Attributes:
        mode: ``"pointer"`` or ``"index"``. keys: N. hops: H. base: b, of ``"index"``.
        budget: most steps, the answer included. questions: how many questions levels share.
        noisy: whether results can be wrong (one uniform per step). outdated: whether first results
            can be.
        observation: ``"state"``, ``"known"`` or ``"tokens"``.
        prompts, test_prompts: how many levels there are in each split.

    Raises:
        BadInput: a size out of range.

    Source: information gain of tool calls as a reward, as in IGPO (arXiv 2510.14967).
    """

    mode: Literal["pointer", "index"] = "pointer"
    keys: int = 8
    hops: int = 3
    base: int = 4
    budget: int = 8
    questions: int = 4
    noisy: bool = False
    outdated: bool = False
    observation: Literal["state", "known", "tokens"] = "state"
    prompts: int = 64
    test_prompts: int = 0

    truncates = True

    def __post_init__(self) -> None:
        pointer = self.mode == "pointer"
        most = SLOTS if pointer else 64
        expect(3 <= self.keys <= most, "keys", self.keys, f"3 to {most} keys ({self.mode})")
        # On a longer way around the cycle it would help to ask for keys that lie off the way.
        most = self.keys // 2 if pointer else min(self.keys, SLOTS)
        expect(1 <= self.hops <= most, "hops", self.hops, f"1 to {most} (keys = {self.keys})")
        fits = 2 <= self.base < 2**BITS and (pointer or self.base**self.hops <= 4096)
        expect(fits, "base", self.base, "2 to 15 values, at most 4096 answers (base^hops)")
        expect(1 <= self.budget < WRONG, "budget", self.budget, f"1 to {WRONG - 1} steps")
        most = self.keys - 1 if pointer else 2**16
        fits = 1 <= self.questions <= most
        expect(fits, "questions", self.questions, f"1 to {most} questions")
        check_prompts(self.prompts, self.test_prompts)
        # At half of what is possible, drawing again until all levels differ is quick.
        most = self.questions * self._shape.tables // 2
        wanted = f"at most {most} prompts of both splits (half of all questions with their tables)"
        expect(self._shape.levels <= most, "prompts", self.prompts, wanted)

    @property
    def horizon(self) -> int:
        return self.budget

    @property
    def _shape(self) -> Shape:
        levels = self.prompts + self.test_prompts
        return Shape(self.mode, self.keys, self.hops, self.base, self.questions, levels)

    @property
    def default_params(self) -> Params:
        return Params(*(jnp.float32(x) for x in (0.05, 0.0, 0.0, 0.0, 0.0)))

    def check_params(self, params: Params) -> None:
        """Refuse errors that nobody would see, and numbers outside their range."""
        for name, switch in (("error", "noisy"), ("stale", "outdated")):
            number = float(getattr(params, name))
            if not getattr(self, switch):
                expect(number == 0.0, name, number, f"0 unless the world has {switch} = true")
        for name in ("error", "stale", "memory", "skew"):
            number = float(getattr(params, name))
            expect(0.0 <= number <= 1.0, name, number, "a probability")
        cost = float(params.cost)
        expect(0.0 <= cost < float("inf"), "cost", cost, "a finite cost of 0 or more")

    @property
    def observation_space(self) -> Discrete | MultiDiscrete:
        if self.observation == "state":
            return Discrete(self.questions * self._shape.rows)
        common, results = (self.budget + 1, self.questions), self._shape.values + 1
        if self.observation == "known":
            return MultiDiscrete((*common, *[results] * self._shape.slots))
        return MultiDiscrete((*common, self.keys + 1, results))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.keys + self._shape.answers)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        return build(self._shape, params, jnp.asarray(level_id, jnp.int32))

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.noisy else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        last = jnp.uint8(0) if self.observation == "tokens" else None
        return State(jnp.uint32(0), jnp.uint8(0), last, last)

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        token = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.keys + self._shape.answers - 1)
        over = state.clock >= self.budget  # so is an answered episode; both stand still, unpaid
        asks, answered = ~over & (token < self.keys), ~over & (token >= self.keys)
        right = answered & (token - self.keys == level.answer)
        key = jnp.minimum(token, self.keys - 1)
        slot, kept = jnp.minimum(key, self._shape.slots - 1), asks & (key < self._shape.slots)
        again = kept & (remembered(state.known, self._shape.slots)[slot] > 0)
        value = self._result(params, level, key, again, noise)
        known = jnp.where(kept, remember(state.known, slot, value), state.known)
        ended = jnp.where(right, RIGHT, WRONG).astype(jnp.uint8)
        clock = jnp.where(over, state.clock, jnp.where(answered, ended, state.clock + 1))
        asked, result = state.asked, state.result
        if asked is not None and result is not None:
            asked = jnp.where(asks, (key + 1).astype(jnp.uint8), asked)
            result = jnp.where(asks, (value + 1).astype(jnp.uint8), result)
        after = State(known, clock, asked, result)
        pay, price = right.astype(jnp.float32), jnp.where(asks, params.cost, 0.0)
        made, end = self._led(level, remembered(known, self._shape.slots))
        won, learned = clock == RIGHT, (made == self.hops) & (end == level.answer)
        return Transition(
            state=after,
            reward={"true": pay, "cost": -price, "penalized": pay - price},
            terminated=clock >= WRONG,
            truncated=(clock >= self.budget) & (clock < WRONG),
            info={
                "correct": won,
                "mode_id": jnp.where(won, learned.astype(jnp.int32), -1),
                "env_tokens": asks.astype(jnp.int32),
            },
        )

    def _result(
        self,
        params: Params,
        level: Level,
        key: Int[Array, ""],
        again: Bool[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Int[Array, ""]:
        """What the tool returns."""
        value = level.table[key].astype(jnp.int32)
        if self.outdated:
            value = jnp.where(again, value, level.old[key].astype(jnp.int32))
        if self.noisy:
            assert not isinstance(noise, tuple)  # what `draw` gave
            share = noise / jnp.maximum(params.error, 1e-9)  # below 1 where the result is wrong
            junk = jnp.minimum(
                (share * self._shape.values).astype(jnp.int32), self._shape.values - 1
            )
            value = jnp.where(noise < params.error, junk, value)
        return value

    def _led(self, level: Level, known: Int[Array, "n"]) -> tuple[Array, Array]:
        """How many of the H hops the remembered results make, and to which key or answer."""
        if self.mode == "index":
            weight = jnp.asarray(self.base ** np.arange(self.hops), jnp.int32)
            return jnp.sum(known > 0, dtype=jnp.int32), (known - 1) @ weight
        path = follow(known, level.question + 1, self.hops)
        made = jnp.sum(path >= 0, dtype=jnp.int32) - 1
        return made, path[made]

    def observe(self, params: Params, level: Level, state: State) -> Int[Array, "..."]:
        known = remembered(state.known, self._shape.slots)
        if self.observation == "state":
            return self._row(level, known)
        clock = jnp.minimum(state.clock.astype(jnp.int32), self.budget)
        common = jnp.stack([clock, level.question])
        if self.observation == "known":
            return jnp.concatenate([common, known])
        assert state.asked is not None
        assert state.result is not None
        return jnp.append(common, jnp.stack([state.asked, state.result]).astype(jnp.int32))

    def _row(self, level: Level, known: Int[Array, "n"]) -> Int[Array, ""]:
        if self.mode == "pointer":
            made, key = self._led(level, known)
            place = made * self.keys + key
        else:
            place = known @ jnp.asarray((self.base + 1) ** np.arange(self.hops), jnp.int32)
        return level.question * self._shape.rows + place

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """1: one who knows the level answers at once. :meth:`plan` is for those who do not."""
        return jnp.float32(1.0)

    def _beliefs(self, params: Params) -> Beliefs:
        for switch in ("noisy", "outdated"):
            wrong = getattr(self, switch)
            expect(not wrong, switch, wrong, "false: beliefs are exact where results are right")
        return Beliefs(self._shape.candidates, params.skew)

    def belief(self, params: Params, level: Level, state: State) -> Float[Array, ""]:
        """P(right answer | question, hops made) of one who knows how levels are made.

        b^-(H-j) after j of H digits; 1/(N-1-j) after j < H hops of a pointer; more or less where
        ``skew`` makes one answer popular; 1 where the question alone tells. Results off the way
        (which exclude some tables too) are ignored.

        Raises:
            BadInput: in a world whose results can be wrong.
        """
        known = remembered(state.known, self._shape.slots)
        made, _ = self._led(level, known)
        if self.mode == "index":
            ruled_out = jnp.any(known > 1)
        else:
            ruled_out = jnp.any(follow(known, level.question + 1, self.hops) == 0)
        found = self._beliefs(params).of(made, level.answer == 0, ruled_out)
        return jnp.where(level.fixed, 1.0, found)

    def information_gain(self, params: Params, level: Level) -> Float[Array, "H"]:
        """Expected fall of the answer's entropy by the j-th useful call, j = 1 .. H, in nats.

        Without skew: log b for every digit; for pointers log((N-j) / (N-1-j)), as each key on the
        way is one the answer is not, and log(N-H) for the last hop. A call that makes no hop
        gains nothing.

        Raises:
            BadInput: in a world whose results can be wrong.
        """
        entropy = self._beliefs(params).entropy
        return jnp.where(level.fixed, 0.0, entropy[:-1] - entropy[1:])

    def plan(self, params: Params, level: Level) -> Plan:
        """The best way to use the tool for one who knows how levels are made but not this one.

        No way to ask is better, off the way to the answer included (for pointers, this is known by
        enumeration up to N = 6 only).

        Raises:
            BadInput: in a world whose results can be wrong.
        """
        found = self._beliefs(params).plan(params.cost, self.budget - 1)
        told = Plan(jnp.float32(1.0), jnp.float32(0.0))
        return jax.tree.map(lambda a, b: jnp.where(level.fixed, a, b), told, found)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The ways to learn the answer with H calls and then give it.

        H! orders of the digits, with codes Σ_t key_t H^(H-1-t), or the one way along the pointers;
        none where the budget is too short.

        Raises:
            BadInput: in a world whose results can be wrong.
        """
        self._beliefs(params)
        H, index = self.hops, self.mode == "index"
        count = (factorial(H) if index else 1) * (self.budget > H)
        way = follow(level.table.astype(jnp.int32) + 1, level.question + 1, H)[:H]

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            if actions.shape[0] <= H or not count:
                return jnp.int32(-1)
            asked, said = jnp.asarray(actions[:H], jnp.int32), actions[H]
            if index:
                met = jnp.zeros(H, bool).at[jnp.where(asked < 0, H, asked)].set(True, mode="drop")
                good, code = jnp.all(met), asked @ jnp.asarray(H ** np.arange(H)[::-1], jnp.int32)
            else:
                good, code = jnp.all(asked == way), jnp.int32(0)
            good &= (length == H + 1) & (said == self.keys + level.answer)
            return jnp.where(good, code, -1)

        return Solutions(jnp.float32(count), label)

    @property
    def _marks(self) -> int:
        """What a slot can hold: something or nothing where results are right, else any value."""
        return self._shape.values + 1 if self.noisy or self.outdated else 2

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are what each slot holds, Σ_k slot_k m^k with m = 2 or values + 1; last the end.

        Raises:
            BadInput: more than 2^16 states, where every key of many may hold any value.
        """
        n, m = self._shape.slots, self._marks
        S = m**n
        expect(S <= MOST_STATES, "keys", self.keys, f"at most {MOST_STATES} states, not {S}")
        table, old = (x[:n].astype(jnp.int32) for x in (level.table, level.old))
        held, due, after = writes(table, old, m)
        useless = jnp.broadcast_to(jnp.arange(S)[:, None], (S, self.keys - n))
        ahead = jnp.concatenate([due, useless, jnp.full((S, self._shape.answers), S)], axis=1)
        ahead = jnp.concatenate([ahead, jnp.full((1, ahead.shape[1]), S)])
        P = None
        if self.noisy:
            P = jax.nn.one_hot(ahead, S + 1)
            junk = jnp.mean(jax.nn.one_hot(after, S + 1), axis=2)
            P = P.at[:S, :n].multiply(1.0 - params.error).at[:S, :n].add(params.error * junk)
        row = jax.vmap(lambda known: self._row(level, known))(held)
        return TabularMDP(
            reward=jnp.zeros(ahead.shape).at[:S, self.keys + level.answer].set(1.0),
            start=jax.nn.one_hot(0, S + 1),
            terminal=jnp.arange(S + 1) == S,
            row=jnp.append(row, row[:1]),
            next=None if self.noisy else ahead,
            P=P,
            horizon=self.budget,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`."""
        n, m = self._shape.slots, self._marks
        slot = jnp.minimum(remembered(state.known, n), m - 1)
        number = slot @ jnp.asarray(m ** np.arange(n), jnp.int32)
        return jnp.where(state.clock >= WRONG, m**n, number)

    def render(self, params: Params, level: Level, state: State) -> str:
        """The remembered results; . is a key not asked yet."""
        known = remembered(state.known, self._shape.slots).tolist()
        held = " ".join(f"{k}:{v - 1 if v else '.'}" for k, v in enumerate(known))
        clock = int(state.clock)
        ends = {WRONG: "answered, wrong", RIGHT: "answered, right"}
        step = ends.get(clock, f"step {clock}/{self.budget}")
        asks = f"{self.hops} hops from {int(level.question) + 1}"
        asks = asks if self.mode == "pointer" else f"{self.hops} digits"
        text = f"prompt {int(level.id)}  question {int(level.question)}: {asks}"
        return f"{text}  answer {int(level.answer)}  {step}  known {held}"
