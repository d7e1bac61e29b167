"""``bandit/meta``: K unknown arms pulled T times, so that memory decides what is earned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt, UInt8, UInt32

from jaxrl_envs import threefry
from jaxrl_envs.bandits import rules, tasks
from jaxrl_envs.bandits.counts import MOST_STATES, Packing, bernoulli_table, how_many, rank
from jaxrl_envs.core import Box, Discrete, Transition, check_prompts, split_ids
from jaxrl_envs.errors import expect
from jaxrl_envs.tabular import TabularMDP

CERTAIN = 1e6
"""Pseudo-counts that stand for an arm whose mean is known."""
ENUMERABLE = 2500
"""The dense table of transitions is offered up to this many states (50 MB with two arms)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        location, scale: an arm's mean is location + scale · x with x from the standard prior.
        safe: mean of arm 0 where the world has a safe arm.
        noise: standard deviation of Gaussian pay.
        block: length n of the blocks that keep one task (their mean where it is geometric).
        bonus: C of the imitated rule, mean + sqrt(C / n).
    """

    location: Float[Array, ""]
    scale: Float[Array, ""]
    safe: Float[Array, ""]
    noise: Float[Array, ""]
    block: Float[Array, ""]
    bonus: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its number, and the arm means of its first task, ``mean[K]``."""

    id: Int[Array, ""]
    mean: Float[Array, "K"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Counts per arm, and what the world has to remember besides.

    ``counts`` packs the pulls of each arm (and the successes of Bernoulli arms) into words, see
    :class:`~jaxrl_envs.bandits.counts.Packing`; ``pay[K]`` sums the pay of Gaussian arms, in
    float32, which suits every scale of pay. Pulls add up to the clock. Only worlds with blocks have
    ``start``, the clock at which the present task began. Only worlds that show the last pull have
    ``last``: 1 + arm, or 1 + 2 · arm + success where arms are Bernoulli, 0 before the first pull;
    Gaussian ones also have ``gain``, its pay. With T ≤ 255: 2K bytes Bernoulli, 5K Gaussian (both
    rounded up to a word), and 1 each for ``start`` and ``last``.
    """

    counts: UInt32[Array, "W"]
    pay: Float[Array, "K"] | None = None
    start: UInt[Array, ""] | None = None
    last: UInt8[Array, ""] | None = None
    gain: Float[Array, ""] | None = None


@dataclass(frozen=True)
class MetaBandit:
    """A bandit task drawn anew for each prompt; T pulls are one episode.

    Arm means: ``prior="beta"`` (Beta(a, b)), ``"normal"``, or ``"gap"`` (one arm at location +
    scale, the others at location), moved by ``location`` and ``scale``. ``safe_arm`` makes arm 0
    one of known mean: with Beta(0.5, 1) on the others, exploring means a sacrifice. Pay is
    Bernoulli or N(mean, noise²). The task is a hash of (prompt, clock at which it began), so all
    rollouts of a prompt meet the same tasks and borders, and only pay is luck.

    With ``blocks`` the task is redrawn at borders: before each pull with probability 1/n
    (``"geometric"``: P(N = k) = (1/n)(1 - 1/n)^(k-1)) or after every n pulls (``"fixed"``). A
    visible border clears the history (counts and last pull), over an invisible one it runs on.
    Without blocks the episode terminates after T pulls; with them it is cut (truncated).

    Observation: ``"arms"``, [n/10, empirical mean, 1/sqrt(n+1)] for each arm, so that longer
    horizons keep the scale; ``"last"``, the last pull (a code 0 .. 2K for Bernoulli arms, [one-hot
    arm, pay] for Gaussian ones), for policies with their own memory; ``"counts"``, the rank of the
    Bernoulli counts (one row per history; rows are shared by all prompts); ``"outcomes"``, what
    every arm but the safe one has shown, as a number of base 3 (0 not tried, 1 never paid, 2 has
    paid), which is all there is to know where an arm pays always or never; ``"none"``, nothing.

    Channels: ``true`` the pay; ``strategic`` (μ_a - min μ) / (max μ - min μ), 1 where all arms are
    equal; ``imitation`` 1 where the arm is one that UCB would pull on the counts. ``info``:
    ``correct`` (a best arm), ``mode_id`` (that arm, else -1), ``regret`` max μ - μ_a, ``border``
    (the next pull meets a new task: no return should flow over it).

    Attributes:
        arms: K. horizon: T. pay: ``"bernoulli"`` or ``"gaussian"``.
        prior, a, b: its shape is static, because its quantiles are constants of the program.
        safe_arm, blocks, visible_borders, observation: see above.
        prompts, test_prompts: how many prompts there are in each split.

    Raises:
        BadInput: a size out of range, Bernoulli arms with a normal prior, counts of Gaussian arms.

    Source: arXiv 2508.01287 (blocks), 2509.24923 (rewards); normalization of ``strategic`` ours.
    """

    arms: int = 2
    horizon: int = 100
    pay: Literal["bernoulli", "gaussian"] = "bernoulli"
    prior: Literal["beta", "normal", "gap"] = "beta"
    a: float = 1.0
    b: float = 1.0
    safe_arm: bool = False
    blocks: Literal["none", "geometric", "fixed"] = "none"
    visible_borders: bool = True
    observation: Literal["arms", "last", "counts", "outcomes", "none"] = "arms"
    prompts: int = 4096
    test_prompts: int = 0

    def __post_init__(self) -> None:
        expect(2 <= self.arms <= 127, "arms", self.arms, "2 to 127 arms")
        expect(1 <= self.horizon <= 65535, "horizon", self.horizon, "1 to 65535 pulls")
        for name in ("a", "b"):
            shape = getattr(self, name)
            expect(0.0 < shape < float("inf"), name, shape, "a positive, finite prior count")
        rates = self._bernoulli and self.prior == "normal"
        expect(not rates, "prior", self.prior, "beta or gap: means of Bernoulli arms are rates")
        least = 3 if self.safe_arm and self.prior == "gap" else 2
        expect(self.arms >= least, "arms", self.arms, "3 or more: one is safe, the others differ")
        if self.observation == "counts":
            known = "arms or last: only Bernoulli histories are counts"
            expect(self._bernoulli, "observation", self.observation, known)
            size = how_many(2 * self.arms, self.horizon)
            few = f"a horizon with fewer than 2^31 histories of {self.arms} arms"
            expect(size <= MOST_STATES, "horizon", self.horizon, few)
        if self.observation == "outcomes":
            known = "arms or last: pay has to be 0 or 1 to be told apart"
            expect(self._bernoulli, "observation", self.observation, known)
            expect(self.arms <= 12, "arms", self.arms, "at most 12 arms whose outcomes are rows")
        check_prompts(self.prompts, self.test_prompts)

    @property
    def _bernoulli(self) -> bool:
        return self.pay == "bernoulli"

    @property
    def packing(self) -> Packing:
        """How ``state.counts`` is to be read."""
        return Packing(self.arms, 2 if self._bernoulli else 1, self.horizon)

    @property
    def truncates(self) -> bool:
        return self.blocks != "none"

    @property
    def default_params(self) -> Params:
        location, scale = (0.4, 0.2) if self.prior == "gap" else (0.0, 1.0)
        return Params(*map(jnp.float32, (location, scale, 0.4, 1.0, 30.0, 1.0)))

    def check_params(self, params: Params) -> None:
        """Refuse rates outside [0, 1], blocks shorter than a pull, and negative spreads."""
        for name in ("location", "scale", "safe", "noise", "bonus"):
            number, signed = float(getattr(params, name)), name in ("location", "safe")
            fine = bool(np.isfinite(number)) and (signed or number >= 0.0)
            expect(fine, name, number, "a finite number" + ("" if signed else " of 0 or more"))
        location, scale, safe = float(params.location), float(params.scale), float(params.safe)
        if self._bernoulli:
            rate = "so that the means of Bernoulli arms lie in [0, 1]"
            expect(0.0 <= location <= 1.0, "location", location, f"0 to 1, {rate}")
            expect(location + scale <= 1.0 + 1e-6, "scale", scale, f"1 - location or less, {rate}")
            expect(0.0 <= safe <= 1.0, "safe", safe, f"0 to 1, {rate}")
        block = float(params.block)
        whole = self.blocks != "fixed" or block.is_integer()
        expect(block >= 1.0 and whole, "block", block, "1 or more (whole where blocks are fixed)")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "counts":
            return Discrete(how_many(2 * self.arms, self.horizon - 1))
        if self.observation == "outcomes":
            return Discrete(3 ** (self.arms - self.safe_arm))
        if self.observation == "none":
            return Discrete(1)
        if self.observation == "arms":
            return Box(-jnp.inf, jnp.inf, (3 * self.arms,))
        if self._bernoulli:
            return Discrete(1 + 2 * self.arms)
        return Box(-jnp.inf, jnp.inf, (self.arms + 1,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.arms)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        index = jnp.asarray(level_id, jnp.int32)
        return Level(index, self.means(params, index, jnp.int32(0), jnp.arange(self.arms)))

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Float[Array, "..."]:
        """One uniform, or one normal, per pull."""
        kind = threefry.uniform if self._bernoulli else threefry.normal
        return threefry.once(kind, key, batch_shape)

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> State:
        shown, number = self.observation == "last", jnp.uint8 if self.horizon <= 255 else jnp.uint16
        return State(
            counts=jnp.zeros(self.packing.words, jnp.uint32),
            pay=None if self._bernoulli else jnp.zeros(self.arms, jnp.float32),
            start=jnp.zeros((), number) if self.truncates else None,
            last=jnp.uint8(0) if shown else None,
            gain=jnp.float32(0.0) if shown and not self._bernoulli else None,
        )

    def step(
        self,
        params: Params,
        level: Level,
        state: State,
        action: Int[Array, ""],
        noise: Float[Array, ""],
    ) -> Transition:
        arm = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.arms - 1)
        over = self.clock(state) >= self.horizon  # a finished episode stands still, without pay
        mu = self.means(params, level.id, self._start(state), arm)  # of this arm only: cheap
        lucky = (noise < mu).astype(jnp.float32)
        gain = lucky if self._bernoulli else mu + params.noise * noise
        every = self.task(params, level, state)
        own, best, worst = every[arm], jnp.max(every), jnp.min(every)
        score = rules.ucb(*self.history(state), params.bonus)
        spread = jnp.where(best > worst, best - worst, 1.0)
        reward = {
            "true": gain,
            "strategic": jnp.where(best > worst, (own - worst) / spread, 1.0),
            "imitation": (score[arm] >= jnp.max(score)).astype(jnp.float32),
        }
        after, border = self._remember(params, level, state, arm, gain, over)
        ended = self.clock(after) >= self.horizon
        correct = (own >= best) & ~over
        return Transition(
            state=after,
            reward={name: jnp.where(over, 0.0, pay) for name, pay in reward.items()},
            terminated=ended & (not self.truncates),
            truncated=ended & self.truncates,
            info={
                "correct": correct,
                "mode_id": jnp.where(correct, arm, -1),
                "regret": jnp.where(over, 0.0, best - own),
                "border": border,
            },
        )

    def _remember(
        self,
        params: Params,
        level: Level,
        state: State,
        arm: Int[Array, ""],
        gain: Float[Array, ""],
        over: Bool[Array, ""],
    ) -> tuple[State, Bool[Array, ""]]:
        """The history after a pull, and whether the next pull meets a new task."""
        success = gain.astype(jnp.uint32) if self._bernoulli else None
        counts = jnp.where(over, state.counts, self.packing.add(state.counts, arm, success))
        pay, start, last, shown = state.pay, state.start, state.last, state.gain
        if pay is not None:
            pay = pay + jnp.where((jnp.arange(self.arms) == arm) & ~over, gain, 0.0)
        if last is not None:
            code = 1 + 2 * arm + gain.astype(jnp.int32) if self._bernoulli else 1 + arm
            last = jnp.where(over, last, code.astype(jnp.uint8))
        if shown is not None:
            shown = jnp.where(over, shown, gain)
        border = jnp.bool_(False)
        if start is not None:
            clock = self.clock(State(counts, start=start))
            begins = tasks.border(self.blocks == "fixed", params.block, level.id, clock)
            border = begins & ~over
            start = jnp.where(border, clock.astype(start.dtype), start)
            if self.visible_borders:
                clear = lambda x: jnp.where(border, jnp.zeros_like(x), x)  # noqa: E731
                counts, pay, last, shown = jax.tree.map(clear, (counts, pay, last, shown))
        return State(counts, pay, start, last, shown), border

    def clock(self, state: State) -> Int[Array, ""]:
        """How many pulls were made: counted since the border where it cleared the counts."""
        made = self.packing.pulls(state.counts)
        if state.start is not None and self.visible_borders:
            made = made + state.start.astype(jnp.int32)
        return made

    def history(self, state: State) -> tuple[Int[Array, "K"], Float[Array, "K"]]:
        """Pulls and summed pay of each arm, as far as the agent may remember: for the rules."""
        counts = self.packing.unpack(state.counts)
        pay = counts[:, 1].astype(jnp.float32) if state.pay is None else state.pay
        return counts[:, 0], pay

    def task(self, params: Params, level: Level, state: State) -> Float[Array, "K"]:
        """The arm means the next pull meets."""
        return self.means(params, level.id, self._start(state), jnp.arange(self.arms))

    def means(
        self,
        params: Params,
        level_id: Int[Array, ""],
        start: Int[Array, ""],
        arm: Int[Array, "..."],
    ) -> Float[Array, "..."]:
        """Means of some arms of the task that a prompt meets from clock ``start`` on."""
        first = int(self.safe_arm)  # arms below are not drawn
        free = jnp.maximum(arm - first, 0)
        prior = (self.prior, self.a, self.b, self.arms - first)
        standard = tasks.standard(*prior, level_id, start, free)
        mean = params.location + params.scale * standard
        return jnp.where(arm < first, params.safe, mean) if self.safe_arm else mean

    def _start(self, state: State) -> Int[Array, ""]:
        return jnp.int32(0) if state.start is None else state.start.astype(jnp.int32)

    def observe(self, params: Params, level: Level, state: State) -> Array:
        if self.observation == "counts":  # a finished episode shows the last row
            top = how_many(2 * self.arms, self.horizon - 1) - 1
            return jnp.minimum(self.state_index(params, level, state), top)
        if self.observation == "none":
            return jnp.int32(0)
        if self.observation == "outcomes":
            pulls, pay = (x[int(self.safe_arm) :] for x in self.history(state))
            shown = (pulls > 0).astype(jnp.int32) + (pay > 0).astype(jnp.int32)
            return jnp.sum(shown * 3 ** jnp.arange(len(shown)), dtype=jnp.int32)
        if self.observation == "last":
            assert state.last is not None
            code = state.last.astype(jnp.int32)
            if state.gain is None:
                return code
            arm = (jnp.arange(1, self.arms + 1) == code).astype(jnp.float32)
            return jnp.concatenate([arm, state.gain[None]])
        pulls, pay = self.history(state)
        n = pulls.astype(jnp.float32)
        features = (n / 10.0, pay / jnp.maximum(n, 1.0), jax.lax.rsqrt(n + 1.0))
        return jnp.stack(features, axis=1).reshape(-1)

    def prior_counts(self, params: Params) -> tuple[Float[Array, "K"], Float[Array, "K"]]:
        """Beta pseudo-counts (a[K], b[K]) of an agent that knows the prior."""
        a, b = (jnp.full(self.arms, x, jnp.float32) for x in (self.a, self.b))
        if self.safe_arm:
            a, b = (x.at[0].set(CERTAIN * p) for x, p in ((a, params.safe), (b, 1.0 - params.safe)))
        return a, b

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        """What an agent earns that is told every task: Σ_t max_a μ_a(t)."""
        if not self.truncates:
            return self.horizon * jnp.max(level.mean)

        start = tasks.starts(self.blocks == "fixed", params.block, level.id, self.horizon)
        means = partial(self.means, params, level.id, arm=jnp.arange(self.arms))
        return jnp.sum(jnp.max(jax.vmap(means)(start), axis=1))

    def bayes_value(self, params: Params) -> float:
        """The most an agent can expect that knows only the prior; exact, by dynamic programming.

        Raises:
            BadInput: unless arms are Bernoulli with plain Beta priors and there are no blocks.
        """
        for name, known_for in (("pay", "bernoulli"), ("prior", "beta"), ("blocks", "none")):
            expect(getattr(self, name) == known_for, name, getattr(self, name), known_for)
        plain = float(params.location) == 0.0 and float(params.scale) == 1.0
        expect(plain, "scale", float(params.scale), "location 0 and scale 1: a Beta prior as it is")
        shape = np.ones(self.arms - self.safe_arm)
        known = float(params.safe) if self.safe_arm else None
        solved = rules.bayes_optimal(self.a * shape, self.b * shape, self.horizon, known)
        return float(solved.value[0])

    @property
    def tabular(self) -> Callable[[Params, Level], TabularMDP]:
        """``tabular(params, level)``: all counts of Bernoulli arms, in order of rank.

        Raises:
            AttributeError: so that ``hasattr`` is false with Gaussian pay, blocks, an observation
                that is not one row per count, or more than 2500 histories.
        """
        few = how_many(2 * self.arms, self.horizon) <= ENUMERABLE
        fixed = self.observation in ("arms", "counts")
        if not (few and self._bernoulli and fixed) or self.truncates:
            raise AttributeError("tabular")
        return lambda params, level: bernoulli_table(level.mean, self.horizon)

    def state_index(self, params: Params, level: Level, state: State) -> Int[Array, ""]:
        """The number of the state in :meth:`tabular`: the rank of its Bernoulli counts."""
        pulls, successes = self.packing.unpack(state.counts).T
        return rank(jnp.stack([pulls - successes, successes], axis=1).reshape(-1), self.horizon)

    def render(self, params: Params, level: Level, state: State) -> str:
        mean = self.task(params, level, state).tolist()
        pulls, pay = (x.tolist() for x in self.history(state))
        columns = zip(pulls, pay, mean, strict=True)
        arms = "  ".join(f"{n}×{p / max(n, 1):.2f} ({mu:.2f})" for n, p, mu in columns)
        return f"prompt {int(level.id)}  pull {int(self.clock(state))}/{self.horizon}  arms {arms}"
