"""STEER: its score against the entropy change it stands for, and its weights written out."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput
from mechanism_cases import build, random_case, whole_objective

from jaxrl_lab.exact import measured_entropy_change, reinforce_entropy_change
from jaxrl_lab.mechanisms.entropy_weights import entropy_score
from jaxrl_lab.policies import Categorical

BASE = random_case((3, 5, 4), invalid=True)
MASK = np.asarray(BASE.batch.mask)


def weights(mech, case=BASE):
    return np.asarray(mech(case.out(), case.batch, {}, case.ctx))


def omega(case=BASE):
    """ρ A (1 - π)(log π + H) in NumPy."""
    logp_all = np.asarray(jax.nn.log_softmax(case.logits), np.float64)
    action = np.asarray(case.batch.action)[..., None]
    logp = np.take_along_axis(logp_all, action, -1)[..., 0]
    H = -np.sum(np.exp(logp_all) * logp_all, -1)
    ratio = np.exp(logp - np.asarray(case.batch.logp_old, np.float64))
    return ratio * np.asarray(case.batch.advantage) * (1 - np.exp(logp)) * (logp + H), logp, H


def test_the_published_score_is_its_definition():
    np.testing.assert_allclose(
        entropy_score(BASE.out(), BASE.batch, "published"), omega()[0], rtol=1e-4, atol=1e-6
    )


def test_the_published_score_lacks_the_probability_of_the_action():
    """Moving the sampled logit alone by η ρ A (1 - π) changes H by -η π Ω, not by -η Ω."""
    score, logp, H = omega()
    A, step = np.asarray(BASE.batch.advantage), 1e-4
    ratio = np.exp(logp - np.asarray(BASE.batch.logp_old))
    move = step * ratio * A * (1 - np.exp(logp))
    delta = jax.nn.one_hot(BASE.batch.action, 4) * move[..., None].astype(np.float32)
    change = np.asarray(measured_entropy_change(BASE.logits, delta))
    np.testing.assert_allclose(change, -step * np.exp(logp) * score, rtol=2e-2, atol=1e-8)
    clear = MASK & (np.abs(A * (logp + H)) > 0.05)
    assert clear.sum() > 10
    assert np.array_equal(np.sign(change)[clear], -np.sign(A * (logp + H))[clear])


def test_the_one_sample_score_is_the_first_order_change_of_learning_from_the_token():
    out, batch = BASE.out(), BASE.batch
    weight = jnp.exp(out.logp - batch.logp_old) * batch.advantage
    exact = reinforce_entropy_change(out.dist.logp_all, batch.action, weight, 1.0)
    np.testing.assert_allclose(entropy_score(out, batch, "one_sample"), exact, atol=1e-6)
    # An action that cannot be taken carries no surprise.
    logits = BASE.logits.at[..., 0].set(-jnp.inf)
    dist = Categorical.from_logits(logits)
    out = replace(out, policy=replace(out.policy, dist=dist), logp=out.logp)
    assert bool(jnp.all(jnp.isfinite(entropy_score(out, batch, "one_sample"))))


@pytest.mark.parametrize("score", ["published", "one_sample"])
def test_linear_weights_run_from_high_to_low(score):
    mech = build("weight", "steer", {"low": 0.3, "high": 1.7, "score": score})
    u = np.abs(np.asarray(entropy_score(BASE.out(), BASE.batch, score)))
    small, large = u[MASK].min(), u[MASK].max()
    expected = 1.7 - (u - small) / (large - small) * 1.4
    found = weights(mech)
    np.testing.assert_allclose(found[MASK], expected[MASK], rtol=1e-5)
    assert found[MASK].min() == pytest.approx(0.3, abs=1e-6)
    assert found[MASK].max() == pytest.approx(1.7)
    assert (found >= 0.3 - 1e-6).all()
    assert (found <= 1.7).all()


def test_exponential_weights_reach_low_where_the_score_is_largest():
    mech = build("weight", "steer_exponential", {"low": 0.1})
    u = np.abs(omega()[0])
    expected = np.exp(np.log(0.1) * u / u[MASK].max())
    np.testing.assert_allclose(weights(mech)[MASK], expected[MASK], rtol=1e-4)
    assert weights(mech)[MASK].min() == pytest.approx(0.1, rel=1e-4)
    # Below the floor nothing is worth a weight of `low`.
    quiet = replace(BASE, batch=replace(BASE.batch, advantage=1e-3 * BASE.batch.advantage))
    top = 1e-3 * u[MASK].max()
    assert top < 0.02
    assert weights(mech, quiet)[MASK].min() == pytest.approx(0.1 ** (top / 0.02), rel=1e-4)


def test_without_any_entropy_change_the_weight_is_in_the_middle():
    mech = build("weight", "steer", {"low": 0.5, "high": 1.5})
    still = replace(BASE, batch=replace(BASE.batch, advantage=jnp.zeros_like(BASE.value)))
    np.testing.assert_array_equal(weights(mech, still), 1.0)
    empty = replace(BASE, batch=replace(BASE.batch, mask=jnp.zeros_like(BASE.batch.mask)))
    assert np.isfinite(weights(mech, empty)).all()


def gradient(slots, case=BASE):
    slots = {
        "surrogate": [{"clip": {"high": 0.28, "dual": 10.0}}],
        "aggregate": "token_mean",
    } | slots
    return jax.grad(lambda z: whole_objective(slots, case, z, case.value))(case.logits)


@pytest.mark.parametrize("name", ["steer", "steer_exponential"])
def test_equal_weights_are_the_clipped_baseline(name):
    ones = {"low": 1.0, "high": 1.0} if name == "steer" else {"low": 1.0}
    np.testing.assert_array_equal(gradient({}), gradient({"weight": [{name: ones}]}))


def test_the_gradient_is_that_of_the_weighted_objective():
    mech = build("weight", "steer", {"low": 0.0, "high": 2.0})
    fixed, batch = weights(mech), BASE.batch

    def written_out(z):
        logp = Categorical.from_logits(z).logp(batch.action)
        ratio = jnp.exp(logp - batch.logp_old)
        A = batch.advantage
        clipped = jnp.minimum(ratio * A, jnp.clip(ratio, 0.8, 1.28) * A)
        objective = jnp.where(A < 0, jnp.maximum(clipped, 10.0 * A), clipped)
        return jnp.sum(jnp.where(batch.mask, fixed * objective, 0.0)) / MASK.sum().astype(
            np.float32
        )

    expected = jax.grad(written_out)(BASE.logits)
    np.testing.assert_allclose(gradient({"weight": (mech,)}), expected, atol=1e-6)
    assert np.abs(gradient({}) - expected).max() > 1e-3


def test_the_control_deals_the_same_weights_to_other_tokens():
    given = {"low": 0.0, "high": 2.0}
    plain = weights(build("weight", "steer", given))
    dealt = weights(build("weight", "steer", given | {"shuffle": True}))
    np.testing.assert_array_equal(np.sort(dealt[MASK]), np.sort(plain[MASK]))
    assert np.mean(dealt[MASK] == plain[MASK]) < 0.5
    np.testing.assert_array_equal(dealt[~MASK], plain[~MASK])
    other = replace(BASE, ctx=replace(BASE.ctx, key=jax.random.key(77)))
    assert not np.array_equal(
        weights(build("weight", "steer", given | {"shuffle": True}), other), dealt
    )


@pytest.mark.parametrize(
    ("name", "given", "key"),
    [
        ("steer", {"low": -0.1}, "low"),
        ("steer", {"low": 1.5}, "low"),
        ("steer_exponential", {"low": 0.0}, "low"),
        ("steer_exponential", {"low": 1.5}, "low"),
        ("steer_exponential", {"floor": 0.0}, "floor"),
    ],
)
def test_weights_that_make_no_sense_are_refused(name, given, key):
    with pytest.raises(BadInput) as caught:
        build("weight", name, given).check(None)
    assert caught.value.key == key
