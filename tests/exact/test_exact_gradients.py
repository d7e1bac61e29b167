"""Closed-form gradients against automatic ones and against differences of brute force."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_worlds import (
    WORLDS,
    bandit,
    brute_return,
    central_differences,
    log_softmax,
    random_logits,
    stochastic,
    trajectories,
)

from jaxrl_lab import exact

CLOSE = {"rtol": 1e-4, "atol": 2e-6}
everywhere = pytest.mark.parametrize("name", ["chain", "grid", "stochastic"])


@everywhere
def test_policy_gradient_equals_automatic_differentiation(name: str) -> None:
    mdp = WORLDS[name]()
    logits = random_logits(mdp)

    @jax.jit
    @jax.grad
    def automatic(z: jax.Array, discount: float) -> jax.Array:
        return exact.expected_return(mdp, jax.nn.log_softmax(z), discount)

    for discount in (1.0, 0.8):
        got = exact.policy_gradient(mdp, logits, discount)
        np.testing.assert_allclose(got, automatic(logits, discount), **CLOSE)
        np.testing.assert_allclose(np.sum(got, axis=-1), 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["chain", "grid", "bandit", "stochastic"])
def test_policy_gradient_equals_central_differences(name: str) -> None:
    mdp = WORLDS[name]()
    logits = random_logits(mdp)
    want = central_differences(lambda z: brute_return(mdp, z, 0.9), np.asarray(logits))
    np.testing.assert_allclose(exact.policy_gradient(mdp, logits, 0.9), want, **CLOSE)


@everywhere
def test_entropy_and_kl_gradients_equal_automatic_differentiation(name: str) -> None:
    mdp = WORLDS[name]()
    logits, other = random_logits(mdp), jax.nn.log_softmax(random_logits(mdp, 1))

    @jax.jit
    @jax.jacobian
    def automatic(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        logp = jax.nn.log_softmax(z)
        return exact.trajectory_entropy(mdp, logp), exact.trajectory_kl(mdp, logp, other)

    entropy, kl = automatic(logits)
    np.testing.assert_allclose(exact.entropy_gradient(mdp, logits), entropy, **CLOSE)
    np.testing.assert_allclose(exact.kl_gradient(mdp, logits, other), kl, **CLOSE)


def test_bandit_gradients_in_closed_form() -> None:
    mdp = bandit()
    logits = random_logits(mdp)
    pi = jnp.exp(jax.nn.log_softmax(logits))[1]
    advantage = mdp.reward[0] - jnp.sum(pi * mdp.reward[0])
    np.testing.assert_allclose(exact.policy_gradient(mdp, logits)[1], pi * advantage, **CLOSE)
    np.testing.assert_allclose(exact.natural_gradient(mdp, logits)[1], advantage, **CLOSE)
    surprise = jnp.log(pi) - jnp.sum(pi * jnp.log(pi))
    np.testing.assert_allclose(exact.entropy_gradient(mdp, logits)[1], -pi * surprise, **CLOSE)
    for gradient in (exact.policy_gradient, exact.natural_gradient):
        np.testing.assert_array_equal(gradient(mdp, logits)[0], 0.0)  # the row of another prompt


@pytest.mark.parametrize("name", ["chain", "grid", "stochastic"])
def test_natural_gradient_solves_the_fisher_system(name: str) -> None:
    """F n = g for the Fisher matrix of the trajectory distribution, by enumeration."""
    mdp = WORLDS[name]()
    logits = random_logits(mdp)
    logp = log_softmax(logits)
    pi, row = np.exp(logp), np.asarray(mdp.row)
    fisher = np.zeros((logits.size, logits.size))
    for path in trajectories(mdp, logp):
        score = np.zeros(logits.shape)
        for s, a in zip(path.states, path.actions, strict=False):
            score[row[s]] -= pi[row[s]]
            score[row[s], a] += 1.0
        fisher += path.probability * np.outer(score, score)
    natural = np.asarray(exact.natural_gradient(mdp, logits), np.float64).ravel()
    gradient = np.asarray(exact.policy_gradient(mdp, logits)).ravel()
    np.testing.assert_allclose(fisher @ natural, gradient, rtol=1e-4, atol=1e-5)


def test_actions_that_are_ruled_out_leave_gradients_finite() -> None:
    mdp = stochastic()
    logits = random_logits(mdp).at[0, 0].set(-jnp.inf)
    other = jax.nn.log_softmax(random_logits(mdp, 1))
    for gradient in (
        exact.policy_gradient(mdp, logits),
        exact.natural_gradient(mdp, logits),
        exact.entropy_gradient(mdp, logits),
        exact.kl_gradient(mdp, logits, other),
    ):
        assert np.all(np.isfinite(gradient))


def test_rewards_of_terminal_states_are_never_collected() -> None:
    mdp = stochastic()
    logits = random_logits(mdp)
    loud = replace(mdp, reward=mdp.reward.at[3].set(1e6))
    np.testing.assert_array_equal(
        exact.policy_gradient(loud, logits), exact.policy_gradient(mdp, logits)
    )
