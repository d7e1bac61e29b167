"""``reasoning/modular_chain``: reach a target residue by exactly L arithmetic tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxrl_envs.core import Discrete, MultiDiscrete, Solutions, Transition, split_ids
from jaxrl_envs.difficulty import spread_rate
from jaxrl_envs.errors import expect
from jaxrl_envs.tabular import TabularMDP

MOST_CODES = 2**31 - 1
"""A sequence of L tokens must have an int32 number."""


class Tables(NamedTuple):
    """Everything about the chains of one structure, as static NumPy tables.

    ``next[P, V]`` is the residue after an operator; ``ways[L+1, P, P]`` how many sequences of j
    tokens lead from x to y, ``n_j(x, y) = Σ_v n_{j-1}(op_v(x), y)``; ``pairs[M, 2]`` the solvable
    (first residue, target) pairs in a fixed shuffled order.
    """

    next: np.ndarray
    ways: np.ndarray
    pairs: np.ndarray


def operator(kind: str, token: int) -> tuple[int, int]:
    """(multiplier, addend) of a token: ``add`` is x + v; ``affine`` is +1, +3, ×2, ×3, +4, ×4, …"""
    if kind == "add":
        return 1, token
    if token < 4:
        return ((1, 1), (1, 3), (2, 0), (3, 0))[token]
    number = 2 + token // 2  # tokens 4 and 5 use 4, tokens 6 and 7 use 5, …
    return (1, number) if token % 2 == 0 else (number, 0)


@cache
def tables(modulus: int, vocabulary: int, length: int, operators: str) -> Tables:
    """The tables of one structure. Cached: they are constants of every program that uses them."""
    residues = np.arange(modulus)
    ops = [operator(operators, v) for v in range(vocabulary)]
    ahead = np.stack([(mul * residues + add) % modulus for mul, add in ops], axis=1)
    move = np.zeros((modulus, modulus))
    np.add.at(move, (residues[:, None], ahead), 1.0)
    ways = [np.eye(modulus)]
    for _ in range(length):
        ways.append(move @ ways[-1])  # exact in float64: no count exceeds V^L < 2^31
    solvable = np.argwhere(ways[-1] > 0)
    order = np.random.RandomState(0).permutation(len(solvable))  # this generator is frozen
    return Tables(ahead.astype(np.uint8), np.stack(ways), solvable[order])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        hardest: prescribed pass@1 of a base policy on the hardest prompt.
        easiest: the same on the easiest prompt; log-odds are spread evenly in between.
    """

    hardest: Float[Array, ""]
    easiest: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its number, the first residue and the target residue."""

    id: Int[Array, ""]
    first: Int[Array, ""]
    target: Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Current residue and number of tokens written: 2 bytes.

    ``last`` (1 byte) is the previous token plus 1; only worlds that show it (``"tokens"``) have it.
    """

    residue: UInt8[Array, ""]
    clock: UInt8[Array, ""]
    last: UInt8[Array, ""] | None = None


@dataclass(frozen=True)
class ModularChain:
    """A chain of L tokens, each an operator on a residue: x ← mul_v · x + add_v (mod P).

    A prompt is a pair (x0, target); the answer is right, R = 1, iff x = target after exactly L
    tokens. The number of right sequences is known exactly, n_j(x) = Σ_v n_{j-1}(op_v(x)) with
    n_0 = 1[x = target]; prompts without one are skipped. Episodes last L steps and terminate.

    Observation: ``"state"``, the number ``(prompt * L + t) * P + x`` (for tabular policies; the
    finished state shows the last row of its residue); ``"tokens"``, [t, target, x0, previous
    token + 1 or 0], so that the policy must track the residue itself; or ``"residue"``, [t,
    target, x], which a memoryless network can solve. Exact facts: optimal value 1, the number of
    solutions, the base-V code of each, the whole transition table.

    ``info`` has ``correct`` and ``alive`` (success is still possible; the first step after which
    it is false is the first error). It has no ``mode_id``: which solution was written depends on
    the whole sequence, which the state does not hold; ask ``solutions(...).label``.

    Attributes:
        modulus: P. vocabulary: V. length: L.
        operators: ``"add"`` (token v adds v) or ``"affine"`` (+1, +3, ×2, ×3, +4, ×4, +5, ×5, …).
        observation: ``"state"``, ``"tokens"`` or ``"residue"``.
        prompts, test_prompts: how many prompts there are in each split.

    Raises:
        BadInput: a size out of range, V^L above 2^31 - 1, or more prompts than solvable pairs.
    """

    modulus: int = 8
    vocabulary: int = 8
    length: int = 4
    operators: Literal["add", "affine"] = "add"
    observation: Literal["state", "tokens", "residue"] = "state"
    prompts: int = 64
    test_prompts: int = 0

    truncates = False

    def __post_init__(self) -> None:
        expect(2 <= self.modulus <= 256, "modulus", self.modulus, "2 to 256 residues")
        expect(2 <= self.vocabulary <= 255, "vocabulary", self.vocabulary, "2 to 255 operators")
        longest = 0
        while self.vocabulary ** (longest + 1) <= MOST_CODES:
            longest += 1
        fits = f"1 to {longest} tokens (vocabulary^length must stay below 2^31)"
        expect(1 <= self.length <= longest, "length", self.length, fits)
        expect(self.prompts >= 1, "prompts", self.prompts, "at least 1 prompt")
        solvable = len(self._tables.pairs)
        have = f"of the {self.modulus**2} pairs of residues {solvable} have a solution"
        expect(self.prompts <= solvable, "prompts", self.prompts, f"1 to {solvable}: {have}")
        rest = solvable - self.prompts
        expect(
            0 <= self.test_prompts <= rest,
            "test_prompts",
            self.test_prompts,
            f"0 to {rest} (prompts = {self.prompts}): {have}",
        )

    @property
    def _tables(self) -> Tables:
        return tables(self.modulus, self.vocabulary, self.length, self.operators)

    @property
    def horizon(self) -> int:
        return self.length

    @property
    def default_params(self) -> Params:
        return Params(jnp.float32(0.02), jnp.float32(0.9))

    def check_params(self, params: Params) -> None:
        """Refuse pass rates outside (0, 1)."""
        for name in ("hardest", "easiest"):
            rate = float(getattr(params, name))
            expect(0.0 < rate < 1.0, name, rate, "a pass rate strictly between 0 and 1")

    @property
    def observation_space(self) -> Discrete | MultiDiscrete:
        if self.observation == "state":
            return Discrete((self.prompts + self.test_prompts) * self.length * self.modulus)
        if self.observation == "tokens":
            return MultiDiscrete((self.length + 1, self.modulus, self.modulus, self.vocabulary + 1))
        return MultiDiscrete((self.length + 1, self.modulus, self.modulus))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.vocabulary)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        index = jnp.asarray(level_id, jnp.int32)
        pair = jnp.asarray(self._tables.pairs, jnp.int32)[index]
        return Level(index, pair[0], pair[1])

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        last = jnp.uint8(0) if self.observation == "tokens" else None
        return State(level.first.astype(jnp.uint8), jnp.uint8(0), last)

    def step(
        self, params: Params, level: Level, state: State, action: Int[Array, ""], noise: tuple[()]
    ) -> Transition:
        token = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.vocabulary - 1)
        over = state.clock >= self.length  # a finished sequence stands still, without pay
        written = jnp.asarray(self._tables.next)[state.residue, token]
        residue = jnp.where(over, state.residue, written)
        clock = jnp.where(over, state.clock, state.clock + 1)
        last = state.last
        if last is not None:
            last = jnp.where(over, last, (token + 1).astype(jnp.uint8))
        after = State(residue, clock, last)
        alive, ended = self.alive(level, after), clock >= self.length
        correct = ended & alive  # with no token left, only the target itself is alive
        return Transition(
            state=after,
            reward={"true": (correct & ~over).astype(jnp.float32)},
            terminated=ended,
            truncated=jnp.bool_(False),
            info={"correct": correct, "alive": alive},
        )

    def observe(self, params: Params, level: Level, state: State) -> Int[Array, "..."]:
        residue, clock = state.residue.astype(jnp.int32), state.clock.astype(jnp.int32)
        if self.observation == "state":
            return self._row(level, clock, residue)
        if self.observation == "residue":
            return jnp.stack([clock, level.target, residue])
        assert state.last is not None
        return jnp.stack([clock, level.target, level.first, state.last.astype(jnp.int32)])

    def _row(self, level: Level, clock: Array, residue: Array) -> Array:
        layer = jnp.minimum(clock, self.length - 1)
        return (level.id * self.length + layer) * self.modulus + residue

    def pass_rate(self, params: Params, level: Level) -> Float[Array, ""]:
        """Prescribed pass@1 of a base policy: log-odds spread evenly over the prompts' ranks.

        The rank of a prompt is a fixed golden-ratio sequence in its id, so every subset of
        prompts, train or test, covers the whole range of difficulty.
        """
        return spread_rate(level.id, params.hardest, params.easiest)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        return jnp.float32(1.0)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """All sequences that end on the target, numbered Σ_t a_t V^(L-1-t).

        The codes are injective but not consecutive: they lie in 0 .. V^L - 1.
        """
        count = jnp.asarray(self._tables.ways[-1], jnp.float32)[level.first, level.target]
        ahead = jnp.asarray(self._tables.next, jnp.int32)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            if actions.shape[0] < self.length:
                return jnp.int32(-1)
            tokens = jnp.clip(
                jnp.asarray(actions[: self.length], jnp.int32), 0, self.vocabulary - 1
            )

            def write(carry: tuple[Array, Array], token: Array) -> tuple[tuple[Array, Array], None]:
                residue, code = carry
                return (ahead[residue, token], code * self.vocabulary + token), None

            (residue, code), _ = jax.lax.scan(write, (level.first, jnp.int32(0)), tokens)
            return jnp.where((residue == level.target) & (length == self.length), code, -1)

        return Solutions(count, label)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are t * P + x for t = 0 .. L; the last layer is terminal."""
        clock, residue = jnp.divmod(jnp.arange((self.length + 1) * self.modulus), self.modulus)
        written = jnp.asarray(self._tables.next, jnp.int32)[residue]
        terminal = clock == self.length
        itself = (clock * self.modulus + residue)[:, None]
        right = (clock[:, None] == self.length - 1) & (written == level.target)
        ahead = (clock[:, None] + 1) * self.modulus + written
        return TabularMDP(
            reward=right.astype(jnp.float32),
            start=jax.nn.one_hot(level.first, clock.shape[0]),
            terminal=terminal,
            row=self._row(level, clock, residue),
            next=jnp.where(terminal[:, None], itself, ahead),
            horizon=self.length,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`: t * P + x."""
        return state.clock.astype(jnp.int32) * self.modulus + state.residue.astype(jnp.int32)

    def alive(self, level: Level, state: State) -> Bool[Array, ""]:
        """Whether the target can still be reached from a state."""
        possible = jnp.asarray(self._tables.ways > 0)
        left = self.length - state.clock.astype(jnp.int32)
        return possible[left, state.residue, level.target]

    def render(self, params: Params, level: Level, state: State) -> str:
        ops = [operator(self.operators, v) for v in range(self.vocabulary)]
        words = [f"+{add}" if mul == 1 else f"×{mul}" for mul, add in ops]
        return (
            f"prompt {int(level.id)}  {int(level.first)} → {int(level.target)} (mod {self.modulus})"
            f"  step {int(state.clock)}/{self.length}  residue {int(state.residue)}"
            f"  tokens {' '.join(words)}"
        )
