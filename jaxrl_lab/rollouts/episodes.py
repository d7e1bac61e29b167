"""Grouped episodes: G rollouts of each of B prompts, played to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment, threefry
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.keys import named
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts.world import World, levels_at
from jaxrl_lab.types import Batch, Plan, Tree

Carry = tuple[Tree, Tree, Bool[Array, "B G"]]
"""Between two steps: states, the policy's memory, and which episodes are still running."""


def collect_episodes(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    plan: Plan,
    key: Array,
    *,
    bootstrap: bool = False,
    forced: Int[Array, "B G T"] | None = None,
) -> Batch:
    """Play ``plan.valid.shape = [B, G]`` episodes of at most ``env.horizon`` steps.

    The noise of rollout (b, g) at time t has the address (key, t, b, g), the policy's uniform
    likewise: two runs with the same key meet the same luck, whatever their policies do.

    Args:
        bootstrap: also evaluate the value head on the state after each step (``next_value``).
        forced: actions that are done instead of the sampled ones, wherever they are not negative.
    """
    shape = plan.valid.shape
    levels = levels_at(env, world, plan.level_ids)
    advance = player(env, policy, world, params, levels, shape, bootstrap=bootstrap)

    def play(
        carry: Carry, now: tuple[Int[Array, ""], Int[Array, "B G"] | None]
    ) -> tuple[Carry, dict[str, Any]]:
        t, given = now
        first = jnp.broadcast_to(t == 0, shape)
        return advance(carry, first, *luck(env, key, t, shape), given)

    start_noise = env.draw_reset(named(key, "reset"), shape)
    state = over_groups(shape)(env.reset, (False, True, True))(world.params, levels, start_noise)
    memory = policy.start(shape)
    begin = (state, memory, jnp.ones(shape, bool))
    times = jnp.arange(env.horizon, dtype=jnp.int32)
    given = None if forced is None else jnp.moveaxis(forced, -1, 0)
    _, seen = jax.lax.scan(play, begin, (times, given))
    return as_batch(seen, plan.level_ids[:, None, None], memory, plan.valid, plan.source)


def luck(
    env: Environment, key: Array, t: Int[Array, ""], shape: tuple[int, ...]
) -> tuple[Float[Array, "..."], Tree]:
    """What chance holds for step t of a batch: the policy's uniforms and the world's noise."""
    u = threefry.once(threefry.uniform, threefry.fold_in(named(key, "act"), t), shape)
    return u, env.draw(threefry.fold_in(named(key, "env"), t), shape)


def player(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    levels: Tree,
    shape: tuple[int, ...],
    *,
    bootstrap: bool = False,
) -> Callable[..., tuple[Carry, dict[str, Any]]]:
    """One step of ``[B, G]`` episodes, for a scan: ``(carry, first, u, noise)`` to carry, record.

    ``levels`` are those of the B prompts. The step also takes ``forced[B, G]``, actions that are
    done instead of the sampled ones wherever they are not negative.
    """
    lift = over_groups(shape)
    step = lift(env.step, (False, True, True, True, True))
    see = lift(env.observe, (False, True, True))

    def advance(
        carry: Carry,
        first: Bool[Array, "B G"],
        u: Float[Array, "B G"],
        noise: Tree,
        forced: Int[Array, "B G"] | None = None,
    ) -> tuple[Carry, dict[str, Any]]:
        state, memory, running = carry
        obs = see(world.params, levels, state)
        memory, out = policy.step(params, memory, obs, first)
        action = out.dist.sample(u)
        if forced is not None:
            action = jnp.where(forced >= 0, forced.astype(action.dtype), action)
        transition = step(world.params, levels, state, action, noise)
        ended = transition.terminated | transition.truncated
        record = {
            "state": state,
            "action": action,
            "logp": out.dist.logp(action),
            "mask": running,
            "resets": first,
            "terminated": transition.terminated & running,
            "truncated": transition.truncated & running,
            "channels": {k: jnp.where(running, r, 0.0) for k, r in transition.reward.items()},
            "info": transition.info,
        }
        if bootstrap:
            ahead = see(world.params, levels, transition.state)
            _, peek = policy.step(params, memory, ahead, jnp.zeros(shape, bool))
            record["next_value"] = peek.value
        return (transition.state, memory, running & ~ended), record

    return advance


def as_batch(
    seen: dict[str, Any],
    level_id: Int[Array, "B 1 t"],
    carry: Tree,
    valid: Bool[Array, "B G"],
    source: Int[Array, "B G"],
) -> Batch:
    """Records ``[T, B, G, ...]`` of a scan as a batch ``[B, G, T, ...]``."""
    seen = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), seen)
    mask = seen["mask"] & valid[..., None]
    return Batch(
        level_id=level_id,
        state=seen["state"],
        action=seen["action"],
        logp_behavior=seen["logp"],
        mask=mask,
        resets=seen["resets"],
        terminated=seen["terminated"],
        truncated=seen["truncated"],
        channels=seen["channels"],
        reward=seen["channels"]["true"],
        info=seen["info"],
        carry=carry,
        valid=valid,
        source=source,
        next_value=seen.get("next_value"),
    )


def refill(
    collect: Callable[[Int[Array, ""]], Batch],
    keep: Callable[[Batch], Bool[Array, "B"]],
    rounds: int,
) -> tuple[Batch, Batch, Float[Array, ""], Int[Array, ""]]:
    """Collect again until every group of the batch is kept, at most ``rounds`` times.

    ``collect(r)`` plays round r. The i-th place without a kept group takes the i-th kept group
    of the next round; places left over keep what they have.

    Returns:
        The batch, the batch of the first round (what the policy does when nothing is selected),
        the number of tokens generated in all rounds, and the rounds used.
    """

    def tokens_of(batch: Batch) -> Float[Array, ""]:
        return jnp.sum(batch.mask, dtype=jnp.float32)

    def wanting(loop: tuple[Batch, Array, Array, Array]) -> Bool[Array, ""]:
        _, kept, _, used = loop
        return ~jnp.all(kept) & (used < rounds)

    def another(loop: tuple[Batch, Array, Array, Array]) -> tuple[Batch, Array, Array, Array]:
        batch, kept, tokens, used = loop
        fresh = collect(used)
        good = keep(fresh)
        place = jnp.cumsum(~kept, dtype=jnp.int32) - 1  # this empty place is the i-th
        order = jnp.argsort(~good, stable=True)  # kept groups first, in order
        supply = jnp.sum(good, dtype=jnp.int32)
        fill = ~kept & (place < supply)
        donor = order[jnp.clip(place, 0, order.shape[0] - 1)]

        def put(old: Array, new: Array) -> Array:
            chosen = fill.reshape(fill.shape + (1,) * (old.ndim - 1))
            return jnp.where(chosen, new[donor], old)

        merged = jax.tree.map(put, batch, fresh)
        return merged, kept | fill, tokens + tokens_of(fresh), used + 1

    first = collect(jnp.int32(0))
    begin = (first, keep(first), tokens_of(first), jnp.int32(1))
    batch, _, tokens, used = jax.lax.while_loop(wanting, another, begin)
    return batch, first, tokens, used


def over_groups(shape: tuple[int, ...]) -> Callable[..., Callable[..., Any]]:
    """vmap over prompts and, where an argument has that axis, over the rollouts of a prompt."""
    b, g = shape

    def lift(f: Callable[..., Any], has_axis: tuple[bool, ...]) -> Callable[..., Any]:
        # The level (second argument) is shared by the rollouts of its prompt.
        inner = tuple(0 if has and i != 1 else None for i, has in enumerate(has_axis))
        outer = tuple(0 if has else None for has in has_axis)
        return jax.vmap(jax.vmap(f, inner, axis_size=g), outer, axis_size=b)

    return lift
