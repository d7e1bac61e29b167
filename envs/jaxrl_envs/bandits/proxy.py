"""``bandit/proxy``: the reward that is trained on is not the one that counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrl_envs import threefry
from jaxrl_envs.bandits.bisection import bisect
from jaxrl_envs.core import Box, Discrete, Solutions, Transition, check_prompts, split_ids
from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.tabular import TabularMDP, one_step

TEACHER_SEED = 0
"""The hidden rules that score arms on prompts are the same in every run."""

HALVINGS = 40
"""Bisections that pin down a root to float32 precision."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        correlation: c, of each proxy with the true reward over the arms that are no hack arms.
        tail: h of the errors z e^{h z²/2}: 0 is Gaussian, above it they have tail index 1/h.
        shared: correlation of the errors of two members of the ensemble.
        hack_true, hack_proxy: what a hack arm is worth, and what a fooled member says it is.
        hack_mass: probability of all hack arms together under the reference policy.
    """

    correlation: Float[Array, ""]
    tail: Float[Array, ""]
    shared: Float[Array, ""]
    hack_true: Float[Array, ""]
    hack_proxy: Float[Array, ""]
    hack_mass: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its features and what each arm is worth.

    ``true[K]`` is the true reward; ``members[M, K]`` what each proxy of the ensemble takes it
    for; ``hack[K]`` marks the hack arms.
    """

    id: Int[Array, ""]
    features: Float[Array, "F"]
    true: Float[Array, "K"]
    members: Float[Array, "M K"]
    hack: Bool[Array, "K"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Curve:
    """A path of policies: distance from the reference and both rewards, one entry per policy.

    ``kl`` is KL(π ‖ π_ref) in nats; ``true`` and ``proxy`` are expected rewards (the second of
    whatever was optimized).
    """

    tau: Float[Array, "N"]
    kl: Float[Array, "N"]
    true: Float[Array, "N"]
    proxy: Float[Array, "N"]


@dataclass(frozen=True)
class ProxyBandit:
    """K arms with a true reward r* and M proxies of it; some arms look good and are not.

    A prompt is a Gaussian vector x_b scaled to length √F; hidden linear teachers score the arms on
    it, so that over arms, with all z independent and standard normal,

        r* = z,    r~_j = c r* + √(1-c²) (√c_e e_0 + √(1-c_e) e_j),
        e = z e^{h z²/2} (1-2h)^{3/4},

    all of unit variance; the correlations hold exactly in the population of arms and prompts.
    The ``hacks`` arms are worth ``hack_true``; ``fooled`` of the members say ``hack_proxy``, the
    others see what they are worth. If (r*, r~) were jointly Gaussian, optimizing the proxy would
    always help, E[r*] = c √(2 KL): over-optimization needs hack arms or tails. Episodes last one
    step; channels are ``true``, ``proxy`` (member 0) and, where there are several, ``member_0``,
    ``member_1``, and so on. ``info`` has ``correct`` (the arm of largest true reward, whose
    ``mode_id`` is 0; others have -1) and ``hack``.

    Observation: the prompt's number (``"prompt"``) or x_b (``"features"``). Exact facts: optimal
    value, the reference policy, the optima regularized by KL and by chi-square, the whole curve
    of true against proxy reward and its peak, for any member or combination of members.

    Attributes:
        arms: K. members: M. hacks: number of hack arms.
        fooled: how many members (the first ones) take the bait; 0 means all.
        observation: ``"prompt"`` or ``"features"``. features: F.
        prompts, test_prompts: how many prompts there are in each split.

    Raises:
        BadInput: a size out of range.

    Source: arXiv 2210.10760 (the curve), 2310.02743 (ensembles), 2403.03185 (chi-square).
    """

    arms: int = 64
    members: int = 1
    hacks: int = 1
    fooled: int = 0
    observation: Literal["prompt", "features"] = "prompt"
    features: int = 8
    prompts: int = 16
    test_prompts: int = 0

    horizon = 1
    truncates = False

    def __post_init__(self) -> None:
        expect(2 <= self.arms <= 4096, "arms", self.arms, "2 to 4096 arms")
        expect(1 <= self.members <= 64, "members", self.members, "1 to 64 proxies")
        most = self.arms - 1
        expect(0 <= self.hacks <= most, "hacks", self.hacks, f"0 to {most} hack arms (arms - 1)")
        expect(0 <= self.fooled <= self.members, "fooled", self.fooled, "0 (all) to `members`")
        expect(self.features >= 1, "features", self.features, "at least 1 feature")
        check_prompts(self.prompts, self.test_prompts)
        if self.fooled == 0:
            object.__setattr__(self, "fooled", self.members)

    @property
    def default_params(self) -> Params:
        """A good proxy with Gaussian errors, hack arms it loves, and a uniform reference."""
        numbers = (0.9, 0.0, 0.0, -2.0, 3.0, self.hacks / self.arms)
        return Params(*(jnp.float32(x) for x in numbers))

    def check_params(self, params: Params) -> None:
        """Refuse correlations, tails and masses out of range."""
        p = {name: float(value) for name, value in vars(params).items()}
        expect(-1.0 <= p["correlation"] <= 1.0, "correlation", p["correlation"], "-1 to 1")
        expect(0.0 <= p["tail"] < 0.5, "tail", p["tail"], "0 or more, below 0.5 (finite variance)")
        expect(0.0 <= p["shared"] <= 1.0, "shared", p["shared"], "0 to 1")
        for name in ("hack_true", "hack_proxy"):
            expect(abs(p[name]) < float("inf"), name, p[name], "a finite number")
        mass = p["hack_mass"]
        if self.hacks:
            expect(0.0 < mass < 1.0, "hack_mass", mass, "a probability strictly between 0 and 1")
        else:
            expect(mass == 0.0, "hack_mass", mass, "0 where there are no hack arms")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "prompt":
            return Discrete(self.prompts + self.test_prompts)
        return Box(-jnp.inf, jnp.inf, (self.features,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.arms)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        key = jax.random.key(TEACHER_SEED)
        shape = (self.features, self.members + 3, self.arms)
        teacher = threefry.normal(threefry.fold_in(key, 0), shape)
        own = threefry.fold_in(threefry.fold_in(key, 1), level_id)
        x = threefry.normal(own, (self.features,))
        x = x / jnp.sqrt(jnp.sum(x * x))
        # One feature after the other: with a sum or a product of matrices the rounding, and so what
        # a prompt pays, would depend on how many prompts are built at once.
        zero, add = jnp.zeros(shape[1:]), lambda z, term: (z + term[0] * term[1], None)
        z, _ = jax.lax.scan(add, zero, (x, teacher))  # standard normal, because x has length 1
        true, bait, error = z[0], z[1], z[2:]
        error = error * jnp.exp(params.tail / 2 * error**2) * (1 - 2 * params.tail) ** 0.75
        error = jnp.sqrt(params.shared) * error[:1] + jnp.sqrt(1 - params.shared) * error[1:]
        c = params.correlation
        members = c * true[None] + jnp.sqrt(1 - c * c) * error
        hack = jnp.argsort(jnp.argsort(-bait)) < self.hacks
        fooled = jnp.arange(self.members)[:, None] < self.fooled
        seen = jnp.where(fooled, params.hack_proxy, params.hack_true)
        return Level(
            id=jnp.int32(level_id),
            features=x * jnp.sqrt(jnp.float32(self.features)),
            true=jnp.where(hack, params.hack_true, true),
            members=jnp.where(hack[None], seen, members),
            hack=hack,
        )

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> tuple[()]:
        return ()

    def step(
        self,
        params: Params,
        level: Level,
        state: tuple[()],
        action: Int[Array, ""],
        noise: tuple[()],
    ) -> Transition:
        action = jnp.clip(action, 0, self.arms - 1)  # a negative index would wrap around
        said = level.members[:, action]
        reward = {"true": level.true[action], "proxy": said[0]}
        if self.members > 1:
            reward |= {f"member_{j}": said[j] for j in range(self.members)}
        correct = action == jnp.argmax(level.true)
        return Transition(
            state=(),
            reward=reward,
            terminated=jnp.bool_(True),
            truncated=jnp.bool_(False),
            info={
                "correct": correct,
                "mode_id": jnp.where(correct, 0, -1),
                "hack": level.hack[action],
            },
        )

    def observe(self, params: Params, level: Level, state: tuple[()]) -> Array:
        return level.id if self.observation == "prompt" else level.features

    def reference(self, params: Params, level: Level) -> Float[Array, "K"]:
        """log π_ref: the hack arms share ``hack_mass``, the others the rest."""
        mass = jnp.where(level.hack, params.hack_mass, 1.0 - params.hack_mass)
        sharing = jnp.where(level.hack, float(self.hacks), float(self.arms - self.hacks))
        return jnp.log(mass / sharing)

    def combined(
        self,
        level: Level,
        how: Literal["mean", "min", "variance"],
        penalty: Float[Array, ""] | float = 0.0,
    ) -> Float[Array, "K"]:
        """One reward from the ensemble: mean_j r~_j, min_j r~_j, or mean - ``penalty`` · var_j.

        The variance is that of the members at hand (divided by M). Source: arXiv 2310.02743.

        Raises:
            BadInput: an unknown combination.
        """
        if how == "min":
            return jnp.min(level.members, axis=0)
        mean = jnp.mean(level.members, axis=0)
        if how == "mean":
            return mean
        if how == "variance":
            return mean - penalty * jnp.var(level.members, axis=0)
        raise BadInput("how", how, "a combination", ("mean", "min", "variance"))

    def kl_optimum(
        self, params: Params, level: Level, pay: Float[Array, "K"], tau: Float[Array, ""]
    ) -> Float[Array, "K"]:
        """log of argmax_π E[pay] - τ KL(π ‖ π_ref) = π_ref e^{pay/τ} / Z."""
        return jax.nn.log_softmax(self.reference(params, level) + pay / tau)

    def chi2_optimum(
        self, params: Params, level: Level, pay: Float[Array, "K"], tau: Float[Array, ""]
    ) -> Float[Array, "K"]:
        """argmax_π E[pay] - τ χ²(π ‖ π_ref) = π_ref max(0, 1 + (pay - ν)/2τ), with ν by bisection.

        χ² = Σ (π - π_ref)²/π_ref. Unlike the KL optimum, it gives arms no mass at all.
        """
        reference = jnp.exp(self.reference(params, level))

        def at(nu: Float[Array, ""]) -> Float[Array, "K"]:
            return reference * jnp.maximum(0.0, 1.0 + (pay - nu) / (2 * tau))

        # The mass is at least 1 where ν is the mean, and 0 where ν is 2τ above the largest pay.
        ends = (jnp.sum(reference * pay), jnp.max(pay) + 2 * tau)
        policy = at(bisect(lambda nu: jnp.sum(at(nu)) > 1.0, *ends, HALVINGS)[0])
        return policy / jnp.sum(policy)

    def curve(
        self,
        params: Params,
        level: Level,
        pay: Float[Array, "K"],
        tau: Float[Array, "N"],
    ) -> Curve:
        """Rewards against KL along the KL-regularized optima of ``pay``, one per τ.

        d E[r*] / d(1/τ) = Cov_π(r*, pay): the true reward falls where the two disagree.
        """
        reference = self.reference(params, level)

        def at(tau: Float[Array, ""]) -> Curve:
            logp = self.kl_optimum(params, level, pay, tau)
            p = jnp.exp(logp)
            kl = jnp.sum(p * (logp - reference))
            return Curve(tau, kl, jnp.sum(p * level.true), jnp.sum(p * pay))

        return jax.vmap(at)(tau)

    def peak(
        self,
        params: Params,
        level: Level,
        pay: Float[Array, "K"],
        tau: Float[Array, "N"],
    ) -> Curve:
        """The point of the curve where the true reward is largest; more optimization does harm.

        The best of ``tau`` (from large to small), refined to the root of Cov_π(r*, pay) between
        its neighbors. Where the best is the last, no over-optimization was found up to there.
        """
        path = self.curve(params, level, pay, tau)
        best = jnp.argmax(path.true)
        last = tau.shape[0] - 1
        inner = (best > 0) & (best < last)

        def rises(strength: Float[Array, ""]) -> Bool[Array, ""]:
            p = jnp.exp(self.kl_optimum(params, level, pay, 1.0 / strength))
            return jnp.sum(p * (level.true - jnp.sum(p * level.true)) * pay) > 0

        ends = (1.0 / tau[jnp.maximum(best - 1, 0)], 1.0 / tau[jnp.minimum(best + 1, last)])
        low, high = bisect(rises, *ends, HALVINGS)
        found = jnp.where(inner, 2.0 / (low + high), tau[best])
        return jax.tree.map(lambda x: x[0], self.curve(params, level, pay, found[None]))

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        return jnp.max(level.true)

    def solutions(self, params: Params, level: Level) -> Solutions:
        """The arm of largest true reward (the lowest-numbered, where hack arms tie)."""
        best = jnp.argmax(level.true)
        return Solutions(
            jnp.float32(1.0),
            lambda states, actions, length: jnp.where(actions[0] == best, 0, -1),
        )

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """Two states: the question, and the end."""
        return one_step(level.true, level.id)

    def state_index(self, params: Params, level: Level, state: tuple[()]) -> Int[Array, ""]:
        """The question is state 0 of :meth:`tabular`; the end has no packed state."""
        return jnp.int32(0)

    def render(self, params: Params, level: Level, state: tuple[()]) -> str:
        """The five arms the proxy likes best, with what they are worth."""
        liked = sorted(range(self.arms), key=lambda a: -float(level.members[0, a]))[:5]
        rows = [
            f"  arm {a:4d}  proxy {level.members[0, a]:6.2f}  true {level.true[a]:6.2f}"
            + ("  hack" if level.hack[a] else "")
            for a in liked
        ]
        return "\n".join([f"prompt {int(level.id)}", *rows])
