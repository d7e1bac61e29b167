"""A batch with branches: prefixes are repeated and masked, tails are new, returns are whole."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput, make
from test_branches import GRID, GROUP, KEY, POLICIES, WORLD, collect, every_policy, weights

import jaxrl_lab as lab
from jaxrl_lab.mechanisms.branching import BranchAtEntropy
from jaxrl_lab.recipes import recipe, with_value
from jaxrl_lab.rollouts import Points, branch, observe, with_branches
from jaxrl_lab.types import Context

N = 3


def every_point(batch, seed=1):
    b, g, _ = batch.action.shape
    prompt, rollout = np.divmod(np.arange(b * g), g)
    lengths = np.asarray(batch.mask.sum(-1)).reshape(-1)
    time = np.random.default_rng(seed).integers(0, lengths)
    return Points(*(jnp.asarray(x, jnp.int32) for x in (prompt, rollout, time)))


@partial(jax.jit, static_argnums=0)
def joined(name, batch, points):
    extra = name != "transformer"
    given = (GRID, POLICIES[name], WORLD, weights(name), batch, points)
    return with_branches(*given, N, KEY, bootstrap=extra)


@every_policy
def test_branches_repeat_the_prefix_and_go_on_by_themselves(name):
    batch = collect(name)
    points = every_point(batch)
    whole = joined(name, batch, points)
    b, g = GROUP
    assert whole.action.shape == (b, g * (1 + N), batch.action.shape[2])
    for leaf, old in zip(jax.tree.leaves(whole), jax.tree.leaves(batch), strict=True):
        if leaf.ndim > 1 and leaf.shape[1] > 1:
            np.testing.assert_array_equal(leaf[:, :g], old)
    time = np.asarray(points.time).reshape(b, g, 1, 1)
    t = np.arange(batch.action.shape[2])
    before = np.broadcast_to(t < time, (b, g, N, len(t)))

    def split(x):
        return np.asarray(x[:, g:]).reshape(b, g, N, *x.shape[2:])

    for new, old in zip(jax.tree.leaves(whole.state), jax.tree.leaves(batch.state), strict=True):
        same = np.broadcast_to(np.asarray(old)[:, :, None], split(new).shape)
        np.testing.assert_array_equal(split(new)[before], same[before])
    tails = branch(GRID, POLICIES[name], WORLD, weights(name), batch, points, jnp.arange(N), KEY)
    assert not split(whole.mask)[before].any()
    np.testing.assert_array_equal(split(whole.mask).sum(-1).reshape(b * g, N), tails.mask.sum(-1))
    earlier = np.where(t < time[:, :, 0], np.where(batch.mask, batch.reward, 0.0), 0.0).sum(-1)
    expected = np.asarray(tails.returns) + earlier.reshape(-1, 1)
    np.testing.assert_allclose(split(whole.returns).reshape(b * g, N), expected, atol=1e-5)
    assert (np.asarray(whole.returns)[:, g:].std(1) > 0).any()


@every_policy
def test_what_the_sampler_said_is_what_the_unroll_says(name):
    batch = collect(name)
    whole = joined(name, batch, every_point(batch))
    obs = observe(GRID, WORLD, whole.level_id, whole.state, whole.action.shape)
    out = POLICIES[name].unroll(weights(name), obs, whole.resets, whole.carry)
    gap = jnp.where(whole.mask, out.dist.logp(whole.action) - whole.logp_behavior, 0.0)
    assert float(jnp.abs(gap).max()) < 2e-5


def test_a_branch_at_the_start_is_a_fresh_rollout_and_none_is_none():
    batch = collect("tabular")
    points = every_point(batch)
    points = points._replace(time=0 * points.time)
    whole = joined("tabular", batch, points)
    assert bool(whole.mask[..., 0].all())
    given = (GRID, POLICIES["tabular"], WORLD, weights("tabular"), batch, points)
    assert with_branches(*given, 0, KEY) is batch


def chosen(mech, keys=200):
    batch = collect("tabular")
    obs = observe(GRID, WORLD, batch.level_id, batch.state, batch.action.shape)
    out = POLICIES["tabular"].unroll(weights("tabular"), obs, batch.resets, batch.carry)

    def one(key):
        ctx = Context(jnp.int32(0), jnp.float32(0), key)
        return mech.points(batch, out, ctx).time

    times = jax.vmap(one)(jax.random.split(jax.random.key(0), keys))
    return np.asarray(times), np.asarray(out.dist.entropy()), np.asarray(batch.mask)


@pytest.mark.parametrize("where", ["highest", "lowest", "anywhere"])
@pytest.mark.parametrize("top", [1, 2])
def test_points_are_among_the_top_tokens_and_all_of_them(where, top):
    times, entropy, mask = chosen(BranchAtEntropy(branches=N, top=top, where=where))
    entropy, mask = entropy.reshape(-1, mask.shape[-1]), mask.reshape(-1, mask.shape[-1])
    for i, (h, m) in enumerate(zip(entropy, mask, strict=True)):
        order = np.argsort(np.where(m, -h if where == "highest" else h, np.inf), kind="stable")
        size = m.sum() if where == "anywhere" else min(top, m.sum())
        expected = np.flatnonzero(m) if where == "anywhere" else order[:size]
        assert set(times[:, i]) == set(expected.tolist())


def test_without_branches_it_is_the_plain_recipe():
    world = {"updates": 3, "seeds": 2}
    ran = [
        lab.train(GRID, "tabular", lab.recipe("grpo", group=4, task=t), **world).params
        for t in ((), {"branch_at_entropy": {"branches": 0}})
    ]
    for a, b in zip(*map(jax.tree.leaves, ran), strict=True):
        np.testing.assert_array_equal(a, b)


def test_cure_learns_and_counts_what_it_sampled():
    world = make("reasoning/modular_chain")
    built = with_value(recipe("cure", reward=(), prompts=16), "optimizer.learning_rate", 64.0)
    ran = lab.train(world, "tabular", recipe(built, task=built.task[:1]), updates=30, seeds=2)
    returns = np.asarray(ran.dataset["return"]).squeeze()
    assert (returns[:, -5:].mean(1) > returns[:, 1:6].mean(1) + 0.05).all(), returns
    tokens = np.diff(np.asarray(ran.dataset["tokens"]).squeeze())
    most = 16 * 4 * world.horizon * 4
    assert (tokens > most / 4).all()
    assert (tokens <= most).all()
    assert (tokens[:, 1:] < most).all(), "a prefix is not sampled again"


def test_a_group_that_cannot_be_split_is_refused():
    with pytest.raises(BadInput) as caught:
        recipe("cure", group=10).check(GRID, POLICIES["tabular"])
    assert caught.value.key == "recipe.group"
