"""Auto-reset streams: N environments that run on from update to update."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment, threefry
from jaxrl_envs.vector import StreamState, stream_reset, stream_step
from jaxtyping import Array, Int

from jaxrl_lab.keys import named
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts.episodes import as_batch
from jaxrl_lab.rollouts.world import World, levels_at
from jaxrl_lab.types import Batch, Tree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stream:
    """Environments in mid-episode and the policy's memory of those episodes, leading axis N."""

    envs: StreamState
    memory: Tree


def start_stream(
    env: Environment, policy: Policy, world: World, split: str, key: Array, n: int
) -> Stream:
    """N fresh episodes on prompts drawn from the split."""
    envs = stream_reset(env, world.params, partial(levels_at, env, world), split, key, n)
    return Stream(envs, policy.start((n,)))


def collect_stream(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    stream: Stream,
    split: str,
    key: Array,
    steps: int,
    *,
    bootstrap: bool = False,
) -> tuple[Stream, Batch]:
    """Run N environments for ``steps`` steps, restarting those that end.

    Returns:
        The stream to go on from, and a batch of layout ``[N, 1, T]``.
    """
    levels = partial(levels_at, env, world)
    n = stream.envs.level_id.shape[0]
    see = jax.vmap(env.observe, in_axes=(None, 0, 0), axis_size=n)

    def play(now: Stream, t: Int[Array, ""]) -> tuple[Stream, dict[str, Any]]:
        level = levels(now.envs.level_id)
        obs = see(world.params, level, now.envs.state)
        memory, out = policy.step(params, now.memory, obs, now.envs.started)
        u = threefry.once(threefry.uniform, threefry.fold_in(named(key, "act"), t), (n,))
        action = out.dist.sample(u)
        env_key = threefry.fold_in(named(key, "env"), t)
        after, transition = stream_step(env, world.params, levels, split, now.envs, action, env_key)
        record = {
            "level_id": now.envs.level_id,
            "state": now.envs.state,
            "action": action,
            "logp": out.dist.logp(action),
            "mask": jnp.ones(n, bool),
            "resets": now.envs.started,
            "terminated": transition.terminated,
            "truncated": transition.truncated,
            "channels": transition.reward,
            "info": transition.info,
        }
        if bootstrap:
            # The state before any reset: a time limit must not bootstrap from the next episode.
            ahead = see(world.params, level, transition.state)
            _, peek = policy.step(params, memory, ahead, jnp.zeros(n, bool))
            record["next_value"] = peek.value
        return Stream(after, memory), record

    after, seen = jax.lax.scan(play, stream, jnp.arange(steps, dtype=jnp.int32))
    seen = jax.tree.map(lambda x: x[:, :, None], seen)
    level_id = jnp.moveaxis(seen.pop("level_id"), 0, 2)
    memory = jax.tree.map(lambda x: x[:, None], stream.memory)
    valid = jnp.ones((n, 1), bool)
    return after, as_batch(seen, level_id, memory, valid, jnp.zeros((n, 1), jnp.int8))
