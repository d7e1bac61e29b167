"""Slots surrogate and weight: values and gradients against written-out formulas."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mechanism_cases import build, random_case, whole_objective

from jaxrl_lab.mechanisms.aggregate import SequenceMean
from jaxrl_lab.policies import Categorical
from jaxrl_lab.types import Outputs, PolicyOutput

CTX = random_case((3, 4, 5)).ctx


def at_ratio(ratio, advantage):
    """A batch of one-token responses with the given ratios and advantages."""
    ratio, advantage = (jnp.asarray(x, jnp.float32)[:, None, None] for x in (ratio, advantage))
    case = random_case((ratio.shape[0], 1, 1), ragged=False)
    batch = replace(case.batch, logp_old=jnp.full(ratio.shape, -1.0), advantage=advantage)
    return batch, jnp.log(ratio) - 1.0


def run(mech, batch, logp):
    """Objective, derivative by logp, and aux of every token."""

    def total(logp):
        dist = Categorical(jnp.broadcast_to(logp[..., None], (*logp.shape, 4)))
        objective, aux = mech(Outputs(logp, PolicyOutput(dist)), batch, CTX)
        return jnp.sum(objective), (objective, aux)

    grad, (objective, aux) = jax.grad(total, has_aux=True)(logp)
    return tuple(np.asarray(x).reshape(-1) for x in (objective, grad, aux["clipped"]))


RATIO = np.array([0.3, 0.5, 0.79, 0.81, 1.0, 1.1, 1.27, 1.29, 1.6, 2.5, 4.0] * 2)
ADVANTAGE = np.repeat([1.5, -0.7], 11)


@pytest.mark.parametrize("dual", [None, 2.0])
def test_clip_and_its_derivative_are_those_of_the_formula(dual):
    """d/dlogp is ρA where the unclipped term is the smaller one, and 0 elsewhere."""
    low, high = 0.2, 0.28
    mech = build("surrogate", "clip", {"low": low, "high": high, "dual": dual})
    objective, grad, clipped = run(mech, *at_ratio(RATIO, ADVANTAGE))
    raw, cut = RATIO * ADVANTAGE, np.clip(RATIO, 1 - low, 1 + high) * ADVANTAGE
    expected, live = np.minimum(raw, cut), raw <= cut
    if dual is not None:
        floor = dual * ADVANTAGE
        live &= ~((ADVANTAGE < 0) & (expected < floor))
        expected = np.where(ADVANTAGE < 0, np.maximum(expected, floor), expected)
    np.testing.assert_allclose(objective, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, np.where(live, raw, 0.0), rtol=1e-5)
    np.testing.assert_array_equal(clipped, grad == 0)
    assert 0 < clipped[:11].sum() < 11
    assert 0 < clipped[11:].sum() < 11


@pytest.mark.parametrize("high", [0.2, 0.28, 1.0])
def test_the_clip_is_open_on_the_side_that_corrects(high):
    """A bad action that became likely keeps its gradient, as does a good one that became rare."""
    mech = build("surrogate", "clip", {"low": 0.2, "high": high})
    _, grad, clipped = run(mech, *at_ratio([5.0, 0.1], [-1.0, 1.0]))
    np.testing.assert_allclose(grad, [-5.0, 0.1], rtol=1e-5)
    assert not clipped.any()


def test_truncated_weight_caps_the_weight_and_keeps_every_gradient():
    mech = build("surrogate", "truncated_weight", {"low": 1.0, "high": 0.2})
    objective, grad, clipped = run(mech, *at_ratio(RATIO, ADVANTAGE))
    weight = np.minimum(RATIO, 1.2)
    np.testing.assert_allclose(grad, weight * ADVANTAGE, rtol=1e-5)
    np.testing.assert_allclose(objective, weight * ADVANTAGE * (np.log(RATIO) - 1), rtol=1e-4)
    assert np.all(grad != 0)
    assert not clipped.any()


def test_unclipped_surrogates():
    batch, logp = at_ratio(RATIO, ADVANTAGE)
    objective, grad, _ = run(build("surrogate", "importance_weighted", {}), batch, logp)
    np.testing.assert_allclose(objective, RATIO * ADVANTAGE, rtol=1e-5)
    np.testing.assert_allclose(grad, RATIO * ADVANTAGE, rtol=1e-5)
    objective, grad, _ = run(build("surrogate", "score_function", {}), batch, logp)
    np.testing.assert_allclose(objective, ADVANTAGE * (np.log(RATIO) - 1), rtol=1e-4)
    np.testing.assert_allclose(grad, ADVANTAGE, rtol=1e-6)


def test_on_policy_gradients_of_all_token_surrogates_coincide():
    case = random_case((3, 5, 4), step=0.0)
    case = replace(case, batch=replace(case.batch, logp_old=case.out().logp))
    names = ("score_function", "importance_weighted", "clip", "truncated_weight")
    grads = [
        jax.grad(lambda z, n=n: whole_objective({"surrogate": n}, case, z, case.value))(case.logits)
        for n in names
    ]
    assert np.any(grads[0])
    for g in grads[1:]:
        np.testing.assert_allclose(g, grads[0], atol=1e-7)


@pytest.mark.parametrize("width", [0.05, 50.0])
def test_sequence_clip_is_the_sequence_level_objective(width):
    """Mean over responses of min(sA, clip(s)A), s = exp(mean log ρ); gradient sA/|y| per token."""
    case = random_case((3, 4, 5), 3)
    mask = np.asarray(case.batch.mask)
    rollout = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 1)), jnp.float32)
    batch = replace(case.batch, advantage=jnp.where(mask, rollout, 0.0))
    case, A = replace(case, batch=batch), np.asarray(rollout)[..., 0]
    mech = build("surrogate", "sequence_clip", {"low": width, "high": width})

    def token_form(logp):
        outputs = replace(case.out(), logp=logp)
        return SequenceMean()(mech(outputs, batch, CTX)[0], batch.mask)

    def sequence_form(logp):
        n = jnp.sum(mask, -1).astype(jnp.float32)
        s = jnp.exp(jnp.sum(jnp.where(mask, logp - batch.logp_old, 0.0), -1) / n)
        return jnp.mean(jnp.minimum(s * A, jnp.clip(s, 1 - width, 1 + width) * A))

    logp = case.out().logp
    token, sequence = (jax.value_and_grad(f)(logp) for f in (token_form, sequence_form))
    np.testing.assert_allclose(token[0], sequence[0], rtol=1e-5)
    np.testing.assert_allclose(token[1], sequence[1], atol=1e-6)
    n = mask.sum(-1)
    s = np.exp(np.where(mask, logp - batch.logp_old, 0.0).sum(-1) / n)
    live = np.where(A >= 0, s <= 1 + width, s >= 1 - width)
    assert live.all() == (width > 1)
    expected = np.where(mask, (live * s * A / n)[..., None], 0.0) / A.size
    np.testing.assert_allclose(token[1], expected, atol=1e-6)
    clipped = np.asarray(mech(case.out(), batch, CTX)[1]["clipped"])
    np.testing.assert_array_equal(clipped & mask, ~live[..., None] & mask)


# ------------------------------------------------------------------ slot weight


def covariance(case):
    batch, mask = case.batch, np.asarray(case.batch.mask)
    a, logp = np.asarray(batch.advantage), np.asarray(case.out().logp)
    return (a - a[mask].mean()) * (logp - logp[mask].mean()), mask


def dropped_by(mech, case, clipped, seed=0):
    ctx = replace(case.ctx, key=jax.random.key(seed))
    return np.asarray(mech(case.out(), case.batch, {"clipped": jnp.asarray(clipped)}, ctx)) == 0


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.35, 1.0])
@pytest.mark.parametrize("low", [0.2, 1.0])
def test_clip_cov_drops_as_many_candidates_as_it_says(fraction, low):
    """min(max(1, floor(fraction · tokens)), candidates) of them; never masked or clipped ones."""
    case = random_case((4, 5, 6), 2, invalid=True)
    cov, mask = covariance(case)
    clipped = np.asarray(case.batch.action == 0)
    candidates = (cov > low) & (cov < 5.0) & mask & ~clipped
    mech = build("weight", "clip_cov", {"fraction": fraction, "low": low})
    n = max(1, int(np.floor(np.float32(fraction) * mask.sum())))
    dropped = dropped_by(mech, case, clipped)
    assert dropped.sum() == min(n, candidates.sum()) > 0
    assert not np.any(dropped & ~candidates)
    if n < candidates.sum():
        others = [dropped_by(mech, case, clipped, seed) for seed in range(1, 6)]
        assert any(np.any(dropped != other) for other in others)


def test_clip_cov_band_by_quantiles_holds_the_highest_share():
    case = random_case((4, 5, 6), 2, invalid=True)
    cov, mask = covariance(case)
    mech = build(
        "weight", "clip_cov", {"fraction": 1.0, "low": 0.8, "high": 1.0, "band": "quantile"}
    )
    edge = np.sort(cov[mask])[int(np.ceil(0.8 * mask.sum())) - 1]
    dropped = dropped_by(mech, case, np.zeros_like(mask))
    np.testing.assert_array_equal(dropped, mask & (cov >= edge))


def test_dropped_tokens_have_exactly_no_gradient_and_others_keep_theirs():
    case = random_case((4, 5, 6), 2)
    plain = {"surrogate": "clip", "aggregate": "token_mean"}
    mech = build("weight", "clip_cov", {"fraction": 0.2, "low": 0.0})
    grad, without = (
        jax.jit(jax.grad(lambda z, s=s: whole_objective(s, case, z, case.value)))(case.logits)
        for s in (plain | {"weight": (mech,)}, plain)
    )
    changed = np.any(np.asarray(grad != without), -1)
    assert 0 < changed.sum() <= int(0.2 * float(np.sum(case.batch.mask)))
    assert not np.any(np.asarray(grad)[changed])


def test_clip_cov_with_an_empty_band_is_plain_clip():
    case = random_case((4, 5, 6), 2)
    plain = {"surrogate": "clip", "aggregate": "token_mean"}
    mech = build("weight", "clip_cov", {"fraction": 0.5, "low": 3e4, "high": 3e4})
    grad, without = (
        jax.jit(jax.grad(lambda z, s=s: whole_objective(s, case, z, case.value)))(case.logits)
        for s in (plain | {"weight": (mech,)}, plain)
    )
    np.testing.assert_array_equal(grad, without)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_random_drop_takes_its_share_anywhere(fraction):
    case = random_case((4, 5, 6), 2, invalid=True)
    mask = np.asarray(case.batch.mask)
    mech = build("weight", "random_drop", {"fraction": fraction})
    seen = [dropped_by(mech, case, np.zeros_like(mask), seed) for seed in range(30)]
    for dropped in seen:
        assert dropped.sum() == int(fraction * mask.sum())
        assert not np.any(dropped & ~mask)
    if 0 < fraction < 1:
        share = np.mean(seen, axis=0)[mask]
        assert share.min() > 0
        assert share.max() < 0.7
