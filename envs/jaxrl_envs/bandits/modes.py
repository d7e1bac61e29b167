"""``bandit/modes``: prompts of differing difficulty, several equally good answers each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrl_envs import threefry
from jaxrl_envs.core import Box, Discrete, Solutions, Transition, check_prompts, split_ids
from jaxrl_envs.difficulty import spread_rate
from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.tabular import TabularMDP, one_step

TEACHER_SEED = 0
"""The hidden rule that assigns correct arms to prompts is the same in every run."""

Noise = dict[str, Float[Array, "..."]] | tuple[()]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        decoy_reward: what a near-optimal arm pays (1 is optimal).
        hardest: prescribed pass@1 of a base policy on the hardest prompt.
        easiest: the same on the easiest prompt; log-odds are spread evenly in between.
        sigma: standard deviation of a ``"gaussian"`` pay.
        chance: probability that an arm pays at all where pay is ``"two_point"``.
        false_positive: probability that the verifier passes a wrong arm.
        false_negative: probability that it fails an optimal one.
        hints: how many wrong arms a hint rules out.
    """

    decoy_reward: Float[Array, ""]
    hardest: Float[Array, ""]
    easiest: Float[Array, ""]
    sigma: Float[Array, ""]
    chance: Float[Array, ""]
    false_positive: Float[Array, ""]
    false_negative: Float[Array, ""]
    hints: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its features and what each arm pays.

    ``features[F]`` is what a network sees; ``reward[K]`` the mean pay of each arm; ``mode[K]``
    numbers the optimal arms ``0 .. M-1`` and is -1 elsewhere; ``ruled_out[K]`` marks the arms a
    hint excludes (None in a world without hints).
    """

    id: Int[Array, ""]
    features: Float[Array, "F"]
    reward: Float[Array, "K"]
    mode: Int[Array, "K"]
    ruled_out: Bool[Array, "K"] | None = None


@dataclass(frozen=True)
class ModesBandit:
    """A contextual bandit in which M of K arms are equally right for each prompt.

    A prompt is a Gaussian vector x_b; a fixed hidden linear teacher scores every arm on it, the
    M best-scored arms pay 1, the next ``decoys`` arms pay ``decoy_reward``, the others 0. So a
    shared-parameter policy can carry what it learns to prompts it never saw, and a tabular one
    cannot. Episodes last one step.

    An arm of mean pay r pays r (``noise="none"``), 1 with probability r (``"bernoulli"``), a
    normal number around r (``"gaussian"``) or r/q with probability q (``"two_point"``, heavy tails
    for a small q = ``chance``); ``correct`` is a fact about the arm and never noisy. With
    ``verifier`` there is a channel ``verified``: correctness, flipped with probability
    ``false_positive`` f+ where it is false and ``false_negative`` f- where it is true. Its
    expected gradient is (1 - f+ - f-) times that of the pass rate; at f+ + f- = 1 the channel
    says nothing about the arm. With ``hinted`` the ``hints`` worst-scored arms are ruled out: the
    level marks them and the features show them, one more entry per arm (1 where ruled out).

    Observation: the prompt's number (``observation="prompt"``, for tabular policies and
    embeddings) or the vector x_b (``"features"``). Exact facts: optimal value 1, M solutions,
    the mode of a trajectory is the rank of its arm among the optimal ones, the expected verdict
    on each arm, and what a hint makes of a policy.

    Attributes:
        prompts, test_prompts: how many prompts there are in each split.
        arms: K. modes: M. decoys: near-optimal arms.
        observation: ``"prompt"`` or ``"features"``. features: F.
        noise: how an arm's pay is drawn. verifier, hinted: whether there are such.

    Raises:
        BadInput: when the arms do not suffice for the modes and decoys, or a size is not positive.

    Source: the multi-solution bandit used to study entropy collapse (arXiv 2505.22617).
    """

    prompts: int = 64
    test_prompts: int = 0
    arms: int = 32
    modes: int = 4
    decoys: int = 0
    observation: Literal["prompt", "features"] = "prompt"
    features: int = 8
    noise: Literal["none", "bernoulli", "gaussian", "two_point"] = "none"
    verifier: bool = False
    hinted: bool = False

    def __post_init__(self) -> None:
        check_prompts(self.prompts, self.test_prompts)
        expect(2 <= self.arms <= 65536, "arms", self.arms, "2 to 65536 arms")
        expect(
            1 <= self.modes <= self.arms,
            "modes",
            self.modes,
            f"1 to {self.arms} equally good arms (arms = {self.arms})",
        )
        room = self.arms - self.modes
        expect(0 <= self.decoys <= room, "decoys", self.decoys, f"0 to {room} (arms - modes)")
        expect(self.features >= 1, "features", self.features, "at least 1 feature")

    horizon = 1
    truncates = False

    @property
    def default_params(self) -> Params:
        return Params(*(jnp.float32(x) for x in (0.9, 0.02, 0.9, 0.0, 1.0, 0.0, 0.0, 0.0)))

    def check_params(self, params: Params) -> None:
        """Refuse what is out of range, and numbers that nobody would see in this structure."""
        decoy = float(params.decoy_reward)
        expect(decoy < 1.0, "decoy_reward", decoy, "less than 1, the reward of a mode")
        drawn = self.noise != "bernoulli" or decoy >= 0.0
        expect(drawn, "decoy_reward", decoy, "a probability where noise is bernoulli")
        for name in ("hardest", "easiest"):
            rate = float(getattr(params, name))
            expect(0.0 < rate < 1.0, name, rate, "a pass rate strictly between 0 and 1")
        sigma, chance = float(params.sigma), float(params.chance)
        expect(0.0 <= sigma < float("inf"), "sigma", sigma, "a finite number of 0 or more")
        expect(0.0 < chance <= 1.0, "chance", chance, "a probability above 0")
        for name in ("false_positive", "false_negative"):
            rate = float(getattr(params, name))
            expect(0.0 <= rate <= 1.0, name, rate, "a probability")
            unseen = not self.verifier and rate != 0.0
            expect(not unseen, name, rate, "0 unless the world is built with verifier = true")
        expect(self.noise == "gaussian" or sigma == 0.0, "sigma", sigma, "0 unless gaussian noise")
        usual = self.noise == "two_point" or chance == 1.0
        expect(usual, "chance", chance, "1 unless the noise is two_point")
        hints, most = float(params.hints), self.arms - self.modes if self.hinted else 0
        fits = f"0 to {most} wrong arms (none unless the world is built with hinted = true)"
        expect(0.0 <= hints <= most, "hints", hints, fits)

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "prompt":
            return Discrete(self.prompts + self.test_prompts)
        return Box(-jnp.inf, jnp.inf, (self.features + self.hinted * self.arms,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.arms)

    def level_ids(self, split: str) -> range:
        return split_ids(split, self.prompts, self.test_prompts)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        key = jax.random.key(TEACHER_SEED)
        teacher = threefry.normal(threefry.fold_in(key, 0), (self.features, self.arms))
        x = threefry.normal(threefry.fold_in(threefry.fold_in(key, 1), level_id), (self.features,))
        score = x @ teacher
        rank = jnp.argsort(jnp.argsort(-score)).astype(jnp.int32)
        is_mode, is_decoy = rank < self.modes, rank < self.modes + self.decoys
        reward = jnp.where(is_mode, 1.0, jnp.where(is_decoy, params.decoy_reward, 0.0))
        # Modes are numbered by arm, not by teacher score, so that mode 0 is no favorite.
        mode = jnp.where(is_mode, jnp.cumsum(is_mode, dtype=jnp.int32) - 1, -1)
        left = self.arms - params.hints
        ruled_out = rank.astype(jnp.float32) >= left if self.hinted else None
        return Level(jnp.int32(level_id), x, reward.astype(jnp.float32), mode, ruled_out)

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Noise:
        """``pay`` (normal or uniform) and ``verdict`` (uniform), where the world has them."""
        noise = {}
        if self.noise != "none":
            kind = threefry.normal if self.noise == "gaussian" else threefry.uniform
            noise["pay"] = kind(threefry.fold_in(key, 0), batch_shape)
        if self.verifier:
            own = threefry.fold_in(key, 1)
            noise["verdict"] = threefry.uniform(own, batch_shape)
        return noise or ()

    def reset(self, params: Params, level: Level, noise: tuple[()]) -> tuple[()]:
        return ()

    def step(
        self,
        params: Params,
        level: Level,
        state: tuple[()],
        action: Int[Array, ""],
        noise: Noise,
    ) -> Transition:
        action = jnp.clip(action, 0, self.arms - 1)  # a negative index would wrap around
        mode, pay = level.mode[action], level.reward[action]
        drawn = noise if isinstance(noise, dict) else {}
        if self.noise != "none":
            pay = self._pay(params, pay, drawn["pay"])
        reward = {"true": pay}
        if self.verifier:
            u = drawn["verdict"]
            verdict = jnp.where(mode >= 0, u >= params.false_negative, u < params.false_positive)
            reward["verified"] = verdict.astype(jnp.float32)
        return Transition(
            state=(),
            reward=reward,
            terminated=jnp.bool_(True),
            truncated=jnp.bool_(False),
            info={"correct": mode >= 0, "mode_id": mode},
        )

    def _pay(
        self, params: Params, mean: Float[Array, ""], noise: Float[Array, ""]
    ) -> Float[Array, ""]:
        """What an arm of this mean pays."""
        if self.noise == "bernoulli":
            return (noise < mean).astype(jnp.float32)
        if self.noise == "gaussian":
            return mean + params.sigma * noise
        return jnp.where(noise < params.chance, mean / params.chance, 0.0)

    def observe(self, params: Params, level: Level, state: tuple[()]) -> Array:
        if self.observation == "prompt":
            return level.id
        if level.ruled_out is None:
            return level.features
        return jnp.concatenate([level.features, level.ruled_out.astype(jnp.float32)])

    def correct(self, level: Level) -> Bool[Array, "K"]:
        """Which arms are optimal."""
        return level.mode >= 0

    def verified_rate(self, params: Params, level: Level) -> Float[Array, "K"]:
        """Expected ``verified`` pay of each arm: 1 - f- where it is optimal, f+ elsewhere."""
        return jnp.where(self.correct(level), 1.0 - params.false_negative, params.false_positive)

    def hinted_policy(self, level: Level, policy: Float[Array, "K"]) -> Float[Array, "K"]:
        """A policy restricted to the arms that are not ruled out.

        Its pass@1 p becomes p / (1 - w), where w is the mass it had on those that are.

        Raises:
            BadInput: in a world without hints.
        """
        if level.ruled_out is None:
            raise BadInput("hinted", False, "true: this world gives no hints")
        left = jnp.where(level.ruled_out, 0.0, policy)
        return left / jnp.sum(left)

    def pass_rate(self, params: Params, level: Level) -> Float[Array, ""]:
        """Prescribed pass@1 of a base policy: log-odds spread evenly over the prompts' ranks.

        The rank of prompt b is a fixed golden-ratio sequence in its id, so every subset of
        prompts, train or test, covers the whole range of difficulty.
        """
        return spread_rate(level.id, params.hardest, params.easiest)

    def optimal_value(self, params: Params, level: Level) -> Float[Array, ""]:
        return jnp.float32(1.0)

    def solutions(self, params: Params, level: Level) -> Solutions:
        return Solutions(
            jnp.float32(self.modes), lambda states, actions, length: level.mode[actions[0]]
        )

    def tabular(self, params: Params, level: Level) -> TabularMDP:
        """Two states: the question, and the end."""
        return one_step(level.reward, level.id)

    def state_index(self, params: Params, level: Level, state: tuple[()]) -> Int[Array, ""]:
        """The question is state 0 of :meth:`tabular`; the end has no packed state."""
        return jnp.int32(0)

    def render(self, params: Params, level: Level, state: tuple[()]) -> str:
        out = [False] * self.arms if level.ruled_out is None else level.ruled_out.tolist()
        marks = "".join(
            "*" if m >= 0 else "x" if o else "+" if r > 0 else "."
            for m, r, o in zip(level.mode.tolist(), level.reward.tolist(), out, strict=True)
        )
        also = "" if level.ruled_out is None else ", x ruled out"
        return f"prompt {int(level.id)}  arms {marks}  (* pays 1, + decoy, . pays 0{also})"
