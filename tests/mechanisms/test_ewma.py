"""The decoupled clip, averaged parameters, and PPO as their limit."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput, make
from mechanism_cases import build, random_case

from jaxrl_lab import policies
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.mechanisms.averaging import decay_of
from jaxrl_lab.policies import Categorical
from jaxrl_lab.recipes import recipe
from jaxrl_lab.types import LearnerState, Outputs, PolicyOutput

CTX = random_case((3, 4, 5)).ctx


def state_of(params, average):
    return LearnerState(params, (), {}, {"average": average}, (), jnp.bool_(True), jnp.int32(-1))


def averages(decay, path):
    """What is kept after each of some updates, started at the first point of a path."""
    mech = build("update", "parameter_average", {"decay": decay})
    memory, kept = mech.init(None), path[0]
    seen = []
    for new in path[1:]:
        before = state_of(path[0], kept)
        ctx = replace(CTX, memory=memory)
        after = mech(before, replace(before, params=new), {}, ctx)
        kept, memory = after.trees["average"], mech.advance(memory, None, {}, ctx)
        np.testing.assert_array_equal(after.params, new)
        seen.append(np.asarray(kept))
    return np.stack(seen)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 1.0])
def test_the_average_weighs_every_visited_point_by_its_age(decay):
    path = [jnp.asarray(x, jnp.float32) for x in np.random.default_rng(0).normal(size=(7, 3))]
    got = averages(decay, path)
    for k in range(1, 7):
        weight = np.array([decay ** (k - i) if k > i or decay else 1.0 for i in range(k + 1)])
        weight /= weight.sum()
        assert (weight >= 0).all()
        expected = (weight[:, None] * np.stack(path[: k + 1])).sum(0)
        np.testing.assert_allclose(got[k - 1], expected, rtol=1e-5, atol=1e-6)


def test_a_decay_has_the_center_of_mass_it_is_asked_for():
    for center, steps in ((16.0, 4), (64.0, 4), (5.0, 8)):
        decay = decay_of(center, steps)
        age = np.arange(100000)
        weight = decay**age
        assert steps * (age * weight).sum() / weight.sum() == pytest.approx(center, rel=1e-6)
    assert decay_of(0.0, 4) == 0.0


# ------------------------------------------------------------------ the surrogate


def outputs(logp, anchor):
    """Outputs that say these log-probabilities of the sampled actions, and the anchor's."""

    def dist(x):
        return Categorical(jnp.broadcast_to(x[..., None], (*x.shape, 4)))

    return Outputs(logp, PolicyOutput(dist(logp)), {"proximal": PolicyOutput(dist(anchor))})


def setting(seed=0, n=200):
    rng = np.random.default_rng(seed)
    logp, old, anchor = (
        jnp.asarray(-1.5 + 0.6 * rng.normal(size=(n, 1, 1)), jnp.float32) for _ in range(3)
    )
    advantage = jnp.asarray(rng.normal(size=(n, 1, 1)), jnp.float32)
    case = random_case((n, 1, 1), ragged=False)
    return logp, anchor, replace(case.batch, logp_old=old, advantage=advantage)


def test_objective_and_gradient_are_those_of_the_formula():
    logp, anchor, batch = setting()
    mech = build("surrogate", "decoupled_clip", {"low": 0.2, "high": 0.3})

    def total(logp):
        objective, aux = mech(outputs(logp, anchor), batch, CTX)
        return jnp.sum(objective), (objective, aux["clipped"])

    grad, (objective, clipped) = jax.grad(total, has_aux=True)(logp)
    x, p, old, A = (
        np.asarray(v, np.float64) for v in (logp, anchor, batch.logp_old, batch.advantage)
    )
    raw = np.exp(x - old) * A
    cut = np.clip(np.exp(x - p), 0.8, 1.3) * np.exp(p - old) * A
    np.testing.assert_allclose(objective, np.minimum(raw, cut), rtol=1e-4)
    live = (raw <= cut) | np.isclose(raw, cut, rtol=1e-5)
    np.testing.assert_allclose(grad, np.where(live, raw, 0.0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(clipped), ~live)
    assert 20 < clipped.sum() < 180


def test_with_the_old_policy_as_anchor_it_is_the_clip_of_ppo():
    logp, _, batch = setting(1)
    ours = build("surrogate", "decoupled_clip", {})
    theirs = build("surrogate", "clip", {})

    def both(mech):
        def total(logp):
            objective, aux = mech(outputs(logp, batch.logp_old), batch, CTX)
            return jnp.sum(objective), (objective, aux["clipped"])

        return jax.grad(total, has_aux=True)(logp)

    for a, b in zip(jax.tree.leaves(both(ours)), jax.tree.leaves(both(theirs)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_are_capped_and_a_capped_one_has_no_gradient():
    logp, old = jnp.full((1, 1, 1), -0.1), jnp.full((1, 1, 1), -8.0)
    case = random_case((1, 1, 1), ragged=False)
    batch = replace(case.batch, logp_old=old, advantage=jnp.full((1, 1, 1), -1.0))
    mech = build("surrogate", "decoupled_clip", {"cap": 5.0})

    def total(logp):
        return jnp.sum(mech(outputs(logp, logp), batch, CTX)[0])

    value, grad = jax.value_and_grad(total)(logp)
    assert float(value) == -5.0
    assert float(grad[0, 0, 0]) == 0.0


# ------------------------------------------------------------------ in a learner


def learned(built, updates=6):
    env = make("bandit/modes", prompts=4, arms=5, modes=2)
    policy = policies.make("tabular", env, scale=1.0, value=True)
    learner = PolicyGradient(env, policy)
    built.check(env, policy)
    key = jax.random.key(3)
    world = learner.world(env.default_params)
    state = learner.init(built, world, key)

    @jax.jit
    def step(state, t):
        total = jnp.int32(updates)
        return learner.update(built, world, state, jax.random.fold_in(key, t), t, total)[0]

    for t in range(updates):
        state = step(state, jnp.int32(t))
    return state


SMALL = {"prompts": 16, "steps": 2, "minibatches": 2}


def anchored(decay):
    changed = {"parameter_average": {"decay": decay, "tree": "proximal"}}
    fast = [{"adam": {"learning_rate": 0.1}}]
    return recipe("ppo", surrogate="decoupled_clip", update=changed, optimizer=fast, **SMALL)


def test_an_anchor_without_memory_is_ppo_and_one_with_memory_is_not():
    plain = learned(recipe("ppo", optimizer=[{"adam": {"learning_rate": 0.1}}], **SMALL))
    ours, older = learned(anchored(0.0)), learned(anchored(0.9))
    for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(plain.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(ours.trees["proximal"]["logits"], ours.params["logits"], atol=1e-6)
    assert not np.allclose(older.params["logits"], plain.params["logits"], atol=1e-2)
    assert np.isfinite(older.params["logits"]).all()


def test_an_older_anchor_lets_the_policy_move_less():
    start = learned(anchored(0.9), updates=0).params["logits"]
    moved = [
        float(jnp.abs(learned(anchored(d), 12).params["logits"] - start).mean())
        for d in (0.0, 0.95)
    ]
    assert moved[1] < 0.8 * moved[0]


def test_the_named_recipe_has_an_anchor_of_its_own():
    built = recipe("ppo_ewma")
    assert built.passes == ("proximal",)
    assert "π_proximal" in str(built)


@pytest.mark.parametrize(
    ("slot", "name", "given"),
    [
        ("update", "parameter_average", {"decay": -0.1}),
        ("update", "parameter_average", {"decay": 1.1}),
        ("update", "parameter_average", {"decay": 0.5, "tree": "old"}),
        ("surrogate", "decoupled_clip", {"low": -0.1}),
        ("surrogate", "decoupled_clip", {"cap": 0.5}),
    ],
)
def test_settings_without_meaning_are_refused(slot, name, given):
    with pytest.raises(BadInput):
        build(slot, name, given).check(None)
