"""DCPO, UCAS and the capped entropy bonus: advantages written out, and what they do to a bandit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import entropy_bandit
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput
from mechanism_cases import K, build, random_case

from jaxrl_lab.mechanisms.entropy_advantage import self_certainty
from jaxrl_lab.policies import Categorical
from jaxrl_lab.recipes import recipe
from jaxrl_lab.types import PolicyOutput

BASE = random_case((4, 5, 3), invalid=True, binary=True)
MASK, VALID = np.asarray(BASE.batch.mask), np.asarray(BASE.batch.valid)
A = np.asarray(BASE.batch.advantage, np.float64)
OLD = np.asarray(BASE.ctx.passes["old"].dist.logp_all, np.float64)


def shaped(name, given, case=BASE, memory=()):
    mech = build("advantage", name, given)
    return np.asarray(mech(case.batch, replace(case.ctx, memory=memory)).advantage)


def remembering(value):
    return jnp.float32(value)


# ------------------------------------------------------------------ DCPO


def test_without_a_gap_dcpo_is_grpo():
    np.testing.assert_allclose(shaped("dcpo", {"cap": 0.0}, memory=remembering(0.2)), A, atol=1e-7)
    np.testing.assert_allclose(
        shaped("dcpo", {"target": 0.7}, memory=remembering(0.7)), A, atol=1e-7
    )


def alpha_of(target, estimate, cap):
    """α₀/(1 + α₀), α₀ = min(|target - Ĥ|, cap)/p: the two steps of the paper."""
    right = (np.asarray(BASE.batch.returns) > 0.05) & VALID
    first = min(abs(target - estimate), cap) / right[VALID].mean()
    return first / (1 + first), right


@pytest.mark.parametrize(("estimate", "T"), [(0.0, 1.2), (0.5, 1.2), (0.9, 0.8), (3.0, 0.8)])
def test_dcpo_written_out(estimate, T):
    alpha, right = alpha_of(0.5, estimate, 0.3)
    assert 0 <= alpha < 1
    tempered = OLD / T - np.log(np.exp(OLD / T).sum(-1, keepdims=True))
    ratio = np.take_along_axis(np.exp(tempered - OLD), np.asarray(BASE.batch.action)[..., None], -1)
    expected = (1 - alpha) * A + alpha * right[..., None] * ratio[..., 0]
    found = shaped("dcpo", {"cap": 0.3}, memory=remembering(estimate))
    np.testing.assert_allclose(found[MASK], expected[MASK], atol=1e-5)


def test_at_temperature_one_the_target_ratio_is_one():
    alpha, right = alpha_of(0.5, 0.0, 0.3)
    found = shaped("dcpo", {"hot": 1.0, "cap": 0.3}, memory=remembering(0.0))
    expected = (1 - alpha) * A + alpha * right[..., None]
    np.testing.assert_allclose(found[MASK], np.broadcast_to(expected, A.shape)[MASK], atol=1e-6)


def test_the_target_ratio_moves_the_expectation_to_the_tempered_policy():
    """E_π[c ϱ ∇log π] = E_(π_T)[c ∇log π], by enumeration of the actions of every state."""
    logits, c = jnp.asarray(OLD[:, 0, 0], jnp.float32), jnp.asarray([1.0, 0.0, 1.0, 0.0])
    states = logits.shape[0]
    batch = replace(
        random_case((states, K, 1), ragged=False).batch,
        action=jnp.broadcast_to(jnp.arange(K)[None, :, None], (states, K, 1)),
        reward=jnp.broadcast_to(c[None, :, None], (states, K, 1)),
        advantage=jnp.zeros((states, K, 1)),
    )
    dist = Categorical(jnp.broadcast_to(logits[:, None, None], (states, K, 1, K)))
    batch = replace(batch, logp_old=dist.logp(batch.action))
    ctx = replace(BASE.ctx, memory=remembering(0.0), passes={"old": PolicyOutput(dist)})
    after = build("advantage", "dcpo", {"cap": 1e6, "target": 1e6})(batch, ctx).advantage[..., 0]
    alpha = 1.0 - 0.5 / (0.5 + 1e6)
    policy, tempered = (jax.nn.softmax(logits / T) for T in (1.0, 1.2))
    score = jnp.eye(K)[None] - policy[:, None]  # ∇log π by logits, [state, action, logit]
    found = jnp.sum((policy * after)[..., None] * score, 1)
    expected = alpha * jnp.sum((tempered * c[None])[..., None] * score, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(jnp.sum((policy * c[None])[..., None] * score, 1) - expected).max() > 1e-2


def test_where_nothing_is_right_dcpo_leaves_the_advantage_alone():
    poor = replace(BASE, batch=replace(BASE.batch, reward=jnp.zeros_like(BASE.batch.reward)))
    np.testing.assert_array_equal(shaped("dcpo", {}, poor, remembering(0.0)), A.astype(np.float32))


def test_dcpo_remembers_the_surprise_of_the_last_batch():
    mech = build("advantage", "dcpo", {})
    memory = mech.init(None)
    assert float(memory) == 0.0
    for seed in range(3):
        case = random_case((3, 4, 5), seed)
        memory = mech.advance(memory, case.batch, {}, case.ctx)
        surprise = -np.asarray(case.batch.logp_old)[np.asarray(case.batch.mask)]
        assert float(memory) == pytest.approx(surprise.mean(), rel=1e-5)


# ------------------------------------------------------------------ UCAS


def test_certainty_is_a_divergence_from_uniform():
    KL = np.mean(-np.log(K) - OLD, -1)
    certainty = self_certainty(jnp.asarray(OLD, jnp.float32))
    np.testing.assert_allclose(certainty, KL + np.log(K), rtol=1e-5)
    assert (KL >= 0).all()


@pytest.mark.parametrize("confidence", ["certainty", "certainty_mean", "logp"])
def test_without_coefficients_ucas_is_grpo(confidence):
    given = {"right": 0.0, "wrong": 0.0, "tax": 0.0, "confidence": confidence}
    np.testing.assert_array_equal(shaped("ucas", given), A.astype(np.float32))


@pytest.mark.parametrize("confidence", ["certainty", "certainty_mean", "logp"])
def test_ucas_written_out(confidence):
    u, lengths = -OLD.mean(-1), MASK.sum(-1)
    logp = np.asarray(BASE.batch.logp_old, np.float64)
    C = np.where(MASK, logp if confidence == "logp" else u, 0.0).sum(-1)
    if confidence == "certainty_mean":
        C = C / np.maximum(lengths, 1)
    expected = np.zeros_like(A)
    logit = logp + u
    low, high = logit[MASK].min(), logit[MASK].max()
    for b in range(A.shape[0]):
        own = C[b][VALID[b]]
        z = (C[b] - own.mean()) / (own.std(ddof=1) + 1e-6)
        for g in range(A.shape[1]):
            for t in range(A.shape[2]):
                a = A[b, g, t]
                a *= np.exp(-0.5 * z[g]) if a > 0 else np.exp(0.7 * z[g])
                taxed = a - 0.1 * (logit[b, g, t] - low) / (high - low)
                expected[b, g, t] = max(taxed, 0.0) if a > 0 else taxed
    given = {"right": 0.5, "wrong": 0.7, "tax": 0.1, "confidence": confidence}
    found = shaped("ucas", given)
    np.testing.assert_allclose(found[MASK], expected[MASK], atol=2e-5)
    assert not found[~MASK].any()


def test_ucas_never_makes_a_failure_a_success_nor_the_other_way_round():
    found = shaped("ucas", {"tax": 2.0})
    assert (found[MASK & (A > 0)] >= 0).all()
    assert (found[MASK & (A > 0)] == 0).any(), "or the floor is not tested"
    assert (found[MASK & (A <= 0)] <= 0).all()


def test_in_one_step_the_certainty_tells_no_rollouts_apart():
    """All rollouts of a prompt meet the same distribution, whatever rounding says."""
    case = random_case((4, 5, 1), ragged=False)
    same = jnp.broadcast_to(case.logits[:, :1] * 3.0, case.logits.shape)
    dist = Categorical.from_logits(same)
    batch = replace(case.batch, logp_old=dist.logp(case.batch.action))
    passes = case.ctx.passes | {"old": PolicyOutput(dist)}
    case = replace(case, batch=batch, ctx=replace(case.ctx, passes=passes))
    found = shaped("ucas", {"tax": 0.0}, case)
    np.testing.assert_array_equal(found, batch.advantage)
    assert np.any(shaped("ucas", {"tax": 0.0, "confidence": "logp"}, case) != batch.advantage)


def test_a_sum_of_certainties_takes_length_for_confidence():
    """Uniform policies everywhere: the longer rollout still scores as the more certain one."""
    case = random_case((1, 2, 4), ragged=False)
    mask = jnp.asarray([[[True, True, True, True], [True, False, False, False]]])
    dist = Categorical.from_logits(jnp.zeros((1, 2, 4, K)))
    batch = replace(case.batch, mask=mask, advantage=jnp.ones((1, 2, 4)))
    passes = case.ctx.passes | {"old": PolicyOutput(dist)}
    case = replace(case, batch=batch, ctx=replace(case.ctx, passes=passes))
    of_sum = shaped("ucas", {"tax": 0.0}, case)[0, :, 0]
    assert of_sum[0] < 1 < of_sum[1]
    of_mean = shaped("ucas", {"tax": 0.0, "confidence": "certainty_mean"}, case)[0, :, 0]
    np.testing.assert_array_equal(of_mean, 1.0)


# ------------------------------------------------------------------ capped entropy bonus


@pytest.mark.parametrize("bonus", ["entropy", "sampled"])
def test_the_bonus_is_bounded_and_keeps_the_sign(bonus):
    found = shaped("entropy_capped", {"scale": 0.3, "cap": 1.5, "bonus": bonus})
    logp = np.asarray(BASE.batch.logp_old)
    h = -np.exp(logp) * logp if bonus == "sampled" else -np.sum(np.exp(OLD) * OLD, -1)
    expected = A + np.minimum(0.3 * h, np.abs(A) / 1.5)
    np.testing.assert_allclose(found[MASK], expected[MASK], atol=1e-6)
    added = (found - A)[MASK]
    assert (added >= -1e-6).all()
    assert (added <= np.abs(A)[MASK] / 1.5 + 1e-6).all()
    np.testing.assert_array_equal(np.sign(found)[MASK], np.sign(A)[MASK])
    np.testing.assert_allclose(shaped("entropy_capped", {"scale": 0.0}), A, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "given", "key"),
    [
        ("entropy_capped", {"cap": 1.0}, "cap"),
        ("entropy_capped", {"scale": -1.0}, "scale"),
        ("dcpo", {"hot": 0.0}, "hot"),
        ("dcpo", {"cap": -1.0}, "cap"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(name, given, key):
    spec = SimpleNamespace(recipe=SimpleNamespace(rollout="episodes"))
    with pytest.raises(BadInput) as caught:
        build("advantage", name, given).check(spec)
    assert caught.value.key == key


# ------------------------------------------------------------------ what they do


@pytest.fixture(scope="module")
def bandit():
    return entropy_bandit.train({name: recipe(name) for name in ("grpo", "ucas", "dcpo")})


def test_ucas_keeps_solutions_at_equal_accuracy(bandit):
    ucas, grpo = (entropy_bandit.at(bandit, 0.8, "solutions", arm) for arm in ("ucas", "grpo"))
    assert entropy_bandit.clearly_above(ucas - grpo, 0.1)


def test_the_set_point_of_dcpo_is_not_held_in_a_bandit(bandit):
    """The target is 1.5 nats: the entropy falls through it as that of GRPO does."""
    entropy = bandit.curve("entropy", "dcpo").mean(0)
    assert entropy[0] > 1.5
    assert entropy[-1] < 0.5
