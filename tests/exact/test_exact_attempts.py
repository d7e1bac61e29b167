"""What k attempts achieve against enumeration of trajectories and against sampling."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from exact_worlds import DETERMINISTIC, WORLDS, bandit, log_softmax, random_logits, trajectories

from jaxrl_lab import exact, measures


def successes(name: str) -> tuple[Any, jax.Array, np.ndarray]:
    """A world, a policy, and the probability of each of its successful trajectories."""
    mdp = DETERMINISTIC[name]()
    logits = random_logits(mdp)
    paths = trajectories(mdp, log_softmax(logits))
    won = np.array([p.probability for p in paths if sum(p.rewards) == 1.0])
    return mdp, jax.nn.log_softmax(logits), won


@pytest.mark.parametrize("name", list(DETERMINISTIC))
def test_distinct_solutions_are_a_sum_over_all_of_them(name: str) -> None:
    mdp, logp, won = successes(name)
    for k in (1, 2, 7, 64):
        want = np.sum(-np.expm1(k * np.log1p(-won)))
        np.testing.assert_allclose(exact.distinct_solutions(mdp, logp, k), want, rtol=1e-4)


def test_many_attempts_find_every_solution_and_one_finds_what_success_is() -> None:
    mdp, logp, _ = successes("two_goals")
    one = exact.distinct_solutions(mdp, logp, 1)
    np.testing.assert_allclose(one, exact.success(mdp, logp), rtol=1e-5)
    short = replace(mdp, horizon=3)
    sharp = exact.soft_optimal(short, 0.05).logp
    most = exact.distinct_solutions(short, sharp, 500)
    np.testing.assert_allclose(most, exact.solution_count(short), rtol=1e-3)


def test_among_successful_attempts_the_conditioned_policy_counts() -> None:
    mdp, logp, won = successes("grid")
    start, plus = exact.success_policy(mdp, logp)
    share = won / won.sum()
    for k in (1, 3, 20):
        found = exact.distinct_solutions(replace(mdp, start=jnp.exp(start)), plus, k)
        np.testing.assert_allclose(found, np.sum(1 - (1 - share) ** k), rtol=1e-4)


@pytest.mark.parametrize("name", ["two_goals", "slippery", "grid"])
def test_modes_by_the_state_that_is_entered(name: str) -> None:
    mdp = WORLDS[name]()
    logits = random_logits(mdp)
    goals = np.flatnonzero(np.asarray(mdp.terminal))
    mode = jnp.full(mdp.num_states, -1).at[jnp.asarray(goals)].set(jnp.arange(len(goals)))
    want = np.zeros(len(goals))
    for path in trajectories(mdp, log_softmax(logits)):
        if path.states[-1] in goals:
            want[list(goals).index(path.states[-1])] += path.probability
    mass = exact.mode_mass(mdp, jax.nn.log_softmax(logits), mode, len(goals))
    np.testing.assert_allclose(mass, want, rtol=2e-5)
    for k in (1, 4, 100):
        seen = np.sum(1 - (1 - want) ** k)
        np.testing.assert_allclose(exact.distinct_modes(mass, k), seen, rtol=1e-4)


def test_modes_of_a_bandit_are_its_correct_arms() -> None:
    mdp = bandit()
    logp = jax.nn.log_softmax(random_logits(mdp))
    correct = np.asarray(mdp.reward[0]) == 1.0
    number = np.where(correct, np.cumsum(correct) - 1, -1)
    mode = jnp.asarray(np.stack([number, np.full(6, -1)]), jnp.int32)
    mass = exact.mode_mass(mdp, logp, mode, 3)
    np.testing.assert_allclose(mass, np.exp(logp[1])[correct], rtol=1e-5)
    for k in (1, 8):
        share = measures.coverage_at_k(logp[1:2], jnp.asarray(correct)[None], k)[0]
        np.testing.assert_allclose(exact.distinct_modes(mass, k), 3.0 * share, rtol=1e-5)
        np.testing.assert_allclose(exact.distinct_solutions(mdp, logp, k), 3.0 * share, rtol=1e-5)


def test_distinct_modes_by_sampling() -> None:
    p, k, n = np.array([0.5, 0.2, 0.04, 0.26]), 6, 100_000
    draws = np.random.default_rng(0).choice(4, (n, k), p=p)
    seen = np.stack([np.any(draws == m, axis=1) for m in range(3)]).sum(0)  # mode 3 is failure
    got = float(exact.distinct_modes(jnp.asarray(p[:3], jnp.float32), k))
    assert abs(seen.mean() - got) < 4 * seen.std() / np.sqrt(n)


def test_pass_at_k_is_averaged_over_levels() -> None:
    env: Any = je.make("reasoning/modular_chain", modulus=5, vocabulary=3, length=4, prompts=6)
    mdps = exact.tabulate(env, env.default_params, jnp.arange(6, dtype=jnp.int32))
    logits = jax.random.normal(jax.random.key(0), (int(jnp.max(mdps.row)) + 1, 3))
    p = []
    for i in range(6):
        one = jax.tree.map(lambda x, i=i: x[i], mdps)
        paths = trajectories(one, log_softmax(logits))
        p.append(sum(path.probability for path in paths if sum(path.rewards) == 1.0))
    assert np.ptp(p) > 0.1
    logp, weight = jax.nn.log_softmax(logits), np.array([1.0, 0.0, 2.0, 0.0, 1.0, 1.0])
    mean = jax.jit(exact.mean_pass_at_k, static_argnums=2)
    for k in (1, 4, 32):
        each = 1 - (1 - np.array(p)) ** k
        np.testing.assert_allclose(mean(mdps, logp, k), each.mean(), rtol=1e-4)
        got = mean(mdps, logp, k, 1.0, jnp.asarray(weight, jnp.float32))
        np.testing.assert_allclose(got, np.average(each, weights=weight), rtol=1e-4)
        mixed = measures.pass_at_k(jnp.asarray(p, jnp.float32), k)
        np.testing.assert_allclose(mixed, each, rtol=1e-4)


def test_the_best_of_k_attempts() -> None:
    p, quality, k = np.array([0.4, 0.1, 0.3, 0.2]), np.array([0.5, 2.0, 0.5, -1.0]), 3
    want = sum(
        np.prod(p[list(draw)]) * quality[list(draw)].max()
        for draw in itertools.product(range(4), repeat=k)
    )
    logp = jnp.log(jnp.asarray(p, jnp.float32))
    got = exact.expected_best(logp, jnp.asarray(quality, jnp.float32), k)
    assert float(got) == pytest.approx(want, rel=1e-5)


def test_refusals() -> None:
    mdp = bandit()
    logp = jnp.zeros((3, 6))
    with pytest.raises(je.BadInput, match="attempts"):
        exact.distinct_solutions(mdp, logp, 0)
    with pytest.raises(je.BadInput, match="k = 0"):
        exact.distinct_modes(logp[0], 0)
    with pytest.raises(je.BadInput, match="deterministic"):
        exact.distinct_solutions(WORLDS["stochastic"](), jnp.zeros((3, 2)), 2)
