"""Success and its diversity against enumeration, also far below the smallest float."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from exact_worlds import DETERMINISTIC, bandit, chain, log_softmax, random_logits, trajectories

from jaxrl_lab import exact, measures

deterministic = pytest.mark.parametrize("name", list(DETERMINISTIC))
by_hand = pytest.mark.parametrize("name", ["chain", "grid"])


def entropy(p: np.ndarray) -> float:
    return float(-np.sum(p * np.log(p)))


@deterministic
def test_success_count_and_entropy_match_enumeration(name: str) -> None:
    mdp = DETERMINISTIC[name]()
    logits = random_logits(mdp)
    paths = list(trajectories(mdp, log_softmax(logits)))
    won = np.array([p.probability for p in paths if sum(p.rewards) == 1.0])
    logp = jax.nn.log_softmax(logits)
    p = exact.success(mdp, logp)
    np.testing.assert_allclose(p, won.sum(), rtol=2e-5)
    np.testing.assert_allclose(p, exact.expected_return(mdp, logp), rtol=2e-5)
    assert float(exact.solution_count(mdp)) == len(won)
    found = exact.success_entropy(mdp, logp)
    np.testing.assert_allclose(found, entropy(won / won.sum()), rtol=2e-5)
    # With weights 1 instead of probabilities every solution counts alike.
    start = replace(mdp, start=(mdp.start > 0).astype(jnp.float32))
    flat = exact.success_entropy(start, jnp.zeros_like(logp))
    np.testing.assert_allclose(np.exp(flat), len(won), rtol=2e-5)


@by_hand
def test_the_conditioned_policy_always_succeeds_with_the_right_odds(name: str) -> None:
    mdp = DETERMINISTIC[name]()
    logp = jax.nn.log_softmax(random_logits(mdp))
    start, plus = exact.success_policy(mdp, logp)
    conditioned = replace(mdp, start=jnp.exp(start))
    np.testing.assert_allclose(exact.success(conditioned, plus), 1.0, rtol=1e-5)
    # KL from the policy to its conditioned self over actions and start is −log p(success).
    start_kl = measures.kl_to(start, jnp.log(jnp.where(mdp.start > 0, mdp.start, 1.0)))
    path_kl = exact.trajectory_kl(conditioned, plus, logp)
    np.testing.assert_allclose(start_kl + path_kl, -np.log(exact.success(mdp, logp)), rtol=1e-4)


def test_a_bandit_has_the_entropy_of_its_correct_arms() -> None:
    mdp, logits = bandit(), random_logits(bandit())
    logp = jax.nn.log_softmax(logits)
    correct = (mdp.reward[0] == 1.0)[None]
    want = measures.effective_solutions(logp[1:2], correct)[0]
    np.testing.assert_allclose(jnp.exp(exact.success_entropy(mdp, logp)), want, rtol=1e-5)
    decoys = replace(mdp, reward=jnp.where(mdp.reward == 0.0, 0.9, mdp.reward))
    np.testing.assert_allclose(exact.success_entropy(decoys, logp), np.log(want), rtol=1e-5)


@pytest.mark.parametrize("operators", ["add", "affine"])
def test_modular_chains_count_as_the_world_says(operators: str) -> None:
    env: Any = je.make(
        "reasoning/modular_chain", modulus=7, vocabulary=4, length=5, operators=operators, prompts=9
    )
    params = env.default_params
    count = jax.jit(lambda level: exact.solution_count(env.tabular(params, level)))
    for i in range(0, 9, 2):
        level = env.make_level(params, jnp.int32(i))
        assert float(count(level)) == float(env.solutions(params, level).count)


def test_shortest_routes_are_counted_by_a_short_horizon() -> None:
    env: Any = je.make("gridworld/two_goals", size=5)
    params = env.default_params
    for i in (0, 9):
        level = env.make_level(params, jnp.int32(i))
        mdp = replace(env.tabular(params, level), horizon=int(level.row) + 2)
        assert float(exact.solution_count(mdp)) == float(env.solutions(params, level).count)


def test_diversity_survives_probabilities_below_the_smallest_float() -> None:
    mdp = chain()
    logits = jnp.zeros((5, 3)).at[:, 0].set(-90.0).at[:, 1].set(-90.0)  # both e^-90 against fail
    single = replace(mdp, start=jax.nn.one_hot(0, 5))
    v, _ = exact.log_success(single, jax.nn.log_softmax(logits))
    np.testing.assert_allclose(v[0, 0], -270.0, rtol=1e-5)
    assert float(exact.success(single, jax.nn.log_softmax(logits))) == 0.0
    short = replace(single, horizon=3)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda z: exact.success_entropy(short, jax.nn.log_softmax(z)))
    )(logits)
    assert float(value) == pytest.approx(0.0, abs=1e-6)  # one sequence of three
    assert np.all(np.isfinite(gradient))
    arms = bandit()
    rare = jnp.where(arms.reward[0] == 1.0, -200.0, 0.0)[None].repeat(3, axis=0)
    found = exact.success_entropy(arms, jax.nn.log_softmax(rare))
    np.testing.assert_allclose(np.exp(found), 3.0, rtol=1e-5)


def test_impossible_success_has_no_entropy_and_finite_gradients() -> None:
    mdp = replace(chain(), horizon=1)
    logits = random_logits(mdp)

    def everything(z: jax.Array) -> jax.Array:
        logp = jax.nn.log_softmax(z)
        return exact.success_entropy(mdp, logp) + exact.success(mdp, logp)

    value, gradient = jax.jit(jax.value_and_grad(everything))(logits)
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, 0.0)
    assert float(exact.solution_count(mdp)) == 0.0


@by_hand
def test_gradients_of_success_entropy_are_right(name: str) -> None:
    mdp = DETERMINISTIC[name]()
    logits = random_logits(mdp)
    gradient = jax.jit(jax.grad(lambda z: exact.success_entropy(mdp, jax.nn.log_softmax(z))))(
        logits
    )

    def brute(z: np.ndarray) -> float:
        paths = trajectories(mdp, log_softmax(z))
        won = np.array([p.probability for p in paths if sum(p.rewards) == 1.0])
        return entropy(won / won.sum())

    direction = np.random.default_rng(0).normal(size=logits.shape)
    h = 1e-5
    z = np.asarray(logits, np.float64)
    slope = (brute(z + h * direction) - brute(z - h * direction)) / (2 * h)
    np.testing.assert_allclose(
        np.sum(np.asarray(gradient) * direction), slope, rtol=1e-4, atol=1e-5
    )
