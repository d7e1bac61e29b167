"""Action values by regression: the written-out target, borders, and the expected update."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest
from jaxrl_envs import BadInput, Discrete
from mechanism_cases import random_case

from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.mechanisms.q_regression import QRegression
from jaxrl_lab.policies import QTable
from jaxrl_lab.recipes import recipe

STEP, EPISODE, TAU = 0.9, 0.6, 0.5
MECH = QRegression(step=STEP, episode=EPISODE, temperature=TAU)


def blocks(seed=0):
    """A random batch with ends of episodes and of blocks."""
    case = random_case((3, 4, 6), seed)
    rng = np.random.default_rng(seed)
    trial_end = rng.random(case.batch.mask.shape) < 0.5
    border = trial_end & (rng.random(trial_end.shape) < 0.4)
    info = {"trial_end": jnp.asarray(trial_end), "border": jnp.asarray(border)}
    return replace(case, batch=replace(case.batch, info=info))


def by_hand(case, mech=MECH):
    """-½ (Q − y)² entry by entry."""
    batch, logp = case.batch, np.asarray(jax.nn.log_softmax(case.logits), np.float64)
    tau, value = float(mech.temperature), np.asarray(case.value, np.float64)
    mask, out = np.asarray(batch.mask), np.zeros(batch.mask.shape)
    for i in np.ndindex(mask.shape):
        b, g, t = i
        q = value[i] + tau * logp[i][int(batch.action[i])]
        last = t + 1 == mask.shape[2] or not mask[b, g, t + 1]
        if not mask[i] or (last and not batch.terminated[i]):
            continue
        discount = float(mech.episode if batch.info["trial_end"][i] else mech.step)
        if batch.info["border"][i] or batch.terminated[i]:
            discount = 0.0
        ahead = 0.0 if last else value[b, g, t + 1] + tau * logp[b, g, t + 1].max()
        out[i] = -0.5 * (q - float(batch.reward[i]) - discount * ahead) ** 2
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_the_objective_is_the_written_out_error(seed):
    case = blocks(seed)
    said, _ = MECH(case.out(), case.batch, case.ctx)
    np.testing.assert_allclose(said, by_hand(case), rtol=1e-4, atol=1e-5)


def test_no_return_flows_over_a_border():
    case = blocks()
    every = {"trial_end": jnp.ones_like(case.batch.mask), "border": jnp.ones_like(case.batch.mask)}
    walled = replace(case, batch=replace(case.batch, info=every))
    loud, _ = QRegression(episode=1.0, temperature=TAU)(walled.out(), walled.batch, case.ctx)
    mute, _ = QRegression(episode=0.0, temperature=TAU)(walled.out(), walled.batch, case.ctx)
    np.testing.assert_array_equal(loud, mute)


def test_without_credit_it_regresses_on_the_reward():
    case = blocks()
    bare = replace(case.batch, info={})  # one pull is one episode
    said, _ = QRegression(episode=0.0, temperature=TAU)(case.out(), bare, case.ctx)
    q = case.value + TAU * case.out().logp
    taught = np.asarray(said != 0)
    np.testing.assert_allclose(
        said[taught], (-0.5 * (q - bare.reward) ** 2)[taught], rtol=1e-5, atol=1e-6
    )


def test_the_target_has_no_gradient():
    case = blocks()

    def total(logits, value):
        return jnp.sum(MECH(case.out(logits, value), case.batch, case.ctx)[0])

    def fixed(logits, value):
        q = value + TAU * case.out(logits, value).logp
        said, _ = MECH(case.out(), case.batch, case.ctx)
        gap = jnp.sqrt(-2.0 * said)
        sign = jnp.sign(case.value + TAU * case.out().logp - _target(case))
        target = case.value + TAU * case.out().logp - sign * gap
        return jnp.sum(jnp.where(said != 0, -0.5 * (q - target) ** 2, 0.0))

    at = case.logits, case.value
    for said, wanted in zip(
        jax.grad(total, (0, 1))(*at), jax.grad(fixed, (0, 1))(*at), strict=True
    ):
        np.testing.assert_allclose(said, wanted, rtol=1e-3, atol=1e-4)


def _target(case):
    """Where the parabola of every entry has its top, from the slope in the value."""

    def total(value):
        return jnp.sum(MECH(case.out(value=value), case.batch, case.ctx)[0])

    slope = jax.grad(total)(case.value)
    return case.value + TAU * case.out().logp + slope


def test_a_table_of_action_values_is_read_back_from_its_policy():
    table = QTable(Discrete(6), 4, temperature=0.3, scale=1.0, value=True)
    params = table.init(jax.random.key(0)) | {"v": jnp.arange(6.0)}
    out = table.unroll(params, jnp.arange(6), jnp.ones(6, bool), ())
    q = out.value[:, None] + 0.3 * out.dist.logp_all
    np.testing.assert_allclose(q, params["v"][:, None] + params["u"], rtol=1e-5, atol=1e-5)
    greedy = replace(table, temperature=1e-3)
    best = greedy.unroll(params, jnp.arange(6), jnp.ones(6, bool), ()).dist.logp_all
    np.testing.assert_array_equal(jnp.argmax(best, -1), jnp.argmax(params["u"], -1))
    assert float(jnp.exp(best).max(-1).min()) > 0.99


def test_sampled_updates_have_the_expected_update_as_their_mean():
    # One pull of two arms without credit: E[∂/∂u] = π_a (E[r_a] − Q_a) and for v its sum.
    settings = {"arms": 2, "horizon": 1, "prior": "gap", "observation": "counts", "prompts": 2}
    env = jaxrl_envs.make("bandit/meta", **settings)
    policy = QTable(env.observation_space, 2, temperature=TAU, scale=1.0, value=True)
    mech = QRegression(episode=0.0, temperature=TAU)
    plan = recipe(
        group=256, surrogate=mech, aggregate="token_mean", optimizer={"sgd": {"learning_rate": 1.0}}
    )
    learner = PolicyGradient(env, policy)
    world = learner.world(env.default_params)
    state = learner.init(plan, world, jax.random.key(3))

    def change(key):
        after, _ = learner.update(plan, world, state, key, jnp.int32(0), jnp.int32(1))
        return jax.tree.map(lambda x, y: x - y, after.params, state.params)

    changes = jax.jit(jax.vmap(change))(jax.random.split(jax.random.key(4), 400))
    u = np.asarray(state.params["u"][0])
    pi = np.exp(u / TAU) / np.exp(u / TAU).sum()
    # Prompts take turns with the better arm: 0.5 on average, 0.6 and 0.4.
    wanted = pi * (0.5 - u)
    error = 5 * 0.5 / np.sqrt(400 * 512)  # five standard errors of a bounded mean
    np.testing.assert_allclose(changes["u"].mean(0)[0], wanted, atol=error)
    np.testing.assert_allclose(changes["v"].mean(0)[0], wanted.sum(), atol=error)


def test_mistakes_are_named():
    env = jaxrl_envs.make("bandit/meta", observation="counts", horizon=3)
    table = QTable(env.observation_space, 2, temperature=0.3, value=True)
    for given, key in (
        ({"episode": 1.5}, "episode"),
        ({"step": -0.1}, "step"),
        ({"temperature": 0.4}, "temperature"),
    ):
        built = recipe(surrogate={"q_regression": {"temperature": 0.3} | given})
        with pytest.raises(BadInput, match=key):
            built.check(env, table)
    with pytest.raises(BadInput, match="value"):
        recipe(surrogate={"q_regression": {"temperature": 0.3}}).check(
            env, replace(table, value=False)
        )
