"""The discriminative objective: gradients of the log-sum-exp written out, limits, the hinge."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput, make
from mechanism_cases import build, random_case, whole_objective

from jaxrl_lab import policies
from jaxrl_lab.recipes import parse_slot, recipe

SURROGATE = {"logp": "score_function", "ratio": "importance_weighted"}
RIGHT = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0] * 5, [1] * 5], np.float32)


def graded(invalid=False):
    """Answers of random lengths, right or wrong as in RIGHT: two mixed groups, two unanimous."""
    case = random_case((4, 5, 3), 2, invalid=invalid)
    reward = jnp.zeros((4, 5, 3)).at[..., 0].set(RIGHT)
    return replace(case, batch=replace(case.batch, reward=reward))


def full(case, logits, temperature, score):
    """Mean over groups of mean_right s − τ log mean_wrong exp(s/τ), or 0 if all are alike."""
    batch, total = case.batch, jnp.float32(0.0)
    new = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.action[..., None], -1)[..., 0]
    token = new if score == "logp" else jnp.exp(new - batch.logp_old)
    mask, valid = np.asarray(batch.mask), np.asarray(batch.valid)
    for b, right in enumerate(RIGHT):
        s = [jnp.mean(token[b, g][mask[b, g]]) if mask[b, g].any() else 0.0 for g in range(5)]
        good = [s[g] for g in range(5) if valid[b, g] and right[g] == 1]
        bad = [s[g] for g in range(5) if valid[b, g] and right[g] == 0]
        if good and bad:
            worst = jax.nn.logsumexp(jnp.stack(bad) / temperature) - np.log(len(bad))
            share = float(valid[b].sum() / valid.sum())  # a mean over the responses there are
            total += share * (jnp.mean(jnp.stack(good)) - temperature * worst)
    return total


@pytest.mark.parametrize("score", ["logp", "ratio"])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("invalid", [False, True])
def test_the_gradient_is_that_of_the_log_sum_exp(score, temperature, invalid):
    case = graded(invalid)
    slots = {
        "advantage": {"variance_normalized": {"eps": 1e-9}},
        "surrogate": SURROGATE[score],
        "weight": {"hard_negatives": {"temperature": temperature, "score": score}},
        "aggregate": "sequence_mean",
    }
    got = jax.grad(lambda z: whole_objective(slots, case, z, case.value))(case.logits)
    exact = jax.grad(lambda z: full(case, z, temperature, score))(case.logits)
    np.testing.assert_allclose(got, exact, rtol=2e-4, atol=2e-6)
    assert float(jnp.abs(exact).max()) > 1e-2
    assert not np.asarray(got[2:]).any(), "unanimous groups teach nothing"


def weights(temperature, score="logp"):
    case = graded()
    (first,) = parse_slot("advantage", "variance_normalized")
    batch = first(case.batch, case.ctx)
    mech = build("weight", "hard_negatives", {"temperature": temperature, "score": score})
    weight = np.asarray(mech(case.out(), batch, {}, case.ctx))
    assert (weight == weight[..., :1]).all()
    s = np.where(batch.mask, case.out().logp, 0).sum(-1) / np.asarray(batch.mask).sum(-1)
    return weight[..., 0], s


def test_hot_weighs_equally_and_cold_only_the_likeliest():
    np.testing.assert_allclose(weights(1e6)[0], 1.0, rtol=1e-4)
    cold, s = weights(1e-4)
    for b in (0, 1):
        wrong = RIGHT[b] == 0
        likeliest = np.argmax(np.where(wrong, s[b], -np.inf))
        expected = np.where(wrong, 0.0, 1.0)
        expected[likeliest] = wrong.sum()
        np.testing.assert_allclose(cold[b], expected, atol=1e-4)
    np.testing.assert_array_equal(cold[2:], 1.0)


def test_weights_of_wrong_answers_are_one_on_average():
    weight, s = weights(0.7)
    for b in (0, 1):
        wrong = RIGHT[b] == 0
        assert weight[b][wrong].mean() == pytest.approx(1.0, rel=1e-5)
        order = np.argsort(s[b][wrong])
        assert (np.diff(weight[b][wrong][order]) > 0).all()
        np.testing.assert_array_equal(weight[b][~wrong], 1.0)


# ------------------------------------------------------------------ the constraint


def penalty(logits, case, limit, coefficient):
    given = {"limit": limit, "coefficient": coefficient}
    mech = build("regularizer", "hinge_kl", given)
    return mech(case.out(logits), case.batch, {}, case.ctx)


def mean_kl(logits, case):
    new = jnp.take_along_axis(jax.nn.log_softmax(logits), case.batch.action[..., None], -1)[..., 0]
    mask = np.asarray(case.batch.mask)
    return jnp.mean((case.batch.logp_old - new)[mask])


def test_the_hinge_is_the_written_out_one_and_free_inside():
    case = random_case((4, 5, 3), 2, invalid=True)
    away = case.logits - 2.0 * jax.nn.one_hot(case.batch.action, 4)
    kl = float(mean_kl(away, case))
    assert kl > 0.5
    value, gradient = jax.value_and_grad(penalty)(away, case, 0.1, 7.0)
    assert float(value) == pytest.approx(7.0 * (kl - 0.1) ** 2, rel=1e-5)
    exact = 2 * 7.0 * (kl - 0.1) * jax.grad(mean_kl)(away, case)
    np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-6)
    released = jax.grad(lambda z: jax.lax.stop_gradient(14.0 * (kl - 0.1)) * mean_kl(z, case))
    np.testing.assert_allclose(gradient, released(away), rtol=1e-4, atol=1e-6)
    for limit, logits in ((kl + 0.01, away), (0.0, case.logits + 2.0 * (case.logits - away))):
        value, gradient = jax.value_and_grad(penalty)(logits, case, limit, 7.0)
        assert float(value) == 0.0
        assert not np.asarray(gradient).any()


def test_the_hinge_is_inert_at_the_collecting_policy():
    case = random_case((4, 5, 3), step=0.0)
    value, gradient = jax.value_and_grad(penalty)(case.logits, case, 0.0, 1e3)
    assert float(value) == pytest.approx(0.0, abs=1e-9)
    assert float(jnp.abs(gradient).max()) < 1e-3


def test_they_refuse_what_cannot_be():
    world = make("bandit/modes", prompts=4, arms=4, modes=1)
    policy = policies.make("tabular", world)
    for changes, key in (
        ({"weight": {"hard_negatives": {"temperature": 0.0}}}, "weight.hard_negatives.temperature"),
        ({"regularizer": {"hinge_kl": {"limit": -1.0}}}, "regularizer.hinge_kl.limit"),
        ({"regularizer": {"hinge_kl": {"coefficient": -1.0}}}, "regularizer.hinge_kl.coefficient"),
        ({"group": 1}, "group"),
    ):
        with pytest.raises(BadInput) as caught:
            recipe("disco", **changes).check(world, policy)
        assert caught.value.key == f"recipe.{key}"
