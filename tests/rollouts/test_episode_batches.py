"""Grouped episodes: layout, addresses of noise, masks, refilling."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import make

from jaxrl_lab import policies
from jaxrl_lab.rollouts import collect_episodes, make_world, observe, refill
from jaxrl_lab.types import Plan

GRID = make("gridworld/two_goals", size=3, levels=4, horizon=6, slippery=True)
PARAMS = replace(GRID.default_params, slip=jnp.float32(0.3))
POLICY = policies.make("tabular", GRID, scale=1.0, value=True)
WORLD = make_world(GRID, PARAMS)


def plan_of(b, g, valid=None):
    valid = jnp.ones((b, g), bool) if valid is None else valid
    return Plan(jnp.arange(b, dtype=jnp.int32), valid, jnp.zeros((b, g), jnp.int8))


def weights(seed=0):
    params = POLICY.init(jax.random.key(seed))
    return params | {"value": jnp.arange(POLICY.rows, dtype=jnp.float32)}


@partial(jax.jit, static_argnames=("bootstrap",))
def collect(params, plan, key, bootstrap=False):
    return collect_episodes(GRID, POLICY, WORLD, params, plan, key, bootstrap=bootstrap)


def test_an_episode_is_what_stepping_by_hand_gives():
    """Each step follows from the stored state, the action, and noise at its address."""
    from jaxrl_lab.keys import named

    key = jax.random.key(3)
    batch = collect(weights(), plan_of(4, 5), key)
    b, g, t = batch.action.shape
    assert (b, g, t) == (4, 5, GRID.horizon)
    noise = [GRID.draw(jax.random.fold_in(named(key, "env"), i), (b, g)) for i in range(t)]
    step = jax.jit(GRID.step)
    for at in [(0, 0), (1, 4), (3, 2)]:
        level = GRID.make_level(PARAMS, batch.level_id[at[0], 0, 0])
        state = GRID.reset(PARAMS, level, ())
        running = True
        for i in range(t):
            stored = jax.tree.map(lambda x, i=i, at=at: x[(*at, i)], batch.state)
            assert jax.tree.map(int, stored) == jax.tree.map(int, state)
            assert bool(batch.mask[(*at, i)]) == running
            assert bool(batch.resets[(*at, i)]) == (i == 0)
            move = step(PARAMS, level, state, batch.action[(*at, i)], noise[i][at])
            pays = float(move.reward["true"]) if running else 0.0
            assert float(batch.reward[(*at, i)]) == pays
            assert bool(batch.terminated[(*at, i)]) == (running and bool(move.terminated))
            assert bool(batch.truncated[(*at, i)]) == (running and bool(move.truncated))
            running = running and not bool(move.terminated | move.truncated)
            state = move.state
        assert not running


def test_masks_are_prefixes_that_end_where_the_episode_does():
    batch = collect(weights(), plan_of(4, 8), jax.random.key(0))
    mask, ended = np.asarray(batch.mask), np.asarray(batch.terminated | batch.truncated)
    assert np.all(mask[..., 0])
    assert np.all(mask[..., 1:] <= mask[..., :-1])
    np.testing.assert_array_equal(ended.sum(-1), 1)
    np.testing.assert_array_equal(ended.argmax(-1), mask.sum(-1) - 1)
    assert 0 < mask.mean() < 1
    assert not np.any(ended & ~mask)


def test_rollouts_that_are_not_valid_are_played_and_masked():
    valid = jnp.ones((4, 3), bool).at[1, 2].set(False)
    batch = collect(weights(), plan_of(4, 3, valid), jax.random.key(0))
    full = collect(weights(), plan_of(4, 3), jax.random.key(0))
    np.testing.assert_array_equal(batch.mask, full.mask & valid[..., None])
    np.testing.assert_array_equal(batch.action, full.action)


def test_two_policies_with_one_key_meet_the_same_luck():
    """Nearly the same policy does nearly the same: actions are coupled through their uniforms."""
    a, b = weights(0), weights(0)
    b["logits"] = b["logits"] + 1e-4 * jax.random.normal(jax.random.key(9), b["logits"].shape)
    first, second = (collect(p, plan_of(4, 32), jax.random.key(1)) for p in (a, b))
    assert np.mean(first.action == second.action) > 0.99
    other = collect(a, plan_of(4, 32), jax.random.key(2))
    assert np.mean(first.action == other.action) < 0.8


def test_values_ahead_are_those_of_the_state_after_the_step():
    batch = collect(weights(), plan_of(4, 4), jax.random.key(0), bootstrap=True)
    value = weights()["value"]
    rows = observe(GRID, WORLD, batch.level_id, batch.state, batch.action.shape)
    now = np.asarray(value[rows])
    ahead, mask = np.asarray(batch.next_value), np.asarray(batch.mask)
    follows = mask[..., 1:]
    np.testing.assert_array_equal(ahead[..., :-1][follows], now[..., 1:][follows])
    assert collect(weights(), plan_of(4, 4), jax.random.key(0)).next_value is None


def test_a_sampled_action_has_the_probability_the_policy_gives_it():
    batch = collect(weights(), plan_of(4, 500), jax.random.key(0))
    rows = np.asarray(observe(GRID, WORLD, batch.level_id, batch.state, batch.action.shape))
    logp = np.asarray(jax.nn.log_softmax(weights()["logits"]))
    np.testing.assert_allclose(batch.logp_behavior, logp[rows, batch.action], atol=1e-5)
    first = rows[0, 0, 0]
    share = np.bincount(np.asarray(batch.action)[0, :, 0], minlength=4) / 500
    np.testing.assert_allclose(share, np.exp(logp[first]), atol=4.5 * 0.5 / np.sqrt(500))


# ------------------------------------------------------------------ refilling

TEMPLATE = collect(weights(), plan_of(4, 3), jax.random.key(0))


def scripted(good, rounds):
    """Refill from rounds whose groups are good as given; group b of round r is marked 10 r + b."""
    good = jnp.asarray(good)

    def collect_round(r):
        mark = (10 * r + jnp.arange(4, dtype=jnp.int32))[:, None, None]
        mask = jnp.ones(TEMPLATE.mask.shape, bool).at[:, :, 2:].set(r > 0)
        return replace(
            TEMPLATE, level_id=mark, mask=mask, action=jnp.broadcast_to(mark, mask.shape)
        )

    def keep(batch):
        mark = batch.level_id[:, 0, 0]
        return good[mark // 10, mark % 10]

    batch, _, tokens, used = jax.jit(lambda: refill(collect_round, keep, rounds))()
    np.testing.assert_array_equal(batch.action[:, 0, 0], batch.level_id[:, 0, 0])
    return batch.level_id[:, 0, 0].tolist(), float(tokens), int(used)


FIRST, LATER = 4 * 3 * 2, 4 * 3 * 6
SCRIPTS = {
    "full at once": ([[1, 1, 1, 1], [0, 0, 0, 0]], 2, [0, 1, 2, 3], 1),
    "filled in order": ([[1, 0, 1, 0], [0, 1, 1, 1]], 2, [0, 11, 2, 12], 2),
    "over three rounds": ([[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1]], 9, [12, 20, 21, 3], 3),
    "never filled": ([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], 3, [22, 1, 2, 3], 3),
    "one round only": ([[0, 1, 0, 0], [1, 1, 1, 1]], 1, [0, 1, 2, 3], 1),
}


@pytest.mark.parametrize(("good", "rounds", "groups", "used"), SCRIPTS.values(), ids=list(SCRIPTS))
def test_empty_places_take_the_next_kept_groups(good, rounds, groups, used):
    """Every generated token counts; places left over keep the group they had."""
    got = scripted(np.array(good, bool), rounds)
    assert got == (groups, FIRST + (used - 1) * LATER, used)
