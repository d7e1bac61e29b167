"""Length normalization of groups in ``reasoning/pad_length`` against enumeration of all groups."""

from __future__ import annotations

import itertools
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs.reasoning.length_norms import expected_updates
from jaxrl_envs.reasoning.pad_length import PadLength
from pad_sequences import THINK, level_of, params_of, q, sequences


@pytest.mark.parametrize("group", [1, 2, 3])
def test_length_normalization_against_enumeration_of_groups(group: int) -> None:
    env = PadLength(limit=3, fillers=1, noisy=True, prompts=1)
    params = params_of(env, shortest=1.2, longest=1.2)
    level, h, u = level_of(env, params), 0.35, 0.6
    rollouts = []  # probability, right, length, score
    for row in sequences(env, 3):
        chance = np.prod([h if a == 2 else (1 - h) * (u if a == THINK else 1 - u) for a in row])
        score = sum((1 - h) if a == 2 else -h for a in row)
        right = q(env, params, level, row.count(THINK)) if row[-1] == 2 else 0.0
        rollouts += [
            (chance * right, 1.0, len(row), score),
            (chance * (1 - right), 0.0, len(row), score),
        ]
    expected = np.zeros(3)
    for members in itertools.product([r for r in rollouts if r[0] > 0], repeat=group):
        chance, reward, length, score = np.array(members).T
        spread = reward.std()
        A = (reward - reward.mean()) / spread if spread > 0 else np.zeros(group)
        updates = [
            np.mean(A * score / length),
            np.sum(A * score) / length.sum(),
            np.mean(A * score) / 3,
        ]
        expected += np.prod(chance) * np.array(updates)
    drift = jax.jit(env.answer_drift, static_argnums=4)
    found = drift(params, level, jnp.float32(h), jnp.float32(u), group)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.all(expected == 0.0) == (group == 1)


def test_the_constant_norm_is_the_gradient_of_success() -> None:
    """E[(1/G) Σ A s] = c_G(p) / (p (1-p)) · dp/dθ with c_G(p) = E[sqrt(S (G - S))] / G."""
    env, G, u = PadLength(limit=6, noisy=True, prompts=1), 8, 0.7
    params = env.default_params
    level = level_of(env, params)

    def success(theta: Any) -> Any:
        h = jax.nn.sigmoid(theta)
        shares = jnp.stack([(1 - h) * u, (1 - h) * (1 - u), jnp.zeros_like(h), h])
        return env.evaluate(params, level, jnp.broadcast_to(shares, (6, 6, 4))).true

    p, slope = jax.jit(jax.value_and_grad(success))(jnp.float32(-1.5))
    p = float(p)
    S = np.arange(G + 1)
    law = np.array([comb(G, s) * p**s * (1 - p) ** (G - s) for s in S])
    c = law @ np.sqrt(S * (G - S)) / G
    h = jax.nn.sigmoid(jnp.float32(-1.5))
    found = jax.jit(env.answer_drift, static_argnums=4)(params, level, h, jnp.float32(u), G)
    assert 6 * float(found.constant) == pytest.approx(c / (p * (1 - p)) * float(slope), rel=1e-4)


def test_equal_lengths_make_the_norms_equal() -> None:
    mass = jnp.array([[0.2, 0.3], [0.4, 0.1]])
    found = expected_updates(mass, jnp.array([1.0, -0.5]), np.array([4, 4]), 5)
    np.testing.assert_allclose(found, found.constant, rtol=1e-5)
    assert abs(float(found.constant)) > 1e-3


def test_equal_weights_of_rollouts_favor_thinking() -> None:
    """Where short answers are wrong, the norm by sequence, in which they weigh most, lengthens."""
    env = PadLength(limit=8, noisy=True, prompts=1)
    params = params_of(env, shortest=2.0, longest=2.0, width=0.5)
    level = level_of(env, params)
    drift = jax.jit(env.answer_drift, static_argnums=4)
    found = drift(params, level, jnp.float32(0.2), jnp.float32(0.9), 4)
    assert 5 * found.sequence < found.token < 5 * found.constant < 0
