"""``reasoning/self_correct``: answer, hear how that went, answer again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxrl_envs import threefry
from jaxrl_envs.bandits.modes import TEACHER_SEED, ModesBandit
from jaxrl_envs.core import Box, Discrete, Solutions, Transition
from jaxrl_envs.difficulty import spread_rate
from jaxrl_envs.errors import expect
from jaxrl_envs.tabular import TabularMDP

MOST_TESTS = 4
"""There is a row of the policy for each of the 2^tests reports about each first answer."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        alpha: weight of the improvement r2 - r1 in the channel ``shaped``.
        false_positive: probability that a failed test is reported as passed.
        false_negative: probability that a passed test is reported as failed.
        hardest: prescribed pass@1 of a base policy on the hardest prompt.
        easiest: the same on the easiest prompt; log-odds are spread evenly in between.
    """

    alpha: Float[Array, ""]
    false_positive: Float[Array, ""]
    false_negative: Float[Array, ""]
    hardest: Float[Array, ""]
    easiest: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its features, its right answers, and the tests each answer passes.

    ``mode[K]`` numbers the right answers ``0 .. M-1`` and is -1 elsewhere; bit j of ``passed[K]``
    is test j.
    """

    id: Int[Array, ""]
    features: Float[Array, "F"]
    mode: Int[Array, "K"]
    passed: UInt8[Array, "K"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Number of answers given, the last of them, and the report on the first: 3 bytes."""

    turn: UInt8[Array, ""]
    answer: UInt8[Array, ""]
    report: UInt8[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Correction:
    """What a pair of policies does on one prompt, in probabilities.

    ``second - first = fixed - spoiled``, the improvement Δ between the turns.

    Attributes:
        first: acc@1, the first answer is right. second: acc@2, likewise.
        fixed: Δ(i→c), the first answer is wrong and the second right.
        spoiled: Δ(c→i), the first answer is right and the second wrong.
        shaped: expected return of the channel ``shaped``.
    """

    first: Float[Array, ""]
    second: Float[Array, ""]
    fixed: Float[Array, ""]
    spoiled: Float[Array, ""]
    shaped: Float[Array, ""]


@dataclass(frozen=True)
class SelfCorrect:
    """Two turns over a question with K answers, M of which are right.

    Prompts and right answers are those of ``bandit/modes``. After the first answer the world
    reports the outcome of ``tests`` unit tests: right answers pass all of them, a wrong one a
    fixed random choice of them, but not all. So 0 tests is no feedback, and 1 test tells whether
    the answer was right. In a ``noisy`` world each report is false independently, with
    probability ``false_positive`` or ``false_negative``. Then comes the second answer, and the end.

    With r1, r2 = 1[the answer is right], the channels are ``true``, r2 on the second turn;
    ``first``, r1 on the first; and ``shaped``, r2 + α (r2 - r1) on the second. The two-turn
    objective of the source is ``first + shaped``. Note that ``shaped`` is largest, 1 + α, for a
    wrong first answer that is then corrected: alone it pays for feigning.

    Observation: ``"state"``, the number ``prompt * (1 + 2^tests K) + state`` (for tabular
    policies; state 0 is the question, 1 + report * K + a1 the second turn); or ``"features"``,
    the prompt's vector, whether this is the second turn, the first answer one-hot, and +1 or -1
    for each test reported as passed or failed (zeros on the first turn).

    Exact facts: optimal value 1, the M modes of a final answer, the whole transition table, the
    chance of every report, and :meth:`correction` of any pair of policies. ``info`` has
    ``correct`` and ``mode_id`` of the final answer (false and -1 before), and ``right``, whether
    the answer given at this very step is right.

    Attributes:
        prompts, test_prompts: how many prompts there are in each split.
        answers: K. modes: M. tests: how many unit tests report.
        noisy: whether reports can be false, and the world draws noise (a uniform per test).
        observation: ``"state"`` or ``"features"``. features: length of the prompt's vector.

    Raises:
        BadInput: a size out of range, or a noisy world without tests.

    Source: self-correction by multi-turn reinforcement learning, SCoRe (arXiv 2409.12917).
    """

    prompts: int = 64
    test_prompts: int = 0
    answers: int = 8
    modes: int = 1
    tests: int = 1
    noisy: bool = False
    observation: Literal["state", "features"] = "state"
    features: int = 8

    horizon = 2
    truncates = False

    def __post_init__(self) -> None:
        expect(2 <= self.answers <= 256, "answers", self.answers, "2 to 256 answers")
        most = self.answers
        expect(1 <= self.modes <= most, "modes", self.modes, f"1 to {most} right answers (answers)")
        expect(0 <= self.tests <= MOST_TESTS, "tests", self.tests, f"0 to {MOST_TESTS} tests")
        expect(self.tests >= 1 or not self.noisy, "noisy", self.noisy, "false where tests = 0")
        _ = self._question  # which checks the rest

    @property
    def _question(self) -> ModesBandit:
        return ModesBandit(
            prompts=self.prompts,
            test_prompts=self.test_prompts,
            arms=self.answers,
            modes=self.modes,
            observation="features",
            features=self.features,
        )

    @property
    def reports(self) -> int:
        """How many different reports there are, 2^tests."""
        return 2**self.tests

    @property
    def _rows(self) -> int:
        return 1 + self.reports * self.answers

    @property
    def default_params(self) -> Params:
        return Params(*map(jnp.float32, (1.0, 0.0, 0.0, 0.02, 0.9)))

    def check_params(self, params: Params) -> None:
        """Refuse an alpha that is negative, false reports that nobody would see, wrong rates."""
        alpha = float(params.alpha)
        expect(0.0 <= alpha < float("inf"), "alpha", alpha, "a finite weight of 0 or more")
        for name in ("false_positive", "false_negative"):
            rate = float(getattr(params, name))
            if not self.noisy:
                expect(rate == 0.0, name, rate, "0 unless the world is built with noisy = true")
            expect(0.0 <= rate <= 1.0, name, rate, "a probability")
        for name in ("hardest", "easiest"):
            rate = float(getattr(params, name))
            expect(0.0 < rate < 1.0, name, rate, "a pass rate strictly between 0 and 1")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "state":
            return Discrete((self.prompts + self.test_prompts) * self._rows)
        return Box(-jnp.inf, jnp.inf, (self.features + 1 + self.answers + self.tests,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.answers)

    def level_ids(self, split: str) -> range:
        return self._question.level_ids(split)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        question = self._question.make_level(self._question.default_params, level_id)
        key = threefry.fold_in(jax.random.key(TEACHER_SEED), 2)
        all_pass = self.reports - 1
        some = jax.random.randint(
            threefry.fold_in(key, level_id), (self.answers,), 0, max(all_pass, 1)
        )
        passed = jnp.where(question.mode >= 0, all_pass, some).astype(jnp.uint8)
        return Level(question.id, question.features, question.mode, passed)

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."] | tuple[()]:
        shape = (*batch_shape, self.tests)
        return threefry.uniform(key, shape) if self.noisy else ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        return State(jnp.uint8(0), jnp.uint8(0), jnp.uint8(0))

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, "m"] | tuple[()],
    ) -> Transition:
        given = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.answers - 1)
        first, over = state.turn == 0, state.turn >= 2  # a finished episode stands still
        answer = jnp.where(over, state.answer.astype(jnp.int32), given)
        report = jnp.where(first, self._report(params, level.passed[answer], noise), state.report)
        mode = level.mode[answer]
        right = mode >= 0
        now = right.astype(jnp.float32)
        gain = now - (level.mode[state.answer] >= 0).astype(jnp.float32)
        second = ~first & ~over
        return Transition(
            state=State(
                jnp.where(over, state.turn, state.turn + 1), answer.astype(jnp.uint8), report
            ),
            reward={
                "true": jnp.where(second, now, 0.0),
                "first": jnp.where(first, now, 0.0),
                "shaped": jnp.where(second, now + params.alpha * gain, 0.0),
            },
            terminated=~first,
            truncated=jnp.bool_(False),
            info={
                "correct": ~first & right,
                "mode_id": jnp.where(first, -1, mode),
                "right": right,
            },
        )

    def _report(
        self, params: Params, passed: UInt8[Array, ""], noise: Float[Array, "m"] | tuple[()]
    ) -> UInt8[Array, ""]:
        if not self.noisy:
            return passed
        assert not isinstance(noise, tuple)  # what `draw` gave
        place = jnp.arange(self.tests, dtype=jnp.uint8)
        truth = ((passed >> place) & 1) == 1
        rate = jnp.where(truth, params.false_negative, params.false_positive)
        told = truth ^ (noise < rate)
        return jnp.sum(told.astype(jnp.uint8) << place, dtype=jnp.uint8)

    def observe(self, params: Params, level: Level, state: State) -> Array:
        if self.observation == "state":
            return level.id * self._rows + self._place(state)
        second = state.turn >= 1
        one_hot = jax.nn.one_hot(state.answer, self.answers, dtype=jnp.float32)
        bits = (state.report >> jnp.arange(self.tests, dtype=jnp.uint8)) & 1
        heard = jnp.concatenate([jnp.ones(1), one_hot, 2.0 * bits.astype(jnp.float32) - 1.0])
        return jnp.concatenate([level.features, jnp.where(second, heard, 0.0)])

    def _place(self, state: State) -> Int[Array, ""]:
        place = state.report.astype(jnp.int32) * self.answers + state.answer.astype(jnp.int32)
        return jnp.where(state.turn == 0, 0, 1 + place)

    def report_rates(self, params: Params, level: Level) -> Float[Array, "K R"]:
        """The probability of every report after every first answer.

        P(report | a) = Π_j P(bit_j | test_j of a), with a passed test told as failed with
        probability ``false_negative`` and a failed one as passed with ``false_positive``.
        """
        tests = np.arange(self.tests)
        told = jnp.asarray((np.arange(self.reports)[:, None] >> tests) & 1 == 1)
        truth = ((level.passed[:, None] >> jnp.asarray(tests, jnp.uint8)[None, :]) & 1) == 1
        false = jnp.where(truth, params.false_negative, params.false_positive)[:, None, :]
        return jnp.prod(jnp.where(truth[:, None, :] == told[None], 1.0 - false, false), axis=2)

    def correction(
        self,
        params: Params,
        level: Level,
        first: Float[Array, "K"],
        second: Float[Array, "R K K"],
    ) -> Correction:
        """Accuracies and flips of any pair of policies, by enumeration; differentiable in both.

        P(a1, report, a2) = first[a1] P(report | a1) second[report, a1, a2]. A policy that repeats
        itself (every ``second[report]`` the identity) has fixed = spoiled = 0.
        """
        right = self.correct(level)
        rates = self.report_rates(params, level)
        chance = jnp.einsum("a,ar,rab->ab", first, rates, second)
        mass = lambda before, after: jnp.sum(  # noqa: E731
            jnp.where(before[:, None] & after[None, :], chance, 0.0)
        )
        kept, fixed, spoiled = mass(right, right), mass(~right, right), mass(right, ~right)
        shaped = kept + fixed + params.alpha * (fixed - spoiled)
        return Correction(kept + spoiled, kept + fixed, fixed, spoiled, shaped)

    def correct(self, level: Level) -> Bool[Array, "K"]:
        """Which answers are right."""
        return level.mode >= 0

    def pass_rate(self, params: Params, level: Level) -> Float[Array, ""]:
        """Prescribed pass@1 of a base policy: log-odds spread evenly over the prompts' ranks."""
        return spread_rate(level.id, params.hardest, params.easiest)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        return jnp.float32(1.0)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The right final answers; the way to one does not count."""

        def label(states: State, actions: Int[Array, "T"], length: Int[Array, ""]) -> Array:
            if actions.shape[0] < 2:
                return jnp.int32(-1)
            final = jnp.clip(jnp.asarray(actions[1], jnp.int32), 0, self.answers - 1)
            return jnp.where(length == 2, level.mode[final], -1)

        return Solutions(jnp.float32(self.modes), label)

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """State 0 is the question, then come the second turns, and last the end."""
        K, S = self.answers, self._rows + 1
        end = S - 1
        second = jnp.zeros(S, bool).at[1:end].set(True)
        to_second = 1 + jnp.arange(self.reports)[None, :] * K + jnp.arange(K)[:, None]
        ahead, P = None, None
        if self.noisy:
            P = jnp.zeros((S, K, S)).at[1:, :, end].set(1.0)
            P = P.at[0, jnp.arange(K)[:, None], to_second].set(self.report_rates(params, level))
        else:
            told = 1 + level.passed.astype(jnp.int32) * K + jnp.arange(K)
            ahead = jnp.full((S, K), end, jnp.int32).at[0].set(told)
        return TabularMDP(
            reward=jnp.where(second[:, None] & self.correct(level)[None, :], 1.0, 0.0),
            start=jnp.zeros(S).at[0].set(1.0),
            terminal=jnp.zeros(S, bool).at[end].set(True),
            row=level.id * self._rows + jnp.minimum(jnp.arange(S), end - 1),
            next=ahead,
            P=P,
            horizon=2,
        )

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`."""
        return jnp.where(state.turn >= 2, self._rows, self._place(state))

    def render(self, params: Params, level: Level, state: State) -> str:
        """The right answers are starred; + and - are tests reported as passed and failed."""
        marks = "".join("*" if m >= 0 else "." for m in level.mode.tolist())
        text = f"prompt {int(level.id)}  answers {marks}  turn {int(state.turn)}/2"
        if int(state.turn) == 0:
            return text
        bits = "".join("+" if int(state.report) >> j & 1 else "-" for j in range(self.tests))
        return f"{text}  answer {int(state.answer)}  report {bits or 'none'}"
