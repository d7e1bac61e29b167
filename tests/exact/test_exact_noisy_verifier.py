"""Noisy verdicts and reused batches: closed forms against enumeration written out in NumPy."""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput

from jaxrl_lab.exact import second_order_entropy_change_random_rewards
from jaxrl_lab.exact.noisy_verifier import (
    advantage_variance,
    noise_factor,
    noisy_clipped_change,
    noisy_pass_rate,
    random_reward_change,
    reuse_drift,
)

LOGITS = np.array([0.9, -0.4, 0.1])
RIGHT = np.array([1.0, 0.0, 0.0])
OPEN, WIDE = 1.0, 1e9


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def advantages(r: np.ndarray, normalized: bool) -> np.ndarray:
    """Leave-one-out, or divided by the group's population deviation; 0 in unanimous groups."""
    g = len(r)
    if r.min() == r.max():
        return np.zeros(g)
    return (r - r.mean()) / r.std() if normalized else (r - r.mean()) * g / (g - 1)


def groups(pi: np.ndarray, paid: np.ndarray, g: int) -> Any:
    """Every ordered group of (action, verdict) with its probability."""
    for a in product(range(len(pi)), repeat=g):
        for r in product((0.0, 1.0), repeat=g):
            odds = [pi[i] * (paid[i] if x else 1 - paid[i]) for i, x in zip(a, r, strict=True)]
            chance = np.prod(odds)
            yield float(chance), np.array(a), np.array(r)


def expected_gradient(paid: np.ndarray, g: int, normalized: bool) -> np.ndarray:
    pi, total = softmax(LOGITS), np.zeros(3)
    for chance, a, r in groups(pi, paid, g):
        total += chance * advantages(r, normalized) @ (np.eye(3)[a] - pi) / g
    return total


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("fp", "fn"), [(0.1, 0.3), (0.5, 0.5), (0.7, 0.6), (1.0, 1.0)])
def test_noise_scales_the_expected_gradient(normalized: bool, fp: float, fn: float) -> None:
    noisy = expected_gradient(np.where(RIGHT > 0, 1 - fn, fp), 3, normalized)
    clean = expected_gradient(RIGHT, 3, normalized)
    p = jnp.float32(softmax(LOGITS) @ RIGHT)
    factor = float(noise_factor(p, fp, fn, normalized, G=3))
    np.testing.assert_allclose(noisy, factor * clean, atol=1e-6)
    assert np.abs(clean).max() > 0.05, "a test without a signal"


def test_limits_of_the_factor() -> None:
    p = jnp.array([0.1, 0.4, 0.9])
    np.testing.assert_allclose(noisy_pass_rate(p, 0.2, 0.1), 0.2 * (1 - p) + 0.9 * p, atol=1e-6)
    for normalized in (False, True):
        np.testing.assert_allclose(noise_factor(p, 0.0, 0.0, normalized, 8), 1.0, atol=1e-6)
        np.testing.assert_allclose(noise_factor(p, 1.0, 1.0, normalized, 8), -1.0, atol=1e-6)
        np.testing.assert_allclose(noise_factor(p, 0.3, 0.7, normalized, 8), 0.0, atol=1e-6)
    q = 0.2 + p * 0.7
    large = 0.7 * np.sqrt(p * (1 - p) / (q * (1 - q)))
    np.testing.assert_allclose(noise_factor(p, 0.2, 0.1, normalized=True), large, rtol=1e-5)
    np.testing.assert_allclose(noise_factor(p, 0.2, 0.1, True, G=512), large, rtol=0.02)
    small = np.abs(np.asarray(noise_factor(p, 0.2, 0.1, True, G=4)) / large - 1)
    assert small.max() > 0.1, "the limit is not the value at small G"


@pytest.mark.parametrize("ddof", [0, 1])
def test_variance_of_a_normalized_advantage(ddof: int) -> None:
    q, g, total = 0.3, 4, 0.0
    for r in product((0.0, 1.0), repeat=g):
        x = np.array(r)
        if 0 < x.sum() < g:
            a = (x - x.mean()) / x.std(ddof=ddof)
            total += q ** x.sum() * (1 - q) ** (g - x.sum()) * a[0] ** 2
    assert float(advantage_variance(jnp.float32(q), g, ddof)) == pytest.approx(total, rel=1e-5)


# ------------------------------------------------------------------ one clipped update


def objective(
    z: np.ndarray, a: np.ndarray, adv: np.ndarray, old: np.ndarray, low: float, high: float
) -> float:
    ratio = softmax(z)[a] / old[a]
    return float(np.minimum(ratio * adv, np.clip(ratio, 1 - low, 1 + high) * adv).mean())


def ascend(
    a: np.ndarray, r: np.ndarray, epochs: int, step: float, low: float, high: float
) -> np.ndarray:
    """Inner steps along a numerical gradient of the clipped objective."""
    z, old, adv = (
        LOGITS.copy(),
        softmax(LOGITS),
        advantages(r, True) * np.sqrt((len(r) - 1) / len(r)),
    )
    for _ in range(epochs):
        sides = [
            [objective(z + s * e, a, adv, old, low, high) for s in (1e-6, -1e-6)] for e in np.eye(3)
        ]
        z = z + step * np.array([(up - down) / 2e-6 for up, down in sides])
    return z


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (OPEN, 0.2), (0.2, WIDE), (OPEN, WIDE)])
def test_one_update_is_enumerated(low: float, high: float) -> None:
    g, epochs, step, paid = 3, 3, 0.6, np.array([0.5, 0.5, 0.4])
    pi = softmax(LOGITS)
    change, entropy = np.zeros(3), 0.0
    for chance, a, r in groups(pi, paid, g):
        new = softmax(ascend(a, r, epochs, step, low, high))
        change += chance * (new - pi)
        entropy += chance * (-(new * np.log(new)).sum() + (pi * np.log(pi)).sum())
    found = noisy_clipped_change(
        jnp.array(LOGITS, jnp.float32), jnp.array(paid, jnp.float32), g, epochs, step, low, high
    )
    np.testing.assert_allclose(found.policy, change, atol=2e-5)
    assert float(found.entropy) == pytest.approx(entropy, abs=2e-5)


def exact(
    epochs: int, step: float, low: float = OPEN, high: float = WIDE, paid: float = 0.5
) -> Any:
    z = jnp.array(LOGITS, jnp.float32)
    return noisy_clipped_change(z, jnp.full(3, paid), 4, epochs, step, low, high)


def test_every_clip_differs_and_none_acts_on_the_first_step() -> None:
    sides = [(0.2, 0.2), (OPEN, 0.2), (0.2, WIDE), (OPEN, WIDE)]
    reused = np.array([exact(4, 0.5, *side).policy for side in sides])
    for i in range(len(sides)):
        for j in range(i):
            assert np.abs(reused[i] - reused[j]).max() > 1e-3
    once = np.array([exact(1, 0.5, *side).policy for side in sides])
    np.testing.assert_array_equal(once, np.broadcast_to(once[0], once.shape))


def test_unanimous_verdicts_change_nothing() -> None:
    for paid in (0.0, 1.0):
        np.testing.assert_allclose(exact(4, 0.5, 0.2, 0.2, paid).policy, 0.0, atol=1e-7)


@pytest.mark.parametrize("epochs", [1, 4])
def test_second_order_of_random_rewards(epochs: int) -> None:
    logp = jax.nn.log_softmax(jnp.array(LOGITS, jnp.float32))
    variance = advantage_variance(jnp.float32(0.5), 4)
    whole = np.asarray(random_reward_change(logp, 4, 1.0, epochs, variance))
    errors = []
    for step in (0.1, 0.05):
        total = step * epochs
        predicted = random_reward_change(logp, 4, step, epochs, variance) / total**2
        errors.append(np.abs(np.asarray(exact(epochs, step).policy) / total**2 - predicted).max())
    size = np.abs(whole).max() / epochs**2
    assert errors[1] < 0.03 * size
    assert errors[1] < 0.7 * errors[0] + 1e-5, "of third order"


def test_entropy_agrees_with_the_older_closed_form_on_a_single_step() -> None:
    logp = jax.nn.log_softmax(jnp.array(LOGITS, jnp.float32))
    variance = float(advantage_variance(jnp.float32(0.5), 4))
    predicted = second_order_entropy_change_random_rewards(logp, 4, 0.1, variance)
    assert float(exact(1, 0.1).entropy) == pytest.approx(float(predicted), rel=0.05)


def test_reuse_is_ascent_on_diversity() -> None:
    logits = jnp.array([1.0, 0.2, -0.5, 0.0])

    def diversity(z: jax.Array) -> jax.Array:
        return 1.0 - jnp.sum(jax.nn.softmax(z) ** 2)

    drift = reuse_drift(jax.nn.log_softmax(logits), 8, 0.1, 4, 0.7)
    slope = 0.1**2 * (0.7 / 8) * 6
    np.testing.assert_allclose(drift, slope * jax.grad(diversity)(logits), rtol=1e-4)
    assert int(jnp.argmin(drift)) == 0, "away from the mode"
    assert not np.asarray(reuse_drift(jax.nn.log_softmax(logits), 8, 0.1, 1, 0.7)).any()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(BadInput):
        advantage_variance(jnp.float32(0.5), 1)
