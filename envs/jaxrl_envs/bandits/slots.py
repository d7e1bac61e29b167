"""``bandit/slots``: a word for each of T slots, right or wrong whatever the other words are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxrl_envs import threefry
from jaxrl_envs.bandits.slot_tables import Tables, tables
from jaxrl_envs.core import Box, Discrete, Solutions, Transition, check_prompts, split_ids
from jaxrl_envs.errors import expect
from jaxrl_envs.tabular import TabularMDP

TEACHER_SEED = 0
"""The hidden rule that ranks words in slots is the same in every run."""

MOST_CODES = 2**31 - 1
"""A solution must have an int32 number."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        near_score: score of a near miss (a right word scores 1, a wrong one 0).
        needed: how many slots must be right where ``reward="threshold"``.
    """

    near_score: Float[Array, ""]
    needed: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its features and, in each slot, the rank of each action under the hidden rule.

    Actions of rank below m_t are right in slot t, the next ``near`` are near misses. The word
    that stops has rank V everywhere.
    """

    id: Int[Array, ""]
    features: Float[Array, "F"]
    rank: UInt8[Array, "T A"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Slots behind us and how many of them are right: 2 bytes.

    ``near`` (1 byte) counts the near misses; only worlds that have them have it. A sentence that
    stopped early has its clock at T, and its unwritten fillers counted as right.
    """

    clock: UInt8[Array, ""]
    right: UInt8[Array, ""]
    near: UInt8[Array, ""] | None = None


@dataclass(frozen=True)
class Slots:
    """A sentence of T words from V, one per slot; slot t accepts a set C_t of m_t words.

    ``forks`` slots accept ``fork_choices`` words, ``fillers`` accept anything (m_t = V), all
    others ``choices``; the order of the kinds is one fixed shuffle. A prompt is a Gaussian vector
    x_b; a fixed hidden linear teacher ranks the words of each slot on it, and the m_t best-ranked
    are right. Nothing depends on earlier words: credit assignment without dynamics. With s_t the
    score of a slot (1 right, ``near_score`` near miss, 0 wrong) the last step pays

        conjunction  1[all right]          fraction  Σ_t s_t / T
        threshold    1[#right >= needed]   min       min_t s_t  (conjunction, without near misses)

    The channel ``process`` pays s_t / T at each step, so that its return is always the fraction.
    With ``stop`` there is one action more, V, that ends the sentence: the fillers are then the
    last slots, slots left unwritten count as right where they are fillers and as wrong where
    they are not, so that all lengths from T - fillers to T can be right. Episodes terminate.

    Observation: ``"slot"``, the number ``prompt * T + t`` (for tabular policies), or
    ``"features"``, x_b and t as one-hot. What was written before is never observed. Exact facts:
    optimal value 1, the number and code of solutions, the distribution of the number of right
    slots under any policy whose rows are slots, and with it P(correct) = Π_t q_t,
    q_t = Σ_{a in C_t} π_t(a), for all kinds but the threshold; the whole transition table.

    ``info`` has ``correct`` (the optimum was paid), ``alive`` (it still can be; the first step
    after which it is false is the first error) and ``fork`` (the word was written in a fork
    slot). It has no ``mode_id``: that depends on the whole sentence; ask ``solutions(...).label``.

    Attributes:
        slots: T. vocabulary: V. reward: what the last step pays.
        choices, fork_choices: right words of a plain slot and of a fork.
        forks, fillers: how many slots are of these kinds.
        near: near misses of each slot that is no filler.
        stop: whether there is an action that ends the sentence.
        observation: ``"slot"`` or ``"features"``. features: length of x_b.
        prompts, test_prompts: how many prompts there are in each split.

    Raises:
        BadInput: a size out of range, or more forks and fillers than slots.
    """

    slots: int = 8
    vocabulary: int = 8
    reward: Literal["conjunction", "fraction", "threshold", "min"] = "conjunction"
    choices: int = 4
    fork_choices: int = 2
    forks: int = 2
    fillers: int = 4
    near: int = 0
    stop: bool = False
    observation: Literal["slot", "features"] = "slot"
    features: int = 8
    prompts: int = 64
    test_prompts: int = 0

    truncates = False

    def __post_init__(self) -> None:
        expect(1 <= self.slots <= 64, "slots", self.slots, "1 to 64 slots")
        expect(2 <= self.vocabulary <= 64, "vocabulary", self.vocabulary, "2 to 64 words")
        for name in ("choices", "fork_choices"):
            most = self.vocabulary - 1
            size = getattr(self, name)
            expect(1 <= size <= most, name, size, f"1 to {most} right words (vocabulary - 1)")
        most = self.slots - 1
        fits = f"0 to {most}: at least one of {self.slots} slots must ask for something"
        expect(0 <= self.fillers <= most, "fillers", self.fillers, fits)
        rest = self.slots - self.fillers
        expect(0 <= self.forks <= rest, "forks", self.forks, f"0 to {rest} (slots - fillers)")
        room = self.vocabulary - max(self.choices, self.fork_choices)
        expect(0 <= self.near <= room, "near", self.near, f"0 to {room} (words that are not right)")
        expect(self.features >= 1, "features", self.features, "at least 1 feature")
        check_prompts(self.prompts, self.test_prompts)

    @property
    def _tables(self) -> Tables:
        return tables(
            forks=(self.fork_choices,) * self.forks,
            plain=(self.choices,) * (self.slots - self.forks - self.fillers),
            fillers=self.fillers,
            vocabulary=self.vocabulary,
            stop=self.stop,
            graded=self.near > 0,
        )

    @property
    def horizon(self) -> int:
        return self.slots

    @property
    def default_params(self) -> Params:
        needed = self.fillers + (self.slots - self.fillers + 1) // 2  # half of what is asked
        return Params(jnp.float32(0.5), jnp.float32(needed))

    def check_params(self, params: Params) -> None:
        """Refuse near misses as good as right words, and thresholds all or no sentences pass."""
        score, needed = float(params.near_score), float(params.needed)
        expect(0.0 <= score < 1.0, "near_score", score, "0 or more and less than 1")
        fits = f"more than {self.fillers} (fillers) and at most {self.slots} (slots)"
        expect(self.fillers < needed <= self.slots, "needed", needed, fits)

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "slot":
            return Discrete((self.prompts + self.test_prompts) * self.slots)
        return Box(-jnp.inf, jnp.inf, (self.features + self.slots,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.vocabulary + self.stop)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        key = jax.random.key(TEACHER_SEED)
        words = self.slots * self.vocabulary
        teacher = threefry.normal(threefry.fold_in(key, 0), (self.features, words))
        own = threefry.fold_in(threefry.fold_in(key, 1), level_id)
        x = threefry.normal(own, (self.features,))
        score = (x @ teacher).reshape(self.slots, self.vocabulary)
        rank = jnp.argsort(jnp.argsort(-score, axis=1), axis=1).astype(jnp.uint8)
        if self.stop:
            last = jnp.full((self.slots, 1), self.vocabulary, jnp.uint8)
            rank = jnp.concatenate([rank, last], axis=1)
        return Level(jnp.int32(level_id), x, rank)

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        zero = jnp.uint8(0)
        return State(zero, zero, zero if self.near else None)

    def step(
        self, params: Params, level: Level, state: State, action: Int[Array, ""], noise: tuple[()]
    ) -> Transition:
        action = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.action_space.n - 1)
        over = state.clock >= self.slots  # a finished sentence stands still, without pay
        slot = jnp.minimum(state.clock, self.slots - 1)
        size, rank = jnp.asarray(self._tables.sizes)[slot], level.rank[slot, action]
        clock, gained = state.clock + jnp.uint8(1), (rank < size).astype(jnp.uint8)
        if self.stop:
            stops = action == self.vocabulary
            left = jnp.minimum(self.slots - state.clock, self.fillers).astype(jnp.uint8)
            clock = jnp.where(stops, jnp.uint8(self.slots), clock)
            gained = jnp.where(stops, left, gained)
        right = state.right + jnp.where(over, jnp.uint8(0), gained)
        score, near = gained.astype(jnp.float32), state.near
        if near is not None:
            missed = (rank >= size) & (rank < size + jnp.uint8(self.near))
            near = near + jnp.where(over, False, missed).astype(jnp.uint8)
            score = score + jnp.where(missed, params.near_score, 0.0)
        after = State(jnp.where(over, state.clock, clock), right, near)
        ended, alive = after.clock >= self.slots, self.alive(params, after)
        pay = jnp.where(ended & ~over, self._outcome(params, after), 0.0)
        return Transition(
            state=after,
            reward={"true": pay, "process": jnp.where(over, 0.0, score / self.slots)},
            terminated=ended,
            truncated=jnp.bool_(False),
            info={
                "correct": ended & alive,  # with no slot left, only the optimum itself is alive
                "alive": alive,
                "fork": jnp.asarray(self._tables.forks)[slot],
            },
        )

    def _outcome(self, params: Params, state: State) -> Float[Array, ""]:
        """What a finished sentence pays."""
        right = state.right.astype(jnp.float32)
        near = 0.0 if state.near is None else state.near.astype(jnp.float32)
        if self.reward == "fraction":
            return (right + near * params.near_score) / self.slots
        if self.reward == "threshold":
            return (right >= params.needed).astype(jnp.float32)
        if self.reward == "min" and state.near is not None:
            worst = jnp.where(state.near > 0, params.near_score, 1.0)
            return jnp.where(right + near < self.slots, 0.0, worst)
        return (right == self.slots).astype(jnp.float32)

    def _enough(self, params: Params) -> Bool[Array, "T1"]:
        """Which numbers of right slots, 0 .. T, pay the optimum."""
        count = jnp.arange(self.slots + 1)
        if self.reward == "threshold":
            return count.astype(jnp.float32) >= params.needed
        return count == self.slots

    def alive(self, params: Params, state: State) -> Bool[Array, ""]:
        """Whether the optimum can still be paid from a state."""
        return self._enough(params)[self.slots - state.clock + state.right]

    def observe(self, params: Params, level: Level, state: State) -> Array:
        slot = jnp.minimum(state.clock.astype(jnp.int32), self.slots - 1)
        if self.observation == "slot":
            return level.id * self.slots + slot
        return jnp.concatenate([level.features, jax.nn.one_hot(slot, self.slots)])

    def right(self, level: Level) -> Bool[Array, "T A"]:
        """The sets C_t: which actions are right in which slot (stopping is, at a filler)."""
        return level.rank < jnp.asarray(self._tables.sizes)[:, None]

    def rights(self, level: Level, policy: Float[Array, "T A"]) -> Float[Array, "T1"]:
        """P(#right = 0 .. T at the end) of a policy whose rows π_t are slots."""
        T, right = self.slots, self.right(level)
        stops = jnp.arange(self.action_space.n) >= self.vocabulary

        def write(
            carry: tuple[Array, Array], slot: tuple[Array, ...]
        ) -> tuple[tuple[Array, Array], None]:
            open_, closed = carry
            weight, right, left = slot
            up, stay = (jnp.sum(jnp.where(k & ~stops, weight, 0.0)) for k in (right, ~right))
            halt = jnp.sum(jnp.where(stops, weight, 0.0))
            closed = closed + halt * jnp.roll(open_, left)  # at most T - t are added: none wraps
            return (stay * open_ + up * jnp.roll(open_, 1), closed), None

        left = jnp.minimum(T - jnp.arange(T), self.fillers)
        start = jnp.zeros(T + 1).at[0].set(1.0)
        (open_, closed), _ = jax.lax.scan(write, (start, jnp.zeros(T + 1)), (policy, right, left))
        return open_ + closed

    def success(
        self, params: Params, level: Level, policy: Float[Array, "T A"]
    ) -> Float[Array, ""]:
        """P(correct) of a policy whose rows are slots: Π_t q_t, or the tail of :meth:`rights`."""
        if self.reward == "threshold":
            return jnp.sum(jnp.where(self._enough(params), self.rights(level, policy), 0.0))
        return jnp.prod(jnp.sum(jnp.where(self.right(level), policy, 0.0), axis=1))

    def base_policy(self, level: Level, rate: Float[Array, ""]) -> Float[Array, "T A"]:
        """The policy with P(all right) = ``rate``: q_t = rate^(1/n) in the n slots that ask.

        It is uniform over the right and over the wrong actions of each slot.
        """
        right = self.right(level)
        count = jnp.sum(right, axis=1, keepdims=True).astype(jnp.float32)
        q = rate ** (1.0 / (self.slots - self.fillers))
        wrong = (1.0 - q) / jnp.maximum(self.action_space.n - count, 1.0)
        share = jnp.where(count == self.action_space.n, 1.0, q) / count
        return jnp.where(right, share, wrong)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        return jnp.float32(1.0)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """All sentences that pay 1: Π_t m_t of them, more where a threshold is enough.

        Codes are numbers in mixed radix, a digit per slot: the rank of its action among the right
        ones (among all, for a threshold). Labeling raises BadInput where codes pass 31 bits.
        """
        sizes, A = self._tables.sizes.tolist(), self.action_space.n
        base = [A] * self.slots if self.reward == "threshold" else sizes
        codes = prod(base)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            fits = f"at most {MOST_CODES} possible codes (here {codes})"
            expect(codes <= MOST_CODES, "slots", self.slots, fits)
            place = jnp.array([prod(base[t + 1 :]) for t in range(self.slots)], jnp.int32)
            missing = max(0, self.slots - actions.shape[0])
            word = jnp.pad(jnp.asarray(actions, jnp.int32), (0, missing))[: self.slots]
            word = jnp.clip(word, 0, A - 1)
            rank = level.rank[jnp.arange(self.slots), word].astype(jnp.int32)
            whole = length == self.slots
            if self.stop:  # what follows a stop counts as one more stop each
                halted = jnp.cumsum(word == self.vocabulary, dtype=jnp.int32) > 0
                written = jnp.sum(~halted, dtype=jnp.int32)
                rank = jnp.where(halted, self.vocabulary, rank)
                whole = length == jnp.minimum(written + 1, self.slots)
            right = jnp.sum(rank < jnp.array(sizes, jnp.int32), dtype=jnp.int32)
            good = whole & self._enough(params)[right]
            return jnp.where(good, jnp.sum(rank * place, dtype=jnp.int32), -1)

        every = jnp.asarray(self._tables.sentences)
        count = jnp.sum(jnp.where(self._enough(params), every, 0.0))
        return Solutions(count, label)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are all (clock, right, near) that can be, in lexicographic order."""
        clock, right, near = (jnp.asarray(x) for x in self._tables.states.T)
        states = State(clock, right, near if self.near else None)

        def act(state: State, action: Array) -> tuple[Array, Array]:
            after = self.step(params, level, state, action, ())
            return after.reward["true"], self.state_index(params, level, after.state)

        actions = jnp.arange(self.action_space.n)
        reward, ahead = jax.vmap(jax.vmap(act, (None, 0)), (0, None))(states, actions)
        slot = jnp.minimum(clock.astype(jnp.int32), self.slots - 1)
        return TabularMDP(
            reward=reward,
            start=jnp.zeros(len(clock)).at[0].set(1.0),
            terminal=clock == self.slots,
            row=level.id * self.slots + slot,
            next=ahead,
            horizon=self.slots,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`."""
        near = 0 if state.near is None else state.near
        return jnp.asarray(self._tables.number)[state.clock, state.right, near]

    def render(self, params: Params, level: Level, state: State) -> str:
        """The kinds of the slots (F fork, . plain, _ filler), the place, and what is right."""
        t = self._tables
        kind = np.where(t.forks, "F", np.where(t.sizes == self.action_space.n, "_", "."))
        near = "" if state.near is None else f"  near {int(state.near)}"
        return (
            f"prompt {int(level.id)}  slots {''.join(kind.tolist())}"
            f"  step {int(state.clock)}/{self.slots}  right {int(state.right)}{near}"
        )
