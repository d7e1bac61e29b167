"""Hashes of packed states: equal where states are, and different as often as they can be."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import make
from jaxrl_envs.gridworlds.two_goals import State

from jaxrl_lab import policies
from jaxrl_lab.rollouts import collect_episodes, make_world, state_hash
from jaxrl_lab.types import Plan

hashed = jax.jit(state_hash, static_argnums=1)


def distinct(x):
    return len(np.unique(np.asarray(x)))


def test_small_states_never_collide():
    cell, clock = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    small = State(jnp.asarray(cell, jnp.uint8), jnp.asarray(clock, jnp.uint8))
    h = hashed(small, (256, 256))
    assert h.dtype == jnp.uint32
    assert distinct(h) == 2**16
    wide = {"a": jnp.arange(2**20, dtype=jnp.uint32), "b": ()}
    assert distinct(hashed(wide, (2**20,))) == 2**20


def test_large_states_collide_as_rarely_as_chance_has_it():
    """A million random states of 16 bytes in five fields: n²/2³³ = 128 collisions ± 11."""
    n, rng = 2**20, np.random.default_rng(0)
    states = {
        "grid": jnp.asarray(rng.integers(0, 4, (n, 3, 2)), jnp.uint8),
        "flag": jnp.asarray(rng.integers(0, 2, n), bool),
        "clock": jnp.asarray(rng.integers(0, 2**16, n), jnp.uint16),
        "total": jnp.asarray(rng.normal(size=n), jnp.float32),
        "sign": jnp.asarray(rng.integers(-100, 100, (n, 3)), jnp.int8),
    }
    rows = np.concatenate([np.asarray(x).reshape(n, -1).view(np.uint8) for x in states.values()], 1)
    rows = np.ascontiguousarray(rows).view([("", np.uint8, rows.shape[1])]).ravel()
    different = len(np.unique(rows))
    lost = different - distinct(hashed(states, (n,)))
    assert abs(lost - 128) < 5 * np.sqrt(128)


def test_neighbors_and_permutations_differ():
    """Counting states, states that differ in one bit, and two words exchanged: no structure."""
    count = jnp.stack(jnp.meshgrid(jnp.arange(256), jnp.arange(1024), indexing="ij"), axis=-1)
    h = hashed(count.astype(jnp.int32), (256, 1024))
    assert 2**18 - distinct(h) < 30  # 8 ± 3 by chance
    bits = 1 << np.arange(32, dtype=np.uint32)
    words = np.zeros((96, 3), np.uint32)
    words[np.arange(96), np.repeat(np.arange(3), 32)] = np.tile(bits, 3)
    assert distinct(hashed(jnp.asarray(words), (96,))) == 96
    swapped = hashed(jnp.asarray([[1, 2], [2, 1], [3, 0], [0, 3]], jnp.uint32), (4,))
    assert distinct(swapped) == 4
    flips = np.asarray(hashed(jnp.asarray(words), (96,)))[:, None] ^ np.asarray(
        hashed(jnp.zeros((1, 3), jnp.uint32), (1,))
    )
    turned = np.unpackbits(flips.view(np.uint8)).mean()
    assert turned == pytest.approx(0.5, abs=0.05)


def test_equal_states_are_equal_however_they_are_stacked():
    rng = np.random.default_rng(1)
    states = {
        "a": jnp.asarray(rng.integers(0, 9, (4, 5, 7)), jnp.uint8),
        "b": jnp.asarray(rng.normal(size=(4, 5, 7, 2)), jnp.float32),
    }
    h = hashed(states, (4, 5, 7))
    assert h.shape == (4, 5, 7)
    one = jax.tree.map(lambda x: x[3, 0, 6], states)
    assert int(hashed(one, ())) == int(h[3, 0, 6])
    mapped = jax.vmap(lambda x: state_hash(x, (5, 7)))(states)
    np.testing.assert_array_equal(mapped, h)
    zeros = hashed(jnp.array([0.0, -0.0, 1e-30]), (3,))
    assert int(zeros[0]) == int(zeros[1]) != int(zeros[2])
    assert hashed((), (2, 3)).shape == (2, 3)
    assert distinct(hashed((), (2, 3))) == 1


def test_rollouts_of_a_group_that_meet_are_found():
    """Pairs of equal hashes are the pairs of equal states, times included."""
    env = make("gridworld/two_goals", size=3, levels=4, horizon=5, slippery=True)
    policy = policies.make("tabular", env, scale=0.5)
    params = replace(env.default_params, slip=jnp.float32(0.2))
    plan = Plan(jnp.arange(4), jnp.ones((4, 6), bool), jnp.zeros((4, 6), jnp.int8))
    key = jax.random.key(0)
    batch = collect_episodes(env, policy, make_world(env, params), policy.init(key), plan, key)
    h = np.asarray(hashed(batch.state, batch.action.shape))
    cell, clock = np.asarray(batch.state.cell), np.asarray(batch.state.clock)
    for b in range(4):
        same = h[b].reshape(-1, 1) == h[b].reshape(1, -1)
        want = (cell[b].reshape(-1, 1) == cell[b].reshape(1, -1)) & (
            clock[b].reshape(-1, 1) == clock[b].reshape(1, -1)
        )
        np.testing.assert_array_equal(same, want)
        assert np.all(same[::5, ::5])  # all begin alike
