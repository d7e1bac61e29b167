"""Lp-Reg: the filter, the set, the gradient, and where it acts at all."""

from __future__ import annotations

from dataclasses import replace

import entropy_bandit
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mechanism_cases import build, random_case, whole_objective

from jaxrl_lab.mechanisms.tail import filtered
from jaxrl_lab.policies import Categorical
from jaxrl_lab.recipes import recipe, with_value
from jaxrl_lab.types import PolicyOutput

BASE = random_case((3, 5, 4), invalid=True)
MASK, A = np.asarray(BASE.batch.mask), np.asarray(BASE.batch.advantage)
OLD = np.asarray(BASE.ctx.passes["old"].dist.logp_all, np.float64)
ACTION = np.asarray(BASE.batch.action)[..., None]


def penalty(given, case=BASE, logits=None):
    return build("regularizer", "lp_reg", given)(case.out(logits), case.batch, {}, case.ctx)


def proxy(keep):
    """q and its mass Z in NumPy."""
    p = np.exp(OLD)
    kept = p >= keep * p.max(-1, keepdims=True)
    Z = np.where(kept, p, 0.0).sum(-1, keepdims=True)
    return np.where(kept, p / Z, 0.0), Z[..., 0]


def test_the_filter_keeps_a_share_of_the_top_and_renormalizes():
    q, _ = proxy(0.3)
    found = np.exp(filtered(jnp.asarray(OLD, jnp.float32), jnp.float32(0.3)))
    np.testing.assert_allclose(found, q, atol=1e-6)
    assert (q == 0).any()
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_lp_reg_written_out(fraction):
    logp = np.asarray(BASE.out().logp, np.float64)
    q = np.take_along_axis(proxy(0.3)[0], ACTION, -1)[..., 0]
    punished = MASK & (A < 0)
    order = np.sort(logp[punished])
    bound = order[int(np.ceil(np.float32(fraction) * len(order))) - 1]
    chosen = punished & (logp <= bound + 1e-6) & (q > np.exp(logp))
    d = np.where(chosen, np.log(np.where(q > 0, q, 1.0)) - logp, 0.0)
    found = penalty({"coefficient": 0.7, "keep": 0.3, "fraction": fraction})
    np.testing.assert_allclose(found, 0.7 * (np.exp(d) - d - 1), atol=1e-5)
    assert chosen.sum() >= 2
    assert (q[punished] == 0).any(), "some punished tokens are filtered"
    assert not np.asarray(found)[q == 0].any()


def on_policy(case=BASE):
    return replace(case, logits=jnp.asarray(OLD, jnp.float32))


def test_on_policy_the_push_is_one_minus_one_over_the_kept_mass():
    case, (q, Z) = on_policy(), proxy(0.3)
    given = {"coefficient": 1.0, "keep": 0.3, "fraction": 1.0}
    mech = build("regularizer", "lp_reg", given)

    def by_logp(logp):
        return jnp.sum(mech(replace(case.out(), logp=logp), case.batch, {}, case.ctx))

    slope = jax.grad(by_logp)(case.out().logp)
    inside = MASK & (A < 0) & (np.take_along_axis(q, ACTION, -1)[..., 0] > 0)
    expected = np.where(inside, 1 - 1 / Z, 0.0)
    np.testing.assert_allclose(slope, expected, atol=1e-5)
    assert (expected < 1e-6).all()
    assert expected.min() < -0.05


def gradient(slots, case):
    slots = {"surrogate": [{"clip": {"low": 1.0, "high": 9.0}}], "aggregate": "token_mean"} | slots
    return jax.grad(lambda z: whole_objective(slots, case, z, case.value))(case.logits)


def lp_reg(**given):
    return {"regularizer": [{"lp_reg": given}]}


def test_the_gradient_is_that_of_the_written_out_loss():
    """On the set ρA - k3 replaces the clipped objective: with A < 0 and low = 1 no clip acts."""
    goal = jnp.log(jnp.asarray(proxy(0.3)[0], jnp.float32))
    batch = BASE.batch

    def written_out(z):
        logp = Categorical.from_logits(z).logp(batch.action)
        ratio = jnp.exp(logp - batch.logp_old)
        clipped = jnp.minimum(ratio * A, jnp.clip(ratio, 0.0, 10.0) * A)
        to = jnp.take_along_axis(goal, batch.action[..., None], -1)[..., 0]
        chosen = (A < 0) & (jax.lax.stop_gradient(logp) < to)
        d = jnp.where(chosen, to - logp, 0.0)
        kept = jnp.where(chosen, ratio * A - (jnp.exp(d) - d - 1), clipped)
        return jnp.sum(jnp.where(batch.mask, kept, 0.0)) / MASK.sum().astype(np.float32)

    found = gradient(lp_reg(keep=0.3, fraction=1.0), BASE)
    np.testing.assert_allclose(found, jax.grad(written_out)(BASE.logits), atol=1e-6)
    assert np.abs(found - gradient({}, BASE)).max() > 1e-3


def test_where_there_is_nothing_to_protect_nothing_happens():
    plain, case = gradient({}, BASE), on_policy()
    np.testing.assert_array_equal(gradient(lp_reg(coefficient=0.0, fraction=1.0), BASE), plain)
    np.testing.assert_array_equal(gradient(lp_reg(fraction=0.0, keep=0.3), BASE), plain)
    # Without a filter q = π_old, and on-policy there is nowhere to go.
    unfiltered = gradient(lp_reg(fraction=1.0, keep=0.0), case)
    np.testing.assert_allclose(unfiltered, gradient({}, case), atol=1e-6)
    good = replace(BASE, batch=replace(BASE.batch, advantage=jnp.abs(BASE.batch.advantage)))
    assert not np.any(penalty({"fraction": 1.0, "keep": 0.3}, good))


def test_a_punished_spark_is_held_up_and_punished_noise_is_not():
    """One step on one state: head 0.6, another 0.3, spark 0.08, noise 0.02; A = -1 everywhere."""
    policy, actions = jnp.log(jnp.asarray([0.6, 0.3, 0.08, 0.02])), jnp.asarray([2, 3, 0, 1])
    logits = jnp.broadcast_to(policy, (1, 4, 1, 4))
    case = random_case((1, 4, 1), ragged=False)
    dist = Categorical(logits)
    batch = replace(case.batch, action=actions[None, :, None], advantage=jnp.full((1, 4, 1), -1.0))
    batch = replace(batch, logp_old=dist.logp(batch.action))
    ctx = replace(case.ctx, passes=case.ctx.passes | {"old": PolicyOutput(dist)})
    case = replace(case, logits=logits, batch=batch, ctx=ctx)
    protected = gradient(lp_reg(keep=0.1, fraction=0.5), case)
    change = np.asarray(protected - gradient({}, case))[0, :, 0]
    assert change[0, 2] > 0, "the spark, sampled by the first rollout"
    np.testing.assert_allclose(change[1:], 0.0, atol=1e-7)  # the noise, and what is not rare
    Z = 0.98
    np.testing.assert_allclose(change[0, 2], (1 / Z - 1) * (1 - 0.08) / 4, rtol=1e-3)


@pytest.fixture(scope="module")
def bandits():
    """GRPO and Lp-Reg with the same clip, where right answers always pay."""
    arms = {
        "grpo": recipe("grpo", surrogate=[{"clip": {"low": 1.0, "high": 9.0}}]),
        "lp_reg": recipe("lp_reg"),
        "gentle": with_value(recipe("lp_reg"), "regularizer.keep", 0.03),
    }
    return entropy_bandit.train(arms)


def test_rewards_without_noise_leave_nothing_to_protect(bandits):
    """Only wrong answers have A < 0 then: protecting them keeps no right ones."""
    grpo = entropy_bandit.at(bandits, 0.8, "solutions", "grpo")
    for arm in ("lp_reg", "gentle"):
        gain = entropy_bandit.at(bandits, 0.8, "solutions", arm) - grpo
        assert not entropy_bandit.clearly_above(gain)
        assert np.isfinite(gain).all()
