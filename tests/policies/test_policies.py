"""Properties that every policy has, run over the whole table."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_lab.policies import Policy
from policy_cases import (
    every_policy,
    every_valued_policy,
    largest_difference,
    loud_params,
    play,
    random_obs,
    random_resets,
    readings,
    unroll,
)

TOLERANCE = 1e-5
STEPS = 50


@every_policy
def test_step_and_unroll_agree_across_episodes(policy):
    params, shape = loud_params(policy), (3, 2, STEPS)
    obs, resets = random_obs(policy.space, shape), random_resets(shape)
    carry = policy.start(shape[:-1])
    _, stepped = jax.jit(partial(play, policy))(params, obs, resets, carry)
    unrolled = jax.jit(partial(unroll, policy))(params, obs, resets, carry)
    assert unrolled["logp"].shape == (*shape, policy.actions)
    assert float(jnp.std(unrolled["logp"])) > 0.1  # a constant policy would agree with anything
    assert ("value" in unrolled) == policy.value
    assert ("features" in unrolled) == getattr(policy, "features", False)
    assert largest_difference(stepped, unrolled) <= TOLERANCE


@every_policy
@pytest.mark.parametrize("cut", [1, 3, 27])
def test_unroll_continues_from_a_carry_in_mid_episode(policy, cut):
    params, shape = loud_params(policy), (3, 2, STEPS)
    obs = random_obs(policy.space, shape)
    # One sequence is cut exactly at a reset and the others in mid-episode.
    resets = random_resets(shape).at[..., cut].set(False).at[0, 0, cut].set(True)
    empty = policy.start(shape[:-1])
    head = (obs[:, :, :cut], resets[..., :cut])
    tail = (obs[:, :, cut:], resets[..., cut:])
    carry, _ = jax.jit(partial(play, policy))(params, *head, empty)
    run = jax.jit(partial(unroll, policy))
    whole, first, second = (
        run(params, obs, resets, empty),
        run(params, *head, empty),
        run(params, *tail, carry),
    )
    assert largest_difference(first, {k: x[:, :, :cut] for k, x in whole.items()}) <= TOLERANCE
    assert largest_difference(second, {k: x[:, :, cut:] for k, x in whole.items()}) <= TOLERANCE
    if not policy.memoryless:
        forgetful = run(params, *tail, empty)
        assert largest_difference(second, forgetful) > 1e-3
        reset_anyway = run(params, tail[0], tail[1].at[..., 0].set(True), carry)
        nothing_kept = run(params, tail[0], tail[1].at[..., 0].set(True), empty)
        assert largest_difference(reset_anyway, nothing_kept) <= TOLERANCE


@every_valued_policy
def test_nothing_flows_backward_in_time_or_across_a_reset(policy):
    params, shape, moved, border = loud_params(policy), (2, 12), 5, 7
    obs, other = random_obs(policy.space, shape), random_obs(policy.space, shape, seed=1)
    changed = obs.at[:, moved].set(other[:, moved])
    resets = jnp.zeros(shape, bool).at[0, border].set(True).at[1, moved].set(True)
    run = jax.jit(partial(unroll, policy))
    before = run(params, obs, resets, policy.start((2,)))
    after = run(params, changed, resets, policy.start((2,)))
    touched = jnp.max(jnp.abs(before["logp"] - after["logp"]), axis=-1) > 1e-4
    expected = np.zeros(shape, bool)
    if policy.memoryless:
        expected[:, moved] = True
    else:
        expected[0, moved:border] = True  # until the next episode begins, and not one step more
        expected[1, moved : moved + 5] = True  # a reset clears before reading, not after
        touched = touched.at[1, moved + 5 :].set(False)  # memories of different lengths
    np.testing.assert_array_equal(touched, expected)


@every_valued_policy
def test_memoryless_policies_ignore_carry_and_resets(policy):
    if not policy.memoryless:
        leaves = jax.tree.leaves(policy.start((4, 3)))
        assert leaves and all(x.shape[:2] == (4, 3) for x in leaves)
        return
    params, shape = loud_params(policy), (4, 6)
    obs = random_obs(policy.space, shape)
    assert policy.start((4,)) == ()
    quiet = unroll(policy, params, obs, jnp.zeros(shape, bool), ())
    busy = unroll(policy, params, obs, jnp.ones(shape, bool), jnp.ones((4, 9)))
    assert largest_difference(quiet, busy) == 0.0


@every_valued_policy
def test_gradient_is_the_slope_of_every_leaf(policy):
    params, shape = loud_params(policy), (2, 8)
    obs, resets = random_obs(policy.space, shape), random_resets(shape, rate=0.2)
    weight = jax.random.normal(jax.random.key(3), (*shape, policy.actions))

    @jax.jit
    def loss(params):
        out = unroll(policy, params, obs, resets, policy.start((2,)))
        return jnp.mean(weight * out["logp"]) + jnp.mean(weight[..., 0] * out["value"])

    slope = jax.jit(jax.grad(loss))(params)
    leaves, structure = jax.tree.flatten(params)
    for i, g in enumerate(jax.tree.leaves(slope)):
        # Along its own gradient a leaf has its largest slope: the difference beats the rounding.
        size = float(jnp.linalg.norm(g))
        assert np.isfinite(size)
        assert size > 1e-6, "a leaf that no output depends on"
        move = 1e-2 * g / size

        def at(sign, i=i, move=move):
            shifted = [x + sign * move if j == i else x for j, x in enumerate(leaves)]
            return float(loss(jax.tree.unflatten(structure, shifted)))

        assert (at(1.0) - at(-1.0)) / 2e-2 == pytest.approx(size, rel=2e-2, abs=2e-5)


@every_valued_policy
def test_plain_jit_and_leading_axes_agree(policy):
    params, shape = loud_params(policy), (3, 2, 7)
    obs, resets = random_obs(policy.space, shape), random_resets(shape, rate=0.2)
    plain = unroll(policy, params, obs, resets, policy.start((3, 2)))
    run = jax.jit(partial(unroll, policy))
    assert largest_difference(plain, run(params, obs, resets, policy.start((3, 2)))) <= TOLERANCE
    for b, g in np.ndindex(3, 2):
        alone = run(params, obs[b, g], resets[b, g], policy.start(()))
        assert largest_difference(alone, {k: x[b, g] for k, x in plain.items()}) <= TOLERANCE
    batched = jax.vmap(lambda *x: unroll(policy, params, *x))(obs, resets, policy.start((3, 2)))
    assert largest_difference(batched, plain) <= TOLERANCE


@every_valued_policy
def test_a_population_is_a_loop(policy):
    keys = jax.random.split(jax.random.key(4), 3)
    params = jax.jit(jax.vmap(policy.init))(keys)
    shape = (2, 6)
    obs, resets = random_obs(policy.space, shape), random_resets(shape, rate=0.2)
    carry = policy.start((2,))
    together = jax.jit(jax.vmap(partial(unroll, policy), (0, None, None, None)))(
        params, obs, resets, carry
    )
    _, acted = jax.jit(jax.vmap(partial(play, policy), (0, None, None, None)))(
        params, obs, resets, carry
    )
    run = jax.jit(partial(unroll, policy))
    for i, key in enumerate(keys):
        alone = run(jax.jit(policy.init)(key), obs, resets, carry)
        assert largest_difference(alone, {k: x[i] for k, x in together.items()}) <= TOLERANCE
        assert largest_difference(alone, {k: x[i] for k, x in acted.items()}) <= TOLERANCE


@every_policy
def test_parameters_are_dicts_of_float32_fixed_by_the_key(policy):
    init = jax.jit(policy.init)
    params, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    paths = jax.tree_util.tree_leaves_with_path(params)
    assert all(isinstance(step, jax.tree_util.DictKey) for path, _ in paths for step in path)
    assert all(isinstance(step.key, str) for path, _ in paths for step in path)
    assert all(type(x) is not dict and x.dtype == jnp.float32 for _, x in paths)
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), params, again)
    assert all(jax.tree.leaves(same))
    differs = jax.tree.map(lambda a, b: not bool(jnp.array_equal(a, b)), params, other)
    assert any(jax.tree.leaves(differs))


@every_policy
def test_a_policy_is_a_hashable_member_of_the_contract(policy):
    assert isinstance(policy, Policy)
    twin = type(policy)(**{k: getattr(policy, k) for k in policy.__dataclass_fields__})
    assert twin == policy
    assert hash(twin) == hash(policy)
    assert isinstance(policy.memoryless, bool)


@every_valued_policy
def test_carry_keeps_its_structure_and_types(policy):
    carry = policy.start((2, 3))
    obs = random_obs(policy.space, (2, 3))
    after, out = jax.jit(policy.step)(loud_params(policy), carry, obs, jnp.zeros((2, 3), bool))
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), c) for c in (carry, after)]
    assert shapes[0] == shapes[1]
    assert readings(out)["logp"].shape == (2, 3, policy.actions)
    assert out.value.shape == (2, 3)
    assert out.take(jnp.array([1])).dist.logp_all.shape == (1, 3, policy.actions)
