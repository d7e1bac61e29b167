"""A batch in pieces is the batch in one piece: same outputs, same gradient, same update."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_cases import ZERO, learner_of, louder, ppo_like, start

from jaxrl_lab import recipes
from jaxrl_lab.learners import pieces
from jaxrl_lab.policies import Categorical
from jaxrl_lab.types import Batch, PolicyOutput

RECIPES = {
    "stream": lambda: ppo_like(minibatches=2),
    "episodes": lambda: recipes.recipe("clip_cov", group=4, epochs=2, prompts=4),
}


def update(learner, built, rows, monkeypatch):
    """One update, the batch cut wherever it has more than ``rows`` rows."""
    monkeypatch.setitem(pieces.ROWS, jax.default_backend(), rows)
    world, state = start(learner, built)

    def step(state):
        key = jax.random.key(5)
        return learner.update(built, world, state, key, ZERO, jnp.int32(1))

    return jax.jit(step)(louder(state))


@pytest.mark.parametrize(
    ("policy_id", "rollout"),
    [
        ("mlp", "stream"),
        pytest.param("gru", "episodes", marks=pytest.mark.slow),
        pytest.param("transformer", "stream", marks=pytest.mark.slow),
    ],
)
def test_an_update_in_pieces_is_the_update(policy_id, rollout, monkeypatch):
    learner = learner_of("chain", policy_id, value=rollout == "stream")
    whole, fit = update(learner, RECIPES[rollout](), 10**6, monkeypatch)
    cut, fit_cut = update(learner, RECIPES[rollout](), 6, monkeypatch)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(cut.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    for name in fit:
        np.testing.assert_allclose(fit[name], fit_cut[name], rtol=1e-4, atol=1e-6)


def batch_of(b, g, t):
    flat = jnp.zeros((b, g, t))
    return Batch(
        level_id=jnp.zeros((b, 1, 1), jnp.int32),
        state=flat,
        action=flat.astype(jnp.int32),
        logp_behavior=flat,
        mask=flat == 0,
        resets=flat == 0,
        terminated=flat == 0,
        truncated=flat == 0,
        channels={"true": flat},
        reward=flat,
        info={},
        carry=(),
        valid=jnp.ones((b, g), bool),
        source=jnp.zeros((b, g), jnp.int8),
    )


@pytest.mark.parametrize(
    ("shape", "rows", "expected"),
    [
        ((8, 1, 10), 41, 1),  # less than two pieces
        ((8, 1, 10), 40, 2),
        ((8, 1, 10), 39, 4),  # three groups would fit, but 3 does not divide 8
        ((7, 1, 10), 30, 7),
        ((4, 2, 10), 5, 4),  # one group is larger than a piece: groups stay whole
    ],
)
def test_pieces_are_whole_groups_of_equal_number(shape, rows, expected, monkeypatch):
    learner = learner_of("chain", "mlp")
    monkeypatch.setitem(pieces.ROWS, jax.default_backend(), rows)
    params = learner.policy.init(jax.random.key(0))

    def unroll(params, batch):
        obs = jnp.zeros((*batch.action.shape, *learner.policy.space.shape), jnp.int32)
        return learner.policy.unroll(params, obs, batch.resets, ())

    assert pieces.count(unroll, params, batch_of(*shape)) == expected


def test_a_table_is_never_cut(monkeypatch):
    monkeypatch.setitem(pieces.ROWS, jax.default_backend(), 1)
    learner = learner_of("bandit")
    state, _ = update(learner, recipes.recipe("grpo", group=4), 1, monkeypatch)
    assert bool(state.alive)


def test_a_look_is_of_what_a_network_was_shown():
    batch = batch_of(4, 2, 3)
    look = pieces.look(lambda p, b: PolicyOutput(Categorical(p * b.state)), 1.0, batch, 1)
    other = replace(batch, advantage=batch.reward + 1.0, action=batch.action + 1)
    assert look.is_of(other), "a network sees neither"
    assert not look.is_of(replace(batch, state=batch.state + 0.0)), "equal is not the same"
    assert not look.is_of(replace(batch, resets=~batch.resets))


def test_one_step_from_the_look_back_is_one_step(monkeypatch):
    """GRPO's single step, with the pass of the look back and with a pass of its own."""
    learner = learner_of("chain", "mlp")
    built = recipes.recipe("grpo", group=4, epochs=1, prompts=4)
    shared, fit = update(learner, built, 10**6, monkeypatch)
    monkeypatch.setattr(pieces.Look, "is_of", lambda self, batch: False)
    own, fit_own = update(learner, built, 10**6, monkeypatch)
    for a, b in zip(jax.tree.leaves(shared.params), jax.tree.leaves(own.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert float(fit["objective"]) == pytest.approx(float(fit_own["objective"]), abs=1e-6)
    assert float(fit["clipped"]) == 0.0
