"""Properties that every policy has, run over the whole table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_cases import (
    SHAPE,
    cut,
    every_policy,
    every_valued_policy,
    experience,
    largest_difference,
    loud_params,
    plain_unroll,
    play,
    unroll,
)

from jaxrl_lab.policies import Policy

TOLERANCE = 1e-5
BATCH, STEPS = SHAPE[:-1], SHAPE[-1]


@every_policy
def test_step_and_unroll_agree_across_episodes(policy):
    params, (obs, resets) = loud_params(policy), experience(policy)
    _, stepped = play(policy, params, obs, resets, policy.start(BATCH))
    unrolled = unroll(policy, params, obs, resets, policy.start(BATCH))
    assert bool(jnp.any(resets))
    assert unrolled["logp"].shape == (*SHAPE, policy.actions)
    assert float(jnp.std(unrolled["logp"])) > 0.1  # a constant policy would agree with anything
    assert ("value" in unrolled) == policy.value
    assert ("features" in unrolled) == getattr(policy, "features", False)
    assert largest_difference(stepped, unrolled) <= TOLERANCE


@every_valued_policy
def test_a_chunk_continues_from_the_carry_of_the_one_before(policy):
    params, empty = loud_params(policy), policy.start(BATCH)
    obs, resets = experience(policy, shape=(*BATCH, 2 * STEPS))
    # One sequence is cut exactly at a reset and the others in mid-episode.
    resets = resets.at[..., STEPS].set(False).at[0, 0, STEPS].set(True)
    early, late = slice(None, STEPS), slice(STEPS, None)
    head, tail = ((obs[:, :, part], resets[..., part]) for part in (early, late))
    whole = unroll(policy, params, obs, resets, empty)
    carry, first = play(policy, params, *head, empty)
    _, second = play(policy, params, *tail, carry)
    assert largest_difference(first, cut(whole, early)) <= TOLERANCE
    assert largest_difference(second, cut(whole, late)) <= TOLERANCE
    continued = unroll(policy, params, *tail, carry)
    assert largest_difference(continued, cut(whole, late)) <= TOLERANCE
    if not policy.memoryless:
        assert largest_difference(continued, unroll(policy, params, *tail, empty)) > 1e-3
        cleared = tail[0], tail[1].at[..., 0].set(True)
        kept = [unroll(policy, params, *cleared, c) for c in (carry, empty)]
        assert largest_difference(*kept) <= TOLERANCE


@every_valued_policy
def test_nothing_flows_backward_in_time_or_across_a_reset(policy):
    moved, border = 5, 7
    params, (obs, _) = loud_params(policy), experience(policy)
    changed = obs.at[:, :, moved].set(experience(policy, seed=1)[0][:, :, moved])
    # An episode that ends soon after the change, and one that begins with it.
    resets = jnp.zeros(SHAPE, bool).at[:, 0, border].set(True).at[:, 1, moved].set(True)
    a, b = (unroll(policy, params, x, resets, policy.start(BATCH)) for x in (obs, changed))
    touched = np.asarray(jnp.max(jnp.abs(a["logp"] - b["logp"]), axis=-1) > 1e-5)
    ends = moved + 1 if policy.memoryless else border
    assert np.all(touched[:, 0, moved:ends])
    assert not np.any(touched[:, 0, :moved]), "an output knew the future"
    assert not np.any(touched[:, 0, ends:]), "memory outlived its episode"
    assert np.all(touched[:, 1, moved]), "the first observation of an episode was cleared away"
    assert not np.any(touched[:, 1, :moved])


@every_valued_policy
def test_memory_is_declared(policy):
    """A memoryless policy ignores carry and resets; the others hold batch axes first."""
    leaves = jax.tree.leaves(policy.start((4, 3)))
    assert all(x.shape[:2] == (4, 3) for x in leaves)
    params, (obs, resets) = loud_params(policy), experience(policy)
    if policy.memoryless:
        assert policy.start(BATCH) == ()
        quiet = unroll(policy, params, obs, jnp.zeros(SHAPE, bool), ())
        busy = unroll(policy, params, obs, jnp.ones(SHAPE, bool), jnp.ones((*BATCH, 9)))
        assert largest_difference(quiet, busy) == 0.0
        return
    assert leaves
    carry, _ = play(policy, params, obs, resets, policy.start(BATCH))
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), c) for c in (policy.start(BATCH), carry)]
    assert kinds[0] == kinds[1]


@every_valued_policy
def test_gradient_is_the_slope_of_every_leaf(policy):
    params, (obs, resets) = loud_params(policy), experience(policy)
    weight = jax.random.normal(jax.random.key(3), (*SHAPE, policy.actions))

    def loss(params):
        out = unroll(policy, params, obs, resets, policy.start(BATCH))
        return jnp.mean(weight * out["logp"]) + jnp.mean(weight[..., 0] * out["value"])

    leaves, structure = jax.tree.flatten(params)
    for i, g in enumerate(jax.tree.leaves(jax.jit(jax.grad(loss))(params))):
        # Along its own gradient a leaf has its largest slope: the difference beats the rounding.
        size = float(jnp.linalg.norm(g))
        assert np.isfinite(size)
        assert size > 1e-5, "a leaf that no output depends on"
        step = min(0.02, 0.5 * float(jnp.linalg.norm(leaves[i])))

        def at(length, i=i, direction=g / size):
            moved = [x + length * direction if j == i else x for j, x in enumerate(leaves)]
            return float(loss(jax.tree.unflatten(structure, moved)))

        slope = (at(step) - at(-step)) / (2 * step)
        assert slope == pytest.approx(size, rel=2e-2, abs=2e-5)


@every_valued_policy
def test_plain_jit_and_leading_axes_agree(policy):
    params, (obs, resets) = loud_params(policy), experience(policy)
    compiled = unroll(policy, params, obs, resets, policy.start(BATCH))
    plain = plain_unroll(policy, params, obs, resets, policy.start(BATCH))
    assert largest_difference(plain, compiled) <= TOLERANCE
    for b, g in np.ndindex(BATCH):
        alone = unroll(policy, params, obs[b, g], resets[b, g], policy.start(()))
        assert largest_difference(alone, {k: x[b, g] for k, x in compiled.items()}) <= TOLERANCE


@every_valued_policy
def test_a_population_is_a_loop(policy):
    members = [loud_params(policy, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    rest = (*experience(policy), policy.start(BATCH))
    together = jax.vmap(lambda p: unroll(policy, p, *rest))(stacked)
    acted = jax.vmap(lambda p: play(policy, p, *rest)[1])(stacked)
    for i, params in enumerate(members):
        alone = unroll(policy, params, *rest)
        assert largest_difference(alone, {k: x[i] for k, x in together.items()}) <= TOLERANCE
        assert largest_difference(alone, {k: x[i] for k, x in acted.items()}) <= TOLERANCE


@every_valued_policy
def test_initial_parameters_are_fixed_by_the_key(policy):
    init, keys = jax.jit(policy.init), jax.random.split(jax.random.key(0), 3)
    params, again = init(keys[0]), init(keys[0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert all(isinstance(step, jax.tree_util.DictKey) for step in path)
        assert all(isinstance(step.key, str) for step in path)
        assert leaf.dtype == jnp.float32
    other, population = init(keys[1]), jax.jit(jax.vmap(policy.init))(keys)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, again)))
    for leaf, alone in zip(jax.tree.leaves(population), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(leaf[0], alone, atol=1e-6)
    differs = jax.tree.map(lambda x, y: not np.array_equal(x, y), params, other)
    assert any(jax.tree.leaves(differs))


@every_policy
def test_a_policy_is_a_hashable_member_of_the_contract(policy):
    assert isinstance(policy, Policy)
    twin = type(policy)(**{k: getattr(policy, k) for k in policy.__dataclass_fields__})
    assert twin == policy
    assert hash(twin) == hash(policy)
