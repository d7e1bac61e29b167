"""Auto-reset streams: batches continue one another and keep every boundary."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import make

from jaxrl_lab import policies
from jaxrl_lab.rollouts import collect_stream, make_world, observe
from jaxrl_lab.rollouts.stream import start_stream

GRID = make("gridworld/two_goals", size=3, levels=4, horizon=5)
POLICY = policies.make("tabular", GRID, scale=1.0, value=True)
WORLD = make_world(GRID, GRID.default_params)
PARAMS = POLICY.init(jax.random.key(0)) | {"value": jnp.arange(POLICY.rows, dtype=jnp.float32)}
N, T = 24, 40


@partial(jax.jit, static_argnames=("steps",))
def run(stream, key, steps=T):
    return collect_stream(GRID, POLICY, WORLD, PARAMS, stream, "train", key, steps, bootstrap=True)


def begin():
    return start_stream(GRID, POLICY, WORLD, "train", jax.random.key(1), N)


def rows_of(batch):
    return np.asarray(observe(GRID, WORLD, batch.level_id, batch.state, batch.action.shape))


def test_an_entry_follows_the_last_one_or_starts_an_episode():
    _, batch = run(begin(), jax.random.key(2))
    assert batch.action.shape == (N, 1, T)
    assert bool(jnp.all(batch.mask))
    ended = np.asarray(batch.terminated | batch.truncated)
    resets, clock = np.asarray(batch.resets), np.asarray(batch.state.clock)
    np.testing.assert_array_equal(resets[..., 1:], ended[..., :-1])
    np.testing.assert_array_equal(clock == 0, resets)
    assert np.all(clock[..., 1:][~resets[..., 1:]] == clock[..., :-1][~resets[..., 1:]] + 1)
    level = np.asarray(batch.level_id)
    assert np.all(level[..., 1:][~resets[..., 1:]] == level[..., :-1][~resets[..., 1:]])
    assert len(np.unique(level)) == 4
    assert np.any(batch.truncated)
    assert np.any(batch.terminated)


def test_values_ahead_never_look_into_the_next_episode():
    """Where an episode goes on: the value of the next entry. Where it ends: of its final state."""
    _, batch = run(begin(), jax.random.key(2))
    rows, ahead = rows_of(batch), np.asarray(batch.next_value)
    ended = np.asarray(batch.terminated | batch.truncated)
    on = ~ended[..., :-1]
    np.testing.assert_array_equal(ahead[..., :-1][on], rows[..., 1:][on].astype(np.float32))
    levels = jax.vmap(partial(GRID.make_level, GRID.default_params))(batch.level_id.reshape(-1))
    flat = jax.tree.map(lambda x: x.reshape(-1), (batch.state, batch.action))
    step = jax.vmap(GRID.step, in_axes=(None, 0, 0, 0, None))
    after = step(GRID.default_params, levels, *flat, ()).state
    see = jax.vmap(GRID.observe, in_axes=(None, 0, 0))
    final = np.asarray(see(GRID.default_params, levels, after)).reshape(ended.shape)
    np.testing.assert_array_equal(ahead, final.astype(np.float32))
    assert np.any(final[..., :-1][~on] != rows[..., 1:][~on])


def test_the_next_batch_goes_on_where_the_last_one_stopped():
    stream, first = run(begin(), jax.random.key(2), 7)
    _, second = run(stream, jax.random.key(3), 7)
    ended = np.asarray(first.terminated | first.truncated)[..., -1]
    np.testing.assert_array_equal(second.resets[..., 0], ended)
    assert 0 < ended.sum() < N
    ahead = np.asarray(first.next_value)[..., -1]
    here = rows_of(second)[..., 0].astype(np.float32)
    np.testing.assert_array_equal(here[~ended], ahead[~ended])


def test_a_batch_of_one_step_keeps_its_levels():
    stream, _ = run(begin(), jax.random.key(2), 7)
    _, batch = run(stream, jax.random.key(3), 1)
    assert batch.level_id.shape == (N, 1, 1)
    expected = jax.vmap(GRID.observe, in_axes=(None, 0, 0))(
        GRID.default_params,
        jax.vmap(partial(GRID.make_level, GRID.default_params))(stream.envs.level_id),
        stream.envs.state,
    )
    np.testing.assert_array_equal(rows_of(batch).reshape(-1), expected)
