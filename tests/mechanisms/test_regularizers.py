"""Slot regularizer: values against enumeration, gradients against closed forms."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mechanism_cases import K, build, random_case, whole_objective
from scipy.special import rel_entr

from jaxrl_lab.policies import Categorical
from jaxrl_lab.types import Outputs, PolicyOutput

BASE = random_case((3, 5, 4), invalid=True)


def penalty_of(mech, case, logits=None):
    return mech(case.out(logits), case.batch, {"clipped": case.batch.mask & False}, case.ctx)


def test_entropy_bonus_pays_entropy_with_the_gradient_of_the_softmax():
    """dH/dz_a = -π_a (log π_a + H)."""
    mech = build("regularizer", "entropy_bonus", {"coefficient": 0.3})
    logp = np.asarray(jax.nn.log_softmax(BASE.logits))
    H = -np.sum(np.exp(logp) * logp, -1)
    np.testing.assert_allclose(penalty_of(mech, BASE), -0.3 * H, rtol=1e-5)
    grad = jax.grad(lambda z: jnp.sum(penalty_of(mech, BASE, z)))(BASE.logits)
    expected = 0.3 * np.exp(logp) * (logp + H[..., None])
    np.testing.assert_allclose(grad, expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-2


def test_entropy_bonus_raises_entropy():
    """The learner subtracts the penalty: ascending the objective must raise the entropy."""
    slots = {"regularizer": [{"entropy_bonus": {"coefficient": 1.0}}]}
    flat = replace(BASE, batch=replace(BASE.batch, advantage=jnp.zeros_like(BASE.value)))
    grad = jax.grad(lambda z: whole_objective(slots, flat, z, flat.value))(flat.logits)

    def entropy(z):
        return jnp.sum(jnp.where(BASE.batch.mask, Categorical.from_logits(z).entropy(), 0.0))

    assert entropy(BASE.logits + 0.1 * grad) > entropy(BASE.logits)


def top_tokens(case, n):
    batch, mask = case.batch, np.asarray(case.batch.mask)
    a, logp = np.asarray(batch.advantage), np.asarray(case.out().logp)
    cov = np.where(mask, (a - a[mask].mean()) * (logp - logp[mask].mean()), -np.inf)
    chosen = np.zeros(mask.size, bool)
    chosen[np.argsort(-cov.reshape(-1), kind="stable")[:n]] = True
    return chosen.reshape(mask.shape)


@pytest.mark.parametrize("fraction", [0.0, 1e-6, 0.2, 1.0])
def test_kl_cov_penalizes_the_tokens_of_highest_covariance(fraction):
    mech = build("regularizer", "kl_cov", {"fraction": fraction, "coefficient": 0.7})
    n = (
        max(1, int(np.floor(np.float32(fraction) * np.sum(np.asarray(BASE.batch.mask)))))
        if fraction
        else 0
    )
    chosen, penalty = top_tokens(BASE, n), np.asarray(penalty_of(mech, BASE))
    log_ratio = np.asarray(BASE.out().logp - BASE.batch.logp_old)
    np.testing.assert_allclose(penalty, np.where(chosen, 0.7 * np.abs(log_ratio), 0.0), rtol=1e-6)
    assert np.all(penalty >= 0)


def test_kl_cov_acts_off_policy_only():
    mech = build("regularizer", "kl_cov", {"fraction": 0.5})

    def grad(case):
        return jax.grad(lambda z: jnp.sum(penalty_of(mech, case, z)))(case.logits)

    assert np.any(grad(BASE))
    on_policy = replace(BASE, batch=replace(BASE.batch, logp_old=BASE.out().logp))
    assert not np.any(penalty_of(mech, on_policy))
    assert not np.any(grad(on_policy))


def test_kl_cov_on_no_token_is_the_plain_importance_weighted_objective():
    plain = {"surrogate": "importance_weighted", "aggregate": "token_mean"}
    none = plain | {"regularizer": [{"kl_cov": {"fraction": 0.0}}]}
    a, b = (
        jax.grad(lambda z, s=s: whole_objective(s, BASE, z, BASE.value))(BASE.logits)
        for s in (plain, none)
    )
    np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------ KL to a reference


LOGITS = jnp.asarray([[0.5, -1.0, 0.2, 1.1], [2.0, 0.0, -0.5, 0.3]], jnp.float32)
REFERENCE = jnp.asarray([[0.0, 0.4, -0.3, 0.9], [1.5, 1.0, 0.5, -2.0]], jnp.float32)


def estimates(estimator, logits, reference=REFERENCE):
    """The penalty for every action that could have been sampled, ``[rows, K]``."""
    mech = build("regularizer", "kl_to_reference", {"coefficient": 1.0, "estimator": estimator})
    rows = logits.shape[0]
    batch = replace(
        random_case((rows, K, 1), ragged=False).batch,
        action=jnp.broadcast_to(jnp.arange(K)[None, :, None], (rows, K, 1)),
    )

    def output(z):
        spread = jnp.broadcast_to(z[:, None, None, :], (rows, K, 1, K))
        return PolicyOutput(Categorical.from_logits(spread))

    policy = output(logits)
    out = Outputs(policy.dist.logp(batch.action), policy, {"reference": output(reference)})
    return mech(out, batch, {}, BASE.ctx)[..., 0]


def expected_gradient(estimator):
    """Σ_a π(a) ∂ penalty(a) / ∂z: what the loss sees on average when sampling from π itself."""
    weight = jax.nn.softmax(LOGITS)
    return jax.grad(lambda z: jnp.sum(weight * estimates(estimator, z)))(LOGITS)


def kl(p, q):
    p, q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
    return jnp.sum(jnp.exp(p) * (p - q))


def test_exact_kl_equals_scipy():
    p, q = np.asarray(jax.nn.softmax(LOGITS)), np.asarray(jax.nn.softmax(REFERENCE))
    exact = np.asarray(estimates("exact", LOGITS))
    np.testing.assert_allclose(exact, np.tile(rel_entr(p, q).sum(-1)[:, None], K), rtol=1e-5)


@pytest.mark.parametrize(("estimator", "unbiased"), [("k1", True), ("k2", False), ("k3", True)])
def test_values_of_k1_and_k3_are_unbiased(estimator, unbiased):
    p = jax.nn.softmax(LOGITS)
    mean = jnp.sum(p * estimates(estimator, LOGITS), -1)
    exact = estimates("exact", LOGITS)[:, 0]
    assert np.allclose(mean, exact, atol=1e-6) == unbiased
    if estimator != "k1":
        assert np.all(estimates(estimator, LOGITS) >= 0)


GRADIENTS = {
    "exact": jax.grad(lambda z: kl(z, REFERENCE)),
    "k1": jnp.zeros_like,
    "k2": jax.grad(lambda z: kl(z, REFERENCE)),
    "k3": jax.grad(lambda z: kl(REFERENCE, z)),
}


@pytest.mark.parametrize("estimator", GRADIENTS)
def test_expected_gradients_of_the_kl_estimators(estimator):
    """k1: none; k2: that of KL(π‖ref); k3: that of the opposite divergence KL(ref‖π)."""
    got, expected = expected_gradient(estimator), GRADIENTS[estimator](LOGITS)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.max(np.abs(GRADIENTS["k3"](LOGITS) - GRADIENTS["k2"](LOGITS))) > 0.05


@pytest.mark.parametrize("estimator", ["k2", "k3", "exact"])
def test_kl_is_zero_at_the_reference_and_has_no_gradient_there(estimator):
    assert np.allclose(estimates(estimator, REFERENCE), 0.0, atol=1e-6)
    grad = jax.grad(lambda z: jnp.sum(estimates(estimator, z)))(REFERENCE)
    np.testing.assert_allclose(grad, 0.0, atol=1e-6)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_value_loss_takes_the_larger_of_the_plain_and_the_clipped_error(clip):
    mech = build("regularizer", "value_loss", {"coefficient": 0.8, "clip": clip})
    case = replace(BASE, value=BASE.batch.value + 0.2 * jnp.sin(9 * BASE.value))
    V, target = np.asarray(case.value), np.asarray(case.batch.target)
    expected = (V - target) ** 2
    if clip is not None:
        old = np.asarray(case.batch.value)
        expected = np.maximum(expected, (np.clip(V, old - clip, old + clip) - target) ** 2)
        assert np.any(expected > (V - target) ** 2 + 1e-3)
    np.testing.assert_allclose(penalty_of(mech, case), 0.4 * expected, rtol=1e-4, atol=1e-6)
