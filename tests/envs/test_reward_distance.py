"""The distance between rewards: linear algebra in NumPy, and what it must not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import TabularMDP
from jaxrl_envs.gridworlds.proxy import ProxyGrid
from jaxrl_envs.reward_distance import starc_distance

S, A, GAMMA = 7, 3, 0.9
distance = jax.jit(starc_distance)


def world(seed: int, stochastic: bool = True) -> TabularMDP:
    """A random world whose state 5 ends the episode and whose state 6 nobody reaches."""
    random = np.random.RandomState(seed)
    P = random.dirichlet(np.ones(S - 1), size=(S, A))
    P = np.concatenate([P, np.zeros((S, A, 1))], axis=2)
    ahead = random.randint(0, S - 1, size=(S, A))
    ahead[:4, 0] = np.arange(1, 5)  # so that all but state 6 are reached
    ahead[4, 0] = 5
    terminal = np.arange(S) == 5
    return TabularMDP(
        reward=jnp.asarray(random.randn(S, A) * ~terminal[:, None], jnp.float32),
        start=jax.nn.one_hot(0, S),
        terminal=jnp.asarray(terminal),
        row=jnp.arange(S),
        next=None if stochastic else jnp.asarray(ahead, jnp.int32),
        P=jnp.asarray(P, jnp.float32) if stochastic else None,
        horizon=9,
    )


def between(first: TabularMDP, second: TabularMDP) -> float:
    return float(distance(first, second, jnp.float32(GAMMA)))


def canonical(mdp: TabularMDP) -> np.ndarray:
    P = np.eye(S)[mdp.next] if mdp.P is None else np.asarray(mdp.P, np.float64)
    P = np.where(np.asarray(mdp.terminal), 0.0, P)
    reward = np.asarray(mdp.reward, np.float64)
    value = np.linalg.solve(np.eye(S) - GAMMA * P.mean(1), reward.mean(1))
    gain = (reward + GAMMA * P @ value - value[:, None])[:5]
    return gain / np.linalg.norm(gain)


@pytest.mark.parametrize("stochastic", [False, True])
def test_it_is_that_of_the_definition(stochastic: bool) -> None:
    first, second = world(0, stochastic), world(1, stochastic)
    second = replace(first, reward=second.reward)
    expected = np.linalg.norm(canonical(first) - canonical(second)) / 2
    assert 0.2 < expected < 0.9
    assert between(first, second) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("stochastic", [False, True])
def test_shaping_and_scale_are_not_seen(stochastic: bool) -> None:
    mdp = world(2, stochastic)
    potential = jnp.asarray(np.random.RandomState(3).randn(S), jnp.float32)
    potential = jnp.where(mdp.terminal, 0.0, potential)
    shaped = mdp.reward + GAMMA * mdp.expect(potential) - potential[:, None]
    assert between(mdp, mdp) == 0.0
    assert between(mdp, replace(mdp, reward=3.0 * shaped)) < 1e-5
    assert between(mdp, replace(mdp, reward=mdp.reward.at[6].set(9.0))) < 1e-6


def test_opposites_and_nothing() -> None:
    mdp = world(4)
    opposite, nothing = (replace(mdp, reward=c * mdp.reward) for c in (-2.0, 0.0))
    assert between(mdp, opposite) == pytest.approx(1.0, abs=1e-6)
    assert between(mdp, nothing) == pytest.approx(0.5, abs=1e-6)
    assert between(nothing, nothing) == 0.0


def test_triangles() -> None:
    mdps = [replace(world(0), reward=world(seed).reward) for seed in range(5)]
    d = np.array([[between(a, b) for b in mdps] for a in mdps])
    np.testing.assert_allclose(d, d.T, atol=1e-6)
    assert np.all(d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-6)


def test_a_coin_elsewhere_is_another_reward() -> None:
    env = ProxyGrid(kind="coin", levels=2, test_levels=2)

    @jax.jit
    def apart(index: Any) -> Any:
        params, level = env.default_params, env.make_level(env.default_params, index)
        tables = env.tabular(params, level), env.proxy_tabular(params, level)
        return starc_distance(*tables, jnp.float32(0.95))

    apart_by_level = [float(apart(i)) for i in jnp.arange(4)]
    assert max(apart_by_level[:2]) < 1e-6
    assert min(apart_by_level[2:]) > 0.5
