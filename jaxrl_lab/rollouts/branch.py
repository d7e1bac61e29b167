"""Branches: any state of a batch stored, copied, and resumed with the same luck or with new luck.

A :class:`Snapshot` holds M states with all that is needed to go on from them, and is an ordinary
pytree: index it, concatenate it, keep it. ``branch`` takes one from a batch and resumes it.

The luck of branch ``id`` of rollout (b, g) at time t has the address (key, id, b, g, t): the same
id replays it, alone or among others, and a new id redraws it. Branches of one rollout with the
same id meet the same luck at the same time wherever they begin (paired differences); where
estimates at several times must be independent, give each state its own ids ``[M, n]``. The id
``REPLAY`` stands for what the batch itself met: the original luck, after whatever action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import Environment
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.keys import named
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts.episodes import Carry, as_batch, luck, player
from jaxrl_lab.rollouts.world import World, levels_at, observe
from jaxrl_lab.types import Batch, Tree

REPLAY = -1
"""The branch id whose luck is that of the stored rollout."""


class Points(NamedTuple):
    """Where in a batch: prompt b, rollout g, and the time t before whose action to branch."""

    prompt: Int[Array, "M"]
    rollout: Int[Array, "M"]
    time: Int[Array, "M"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Snapshot:
    """M states in mid-episode.

    Attributes:
        level_id: prompt of each state ``[M]``.
        state: packed states ``[M, ...]``. memory: what the policy remembers there ``[M, ...]``.
        time: steps already taken ``[M]``.
        place: number b G + g of the rollout in its batch, part of the address of luck ``[M]``.
        running: False where the episode was already over, hence where nothing follows ``[M]``.
        luck: the uniforms ``[M, T]`` and noise ``[M, T, ...]`` the rollout itself met from here
            on, for ``REPLAY``; None where that was not asked for.
    """

    level_id: Int[Array, "M"]
    state: Tree
    memory: Tree
    time: Int[Array, "M"]
    place: Int[Array, "M"]
    running: Bool[Array, "M"]
    luck: tuple[Float[Array, "M T"], Tree] | None = None


def snapshot(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    batch: Batch,
    points: Points,
    key: Array | None = None,
) -> Snapshot:
    """The states of a batch of episodes at the given points.

    Only the environment's states are stored in a batch; the policy's memory is computed here, by
    ``policy.step`` over the observations of the stored prefix: what ``params`` would remember
    there, which for the parameters that played the batch is what they did remember.

    Args:
        key: the key the batch was collected with, where ``REPLAY`` shall be possible.

    Raises:
        BadInput: a batch of streams, or points outside the batch (where they are concrete).
    """
    shape = batch.action.shape
    single = batch.level_id.shape[2] == 1
    expect(single, "batch", "a stream", "episodes: one prompt for all times of a rollout")
    for axis, (name, index) in enumerate(points._asdict().items()):
        inside = not _known(index) or _within(index, shape[axis])
        expect(inside, name, index, f"indices 0 to {shape[axis] - 1}")
    prompt, rollout, time = (jnp.asarray(x, jnp.int32) for x in points)

    def at_points(x: Array) -> Array:
        return x[prompt, rollout, time]

    return Snapshot(
        level_id=batch.level_id[prompt, 0, 0],
        state=jax.tree.map(at_points, batch.state),
        memory=_memory(env, policy, world, params, batch, Points(prompt, rollout, time)),
        time=time,
        place=prompt * shape[1] + rollout,
        running=at_points(batch.mask),
        luck=None if key is None else _met(env, key, shape, Points(prompt, rollout, time)),
    )


def resume(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    saved: Snapshot,
    ids: Int[Array, "n"] | Int[Array, "M n"],
    key: Array,
    *,
    actions: Int[Array, "M n"] | None = None,
    steps: int | None = None,
    bootstrap: bool = False,
) -> Batch:
    """Play n continuations of each of M states, as M groups of n rollouts ``[M, n, steps]``.

    A suffix batch: entry s lies ``time + s`` steps into its episode, and ``carry`` is the memory
    at the branch point, so that ``unroll`` starts from the right one; no gradient reaches the
    prefix through it. ``returns`` are what is still to come: with ``actions`` their mean over n
    estimates Q(s, a), without V(s).

    Args:
        ids: numbers of branches, 0 or more, or ``REPLAY``; see the module docstring.
        key: any key; the same one for branches that shall be replayed.
        actions: what to do first, instead of sampling; -1 samples. ``logp_behavior`` is what the
            policy says of them.
        steps: at most so many steps (default: ``env.horizon``).
        bootstrap: also evaluate the value head on the state after each step.

    Raises:
        BadInput: ids below ``REPLAY``, or ``REPLAY`` for a snapshot taken without its key.
    """
    if _known(ids):
        proper = bool(np.all(np.asarray(ids) >= REPLAY))
        expect(proper, "ids", ids, f"0 or more, or {REPLAY} to replay")
        met = saved.luck is not None or not _replays(ids)
        expect(met, "ids", ids, "0 or more: this snapshot was taken without the batch's key")
    m, n = saved.time.shape[0], jnp.shape(ids)[-1]
    shape = (m, n)
    ids = jnp.broadcast_to(jnp.asarray(ids, jnp.int32), shape)
    levels = levels_at(env, world, saved.level_id)
    advance = player(env, policy, world, params, levels, shape, bootstrap=bootstrap)
    address = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))(
        named(key, "branch"), ids
    )
    address = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)))(address, saved.place)
    drawn = jax.vmap(jax.vmap(lambda k, t: luck(env, k, t, ()), (0, None)))

    def play(carry: Carry, s: Int[Array, ""]) -> tuple[Carry, dict[str, Any]]:
        u, noise = drawn(address, saved.time + s)
        if saved.luck is not None:
            u, noise = _replayed(ids == REPLAY, s, saved.luck, (u, noise))
        first = jnp.broadcast_to((saved.time + s == 0)[:, None], shape)
        forced = None if actions is None else jnp.where(s == 0, actions, -1)
        return advance(carry, first, u, noise, forced)

    state, memory, running = jax.tree.map(
        lambda x: jnp.broadcast_to(x[:, None], (*shape, *x.shape[1:])),
        (saved.state, saved.memory, saved.running),
    )
    length = env.horizon if steps is None else steps
    _, seen = jax.lax.scan(play, (state, memory, running), jnp.arange(length, dtype=jnp.int32))
    source = jnp.zeros(shape, jnp.int8)
    return as_batch(seen, saved.level_id[:, None, None], memory, running, source)


def branch(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    batch: Batch,
    points: Points,
    ids: Int[Array, "n"] | Int[Array, "M n"],
    key: Array,
    *,
    actions: Int[Array, "M n"] | None = None,
    steps: int | None = None,
    bootstrap: bool = False,
) -> Batch:
    """Continuations of a batch from given points: :func:`resume` of its :func:`snapshot`.

    ``key`` is the one the batch was collected with, so that ``REPLAY`` is the rollout itself.

    Raises:
        BadInput: as :func:`snapshot` and :func:`resume`.
    """
    # What the batch met costs as much memory as its actions: only where it may be asked for.
    met = key if not _known(ids) or _replays(ids) else None
    saved = snapshot(env, policy, world, params, batch, points, met)
    return resume(
        env,
        policy,
        world,
        params,
        saved,
        ids,
        key,
        actions=actions,
        steps=steps,
        bootstrap=bootstrap,
    )


def with_branches(
    env: Environment,
    policy: Policy,
    world: World,
    params: Tree,
    batch: Batch,
    points: Points,
    n: int,
    key: Array,
    *,
    bootstrap: bool = False,
) -> Batch:
    """The batch and n further rollouts from a point of each of its own ``[B, G (1 + n), T]``.

    ``points`` has one entry per rollout, in order. A branch is a whole rollout: it repeats the
    steps before its point, so that a policy with a memory can be unrolled over it, but only what
    it did itself is in its mask. Rewards of the steps before are paid with its first own one, so
    that its return is that of the whole. A branch of a rollout without any step has none either.
    """
    if n == 0:
        return batch
    b, g, t = batch.action.shape
    ids = jnp.arange(n, dtype=jnp.int32)
    fresh = branch(env, policy, world, params, batch, points, ids, key, bootstrap=bootstrap)
    since = jnp.arange(t, dtype=jnp.int32)[None, :] - points.time[:, None]  # [M, T]
    at = jnp.maximum(since, 0)

    def joined(prefix: Array, suffix: Array) -> Array:
        """[B, G, T, ...] and [M, n, T, ...] to [B, G n, T, ...]."""
        before = jnp.repeat(prefix.reshape(b * g, 1, *prefix.shape[2:]), n, axis=1)
        shape = (b * g, 1, t, *(1,) * (suffix.ndim - 3))
        after = jnp.take_along_axis(suffix, at.reshape(shape), axis=2)
        whole = jnp.where((since < 0).reshape(shape), before, after)
        return whole.reshape(b, g * n, *whole.shape[2:])

    def paid(prefix: Array, suffix: Array) -> Array:
        shared = jnp.where(since < 0, jnp.where(batch.mask, prefix, 0.0).reshape(b * g, t), 0.0)
        first = (since == 0)[:, None] & (fresh.mask[:, :, :1])
        return joined(prefix, suffix) + jnp.where(
            first, jnp.sum(shared, axis=-1)[:, None, None], 0.0
        ).reshape(b, g * n, t)

    own = jnp.broadcast_to((since >= 0)[:, None], (b * g, n, t)).reshape(b, g * n, t)
    per_step = ["state", "action", "logp_behavior", "resets", "terminated", "truncated", "info"]
    if bootstrap:
        per_step.append("next_value")
    tails = {k: jax.tree.map(joined, getattr(batch, k), getattr(fresh, k)) for k in per_step}
    tails["mask"] = joined(batch.mask, fresh.mask) & own
    tails["channels"] = jax.tree.map(paid, batch.channels, fresh.channels)
    tails["reward"] = tails["channels"]["true"]
    for k in ("carry", "valid", "source"):
        tails[k] = jax.tree.map(lambda x: jnp.repeat(x, n, axis=1), getattr(batch, k))

    def together(old: Array, new: Array) -> Array:
        return jnp.concatenate([old, new], axis=1)

    return replace(
        batch, **{k: jax.tree.map(together, getattr(batch, k), new) for k, new in tails.items()}
    )


def _memory(
    env: Environment, policy: Policy, world: World, params: Tree, batch: Batch, points: Points
) -> Tree:
    """The policy's memory before it reads the observation at each point."""
    prompt, rollout, time = points
    memory = jax.tree.map(lambda x: x[prompt, rollout], batch.carry)
    if policy.memoryless:
        return memory
    m, steps = prompt.shape[0], batch.action.shape[2]
    states = jax.tree.map(lambda x: x[prompt, rollout][:, None], batch.state)
    obs = observe(env, world, batch.level_id[prompt], states, (m, 1, steps))[:, 0]

    def read(memory: Tree, now: tuple[Array, Array, Array]) -> tuple[Tree, None]:
        t, seen, reset = now
        after, _ = policy.step(params, memory, seen, reset)

        def advance(new: Array, old: Array) -> Array:
            return jnp.where((t < time).reshape(m, *(1,) * (old.ndim - 1)), new, old)

        return jax.tree.map(advance, after, memory), None

    resets = batch.resets[prompt, rollout]
    times = jnp.arange(steps, dtype=jnp.int32)
    sequence = (times, jnp.moveaxis(obs, 1, 0), jnp.moveaxis(resets, 1, 0))
    return jax.lax.scan(read, memory, sequence)[0]


def _met(
    env: Environment, key: Array, shape: tuple[int, ...], points: Points
) -> tuple[Float[Array, "M T"], Tree]:
    """The luck of the rollouts from their points on; the last step's is repeated at the end."""
    b, g, steps = shape
    times = jnp.arange(steps, dtype=jnp.int32)
    every = jax.vmap(lambda t: luck(env, key, t, (b, g)))(times)
    ahead = jnp.minimum(points.time[:, None] + times[None], steps - 1)
    return jax.tree.map(lambda x: x[ahead, points.prompt[:, None], points.rollout[:, None]], every)


def _replayed(
    original: Bool[Array, "M n"], s: Int[Array, ""], met: tuple[Array, Tree], fresh: Tree
) -> Tree:
    """Step s of the luck that was met where the branch is the original one, else fresh luck."""

    def choose(tape: Array, new: Array) -> Array:
        now = tape[:, jnp.minimum(s, tape.shape[1] - 1)]
        chosen = original.reshape(*original.shape, *(1,) * (new.ndim - 2))
        return jnp.where(chosen, now[:, None], new)

    return jax.tree.map(choose, met, fresh)


def _known(x: Any) -> bool:
    """Whether the numbers can be looked at, hence checked, while tracing."""
    return not isinstance(x, jax.core.Tracer)


def _within(index: Any, size: int) -> bool:
    return bool(np.all((np.asarray(index) >= 0) & (np.asarray(index) < size)))


def _replays(ids: Any) -> bool:
    return bool(np.any(np.asarray(ids) == REPLAY))
