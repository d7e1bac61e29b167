"""Tiny worlds written by hand, and brute force over their trajectories in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np


class Path(NamedTuple):
    """One trajectory: probability of the dynamics, log-probability of the actions, rewards."""

    dynamics: float
    logp: float
    other: float
    rewards: tuple[float, ...]
    states: tuple[int, ...]
    actions: tuple[int, ...]

    @property
    def probability(self) -> float:
        return self.dynamics * float(np.exp(self.logp))


@cache
def chain() -> je.TabularMDP:
    """Three steps to the goal; actions advance, stay, fail. Two possible starts."""
    ahead = [[1, 0, 4], [2, 1, 4], [3, 2, 4], [3, 3, 3], [4, 4, 4]]
    reward = np.zeros((5, 3), np.float32)
    reward[2, 0] = 1.0
    return je.TabularMDP(
        reward=jnp.asarray(reward),
        start=jnp.array([0.7, 0.3, 0.0, 0.0, 0.0]),
        terminal=jnp.array([False, False, False, True, True]),
        row=jnp.arange(5, dtype=jnp.int32),
        next=jnp.asarray(ahead, jnp.int32),
        horizon=5,
    )


@cache
def grid() -> je.TabularMDP:
    """2 x 3 cells, goals in two corners, start below the middle; two cells look the same."""
    ahead = np.zeros((6, 4), np.int32)
    for cell in range(6):
        r, c = divmod(cell, 3)
        for a, (dr, dc) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
            ahead[cell, a] = np.clip(r + dr, 0, 1) * 3 + np.clip(c + dc, 0, 2)
    terminal = np.array([True, False, True, False, False, False])
    ahead[terminal] = np.arange(6)[terminal][:, None]
    reward = (terminal[ahead] & ~terminal[:, None]).astype(np.float32)
    return je.TabularMDP(
        reward=jnp.asarray(reward),
        start=jax.nn.one_hot(4, 6),
        terminal=jnp.asarray(terminal),
        row=jnp.asarray([0, 1, 2, 3, 4, 3], jnp.int32),
        next=jnp.asarray(ahead),
        horizon=4,
    )


@cache
def stochastic() -> je.TabularMDP:
    """Random transitions and rewards, one terminal state, two states behind one row."""
    rng = np.random.default_rng(3)
    return je.TabularMDP(
        reward=jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        start=jnp.array([0.5, 0.2, 0.2, 0.1]),
        terminal=jnp.array([False, False, False, True]),
        row=jnp.asarray([0, 1, 1, 2], jnp.int32),
        P=jnp.asarray(rng.dirichlet(np.ones(4), size=(4, 2)), jnp.float32),
        horizon=4,
    )


def level_one(env: Any) -> je.TabularMDP:
    params = env.default_params
    return env.tabular(params, env.make_level(params, jnp.int32(1)))


@cache
def bandit() -> je.TabularMDP:
    env: Any = je.make("bandit/modes", prompts=3, arms=6, modes=3)
    return jax.jit(level_one, static_argnums=0)(env)


@cache
def modular() -> je.TabularMDP:
    env: Any = je.make("reasoning/modular_chain", modulus=3, vocabulary=3, length=4, prompts=2)
    return jax.jit(level_one, static_argnums=0)(env)


@cache
def two_goals() -> je.TabularMDP:
    env: Any = je.make("gridworld/two_goals", size=3, horizon=4, levels=2)
    return jax.jit(level_one, static_argnums=0)(env)


@cache
def slippery() -> je.TabularMDP:
    """Two goals of different pay in a grid where three moves in ten go astray."""
    env: Any = je.make("gridworld/two_goals", size=3, horizon=4, levels=2, slippery=True)
    numbers = {"slip": 0.3, "second_reward": 0.5, "step_cost": 0.02}
    params = replace(env.default_params, **{k: jnp.float32(v) for k, v in numbers.items()})
    return jax.jit(env.tabular)(params, env.make_level(params, jnp.int32(1)))


DETERMINISTIC: dict[str, Callable[[], je.TabularMDP]] = {
    "chain": chain,
    "grid": grid,
    "bandit": bandit,
    "modular": modular,
    "two_goals": two_goals,
}
WORLDS = DETERMINISTIC | {"stochastic": stochastic, "slippery": slippery}


def random_logits(mdp: je.TabularMDP, seed: int = 0, scale: float = 1.0) -> jax.Array:
    rows = int(np.max(np.asarray(mdp.row))) + 1
    return scale * jax.random.normal(jax.random.key(seed), (rows, mdp.num_actions))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    z = np.asarray(logits, np.float64)
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def trajectories(
    mdp: je.TabularMDP, logp: np.ndarray, other: np.ndarray | None = None
) -> Iterator[Path]:
    """All trajectories of positive probability under the dynamics."""
    other = np.zeros_like(logp) if other is None else other
    row, reward = np.asarray(mdp.row), np.asarray(mdp.reward, np.float64)
    terminal, start = np.asarray(mdp.terminal), np.asarray(mdp.start, np.float64)
    if mdp.next is not None:
        P = np.eye(mdp.num_states)[np.asarray(mdp.next)]
    else:
        P = np.asarray(mdp.P, np.float64)
    successors = [[np.flatnonzero(P[s, a]) for a in range(P.shape[1])] for s in range(len(P))]

    def extend(path: Path) -> Iterator[Path]:
        s = path.states[-1]
        if terminal[s] or len(path.actions) == mdp.horizon:
            yield path
            return
        for a in range(P.shape[1]):
            for to in successors[s][a]:
                yield from extend(
                    Path(
                        path.dynamics * P[s, a, to],
                        path.logp + logp[row[s], a],
                        path.other + other[row[s], a],
                        (*path.rewards, reward[s, a]),
                        (*path.states, int(to)),
                        (*path.actions, a),
                    )
                )

    for s in np.flatnonzero(start):
        yield from extend(Path(start[s], 0.0, 0.0, (), (int(s),), ()))


def brute_return(mdp: je.TabularMDP, logits: np.ndarray, discount: float = 1.0) -> float:
    return sum(
        path.probability * sum(discount**t * r for t, r in enumerate(path.rewards))
        for path in trajectories(mdp, log_softmax(logits))
    )


def central_differences(
    f: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-5
) -> np.ndarray:
    x = np.asarray(x, np.float64)
    found = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        bump = np.zeros_like(x)
        bump[index] = h
        found[index] = (f(x + bump) - f(x - bump)) / (2 * h)
    return found
