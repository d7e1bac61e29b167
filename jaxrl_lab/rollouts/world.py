"""A world during training: its params, and its levels where keeping them is cheaper."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxtyping import Array, Int

from jaxrl_lab.types import Tree

BANK_LIMIT = 4096
"""Splits with at most this many prompts keep all their levels; larger ones rebuild them."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class World:
    """Environment params and a bank of levels ``[L, ...]`` (None where levels are rebuilt).

    The bank is computed once, outside the scan over updates: a level that costs a sort to build
    would otherwise cost it in every update.
    """

    params: Tree
    bank: Tree | None
    first: int = field(default=0, metadata={"static": True})


def make_world(env: Environment, params: Tree) -> World:
    """Precompute the levels of both splits where they are few."""
    splits = [env.level_ids("train"), env.level_ids("test")]
    ids = [i for split in splits if len(split) for i in (split[0], split[-1])]
    first, last = min(ids), max(ids)
    if last - first >= BANK_LIMIT:
        return World(params, None, 0)
    every = jnp.arange(first, last + 1, dtype=jnp.int32)
    bank = jax.vmap(env.make_level, in_axes=(None, 0))(params, every)
    return World(params, bank, first)


def levels_at(env: Environment, world: World, ids: Int[Array, "..."]) -> Tree:
    """The levels with the given ids; leading axes are those of ``ids``."""
    if world.bank is not None:
        return jax.tree.map(lambda x: x[ids - world.first], world.bank)
    build = env.make_level
    flat = jax.vmap(build, in_axes=(None, 0))(world.params, ids.reshape(-1))
    return jax.tree.map(lambda x: x.reshape(ids.shape + x.shape[1:]), flat)


def observe(
    env: Environment,
    world: World,
    level_id: Int[Array, "B 1 t"],
    state: Tree,
    shape: tuple[int, int, int],
) -> Array:
    """Observations ``[B, G, T, *obs]`` recomputed from packed states.

    ``level_id`` is ``[B, 1, 1]`` for groups (one level for all rollouts of a prompt) or
    ``[B, 1, T]`` for streams; ``shape`` is (B, G, T), which a world without state cannot tell.
    """
    b, g, t = shape
    see = env.observe
    if level_id.shape[2] == 1:
        levels = levels_at(env, world, level_id[:, 0, 0])
        see = jax.vmap(see, in_axes=(None, None, 0), axis_size=t)
        see = jax.vmap(see, in_axes=(None, None, 0), axis_size=g)
        return jax.vmap(see, in_axes=(None, 0, 0), axis_size=b)(world.params, levels, state)
    levels = levels_at(env, world, level_id[:, 0, :])
    see = jax.vmap(see, in_axes=(None, 0, 0), axis_size=t)
    see = jax.vmap(see, in_axes=(None, None, 0), axis_size=g)
    return jax.vmap(see, in_axes=(None, 0, 0), axis_size=b)(world.params, levels, state)
