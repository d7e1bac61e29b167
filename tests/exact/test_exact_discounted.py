"""Infinite horizons against long sums in float64, against episodes, and where no sum exists."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from exact_worlds import WORLDS, bandit, chain, modular, random_logits, slippery, two_goals

from jaxrl_lab import exact, policies
from jaxrl_lab.rollouts import collect_episodes, make_world
from jaxrl_lab.types import Plan

CLOSE = {"rtol": 3e-5, "atol": 3e-6}
everywhere = pytest.mark.parametrize("name", list(WORLDS))


def matrices(mdp: je.TabularMDP, logp: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """π[S, A], P[S, A, S] without what is over, r[S, A] by state, in float64."""
    S, A = mdp.num_states, mdp.num_actions
    if mdp.next is not None:
        P = np.eye(S)[np.asarray(mdp.next)]
    else:
        P = np.asarray(mdp.P, np.float64).copy()
    reward = np.asarray(mdp.reward, np.float64).copy()
    over = np.asarray(mdp.terminal)
    P[over], P[:, :, over], reward[over] = 0.0, 0.0, 0.0
    pi = np.exp(np.asarray(logp, np.float64))[np.asarray(mdp.row)]
    assert pi.shape == (S, A)
    return pi, P, reward


def long_sums(
    mdp: je.TabularMDP, logp: Any, discount: float, steps: int = 4000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V, Q and occupancy by adding up ``steps`` steps."""
    pi, P, reward = matrices(mdp, logp)
    moves, gain = np.einsum("sa,sat->st", pi, P), np.sum(pi * reward, axis=1)
    v, d = np.zeros(len(gain)), np.zeros(len(gain))
    mass = np.where(np.asarray(mdp.terminal), 0.0, np.asarray(mdp.start, np.float64))
    for _ in range(steps):
        v = gain + discount * moves @ v
        d = d + mass
        mass = discount * moves.T @ mass
    return v, reward + discount * P @ v, d


@everywhere
@pytest.mark.parametrize("discount", [0.7, 0.97, 1.0])
def test_values_and_occupancies_are_long_sums(name: str, discount: float) -> None:
    mdp = WORLDS[name]()
    logp = jax.nn.log_softmax(random_logits(mdp))
    v, q, d = long_sums(mdp, logp, discount)
    got_v, got_q = exact.discounted_value(mdp, logp, discount)
    np.testing.assert_allclose(got_v, v, **CLOSE)
    np.testing.assert_allclose(got_q, q, **CLOSE)
    got_d = exact.discounted_occupancy(mdp, logp, discount)
    np.testing.assert_allclose(got_d, d, **CLOSE)
    J = exact.discounted_return(mdp, logp, discount)
    np.testing.assert_allclose(J, np.sum(np.asarray(mdp.start) * v), **CLOSE)
    pi, _, reward = matrices(mdp, logp)
    np.testing.assert_allclose(J, np.sum(d * np.sum(pi * reward, axis=1)), **CLOSE)


@pytest.mark.parametrize("world", [bandit, modular])
def test_worlds_that_end_by_themselves_have_one_answer_for_both_horizons(world: Any) -> None:
    mdp = world()
    logp = jax.nn.log_softmax(random_logits(mdp))
    v, q = exact.value(mdp, logp, 0.9)
    got_v, got_q = exact.discounted_value(mdp, logp, 0.9)
    start = int(np.argmax(mdp.start))
    np.testing.assert_allclose(got_v[start], v[0, start], **CLOSE)
    np.testing.assert_allclose(got_q[start], q[0, start], **CLOSE)
    visits = jnp.sum(exact.occupancy(mdp, logp), axis=0)
    np.testing.assert_allclose(exact.discounted_occupancy(mdp, logp, 1.0), visits, **CLOSE)


def test_levels_and_policies_are_batched_by_vmap() -> None:
    """Many systems side by side in one program: value and occupancy of every level and table."""
    env: Any = je.make("gridworld/two_goals", size=5, levels=16, slippery=True)
    params = replace(env.default_params, slip=jnp.float32(0.2))
    mdps = exact.tabulate(env, params, jnp.arange(16, dtype=jnp.int32))
    tables = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (8, 16 * 25, 4)))

    @jax.jit
    def everything(mdps: Any, tables: Any) -> Any:
        def one(mdp: Any, table: Any) -> Any:
            v, _ = exact.discounted_value(mdp, table, 0.95)
            return v, exact.discounted_occupancy(mdp, table, 0.95)

        return jax.vmap(jax.vmap(one, (0, None)), (None, 0))(mdps, tables)

    for _ in range(20):
        v, d = everything(mdps, tables)
    assert v.shape == d.shape == (8, 16, 25)
    for i, j in [(0, 0), (3, 7), (7, 15)]:
        mdp = jax.tree.map(lambda x, j=j: x[j], mdps)
        want_v, _, want_d = long_sums(mdp, tables[i], 0.95, 1000)
        np.testing.assert_allclose(v[i, j], want_v, **CLOSE)
        np.testing.assert_allclose(d[i, j], want_d, **CLOSE)


@pytest.mark.parametrize("name", ["slippery", "stochastic", "grid"])
def test_the_gradient_of_the_return_is_that_of_differences(name: str) -> None:
    mdp = WORLDS[name]()
    logits = random_logits(mdp)

    def value(z: jax.Array) -> jax.Array:
        return exact.discounted_return(mdp, jax.nn.log_softmax(z), 0.9)

    def brute(z: np.ndarray) -> float:
        logp = z - np.log(np.sum(np.exp(z), -1, keepdims=True))
        return float(np.sum(np.asarray(mdp.start, np.float64) * long_sums(mdp, logp, 0.9, 400)[0]))

    gradient = jax.jit(jax.grad(value))(logits)
    direction = np.random.default_rng(0).normal(size=logits.shape)
    h, z = 1e-5, np.asarray(logits, np.float64)
    slope = (brute(z + h * direction) - brute(z - h * direction)) / (2 * h)
    np.testing.assert_allclose(np.sum(np.asarray(gradient) * direction), slope, rtol=2e-4)


def test_discounted_returns_of_played_episodes_agree() -> None:
    """20 000 episodes of at most 80 steps: within 4 standard errors and what the cut can hide."""
    discount, n = 0.9, 20_000
    env: Any = je.make("gridworld/two_goals", size=5, slippery=True, horizon=80)
    params = replace(env.default_params, slip=jnp.float32(0.25), step_cost=jnp.float32(0.05))
    policy = policies.make("tabular", env, scale=1.0)
    weights = policy.init(jax.random.key(1))
    mdp = exact.tabulate(env, params, jnp.int32(0))
    want = float(exact.discounted_return(mdp, jax.nn.log_softmax(weights["logits"]), discount))

    @jax.jit
    def play(key: jax.Array) -> Any:
        plan = Plan(jnp.zeros(1, jnp.int32), jnp.ones((1, n), bool), jnp.zeros((1, n), jnp.int8))
        world = make_world(env, params)
        return collect_episodes(env, policy, world, weights, plan, key)

    batch = play(jax.random.key(2))
    power = discount ** np.arange(80)
    returns = np.sum(np.asarray(batch.reward)[0] * power, axis=-1)
    hidden = 1.5 * discount**80 / (1 - discount)
    assert abs(returns.mean() - want) < 4 * returns.std() / np.sqrt(n) + hidden
    steps = np.sum(np.asarray(batch.mask)[0] * power, axis=-1)
    total = float(
        jnp.sum(exact.discounted_occupancy(mdp, jax.nn.log_softmax(weights["logits"]), discount))
    )
    assert abs(steps.mean() - total) < 4 * steps.std() / np.sqrt(n) + hidden


# ------------------------------------------------------------------ traps


def test_without_discount_what_never_ends_is_told_apart() -> None:
    """Advance once, then stay for ever in state 1; from state 2 advance and end."""
    logits = jnp.full((5, 3), -jnp.inf).at[0, 0].set(0.0).at[1, 1].set(0.0).at[2:, 0].set(0.0)
    logp = jax.nn.log_softmax(logits)
    v, q = exact.discounted_value(chain(), logp, 1.0)
    np.testing.assert_array_equal(v, [0.0, 0.0, 1.0, 0.0, 0.0])  # nothing is paid in the trap
    np.testing.assert_array_equal(q[1], [1.0, 0.0, 0.0])
    d = np.asarray(exact.discounted_occupancy(chain(), logp, 1.0))
    assert np.all(np.isinf(d[:2]))
    np.testing.assert_array_equal(d[2:], 0.0)
    # The same, with a toll for every step in the trap: no value there, nor on the way to it.
    tolls = replace(chain(), reward=chain().reward.at[1, 1].set(-0.5))
    v, q = exact.discounted_value(tolls, logp, 1.0)
    np.testing.assert_array_equal(np.isnan(v), [True, True, False, False, False])
    np.testing.assert_array_equal(np.isnan(q)[:3, 0], [True, False, False])
    assert np.isnan(exact.discounted_return(tolls, logp, 1.0))
    v, _ = exact.discounted_value(tolls, logp, 0.5)
    np.testing.assert_allclose(v, [-0.5, -1.0, 1.0, 0.0, 0.0], rtol=1e-6)


def test_rare_exits_are_no_traps() -> None:
    logits = jnp.zeros((5, 3)).at[:, 1].set(9.0)  # stays 8000 times as often as it moves
    logp = jax.nn.log_softmax(logits)
    want = long_sums(chain(), logp, 1.0, 200_000)
    v, _ = exact.discounted_value(chain(), logp, 1.0)
    np.testing.assert_allclose(v, want[0], rtol=5e-3)
    d = exact.discounted_occupancy(chain(), logp, 1.0)
    np.testing.assert_allclose(d, want[2], rtol=5e-3)


def test_a_policy_with_a_clock_is_refused() -> None:
    with pytest.raises(je.BadInput, match="without a clock"):
        exact.discounted_value(chain(), jnp.zeros((5, 5, 3)), 0.9)


# ------------------------------------------------------------------ soft optimum


@pytest.mark.parametrize("name", ["chain", "slippery", "stochastic"])
@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("tau", [0.02, 0.5])
def test_the_soft_optimum_solves_its_equation(name: str, with_reference: bool, tau: float) -> None:
    """Against plain soft value iteration in float64."""
    mdp, discount = WORLDS[name](), 0.9
    reference = jax.nn.log_softmax(random_logits(mdp, 7)) if with_reference else None
    found = exact.soft_stationary(mdp, tau, discount, reference)
    _, P, reward = matrices(mdp, jnp.zeros_like(random_logits(mdp)))
    prior = np.zeros(reward.shape) if reference is None else np.asarray(reference)[mdp.row]
    prior = prior.astype(np.float64)
    over, v = np.asarray(mdp.terminal), np.zeros(mdp.num_states)
    for _ in range(500):
        score = prior + (reward + discount * P @ v) / tau
        top = score.max(-1)
        v = np.where(over, 0.0, tau * (top + np.log(np.exp(score - top[:, None]).sum(-1))))
    score = prior + (reward + discount * P @ v) / tau
    pi = np.exp(score - score.max(-1, keepdims=True))
    pi /= pi.sum(-1, keepdims=True)
    np.testing.assert_allclose(found.v, v, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        np.exp(found.logp)[~over], pi[~over], rtol=1e-3, atol=2e-5 + 1e-5 / tau
    )
    # Its value is what the policy earns with its bonus, and no long finite horizon does better.
    long = exact.soft_optimal(replace(mdp, horizon=200), tau, discount, reference)
    np.testing.assert_allclose(found.v, long.v[0], rtol=1e-4, atol=1e-5)


def test_a_cold_soft_optimum_is_optimal_and_shares_ties() -> None:
    """Both goals pay the same: without noise the agent goes to either by a shortest route."""
    mdp, discount = two_goals(), 0.9
    found = exact.soft_stationary(mdp, 1e-3, discount)
    best = exact.optimal(replace(mdp, horizon=60), discount)
    np.testing.assert_allclose(found.v, best.v[0], atol=0.02)
    v, _ = exact.discounted_value(exact.fully_observed(mdp), found.logp, discount)
    np.testing.assert_allclose(v, best.v[0], atol=1e-4)
    arms = exact.soft_stationary(bandit(), 0.3, discount)
    np.testing.assert_allclose(
        arms.logp[0], jax.nn.log_softmax(bandit().reward[0] / 0.3), rtol=1e-5
    )


def test_soft_optima_are_batched_over_temperatures() -> None:
    mdp = slippery()
    taus = jnp.array([0.05, 0.2, 1.0])
    found = jax.jit(jax.vmap(partial(exact.soft_stationary, mdp), (0, None)))(taus, 0.9)
    for i, tau in enumerate(taus):
        alone = exact.soft_stationary(mdp, tau, 0.9)
        np.testing.assert_allclose(found.v[i], alone.v, rtol=1e-5)
    start = int(np.argmax(mdp.start))
    assert np.all(np.diff(np.asarray(found.v)[:, start]) > 0)  # more bonus for each unit of entropy


def test_worlds_without_a_table_are_refused_with_the_names_of_those_that_have_one() -> None:
    env = je.make("gymnax/CartPole-v1")
    with pytest.raises(je.BadInput, match="gridworld/two_goals"):
        exact.tabulate(env, env.default_params, jnp.int32(0))
    grid: Any = je.make("gridworld/two_goals", levels=4)
    one = exact.tabulate(grid, grid.default_params, jnp.int32(2))
    every = exact.tabulate(grid, grid.default_params, jnp.arange(4).reshape(2, 2))
    assert every.reward.shape == (2, 2, 25, 4)
    np.testing.assert_array_equal(every.start[1, 0], one.start)
