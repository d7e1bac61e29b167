"""From a world to the arrays that every other module of this package reads."""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment, TabularMDP, require
from jaxtyping import Array, Int

from jaxrl_lab.types import Tree


def tabulate(env: Environment, params: Tree, ids: Int[Array, "..."]) -> TabularMDP:
    """The levels with the given ids as arrays; leading axes are those of ``ids``.

    With one id it is what single-level functions take; with a vector of them ``vmap`` those.
    Jit it where it is called often.

    Raises:
        BadInput: a world that cannot be enumerated; the message lists those that can.
    """
    tabular = require(env, "tabular")

    def one(i: Int[Array, ""]) -> TabularMDP:
        mdp: TabularMDP = tabular(params, env.make_level(params, i))
        return mdp

    ids = jnp.asarray(ids, jnp.int32)
    flat = jax.vmap(one)(ids.reshape(prod(ids.shape)))
    return jax.tree.map(lambda x: x.reshape(ids.shape + x.shape[1:]), flat)
