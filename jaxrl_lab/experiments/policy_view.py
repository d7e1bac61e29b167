"""A trained policy in the hand: it plays, scores what others did, and prints a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import BadInput, Environment
from jaxrl_envs.core import Discrete
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float, Int

from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World, collect_episodes
from jaxrl_lab.types import Batch, Plan, Tree

SAMPLE = -1
"""Where an action is asked for: let the policy choose."""


@dataclass(frozen=True)
class PolicyView:
    """A policy with its parameters, and the world it was trained in.

    Attributes:
        env, env_params: the world. policy, params: what acts there, and the numbers it acts by.
    """

    env: Environment
    env_params: Tree
    policy: Policy
    params: Tree

    def play(self, level_ids: int | Sequence[int], rollouts: int = 1, seed: int = 0) -> Batch:
        """Sample G rollouts of each of B prompts, played to the end: a batch ``[B, G, T]``.

        The luck is a function of ``seed``: two policies with one seed meet the same.

        Raises:
            BadInput: prompts that the world does not have, or no rollouts.
        """
        ids = [level_ids] if isinstance(level_ids, int) else list(level_ids)
        expect(len(ids) > 0, "level_ids", level_ids, "at least one prompt")
        expect(rollouts >= 1, "rollouts", rollouts, "at least 1")
        forced = np.full((len(ids), rollouts, self.env.horizon), SAMPLE, np.int32)
        return self._play(ids, forced, seed)

    def score(self, level_id: int, actions: Any, seed: int = 0) -> Float[np.ndarray, "G T"]:
        """Log-probability of each action of given sequences ``actions[G, T]`` (or ``[T]``).

        The sequences are acted out, so that a policy with memory has the memory it would have; in
        a stochastic world they meet the luck of ``seed``. 0 from the end of an episode on: the sum
        over time is the log-probability of a sequence.

        Raises:
            BadInput: a prompt or an action that the world does not have, or too many actions.
        """
        forced = self._forced(actions)
        batch = self._play([level_id], forced, seed)
        seen = jnp.where(batch.mask & (forced != SAMPLE), batch.logp_behavior, 0.0)
        return np.asarray(seen[0, :, : np.shape(actions)[-1]])

    def show(self, level_id: int, seed: int = 0, actions: Sequence[int] = ()) -> str:
        """One rollout as text: every state, what was done there, how probable and how paid.

        Args:
            actions: what to do first, instead of sampling.

        Raises:
            BadInput: a prompt or an action that the world does not have, or too many actions.
        """
        batch = self._play([level_id], self._forced(actions), seed)
        level = self.env.make_level(self.env_params, jnp.int32(level_id))
        mask = np.asarray(batch.mask[0, 0])
        lines = []
        for t in np.flatnonzero(mask):
            state = jax.tree.map(lambda x, t=t: np.asarray(x[0, 0, t]), batch.state)
            probability = np.exp(float(batch.logp_behavior[0, 0, t]))
            pay = float(batch.channels["true"][0, 0, t])
            lines += [
                self.env.render(self.env_params, level, state),
                f"step {t}: action {int(batch.action[0, 0, t])}, "
                f"probability {probability:.3g}, reward {pay:.3g}",
            ]
        logp = float(np.asarray(batch.logp_behavior)[0, 0, mask].sum())
        end = "ended" if bool(batch.terminated.any()) else "cut by the time limit"
        total = f"return {float(batch.returns[0, 0]):.3g}, log-probability {logp:.3g}, {end}"
        return "\n".join([*lines, total])

    def table(self) -> Float[np.ndarray, "R K"]:
        """Log-probabilities of all actions at every observation, as :mod:`jaxrl_lab.exact` has it.

        Raises:
            BadInput: observations that are no row numbers, or a policy with memory.
        """
        space = self.env.observation_space
        if not isinstance(space, Discrete) or not self.policy.memoryless:
            what = f"{type(self.policy).__name__} in {type(self.env).__name__}"
            raise BadInput("policy", what, "a policy without memory that observes row numbers")
        rows = jnp.arange(space.n, dtype=jnp.int32)
        _, out = self.policy.step(self.params, self.policy.start((space.n,)), rows, rows < 0)
        return np.asarray(out.dist.logp_all)

    def _forced(self, actions: Any) -> Int[np.ndarray, "1 G T"]:
        """Sequences ``[G, t]`` or ``[t]`` with the rest left to the policy."""
        n, horizon = self.env.action_space.n, self.env.horizon
        given = np.atleast_2d(np.asarray(actions))
        whole = given.ndim == 2 and (given.size == 0 or np.issubdtype(given.dtype, np.integer))
        expect(whole, "actions", actions, "whole numbers of shape [T] or [G, T]")
        inside = bool(np.all((given >= 0) & (given < n)))
        expect(inside, "actions", actions, f"actions 0 to {n - 1}")
        short = given.shape[1] <= horizon
        expect(short, "actions", actions, f"at most {horizon} in a row, the world's horizon")
        rest = np.full((len(given), horizon - given.shape[1]), SAMPLE)
        return np.concatenate([given, rest], axis=1).astype(np.int32)[None]

    def _play(self, ids: Sequence[int], forced: np.ndarray, seed: int) -> Batch:
        splits = [self.env.level_ids(split) for split in ("train", "test")]
        for level_id in ids:
            known = any(level_id in split for split in splits)
            some = " or ".join(f"{s[0]} to {s[-1]}" for s in splits if len(s))
            expect(known, "level_id", level_id, some)
        return _play(
            self.env,
            self.policy,
            World(self.env_params, None),
            self.params,
            jnp.asarray(ids, jnp.int32),
            jnp.asarray(forced, jnp.int32),
            jax.random.key(seed),
        )


@partial(jax.jit, static_argnames=("env", "policy"))
def _play(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    level_ids: Int[Array, "B"],
    forced: Int[Array, "B G T"],
    key: Array,
) -> Batch:
    """Episodes in which some actions are given: those of ``forced`` that are not negative."""
    shape = forced.shape[:2]
    plan = Plan(level_ids, jnp.ones(shape, bool), jnp.zeros(shape, jnp.int8))
    return collect_episodes(env, policy, world, params, plan, key, forced=forced)
