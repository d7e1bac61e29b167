"""Values, occupancies, entropies and optima against enumeration of all trajectories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from exact_worlds import (
    WORLDS,
    bandit,
    brute_return,
    chain,
    log_softmax,
    random_logits,
    stochastic,
    trajectories,
)

from jaxrl_lab import exact

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
everywhere = pytest.mark.parametrize("name", ["chain", "grid", "bandit", "stochastic"])


def case(name: str) -> tuple[je.TabularMDP, jax.Array, jax.Array, list[Any]]:
    mdp = WORLDS[name]()
    logits, other = random_logits(mdp, 0), random_logits(mdp, 1)
    paths = list(trajectories(mdp, log_softmax(logits), log_softmax(other)))
    return mdp, jax.nn.log_softmax(logits), jax.nn.log_softmax(other), paths


@everywhere
def test_value_and_return_match_enumeration(name: str) -> None:
    mdp, logp, _, paths = case(name)
    assert sum(p.probability for p in paths) == pytest.approx(1.0)
    for discount in (1.0, 0.8):
        want = brute_return(mdp, np.asarray(logp), discount)
        got = exact.expected_return(mdp, logp, discount)
        np.testing.assert_allclose(got, want, **CLOSE)
    v, q = exact.value(mdp, logp)
    assert v.shape == (mdp.horizon + 1, mdp.num_states)
    assert q.shape == (mdp.horizon, mdp.num_states, mdp.num_actions)
    by_state = jnp.exp(exact.rows_to_states(mdp, logp))
    np.testing.assert_allclose(jnp.sum(by_state * q[0], axis=-1), v[0], **CLOSE)
    assert not np.any(np.asarray(v)[:, np.asarray(mdp.terminal)])


@everywhere
def test_occupancy_counts_live_steps_only(name: str) -> None:
    mdp, logp, _, paths = case(name)
    want = np.zeros((mdp.horizon, mdp.num_states))
    for path in paths:
        for t in range(len(path.actions)):
            want[t, path.states[t]] += path.probability
    np.testing.assert_allclose(exact.occupancy(mdp, logp), want, **CLOSE)


@everywhere
def test_entropy_and_divergence_of_trajectories(name: str) -> None:
    mdp, logp, other, paths = case(name)
    entropy = -sum(p.probability * p.logp for p in paths)
    kl = sum(p.probability * (p.logp - p.other) for p in paths)
    np.testing.assert_allclose(exact.trajectory_entropy(mdp, logp), entropy, **CLOSE)
    np.testing.assert_allclose(exact.trajectory_kl(mdp, logp, other), kl, **CLOSE)
    assert float(exact.trajectory_kl(mdp, logp, logp)) == 0.0


def test_divergence_with_actions_that_are_ruled_out() -> None:
    mdp = bandit()
    half = jnp.full((3, 6), -jnp.inf).at[:, :2].set(jnp.log(0.5))
    full = jnp.full((3, 6), -jnp.log(6.0))
    np.testing.assert_allclose(exact.trajectory_kl(mdp, half, full), np.log(3.0), rtol=1e-6)
    assert np.isinf(exact.trajectory_kl(mdp, full, half))
    np.testing.assert_allclose(exact.trajectory_entropy(mdp, half), np.log(2.0), rtol=1e-6)
    # A divergence that is infinite only where the policy never goes does not count.
    fail = jnp.full((5, 3), -jnp.inf).at[:, 2].set(0.0)
    elsewhere = fail.at[3].set(jnp.array([0.0, -jnp.inf, -jnp.inf]))
    assert float(exact.trajectory_kl(chain(), fail, elsewhere)) == 0.0


def test_a_policy_with_a_clock_is_read_by_time() -> None:
    mdp = chain()
    logp = jax.nn.log_softmax(random_logits(mdp))
    timed = jnp.broadcast_to(logp[mdp.row], (5, 5, 3))
    for f in (exact.expected_return, exact.trajectory_entropy, exact.success_entropy):
        np.testing.assert_allclose(f(mdp, timed), f(mdp, logp), rtol=1e-6)
    np.testing.assert_allclose(exact.trajectory_kl(mdp, timed, logp), 0.0, atol=1e-7)


@pytest.mark.parametrize("name", ["chain", "grid", "stochastic"])
def test_the_optimum_attains_its_value_and_no_policy_beats_it(name: str) -> None:
    mdp = WORLDS[name]()
    for discount in (1.0, 0.7):
        best = exact.optimal(mdp, discount)
        attained, _ = exact.value(mdp, best.logp, discount)
        np.testing.assert_allclose(attained, best.v, rtol=1e-5, atol=1e-5)
        for seed in range(5):
            logp = jax.nn.log_softmax(random_logits(mdp, seed, 5.0))
            assert np.all(exact.value(mdp, logp, discount)[0] <= best.v + 1e-5)


@pytest.mark.parametrize("name", ["chain", "grid", "two_goals"])
def test_the_optimum_matches_the_best_action_sequence(name: str) -> None:
    mdp = WORLDS[name]()
    best: dict[int, float] = {}
    for path in trajectories(mdp, np.zeros((99, mdp.num_actions))):
        start = path.states[0]
        best[start] = max(best.get(start, -np.inf), sum(path.rewards))
    v = exact.optimal(mdp).v
    for start, want in best.items():
        assert float(v[0, start]) == pytest.approx(want)


def test_greedy_ties_are_uniform_and_dead_ends_are_worth_nothing() -> None:
    arms = exact.optimal(bandit())
    correct = np.asarray(bandit().reward[0]) == 1.0
    np.testing.assert_allclose(np.exp(arms.logp[0, 0]), correct / 3.0, rtol=1e-6)
    v = np.asarray(exact.optimal(chain()).v)
    # From state 0 three advances are needed: with 2 steps left it is too late.
    np.testing.assert_array_equal(v[:, 0] > 0, [True, True, True, False, False, False])
    assert not v[:, 4].any()


@pytest.mark.parametrize("name", ["chain", "stochastic"])
@pytest.mark.parametrize("with_reference", [False, True])
def test_the_soft_optimum_maximizes_the_regularized_return(name: str, with_reference: bool) -> None:
    mdp, tau = WORLDS[name](), 0.5
    reference = jax.nn.log_softmax(random_logits(mdp, 7)) if with_reference else None

    @jax.jit
    def objective(logp: jax.Array) -> jax.Array:
        if reference is None:
            spread = exact.trajectory_entropy(mdp, logp)
        else:
            spread = -exact.trajectory_kl(mdp, logp, reference)
        return exact.expected_return(mdp, logp) + tau * spread

    best = exact.soft_optimal(mdp, tau, reference=reference)
    top = objective(best.logp)
    np.testing.assert_allclose(jnp.sum(mdp.start * best.v[0]), top, rtol=1e-5, atol=1e-5)
    for seed in range(5):
        assert objective(jax.nn.log_softmax(random_logits(mdp, seed))) <= top + 1e-6
        near = jax.nn.log_softmax(
            best.logp + 0.05 * jax.random.normal(jax.random.key(seed), best.logp.shape)
        )
        assert objective(near) <= top + 1e-6


def test_the_soft_optimum_of_a_bandit_is_a_softmax_and_uniform_over_ties() -> None:
    mdp = bandit()
    soft = exact.soft_optimal(mdp, 0.3)
    np.testing.assert_allclose(soft.logp[0, 0], jax.nn.log_softmax(mdp.reward[0] / 0.3), rtol=1e-5)
    cold = np.exp(exact.soft_optimal(mdp, 0.01).logp[0, 0])
    np.testing.assert_allclose(cold, np.asarray(mdp.reward[0] == 1.0) / 3.0, atol=1e-6)
    reference = jax.nn.log_softmax(random_logits(mdp, 7))
    tilted = exact.soft_optimal(mdp, 0.3, reference=reference).logp[0, 0]
    want = jax.nn.log_softmax(reference[1] + mdp.reward[0] / 0.3)
    np.testing.assert_allclose(tilted, want, rtol=1e-5, atol=1e-6)


def test_levels_and_seeds_are_batched_by_vmap() -> None:
    env: Any = je.make("bandit/modes", prompts=3, arms=6, modes=3)
    params, ids = env.default_params, jnp.arange(3, dtype=jnp.int32)
    tables = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (2, 3, 6)))

    @jax.jit
    def batched(tables: jax.Array) -> jax.Array:
        levels = jax.vmap(env.make_level, (None, 0))(params, ids)
        mdps = jax.vmap(env.tabular, (None, 0))(params, levels)
        by_level = jax.vmap(exact.success_entropy, (0, None))
        return jax.vmap(by_level, (None, 0))(mdps, tables)

    both = batched(tables)
    assert both.shape == (2, 3)
    np.testing.assert_allclose(both[1, 1], exact.success_entropy(bandit(), tables[1]), rtol=1e-5)


def test_stochastic_success_is_refused_with_a_way_out() -> None:
    with pytest.raises(je.BadInput, match="expected_return"):
        exact.success(stochastic(), jnp.zeros((3, 2)))


def test_a_shorter_horizon_is_a_replacement_away() -> None:
    short = replace(chain(), horizon=2)
    logp = jax.nn.log_softmax(random_logits(short))
    want = sum(p.probability * sum(p.rewards) for p in trajectories(short, np.asarray(logp)))
    np.testing.assert_allclose(exact.expected_return(short, logp), want, **CLOSE)
