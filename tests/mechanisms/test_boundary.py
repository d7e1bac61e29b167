"""Demonstrations and multiple importance sampling against formulas written out in NumPy."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest
from jaxrl_envs import BadInput
from mechanism_cases import WORLD, K, build, first_memory, random_case, whole_objective

from jaxrl_lab import policies
from jaxrl_lab.mechanisms.core import equation_of
from jaxrl_lab.mechanisms.surrogate import ImportanceWeighted
from jaxrl_lab.recipes import recipe


def demonstrated(case, **given):
    mech = build("reward", "demonstrate", given)
    return mech(case.batch, replace(case.ctx, memory=first_memory(mech, case)))


def one_token(**options):
    return random_case((4, 3, 1), 2, ragged=False, **options)


# ------------------------------------------------------------------ demonstrations


@pytest.mark.parametrize("behavior", ["unknown", "certain"])
def test_the_last_rollout_becomes_a_right_arm(behavior):
    case = one_token()
    got = demonstrated(case, behavior=behavior)
    params = WORLD.default_params
    right = [int(jnp.argmax(WORLD.make_level(params, jnp.int32(b)).mode == 0)) for b in range(4)]
    np.testing.assert_array_equal(got.action[:, -1, 0], right)
    np.testing.assert_array_equal(got.reward[:, -1, 0], 1.0)
    np.testing.assert_array_equal(got.source, [[0, 0, 1]] * 4)
    old = np.asarray(case.ctx.passes["old"].dist.logp_all)[np.arange(4), -1, 0, right]
    np.testing.assert_allclose(got.logp_old[:, -1, 0], old, rtol=1e-6)
    author = {"unknown": np.log(0.5 * (np.exp(old) + 1.0)), "certain": np.zeros(4)}[behavior]
    np.testing.assert_allclose(got.logp_behavior[:, -1, 0], author, rtol=1e-5, atol=1e-6)
    for name in ("action", "reward", "logp_old", "logp_behavior"):
        before, after = getattr(case.batch, name), getattr(got, name)
        np.testing.assert_array_equal(after[:, :-1], before[:, :-1], name)
        assert after.dtype == before.dtype


def test_of_rollouts_that_do_not_count_none_is_replaced():
    batch = one_token().batch
    valid = jnp.array([[True, True, False]] * 3 + [[False] * 3])
    case = replace(one_token(), batch=replace(batch, valid=valid, mask=valid[..., None]))
    got = demonstrated(case)
    np.testing.assert_array_equal(got.source, [[0, 1, 0]] * 3 + [[0, 0, 0]])


def test_worlds_without_right_arms_and_groups_of_one_are_refused():
    grid = jaxrl_envs.make("gridworld/open")
    for env, group, key in (
        (WORLD, 1, "recipe.group"),
        (grid, 4, "environment"),
    ):
        built = recipe("rl_plus", group=group, advantage=[])
        with pytest.raises(BadInput) as caught:
            built.check(env, policies.make("tabular", env))
        assert caught.value.key == key


# ------------------------------------------------------------------ multiple importance sampling


def written_out(case, batch, gamma, logits):
    """ρA, and 2π/(π_old + π_ω) · A · (1 − π)^γ for others, mean over tokens."""
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.action[..., None], -1)[..., 0]
    pi = jnp.exp(logp)
    old, author = jnp.exp(batch.logp_old), jnp.exp(batch.logp_behavior)
    explore = (1.0 - jax.lax.stop_gradient(pi)) ** gamma
    others = 2.0 * pi / (old + author) * explore
    ratio = jnp.where(batch.source[..., None] != 0, others, pi / old)
    return jnp.mean(ratio * batch.advantage)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_value_and_gradient_are_those_of_the_formula(gamma):
    case = one_token()
    case = replace(case, batch=demonstrated(case))
    mech = build("surrogate", "multiple_importance", {"gamma": gamma})
    slots = {"surrogate": (mech,), "aggregate": "token_mean"}

    def objective(logits):
        return whole_objective(slots, case, logits, case.value)

    # The objective begins with the advantage, which is the return where the slot is empty.
    batch = replace(case.batch, advantage=case.batch.advantage)
    got, grad = jax.value_and_grad(objective)(case.logits)
    want, expected = jax.value_and_grad(lambda z: written_out(case, batch, gamma, z))(case.logits)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)


def test_without_others_it_is_the_plain_ratio():
    case = random_case((3, 4, 5))
    mech = build("surrogate", "multiple_importance", {})
    got, _ = mech(case.out(), case.batch, case.ctx)
    plain, _ = ImportanceWeighted()(case.out(), case.batch, case.ctx)
    np.testing.assert_array_equal(got, plain)


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 1.0])
def test_the_first_ratio_of_a_demonstration_is_bounded(p):
    """With π = π_old = p: 4p/(3p + 1) where the author is not known, 2p/(p + 1) where he is."""
    case = one_token()
    for behavior, author, want in (
        ("unknown", 0.5 * (p + 1.0), 4 * p / (3 * p + 1)),
        ("certain", 1.0, 2 * p / (p + 1)),
    ):
        batch = replace(
            case.batch,
            source=jnp.ones_like(case.batch.source),
            logp_old=jnp.full(case.batch.action.shape, jnp.log(p)),
            logp_behavior=jnp.full(case.batch.action.shape, jnp.log(author)),
            advantage=jnp.ones(case.batch.action.shape),
        )
        out = replace(case.out(), logp=batch.logp_old)
        mech = build("surrogate", "multiple_importance", {"gamma": 0.0})
        got, _ = mech(out, batch, case.ctx)
        np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=behavior)
        assert want <= 1.0 + 1e-9


def test_the_balance_heuristic_is_unbiased_where_both_rollouts_carry_it():
    """One rollout of each author. RL-PLUS keeps π/π_old on the policy's own: not the same."""
    rng = np.random.default_rng(0)
    target, old, author, f = (rng.dirichlet(np.ones(K)) for _ in range(4))
    mixture = 2.0 * target / (old + author)
    both = 0.5 * np.sum(old * mixture * f) + 0.5 * np.sum(author * mixture * f)
    np.testing.assert_allclose(both, np.sum(target * f))
    released = 0.5 * np.sum(old * (target / old) * f) + 0.5 * np.sum(author * mixture * f)
    assert abs(released - np.sum(target * f)) > 0.01


def test_the_named_recipes_are_what_they_are_called():
    world = jaxrl_envs.make("bandit/modes", prompts=4, arms=6, modes=2)
    for name in ("grpo_n", "rl_plus"):
        recipe(name).check(world, policies.make("tabular", world))
    assert "(π_old + π_ω)" in str(recipe("rl_plus"))
    negative = recipe("grpo_n").advantage[1]
    assert "0.0·max(A, 0)" in equation_of(negative) or "0·max(A, 0)" in equation_of(negative)
