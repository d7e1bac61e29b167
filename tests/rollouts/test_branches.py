"""Branches: replayed tails are the original ones, new luck is new, and values come out right."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput, make

from jaxrl_lab import exact, policies
from jaxrl_lab.keys import named
from jaxrl_lab.rollouts import (
    REPLAY,
    Points,
    branch,
    collect_episodes,
    collect_stream,
    make_world,
    observe,
    resume,
    snapshot,
)
from jaxrl_lab.rollouts.stream import start_stream
from jaxrl_lab.types import Plan

GRID = make("gridworld/two_goals", size=3, levels=4, horizon=7, slippery=True)
PARAMS = replace(GRID.default_params, slip=jnp.float32(0.3), step_cost=jnp.float32(0.05))
WORLD = make_world(GRID, PARAMS)
KEY = jax.random.key(5)
POLICIES = {
    "tabular": policies.make("tabular", GRID, scale=1.0, value=True),
    "gru": policies.make("gru", GRID, width=12, value=True),
    "transformer": policies.make("transformer", GRID, width=8, heads=2, layers=1, context=4),
}
GROUP = (4, 6)
every_policy = pytest.mark.parametrize("name", list(POLICIES))


def weights(name):
    """Far from the start: what is remembered must matter."""
    shapes = jax.eval_shape(POLICIES[name].init, jax.random.key(0))
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: jnp.asarray(0.7 * rng.normal(size=x.shape), jnp.float32), shapes)


def level_of(prompt):
    return GRID.make_level(PARAMS, jnp.int32(prompt))


@partial(jax.jit, static_argnums=0)
def collect(name, key=KEY):
    b, g = GROUP
    plan = Plan(jnp.arange(b, dtype=jnp.int32), jnp.ones((b, g), bool), jnp.zeros((b, g), jnp.int8))
    return collect_episodes(
        GRID, POLICIES[name], WORLD, weights(name), plan, key, bootstrap=name != "transformer"
    )


@partial(jax.jit, static_argnums=0, static_argnames=("steps",))
def grow(name, batch, points, ids, key=KEY, actions=None, steps=None):
    return branch(
        GRID,
        POLICIES[name],
        WORLD,
        weights(name),
        batch,
        points,
        ids,
        key,
        actions=actions,
        steps=steps,
        bootstrap=name != "transformer",
    )


def all_points(batch):
    """Every real step of the batch."""
    return Points(*(jnp.asarray(x, jnp.int32) for x in np.nonzero(np.asarray(batch.mask))))


EXACT = ("action", "mask", "terminated", "truncated", "reward", "resets")
ROUNDED = ("logp_behavior", "next_value")


@every_policy
def test_a_replayed_branch_is_the_original_tail(name):
    """From every real step of every rollout: states, actions and rewards bit for bit.

    The numbers of a network are held to rounding only: with another batch size, its matrix
    products add in another order.
    """
    batch = collect(name)
    points = all_points(batch)
    assert len(points.time) > 50
    tails = grow(name, batch, points, jnp.array([REPLAY]))
    b, g, t = (np.asarray(x) for x in points)
    steps = GRID.horizon
    for i in range(len(b)):
        left = steps - t[i]
        live = np.asarray(batch.mask)[b[i], g[i], t[i] :]
        for field in EXACT + ROUNDED:
            whole = getattr(batch, field)
            if whole is None:
                continue
            want = np.asarray(whole)[b[i], g[i], t[i] :]
            got = np.asarray(getattr(tails, field))[i, 0, :left]
            if field in EXACT or name == "tabular":
                np.testing.assert_array_equal(got[live], want[live], err_msg=field)
            else:
                np.testing.assert_allclose(got[live], want[live], atol=1e-5, err_msg=field)
        for got, want in zip(
            jax.tree.leaves((tails.state, tails.info)),
            jax.tree.leaves((batch.state, batch.info)),
            strict=True,
        ):
            np.testing.assert_array_equal(
                np.asarray(got)[i, 0, :left][live], np.asarray(want)[b[i], g[i], t[i] :][live]
            )
        assert not np.any(np.asarray(tails.mask)[i, 0, left:])
    np.testing.assert_array_equal(tails.level_id[:, 0, 0], batch.level_id[b, 0, 0])
    assert np.asarray(tails.valid).all()


@pytest.mark.parametrize("name", ["tabular", "gru"])
@pytest.mark.parametrize("time", [0, 1, 3])
def test_replaying_a_whole_batch_repeats_every_bit(name, time):
    """With as many continuations as rollouts, what the network says is the same to the bit."""
    batch = collect(name)
    b, g = (jnp.asarray(x.ravel(), jnp.int32) for x in np.indices(GROUP))
    points = Points(b, g, jnp.full(b.shape, time))
    tails = grow(name, batch, points, jnp.array([REPLAY]))
    live = np.asarray(batch.mask)[:, :, time:]
    left = GRID.horizon - time
    np.testing.assert_array_equal(np.asarray(tails.mask)[:, 0, :left].reshape(live.shape), live)
    for field in EXACT + ROUNDED:
        got = np.asarray(getattr(tails, field))[:, 0, :left].reshape(live.shape)
        want = np.asarray(getattr(batch, field))[:, :, time:]
        np.testing.assert_array_equal(got[live], want[live], err_msg=field)


def test_the_recurrent_memory_is_what_was_remembered():
    """The carry of a branch is what stepping the policy through the prefix by hand gives.

    And the unroll of the suffix from it gives the log-probabilities of acting.
    """
    name, policy = "gru", POLICIES["gru"]
    batch, params = collect("gru"), weights("gru")
    points = Points(jnp.array([0, 1, 3, 2]), jnp.array([5, 0, 2, 2]), jnp.array([0, 1, 2, 3]))
    tails = grow(name, batch, points, jnp.arange(3))
    obs = observe(GRID, WORLD, batch.level_id, batch.state, batch.action.shape)
    step = jax.jit(policy.step)
    for i, (b, g, t) in enumerate(zip(*(x.tolist() for x in points), strict=True)):
        memory = policy.start(())
        for s in range(t):
            memory, _ = step(params, memory, obs[b, g, s], jnp.bool_(s == 0))
        for branch_ in range(3):
            np.testing.assert_allclose(tails.carry[i, branch_], memory, atol=1e-6)
    assert float(jnp.max(jnp.abs(tails.carry[0]))) == 0.0
    assert float(jnp.min(jnp.max(jnp.abs(tails.carry[1:]), axis=-1))) > 0.05
    suffix = observe(GRID, WORLD, tails.level_id, tails.state, tails.action.shape)
    out = jax.jit(policy.unroll)(params, suffix, tails.resets, tails.carry)
    logp = np.asarray(out.dist.logp(tails.action))
    live = np.asarray(tails.mask)
    np.testing.assert_allclose(logp[live], np.asarray(tails.logp_behavior)[live], atol=1e-5)
    blank = jax.jit(policy.unroll)(params, suffix, tails.resets, jnp.zeros_like(tails.carry))
    gap = np.abs(np.asarray(blank.dist.logp(tails.action)) - np.asarray(tails.logp_behavior))
    assert gap[2][live[2]].max() > 1e-3, "the memory matters in this test"


@pytest.mark.parametrize("name", ["tabular", "gru"])
def test_an_id_has_its_luck_alone_and_among_others(name):
    batch = collect(name)
    live = np.asarray(batch.mask)
    points = Points(*(jnp.asarray(x[:5], jnp.int32) for x in np.nonzero(live)))
    # The last one is another rollout of the same prompt, hence in the same first state.
    points = Points(*(x.at[4].set(i) for x, i in zip(points, (0, 1, 0), strict=True)))
    many = grow(name, batch, points, jnp.arange(40))
    again = grow(name, batch, points, jnp.arange(40))
    np.testing.assert_array_equal(many.action, again.action)
    one = Points(*(x[3:4] for x in points))
    alone = grow(name, batch, one, jnp.array([17, REPLAY]))
    np.testing.assert_array_equal(alone.action[0, 0], many.action[3, 17])
    np.testing.assert_array_equal(alone.state.cell[0, 0], many.state.cell[3, 17])
    redrawn = grow(name, batch, points, 40 + jnp.arange(40))
    other = grow(name, batch, points, jnp.arange(40), jax.random.key(6))
    for fresh in (redrawn, other):
        assert np.mean(np.asarray(fresh.action) == np.asarray(many.action)) < 0.9
    # The branches of one state differ among themselves, and one id differs between rollouts.
    assert points.prompt[0] == points.rollout[0] == points.time[0] == 0
    assert len(np.unique(np.asarray(many.action)[0], axis=0)) > 10
    shared = np.asarray(many.action)[[0, 4], :, 0]
    assert np.mean(shared[0] == shared[1]) < 0.9
    mine = grow(name, batch, points, jnp.arange(200).reshape(5, 40))
    np.testing.assert_array_equal(mine.action[0], many.action[0])
    assert np.any(np.asarray(mine.action)[1:] != np.asarray(many.action)[1:])


def test_the_luck_of_branches_is_uniform_and_free_of_its_address():
    """Slips among 20 000 fresh branches, and their correlation with the sampled action."""
    batch = collect("tabular")
    cell = np.asarray(batch.state.cell)
    b, g, t = (x[0] for x in np.nonzero((cell == 4) & np.asarray(batch.mask)))  # the center
    points = Points(*(jnp.array([int(x)]) for x in (b, g, t)))
    n = 20_000
    tails = grow("tabular", batch, points, jnp.arange(n), steps=2)
    action, to = np.asarray(tails.action)[0, :, 0], np.asarray(tails.state.cell)[0, :, 1]
    straight = np.array([1, 5, 7, 3])[action] == to
    assert abs(straight.mean() - 0.7) < 4 * np.sqrt(0.7 * 0.3 / n)
    here = jax.tree.map(lambda x: x[b, g, t], batch.state)
    row = int(GRID.observe(PARAMS, level_of(b), here))
    p = np.asarray(jax.nn.softmax(weights("tabular")["logits"][row]))
    share = np.bincount(action, minlength=4) / n
    assert np.all(np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / n))
    for a in range(4):
        among = straight[action == a]
        assert abs(among.mean() - 0.7) < 4 * np.sqrt(0.21 / len(among))


def test_the_same_luck_after_another_action():
    """A counterfactual: the world's slips and the policy's uniforms are those that were met."""
    batch = collect("tabular")
    points = Points(jnp.array([1, 2]), jnp.array([0, 3]), jnp.array([1, 0]))
    taken = batch.action[points]
    actions = jnp.stack([taken, (taken + 1) % 4, jnp.full(2, -1)], axis=1)
    tails = grow("tabular", batch, points, jnp.full(3, REPLAY), actions=actions)
    np.testing.assert_array_equal(tails.action[:, 1, 0], actions[:, 1])
    for field in ("action", "reward", "mask"):
        x = getattr(tails, field)
        np.testing.assert_array_equal(x[:, 0], x[:, 2])
    step = jax.jit(GRID.step)
    for i, (b, g, t) in enumerate(zip(*(x.tolist() for x in points), strict=True)):
        state = jax.tree.map(lambda x, at=(b, g, t): x[at], batch.state)
        for s in range(GRID.horizon - t):
            noise = GRID.draw(jax.random.fold_in(named(KEY, "env"), t + s), GROUP)[b, g]
            assert int(tails.state.cell[i, 1, s]) == int(state.cell)
            move = step(PARAMS, level_of(b), state, tails.action[i, 1, s], noise)
            state = move.state
    logp = jax.nn.log_softmax(weights("tabular")["logits"])
    rows = observe(GRID, WORLD, tails.level_id, tails.state, tails.action.shape)
    np.testing.assert_allclose(tails.logp_behavior, logp[rows, tails.action], atol=1e-6)


def test_branches_estimate_exact_action_values():
    """Every action in states at several times: the mean return within 3 standard errors of Q.

    48 comparisons at 3 errors would fail once in eight tries; the key is fixed, and the pooled
    error over all of them is held to chi-squared as well.
    """
    n = 4000
    batch = collect("tabular")
    b, g, t = (x[::9][:12] for x in np.nonzero(np.asarray(batch.mask)))
    m = 4 * len(b)
    points = Points(*(jnp.asarray(np.repeat(x, 4), jnp.int32) for x in (b, g, t)))
    action = np.tile(np.arange(4), len(b))
    ids = jnp.arange(m * n, dtype=jnp.int32).reshape(m, n)
    first = jnp.broadcast_to(jnp.asarray(action, jnp.int32)[:, None], (m, n))
    tails = grow("tabular", batch, points, ids, actions=first)
    returns = np.asarray(tails.returns, np.float64)
    mdps = exact.tabulate(GRID, PARAMS, jnp.arange(4, dtype=jnp.int32))
    logp = jax.nn.log_softmax(weights("tabular")["logits"])
    q = np.asarray(jax.vmap(exact.value, (0, None))(mdps, logp)[1])
    cell = np.asarray(batch.state.cell[points])
    want = q[np.asarray(points.prompt), np.asarray(points.time), cell, action]
    assert np.ptp(want) > 0.5
    error = returns.std(axis=1, ddof=1) / np.sqrt(n)
    # On the last step only the slip is left to chance, and nothing where no goal is near.
    certain = error < 1e-6
    np.testing.assert_allclose(returns.mean(1)[certain], want[certain], atol=1e-5)
    z = (returns.mean(1) - want)[~certain] / error[~certain]
    assert np.all(np.abs(z) < 3.0), z
    assert np.sum(z**2) < len(z) + 4 * np.sqrt(2 * len(z))


def test_snapshots_are_kept_joined_and_taken_apart():
    name = "gru"
    batch, policy, params = collect(name), POLICIES[name], weights(name)
    live = np.nonzero(np.asarray(batch.mask))
    first, second = (
        Points(*(jnp.asarray(x[part], jnp.int32) for x in live)) for part in (np.s_[:3], np.s_[7:9])
    )
    save = jax.jit(lambda points: snapshot(GRID, policy, WORLD, params, batch, points, KEY))
    play = jax.jit(lambda saved, ids: resume(GRID, policy, WORLD, params, saved, ids, KEY))
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), save(first), save(second))
    ids = jnp.array([REPLAY, 0, 1])
    together = play(joined, ids)
    apart = [play(save(first), ids), play(save(second), ids)]
    for got, *want in zip(
        jax.tree.leaves((together.action, together.state)),
        *(jax.tree.leaves((x.action, x.state)) for x in apart),
        strict=True,
    ):
        np.testing.assert_array_equal(got, np.concatenate(want))
    single = jax.tree.map(lambda x: x[4:5], joined)
    np.testing.assert_array_equal(play(single, ids).action[0], together.action[4])


def test_after_the_end_nothing_follows():
    batch = collect("tabular")
    mask = np.asarray(batch.mask)
    b, g = (x[0] for x in np.nonzero(~mask[..., -1]))
    points = Points(*(jnp.array([int(x)]) for x in (b, g, GRID.horizon - 1)))
    tails = grow("tabular", batch, points, jnp.arange(2))
    assert not np.any(tails.mask)
    assert not np.any(tails.valid)
    np.testing.assert_array_equal(tails.returns, 0.0)


def test_a_world_without_state_or_noise_is_branched_too():
    env = make("bandit/modes", prompts=3, arms=6, modes=2)
    policy, world = policies.make("tabular", env, scale=1.0), make_world(env, env.default_params)
    params = policy.init(jax.random.key(0))
    plan = Plan(jnp.arange(3), jnp.ones((3, 4), bool), jnp.zeros((3, 4), jnp.int8))
    batch = collect_episodes(env, policy, world, params, plan, KEY)
    points = Points(jnp.array([2, 0]), jnp.array([1, 3]), jnp.zeros(2, jnp.int32))
    tails = branch(env, policy, world, params, batch, points, np.array([REPLAY, 0, 1]), KEY)
    assert tails.action.shape == (2, 3, 1)
    np.testing.assert_array_equal(tails.action[:, 0], batch.action[points][:, None])
    np.testing.assert_array_equal(tails.reward[:, 0], batch.reward[points][:, None])


def test_refusals_name_what_is_wrong():
    batch, params = collect("tabular"), weights("tabular")
    given = (GRID, POLICIES["tabular"], WORLD, params)
    inside = Points(np.array([0]), np.array([0]), np.array([0]))
    for field, value in (("prompt", 4), ("rollout", -1), ("time", 7)):
        with pytest.raises(BadInput, match=field):
            snapshot(*given, batch, inside._replace(**{field: np.array([value])}))
    saved = snapshot(*given, batch, inside)
    with pytest.raises(BadInput, match="without the batch's key"):
        resume(*given, saved, np.array([REPLAY]), KEY)
    with pytest.raises(BadInput, match="ids"):
        resume(*given, saved, np.array([-2]), KEY)
    stream = start_stream(GRID, POLICIES["tabular"], WORLD, "train", KEY, 3)
    _, run = collect_stream(GRID, POLICIES["tabular"], WORLD, params, stream, "train", KEY, 4)
    with pytest.raises(BadInput, match="stream"):
        snapshot(*given, run, inside)
