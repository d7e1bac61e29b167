"""The table of policies that every general test runs over."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import Box, Discrete, MultiDiscrete

from jaxrl_lab.policies import GRU, MLP, QTable, Tabular, Transformer

K = 5
ROWS = Discrete(30)
FIELDS = MultiDiscrete((7, 3, 11))
PLANES = Box(-1.0, 1.0, (2, 3))

CASES = {
    "tabular": lambda v: Tabular(ROWS, K, scale=1.0, value=v),
    "q-table": lambda v: QTable(ROWS, K, temperature=0.5, scale=1.0, value=v),
    "mlp-rows": lambda v: MLP(ROWS, K, hidden=(16, 12), value=v, features=v),
    "mlp-fields": lambda v: MLP(FIELDS, K, hidden=(16,), activation="relu", value=v),
    "mlp-planes": lambda v: MLP(PLANES, K, hidden=(8, 8, 8), value=v, shared=True),
    "gru-rows": lambda v: GRU(ROWS, K, width=16, value=v, features=v),
    "transformer-short": lambda v: Transformer(
        FIELDS, K, layers=2, width=16, heads=2, context=5, value=v, features=v
    ),
    "transformer-long": lambda v: Transformer(
        PLANES, K, layers=1, width=16, heads=4, context=64, value=v
    ),
    "transformer-remat": lambda v: Transformer(
        FIELDS, K, layers=2, width=16, heads=2, context=4, value=v, remat=True
    ),
}

every_policy = pytest.mark.parametrize(
    "policy",
    [make(value) for make in CASES.values() for value in (False, True)],
    ids=[f"{name}-{'value' if value else 'plain'}" for name in CASES for value in (False, True)],
)
every_valued_policy = pytest.mark.parametrize(
    "policy", [make(True) for make in CASES.values()], ids=list(CASES)
)


@functools.cache
def loud_params(policy, seed=0):
    """Parameters far from the start: logits differ by about 1 and every bias matters.

    Drawn without ``init``, whose compilation would take most of the time of these tests.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        x = rng.normal(size=leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return jnp.asarray(x / np.sqrt(leaf.shape[0], dtype=np.float32))
        return jnp.asarray({"bias": 0.1 * x, "scale": 1 + 0.1 * x}.get(name, x))

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(policy.init, jax.random.key(0)))


def random_obs(space, shape, seed=0):
    rng = np.random.default_rng(seed)
    if isinstance(space, Discrete):
        return jnp.asarray(rng.integers(0, space.n, shape, dtype=np.uint8))
    if isinstance(space, MultiDiscrete):
        return jnp.asarray(rng.integers(0, space.nvec, (*shape, len(space.nvec)), dtype=np.int8))
    return jnp.asarray(rng.uniform(-1, 1, (*shape, *space.shape)).astype(np.float32))


@functools.partial(jax.jit, static_argnums=0)
def play(policy, params, obs, resets, carry):
    """``step`` along the last axis of ``resets``; outputs stacked where ``unroll`` has them."""
    time = resets.ndim - 1

    def advance(carry, now):
        carry, out = policy.step(params, carry, *now)
        return carry, readings(out)

    inputs = jnp.moveaxis(obs, time, 0), jnp.moveaxis(resets, time, 0)
    carry, out = jax.lax.scan(advance, carry, inputs)
    return carry, {name: jnp.moveaxis(x, 0, time) for name, x in out.items()}


def readings(out):
    """What can be read off an output, as a dict of arrays."""
    named = {"logp": out.dist.logp_all, "value": out.value, "features": out.features}
    return {name: x for name, x in named.items() if x is not None}


def plain_unroll(policy, params, obs, resets, carry):
    return readings(policy.unroll(params, obs, resets, carry))


# Static policies and one shape for most tests: a program is compiled once for all of them.
unroll = jax.jit(plain_unroll, static_argnums=0)
SHAPE = (3, 2, 25)


def experience(policy, seed=0, shape=SHAPE, rate=0.08):
    """Random observations and resets."""
    obs = random_obs(policy.space, shape, seed)
    return obs, jnp.asarray(np.random.default_rng(100 + seed).random(shape) < rate)


def cut(readings, time):
    return {name: x[:, :, time] for name, x in readings.items()}


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float(np.max(np.abs(np.asarray(a[name]) - np.asarray(b[name])))) for name in a)
