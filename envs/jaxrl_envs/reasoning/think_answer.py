"""``reasoning/think_answer``: choose a strategy, write free tokens, then the answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxrl_envs import threefry
from jaxrl_envs.core import Box, Discrete, Solutions, Transition, check_prompts, split_ids
from jaxrl_envs.difficulty import spread_rate
from jaxrl_envs.errors import expect
from jaxrl_envs.reasoning.responses import Responses
from jaxrl_envs.tabular import TabularMDP

TEACHER_SEED = 0
"""The hidden rule that says which strategy is right on which prompt is the same in every run."""

NO_ANSWER = -1
"""The own answer of no strategy at all: no token has this number."""


class Roles(NamedTuple):
    """What the strategy of each rank is, best first, as static NumPy tables ``[U]``.

    ``right`` and ``unsure`` mark the kinds; ``answer`` is the rank of the answer it leads to.
    """

    right: np.ndarray
    unsure: np.ndarray
    answer: np.ndarray


@cache
def roles(
    strategies: int, right: int, unsure: int, popular: int, answers: int, right_answers: int
) -> Roles:
    """Answers by rank: first the right ones, then the popular wrong one, then the others."""
    rank = np.arange(strategies)
    good, shared = right + unsure, right + unsure + popular
    among = np.where(rank < right, rank, rank - right) % right_answers
    others = right_answers + (popular > 0)
    apart = others + (rank - shared) % max(answers - others, 1)
    answer = np.where(rank < good, among, np.where(rank < shared, right_answers, apart))
    return Roles(rank < right, (rank >= right) & (rank < good), answer.astype(np.uint8))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        chance: M of an unsure strategy, the probability that its answer is accepted.
        hardest: pass@1 of the base policy on the hardest prompt (unsure strategies not counted).
        easiest: the same on the easiest prompt; log-odds are spread evenly in between.
        skew: within its kind (right or not), the base policy prefers each strategy to the one
            that ranks behind it by this many log-odds.
        focus: probability that the base policy writes the answer its strategy leads to.
    """

    chance: Float[Array, ""]
    hardest: Float[Array, ""]
    easiest: Float[Array, ""]
    skew: Float[Array, ""]
    focus: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt; entry U of the tables by strategy stands for "none".

    ``features[F]`` is what a network sees; ``rank[U]`` orders the strategies, right ones first;
    ``own[U+1]`` is the answer each leads to; ``worth[U+1]`` the row M[b, ·]; ``accepted[V]``
    marks the right answers.
    """

    id: Int[Array, ""]
    features: Float[Array, "F"]
    rank: Int[Array, "U"]
    own: Int[Array, "U1"]
    worth: Float[Array, "U1"]
    accepted: Bool[Array, "V"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """The strategy in use (U: none) and the number of tokens written: 2 bytes.

    A finished episode keeps its strategy if it was right, and none otherwise.
    """

    strategy: UInt8[Array, ""]
    clock: UInt8[Array, ""]


@dataclass(frozen=True)
class ThinkAnswer:
    """A response of T tokens: one of U strategies, T - 2 free tokens, one of K answers.

    On prompt b strategy u leads to its own answer own_b(u), and is right with probability M[b, u]:

        P(true = 1 | b, u, a) = M[b, u] · 1[a = own_b(u)].

    ``right`` strategies have M = 1, ``unsure`` ones M = ``chance``, the others 0. Right and unsure
    ones lead to the ``right_answers`` right answers in turn (1: all agree, so that thoughts may
    differ where answers do not), ``popular`` wrong ones to one and the same wrong answer, the rest
    to the remaining answers in turn. A fixed hidden linear teacher ranks strategies and answers on
    a Gaussian vector x_b. Free tokens change nothing, and episodes last T steps.

    Channels, paid with the last token: ``true``; ``proxy``, 1 if the answer is a right one,
    whatever the thought (what a verifier sees that reads answers only; never below ``true``);
    ``format``, 1 if strategy and answer are tokens that name one. ``info`` has ``correct``,
    ``mode_id`` (the strategy that was right), ``alive`` (success is still possible) and
    ``answer`` (-1 but at the step that writes one): what a majority vote counts.

    Observation: ``"state"``, one number per prompt and state (for tabular policies; the finished
    state shows the last row), or ``"features"``, x_b with one-hot clock and strategy. Exact facts:
    optimal value 1, the right strategies as solutions, the transition table, a base policy, and
    what any tabular policy writes (:meth:`responses`: entropies, success, votes).

    Attributes:
        prompts, test_prompts: how many prompts there are in each split.
        strategies: U. right, unsure, popular: how many of them are of each kind.
        answers: K. right_answers: how many of them are right.
        free: T - 2. vocabulary: V, the number of tokens; 0 means max(U, K).
        observation: ``"state"`` or ``"features"``. features: F.

    Raises:
        BadInput: a size out of range, or too few strategies or answers for the kinds.

    Source: thoughts and answers as separate supports of diversity, label-free (arXiv 2509.15194).
    """

    prompts: int = 64
    test_prompts: int = 0
    strategies: int = 8
    right: int = 3
    unsure: int = 0
    popular: int = 0
    answers: int = 8
    right_answers: int = 1
    free: int = 2
    vocabulary: int = 0
    observation: Literal["state", "features"] = "state"
    features: int = 8

    truncates = False

    def __post_init__(self) -> None:
        check_prompts(self.prompts, self.test_prompts)
        expect(2 <= self.strategies <= 250, "strategies", self.strategies, "2 to 250 strategies")
        expect(2 <= self.answers <= 250, "answers", self.answers, "2 to 250 answers")
        room = self.strategies - 1
        fits = f"1 to {room} (one of strategies = {self.strategies} must be wrong or unsure)"
        expect(1 <= self.right <= room, "right", self.right, fits)
        left = self.strategies - self.right
        for name in ("unsure", "popular"):
            number = getattr(self, name)
            fits = f"0 to {left} (what is left of strategies = {self.strategies})"
            expect(0 <= number <= left, name, number, fits)
            left -= number
        most = min(self.right, self.answers - (self.popular > 0) - (left > 0))
        fits = f"1 to {most} (at most one per right strategy, and leaving answers to wrong ones)"
        expect(1 <= self.right_answers <= most, "right_answers", self.right_answers, fits)
        expect(0 <= self.free <= 200, "free", self.free, "0 to 200 tokens")
        least = max(self.strategies, self.answers)
        ok = self.vocabulary == 0 or least <= self.vocabulary <= 250
        expect(ok, "vocabulary", self.vocabulary, f"0 (for {least}) or {least} to 250 tokens")
        expect(self.features >= 1, "features", self.features, "at least 1 feature")
        if self.vocabulary == 0:
            object.__setattr__(self, "vocabulary", least)

    @property
    def _roles(self) -> Roles:
        kinds = (self.strategies, self.right, self.unsure, self.popular)
        return roles(*kinds, self.answers, self.right_answers)

    @property
    def horizon(self) -> int:
        return self.free + 2

    @property
    def _rows(self) -> int:
        """How many states an unfinished episode can be in."""
        return 1 + (self.horizon - 1) * (self.strategies + 1)

    @property
    def default_params(self) -> Params:
        return Params(*(jnp.float32(x) for x in (0.5, 0.02, 0.9, 0.0, 0.95)))

    def check_params(self, params: Params) -> None:
        """Refuse probabilities out of range, and a pass rate that the base policy cannot have."""
        chance, skew = float(params.chance), float(params.skew)
        expect(0.0 <= chance < 1.0, "chance", chance, "a probability below 1, that of right ones")
        expect(bool(np.isfinite(skew)), "skew", skew, "a finite number")
        focus = float(params.focus)
        expect(0.0 < focus < 1.0, "focus", focus, "a probability strictly between 0 and 1")
        for name in ("hardest", "easiest"):
            rate = float(getattr(params, name))
            expect(0.0 < rate < focus, name, rate, f"a pass rate above 0 and below focus = {focus}")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "state":
            return Discrete((self.prompts + self.test_prompts) * self._rows)
        return Box(-jnp.inf, jnp.inf, (self.features + self.horizon + self.strategies + 2,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.vocabulary)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        key = jax.random.key(TEACHER_SEED)
        both = self.strategies + self.answers
        teacher = threefry.normal(threefry.fold_in(key, 0), (self.features, both))
        x = threefry.normal(threefry.fold_in(threefry.fold_in(key, 1), level_id), (self.features,))
        score = x @ teacher
        rank = jnp.argsort(jnp.argsort(-score[: self.strategies])).astype(jnp.int32)
        token = jnp.argsort(-score[self.strategies :]).astype(jnp.int32)  # by rank of the answer
        right, unsure, answer = (jnp.asarray(table)[rank] for table in self._roles)
        worth = jnp.where(right, 1.0, jnp.where(unsure, params.chance, 0.0))
        good = token[: self.right_answers]
        return Level(
            id=jnp.asarray(level_id, jnp.int32),
            features=x,
            rank=rank,
            own=jnp.concatenate([token[answer], jnp.array([NO_ANSWER], jnp.int32)]),
            worth=jnp.concatenate([worth, jnp.zeros(1)]),
            accepted=jnp.zeros(self.vocabulary, bool).at[good].set(True),
        )

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        return threefry.uniform(key, batch_shape) if self.unsure else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        return State(jnp.uint8(self.strategies), jnp.uint8(0))

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""] | tuple[()],
    ) -> Transition:
        token = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.vocabulary - 1)
        none = jnp.uint8(self.strategies)
        over = state.clock >= self.horizon  # a finished response stands still, without pay
        last = state.clock == self.horizon - 1
        chosen = jnp.minimum(token, self.strategies).astype(jnp.uint8)
        strategy = jnp.where(state.clock == 0, chosen, state.strategy)
        luck = jnp.float32(0.5) if isinstance(noise, tuple) else noise  # M is 0 or 1 without luck
        right = last & (token == level.own[strategy]) & (luck < level.worth[strategy])
        accepted, named = last & level.accepted[token], token < self.answers
        kept = jnp.where(last & ~right, none, strategy)
        clock = jnp.where(over, state.clock, state.clock + 1)
        correct = (clock >= self.horizon) & (kept < none)
        channels = {"true": right, "proxy": accepted, "format": last & (strategy < none) & named}
        return Transition(
            state=State(kept, clock),
            reward={name: paid.astype(jnp.float32) for name, paid in channels.items()},
            terminated=clock >= self.horizon,
            truncated=jnp.bool_(False),
            info={
                "correct": correct,
                "mode_id": jnp.where(correct, kept.astype(jnp.int32), -1),
                "alive": level.worth[kept] > 0,
                "answer": jnp.where(last & named, token, -1),
            },
        )

    def observe(self, params: Params, level: Level, state: State) -> Array:
        if self.observation == "state":
            here = jnp.minimum(self.state_index(params, level, state), self._rows - 1)
            return level.id * self._rows + here
        clock = jax.nn.one_hot(state.clock, self.horizon + 1, dtype=jnp.float32)
        strategy = jax.nn.one_hot(state.strategy, self.strategies + 1, dtype=jnp.float32)
        return jnp.concatenate([level.features, clock, strategy])

    def pass_rate(self, params: Params, level: Level) -> Float[Array, ""]:
        """Prescribed pass@1 of a base policy by right strategies: log-odds spread evenly.

        The rank of a prompt is a fixed golden-ratio sequence in its id, so every subset of
        prompts, train or test, covers the whole range of difficulty.
        """
        return spread_rate(level.id, params.hardest, params.easiest)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        return jnp.float32(1.0)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The right strategies; each is V^(T-2) responses, which differ in free tokens only."""

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            if actions.shape[0] < self.horizon:
                return jnp.int32(-1)
            ends = actions[jnp.array([0, self.horizon - 1])].astype(jnp.int32)
            first, answer = jnp.clip(ends, 0, self.vocabulary - 1)
            first = jnp.minimum(first, self.strategies)
            right = (level.worth[first] >= 1.0) & (answer == level.own[first])
            return jnp.where(right & (length == self.horizon), first, -1)

        return Solutions(jnp.float32(self.right), label)

    def grade(self, level: Level) -> Float[Array, "U1 V"]:
        """P(true = 1 | strategy, answer token); the last row is that of no strategy."""
        return jnp.where(self._own(level), level.worth[:, None], 0.0)

    def _own(self, level: Level) -> Bool[Array, "U1 V"]:
        return level.own[:, None] == jnp.arange(self.vocabulary, dtype=jnp.int32)[None]

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """States: the prompt, then (t, strategy) for t = 1 .. T-1, then the end.

        Luck decides only what an unsure strategy is paid, so moves are deterministic.
        """
        none, end = self.strategies, self._rows
        state = np.arange(end + 1)
        move = np.minimum(state + none + 1, end)[:, None].repeat(self.vocabulary, axis=1)
        move[0] = 1 + np.minimum(np.arange(self.vocabulary), none)
        pay = jnp.zeros((end + 1, self.vocabulary)).at[end - none - 1 : end].set(self.grade(level))
        return TabularMDP(
            reward=pay,
            start=jnp.zeros(end + 1).at[0].set(1.0),
            terminal=jnp.asarray(state == end),
            row=level.id * end + jnp.asarray(np.minimum(state, end - 1), jnp.int32),
            next=jnp.asarray(move, jnp.int32),
            horizon=self.horizon,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`; finished episodes share the last one."""
        clock, strategy = state.clock.astype(jnp.int32), state.strategy.astype(jnp.int32)
        running = 1 + (clock - 1) * (self.strategies + 1) + strategy
        inside = jnp.where(clock == 0, 0, running)
        return jnp.where(clock >= self.horizon, self._rows, inside)

    def base_policy(self, params: Params, level: Level) -> Float[Array, "R V"]:
        """Log-probabilities of a base policy in the R running states of a prompt.

        It is fully right with probability p = ``pass_rate``: right strategies have p / focus in
        all and the other tokens the rest, each e^skew times what the next of its kind has. Free
        tokens are uniform, as are answers to no strategy; a strategy's own answer has ``focus``,
        the other tokens share the rest. Tables of all prompts, one after the other, are the
        table of a tabular policy.
        """
        V, U = self.vocabulary, self.strategies
        rank = jnp.concatenate([level.rank, jnp.arange(U, V, dtype=jnp.int32)])
        is_right = rank < self.right
        order = jnp.where(is_right, rank, rank - self.right).astype(jnp.float32)
        within = [jnp.where(kind, -params.skew * order, -jnp.inf) for kind in (is_right, ~is_right)]
        mass = self.pass_rate(params, level) / params.focus
        right, other = (jax.nn.log_softmax(x) for x in within)
        first = jnp.where(is_right, jnp.log(mass) + right, jnp.log1p(-mass) + other)
        own = self._own(level)
        rest = jnp.log((1.0 - params.focus) / (V - 1))
        answer = jnp.where(own, jnp.log(params.focus), rest)
        answer = answer.at[U].set(-jnp.log(jnp.float32(V)))
        free = jnp.full((self.free * (U + 1), V), -jnp.log(jnp.float32(V)))
        return jnp.concatenate([first[None], free, answer])

    def responses(self, level: Level, logp: Float[Array, "B*R V"]) -> Responses:
        """What a tabular policy writes on a prompt: ask it for entropies, success and votes.

        ``logp`` is the whole table of log-probabilities, that of all prompts.
        """
        rows = logp.reshape(-1, self._rows, self.vocabulary)[level.id]
        later = rows[1:].reshape(self.horizon - 1, self.strategies + 1, self.vocabulary)
        return Responses(rows[0], later, self.grade(level), level.accepted[: self.answers])

    def render(self, params: Params, level: Level, state: State) -> str:
        """The strategies with their answers: * is right, ? unsure, the one in use in brackets."""
        marks = ["*" if m >= 1 else "?" if m > 0 else "" for m in level.worth.tolist()]
        words = [f"{u}→{a}{marks[u]}" for u, a in enumerate(level.own[:-1].tolist())]
        if state.strategy < self.strategies:
            words[state.strategy] = f"[{words[state.strategy]}]"
        return f"prompt {int(level.id)}  token {int(state.clock)}/{self.horizon}  {' '.join(words)}"
