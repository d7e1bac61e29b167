"""``bandit/modes``: prompts of differing difficulty, several equally good answers each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrl_envs.core import Box, Discrete, Solutions, Transition
from jaxrl_envs.difficulty import spread_rate
from jaxrl_envs.errors import expect
from jaxrl_envs.tabular import TabularMDP

TEACHER_SEED = 0
"""The hidden rule that assigns correct arms to prompts is the same in every run."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        decoy_reward: what a near-optimal arm pays (1 is optimal).
        hardest: prescribed pass@1 of a base policy on the hardest prompt.
        easiest: the same on the easiest prompt; log-odds are spread evenly in between.
    """

    decoy_reward: Float[Array, ""]
    hardest: Float[Array, ""]
    easiest: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its features and what each arm pays.

    ``features[F]`` is what a network sees; ``reward[K]`` the pay of each arm; ``mode[K]`` numbers
    the optimal arms ``0 .. M-1`` and is -1 elsewhere.
    """

    id: Int[Array, ""]
    features: Float[Array, "F"]
    reward: Float[Array, "K"]
    mode: Int[Array, "K"]


@dataclass(frozen=True)
class ModesBandit:
    """A contextual bandit in which M of K arms are equally right for each prompt.

    A prompt is a Gaussian vector x_b; a fixed hidden linear teacher scores every arm on it, the
    M best-scored arms pay 1, the next ``decoys`` arms pay ``decoy_reward``, the others 0. So a
    shared-parameter policy can carry what it learns to prompts it never saw, and a tabular one
    cannot. Episodes last one step.

    Observation: the prompt's number (``observation="prompt"``, for tabular policies and
    embeddings) or the vector x_b (``"features"``). Exact facts: optimal value 1, M solutions,
    the mode of a trajectory is the rank of its arm among the optimal ones.

    Attributes:
        prompts, test_prompts: how many prompts there are in each split.
        arms: K. modes: M. decoys: near-optimal arms.
        observation: ``"prompt"`` or ``"features"``. features: F.

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

    def __post_init__(self) -> None:
        expect(self.prompts >= 1, "prompts", self.prompts, "at least 1 prompt")
        expect(self.test_prompts >= 0, "test_prompts", self.test_prompts, "0 or more prompts")
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
        return Params(jnp.float32(0.9), jnp.float32(0.02), jnp.float32(0.9))

    def check_params(self, params: Params) -> None:
        """Refuse decoys that are not worse than the modes, and pass rates outside (0, 1)."""
        decoy = float(params.decoy_reward)
        expect(decoy < 1.0, "decoy_reward", decoy, "less than 1, the reward of a mode")
        for name in ("hardest", "easiest"):
            rate = float(getattr(params, name))
            expect(0.0 < rate < 1.0, name, rate, "a pass rate strictly between 0 and 1")

    @property
    def observation_space(self) -> Discrete | Box:
        if self.observation == "prompt":
            return Discrete(self.prompts + self.test_prompts)
        return Box(-jnp.inf, jnp.inf, (self.features,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.arms)

    def level_ids(self, split: str) -> range:
        expect(split in ("train", "test"), "split", split, "train or test")
        total = self.prompts + self.test_prompts
        return range(self.prompts) if split == "train" else range(self.prompts, total)

    def make_level(self, params: Params, level_id: Int[Array, ""]) -> Level:
        key = jax.random.key(TEACHER_SEED)
        teacher = jax.random.normal(jax.random.fold_in(key, 0), (self.features, self.arms))
        x = jax.random.normal(
            jax.random.fold_in(jax.random.fold_in(key, 1), level_id), (self.features,)
        )
        score = x @ teacher
        rank = jnp.argsort(jnp.argsort(-score)).astype(jnp.int32)
        is_mode, is_decoy = rank < self.modes, rank < self.modes + self.decoys
        reward = jnp.where(is_mode, 1.0, jnp.where(is_decoy, params.decoy_reward, 0.0))
        # Modes are numbered by arm, not by teacher score, so that mode 0 is no favorite.
        mode = jnp.where(is_mode, jnp.cumsum(is_mode, dtype=jnp.int32) - 1, -1)
        return Level(jnp.int32(level_id), x, reward.astype(jnp.float32), mode)

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
        mode = level.mode[action]
        return Transition(
            state=(),
            reward={"true": level.reward[action]},
            terminated=jnp.bool_(True),
            truncated=jnp.bool_(False),
            info={"correct": mode >= 0, "mode_id": mode},
        )

    def observe(self, params: Params, level: Level, state: tuple[()]) -> Array:
        return level.id if self.observation == "prompt" else level.features

    def correct(self, level: Level) -> Bool[Array, "K"]:
        """Which arms are optimal."""
        return level.mode >= 0

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
        return TabularMDP(
            reward=jnp.stack([level.reward, jnp.zeros(self.arms)]),
            start=jnp.array([1.0, 0.0]),
            terminal=jnp.array([False, True]),
            row=jnp.stack([level.id, level.id]),
            next=jnp.ones((2, self.arms), jnp.int32),
            horizon=1,
        )

    def state_index(self, params: Params, level: Level, state: tuple[()]) -> Int[Array, ""]:
        """The question is state 0 of :meth:`tabular`; the end has no packed state."""
        return jnp.int32(0)

    def render(self, params: Params, level: Level, state: tuple[()]) -> str:
        marks = "".join(
            "*" if m >= 0 else ("+" if r > 0 else ".")
            for m, r in zip(level.mode.tolist(), level.reward.tolist(), strict=True)
        )
        return f"prompt {int(level.id)}  arms {marks}  (* pays 1, + decoy, . pays 0)"
