"""``reasoning/pad_length``: when to stop thinking and answer, with fillers that only take time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxrl_envs import threefry
from jaxrl_envs.core import Box, Discrete, Solutions, Transition, check_prompts, split_ids
from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.reasoning.length_norms import Updates, expected_updates
from jaxrl_envs.reasoning.stopping import THINK, Stopping, answer_times
from jaxrl_envs.tabular import TabularMDP

WRONG, RIGHT = 254, 255
"""What ``State.useful`` holds once the answer was given; so at most 253 tokens fit a byte."""
MOST_CODES = 2**31 - 1
"""A solution must have an int32 number."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        shortest: n* of the easiest prompt, in useful thoughts.
        longest: n* of the hardest prompt; the others lie evenly in between.
        width: w, how soft the need for n* thoughts is.
        penalty: λ, the price of a token in the channel ``penalized``.
        free_tokens: how many tokens cost nothing there.
    """

    shortest: Float[Array, ""]
    longest: Float[Array, ""]
    width: Float[Array, ""]
    penalty: Float[Array, ""]
    free_tokens: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its number, and n*, how many useful thoughts it needs."""

    id: Int[Array, ""]
    needed: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Useful thoughts so far (``WRONG`` or ``RIGHT`` after the answer) and tokens: 2 bytes."""

    useful: UInt8[Array, ""]
    clock: UInt8[Array, ""]


@dataclass(frozen=True)
class PadLength:
    """Think, pad, or answer: an answer after j useful thoughts is right with probability q(j).

    q(j) = σ((j - n*) / w) in a ``noisy`` world, else 1[j >= n*], its limit for w → 0. Fillers are
    valid tokens that change nothing but the length. The answer ends the episode; the token limit
    T truncates it, unless the last token is the answer.

    Channels, with L the number of tokens, the answer included, and L⁺ = max(0, L - free_tokens):
    ``true``, 1[right]; ``length``, -1 per token; ``penalized``, which adds up to
    1[right] - λ L⁺, or to 1[right] (1 - λ L⁺) where ``only_right``. With free_tokens = T - c and
    λ = 1/c the former is the soft punishment of overlong answers (arXiv 2503.14476).

    Observation: ``"state"``, the number ``prompt * (T+1)(T+2)/2 + t(t+1)/2 + j`` (for tabular
    policies); ``"length"``, ``prompt * (T+1) + t``, so that fillers cannot be told from thoughts;
    or ``"features"``, (t, j, n*) / T. Exact facts: the value of every policy with its truncation
    bias, the best stop, the expected update under three length normalizations, the whole
    transition table, and in a world without noise the number of right token sequences.

    ``info`` has ``correct``; ``mode_id``, the number of tokens before a right answer, else -1;
    ``potential``, the best chance of a right answer from here on, 0 from the first error on (after
    the end it is 1 or 0).

    Attributes:
        limit: T. fillers: k.
        noisy: whether the answer is drawn (one uniform per step).
        only_right: whether wrong answers escape the length penalty.
        observation: ``"state"``, ``"length"`` or ``"features"``.
        prompts, test_prompts: how many prompts there are in each split.

    Raises:
        BadInput: a size out of range.

    Source: truncation and length penalties as in DLER (arXiv 2510.15110).
    """

    limit: int = 16
    fillers: int = 2
    noisy: bool = False
    only_right: bool = False
    observation: Literal["state", "length", "features"] = "state"
    prompts: int = 64
    test_prompts: int = 0

    truncates = True

    def __post_init__(self) -> None:
        expect(1 <= self.limit < WRONG, "limit", self.limit, f"1 to {WRONG - 1} tokens")
        expect(0 <= self.fillers <= 253, "fillers", self.fillers, "0 to 253 kinds of filler")
        check_prompts(self.prompts, self.test_prompts)

    @property
    def horizon(self) -> int:
        return self.limit

    @property
    def default_params(self) -> Params:
        numbers = (1.0, self.limit / 2, 1.0 if self.noisy else 0.0, 0.02, 0.0)
        return Params(*(jnp.float32(x) for x in numbers))

    def check_params(self, params: Params) -> None:
        """Refuse a width that nobody would see, and numbers outside their range."""
        width = float(params.width)
        if self.noisy:
            expect(0.0 < width < float("inf"), "width", width, "a positive finite width")
        else:
            expect(width == 0.0, "width", width, "0 unless the world is built with noisy = true")
        for name in ("shortest", "longest", "penalty", "free_tokens"):
            number = float(getattr(params, name))
            expect(0.0 <= number < float("inf"), name, number, "a finite number of 0 or more")
        low, high = float(params.shortest), float(params.longest)
        expect(low <= high, "longest", high, f"at least {low} (shortest)")

    @property
    def _cells(self) -> int:
        """Pairs (t, j) with j <= t <= T."""
        return (self.limit + 1) * (self.limit + 2) // 2

    @property
    def observation_space(self) -> Discrete | Box:
        total = self.prompts + self.test_prompts
        if self.observation == "state":
            return Discrete(total * self._cells)
        if self.observation == "length":
            return Discrete(total * (self.limit + 1))
        return Box(0.0, jnp.inf, (3,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.fillers + 2)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        """n* = shortest + (longest - shortest) · rank / (prompts - 1), ranks in a fixed shuffle."""
        total = self.prompts + self.test_prompts
        order = np.random.RandomState(0).permutation(total)  # this generator is frozen
        place = jnp.asarray(order / max(total - 1, 1), jnp.float32)
        index = jnp.asarray(level_id, jnp.int32)
        return Level(index, params.shortest + (params.longest - params.shortest) * place[index])

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.noisy else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        return State(jnp.uint8(0), jnp.uint8(0))

    def accuracy(
        self, params: Params, level: Level, useful: Int[Array, "*s"]
    ) -> Float[Array, "*s"]:
        """q(j), the chance that an answer after j useful thoughts is right."""
        ahead = jnp.asarray(useful, jnp.float32) - level.needed
        if self.noisy:
            return jax.nn.sigmoid(ahead / params.width)
        return (ahead >= 0.0).astype(jnp.float32)

    def charged(self, params: Params, length: Array) -> Float[Array, "..."]:
        """L⁺, how many of the first L tokens cost something."""
        return jnp.maximum(jnp.asarray(length, jnp.float32) - jnp.ceil(params.free_tokens), 0.0)

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        token = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.fillers + 1)
        # A finished or cut episode stands still, without pay; so the clock cannot wrap.
        over = (state.useful >= WRONG) | (state.clock >= self.limit)
        answered = ~over & (token == self.fillers + 1)
        chance = self.accuracy(params, level, state.useful)
        luck = noise if self.noisy else jnp.float32(0.5)
        assert not isinstance(luck, tuple)  # what `draw` gave
        right = answered & (luck < chance)
        thought = jnp.where(~over & (token == THINK), state.useful + 1, state.useful)
        useful = jnp.where(answered, jnp.where(right, RIGHT, WRONG).astype(jnp.uint8), thought)
        after = State(useful, jnp.where(over, state.clock, state.clock + 1))
        ended = useful >= WRONG
        pay, one = right.astype(jnp.float32), jnp.where(over, 0.0, 1.0)
        before, now = (self.charged(params, s.clock) for s in (state, after))
        if self.only_right:
            penalized = pay * (1.0 - params.penalty * now)
        else:
            penalized = pay - params.penalty * (now - before)
        return Transition(
            state=after,
            reward={"true": pay, "length": -one, "penalized": penalized},
            terminated=ended,
            truncated=(after.clock >= self.limit) & ~ended,
            info={
                "correct": useful == RIGHT,
                "mode_id": jnp.where(useful == RIGHT, after.clock.astype(jnp.int32) - 1, -1),
                "potential": self.potential(params, level, after),
            },
        )

    def potential(self, params: Params, level: Level, state: State) -> Float[Array, ""]:
        """The best chance of a right answer from here: q(j + T - t - 1), with thoughts only."""
        left = self.limit - state.clock.astype(jnp.int32)
        best = self.accuracy(params, level, state.useful.astype(jnp.int32) + left - 1)
        ended = jnp.where(state.useful == RIGHT, 1.0, 0.0)
        return jnp.where((state.useful >= WRONG) | (left == 0), ended, best)

    def observe(self, params: Params, level: Level, state: State) -> Array:
        clock = state.clock.astype(jnp.int32)
        useful = jnp.minimum(state.useful.astype(jnp.int32), clock)
        if self.observation == "features":
            seen = jnp.stack([clock, useful]).astype(jnp.float32)
            return jnp.append(seen, level.needed) / self.limit
        return self._row(level, clock, useful)

    def _row(self, level: Level, clock: Array, useful: Array) -> Int[Array, "..."]:
        if self.observation == "length":
            return level.id * (self.limit + 1) + clock
        return level.id * self._cells + clock * (clock + 1) // 2 + useful

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """q(T - 1): the best policy for ``true`` thinks as long as it may."""
        return self.accuracy(params, level, jnp.int32(self.limit - 1))

    def stopping_values(self, params: Params, level: Level) -> Float[Array, "T"]:
        """``penalized`` return of answering after exactly n = 0 .. T-1 useful thoughts.

        No policy has more than the largest of them: fillers and silence only cost.
        """
        count = jnp.arange(self.limit)
        chance, price = self.accuracy(params, level, count), self.charged(params, count + 1)
        cost = params.penalty * price
        return chance * (1.0 - cost) if self.only_right else chance - cost

    def best_stop(self, params: Params, level: Level) -> Int[Array, ""]:
        """n_opt = argmax of :meth:`stopping_values`, the fewest thoughts where several are best."""
        return jnp.argmax(self.stopping_values(params, level)).astype(jnp.int32)

    def evaluate(self, params: Params, level: Level, policy: Float[Array, "N N A"]) -> Stopping:
        """The exact value of any policy on (t, j), see :func:`answer_times`.

        Rows beyond the limit say what the policy would have done; they matter for ``bias`` only.

        Raises:
            BadInput: a policy with fewer rows than the limit.
        """
        rows = policy.shape[0]
        expect(rows >= self.limit, "policy", rows, f"at least {self.limit} rows (limit)")
        mass, count = answer_times(policy), jnp.arange(rows)
        right = mass @ self.accuracy(params, level, count)
        answered, in_time = jnp.sum(mass, axis=1)[: self.limit], count[: self.limit] + 1
        cut = jnp.maximum(1.0 - jnp.sum(answered), 0.0)
        cost = params.penalty * self.charged(params, in_time)
        won, late = right[: self.limit], jnp.sum(right[self.limit :])
        paid = won @ cost if self.only_right else answered @ cost + cut * cost[-1]
        length = answered @ in_time.astype(jnp.float32) + cut * self.limit
        return Stopping(jnp.sum(won), jnp.sum(won) - paid, length, cut, -late)

    def answer_drift(
        self,
        params: Params,
        level: Level,
        answer: Float[Array, ""],
        think: Float[Array, ""],
        group: int,
    ) -> Updates:
        """Expected updates of the logit of answering, by normalization of the loss by length.

        The policy answers with probability h = ``answer`` at every token and otherwise thinks with
        probability ``think``, else fills. A rollout that answers after n tokens has the score
        1 - (n+1) h, a cut one -T h. Advantages are (r - mean) / std of ``true`` within groups of
        G = ``group``. Positive: rollouts become shorter.
        """
        T = self.limit
        pi = jnp.zeros((T, T, self.fillers + 2)).at[..., -1].set(answer)
        pi = pi.at[..., THINK].set((1.0 - answer) * think)
        if self.fillers:
            pi = pi.at[..., 1].set((1.0 - answer) * (1.0 - think))
        mass, chance = answer_times(pi), self.accuracy(params, level, jnp.arange(T))
        right, cut = mass @ chance, (1.0 - answer) ** T
        wrong = jnp.append(mass @ (1.0 - chance), cut)
        length = np.append(np.arange(1, T + 1), T)
        score = jnp.append(jnp.ones(T), 0.0) - answer * jnp.asarray(length, jnp.float32)
        return expected_updates(jnp.stack([wrong, jnp.append(right, 0.0)]), score, length, group)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """All token sequences with a right answer in time, in a world without noise.

        Their number is Σ_n Σ_{j >= n*} C(n, j) k^(n-j); a sequence of n tokens before the answer
        has the code (B^n - 1) / (B - 1) + Σ_t a_t B^(n-1-t), B = k + 1.

        Raises:
            BadInput: in a noisy world, or where the codes do not fit into an int32.
        """
        if self.noisy:
            raise BadInput("noisy", True, "false: with noise no sequence is always right")
        base = self.fillers + 1
        first = np.cumsum([0, *(base**n for n in range(self.limit))], dtype=object)
        fits = "a limit whose sequences have int32 numbers"
        expect(int(first[-1]) <= MOST_CODES, "limit", self.limit, fits)
        ways = np.zeros((self.limit, self.limit))  # [n, j]
        ways[0, 0] = 1.0
        for n in range(1, self.limit):
            ways[n] = self.fillers * ways[n - 1]
            ways[n, 1:] += ways[n - 1, :-1]
        enough = self.accuracy(params, level, jnp.arange(self.limit))
        count = jnp.asarray(ways.sum(axis=0), jnp.float32) @ enough
        offset = jnp.asarray(first.astype(np.int64), jnp.int32)

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            token = jnp.clip(jnp.asarray(actions, jnp.int32), 0, base)
            before = jnp.arange(token.shape[0]) < length - 1
            last = token[jnp.clip(length - 1, 0, token.shape[0] - 1)]
            thoughts = jnp.sum(before & (token == THINK), dtype=jnp.int32)
            good = (last == base) & jnp.all((token < base) | ~before)
            good &= (length >= 1) & (length <= self.limit)

            def write(code: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
                digit, counts = at
                return jnp.where(counts, code * base + digit, code), None

            code, _ = jax.lax.scan(write, jnp.int32(0), (token, before & good))
            good &= self.accuracy(params, level, thoughts) > 0.5
            return jnp.where(good, offset[jnp.clip(length - 1, 0, self.limit - 1)] + code, -1)

        return Solutions(count, label)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States are the pairs (t, j), t(t+1)/2 + j, and last the end. Cut episodes stand still."""
        T, end = self.limit, self._cells
        pairs = [(t, j) for t in range(T + 1) for j in range(t + 1)]
        clock, useful = np.array([*pairs, (T, 0)]).T
        here, above = np.arange(end + 1), clock + 1
        kept = above * (above + 1) // 2 + useful
        ahead = np.tile(kept[:, None], (1, self.fillers + 2))
        ahead[:, THINK] += 1
        ahead[:, -1] = end
        running = clock < T
        ahead = np.where(running[:, None], ahead, here[:, None])
        chance = self.accuracy(params, level, jnp.asarray(useful, jnp.int32))
        reward = jnp.zeros(ahead.shape).at[:, -1].set(jnp.where(jnp.asarray(running), chance, 0.0))
        seen = (jnp.asarray(x, jnp.int32) for x in (clock, useful))
        return TabularMDP(
            reward=reward,
            start=jax.nn.one_hot(0, end + 1),
            terminal=jnp.asarray(here == end),
            row=self._row(level, *seen),
            next=jnp.asarray(ahead, jnp.int32),
            horizon=T,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`."""
        clock, useful = state.clock.astype(jnp.int32), state.useful.astype(jnp.int32)
        return jnp.where(useful >= WRONG, self._cells, clock * (clock + 1) // 2 + useful)

    def render(self, params: Params, level: Level, state: State) -> str:
        useful = int(state.useful)
        mark = {WRONG: "answered, wrong", RIGHT: "answered, right"}.get(useful, f"useful {useful}")
        return (
            f"prompt {int(level.id)}  needs {float(level.needed):.2f} thoughts"
            f"  token {int(state.clock)}/{self.limit}  {mark}"
        )
