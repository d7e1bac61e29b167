"""Entropy change, group updates and flows of a softmax at one state."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest

from jaxrl_lab import exact
from jaxrl_lab.policies.distributions import entropy_of

LOGITS = 1.5 * jax.random.normal(jax.random.key(0), (5, 8))
LOGP = jax.nn.log_softmax(LOGITS)
REWARD = (jax.random.uniform(jax.random.key(1), (5, 8)) < 0.4).astype(jnp.float32)

# Compiled once: eagerly every operation would be compiled by itself.
first_order = jax.jit(exact.first_order_entropy_change)
measured_change = jax.jit(exact.measured_entropy_change)


def advantage(logp: jax.Array, reward: jax.Array) -> jax.Array:
    return reward - jnp.sum(jnp.exp(logp) * reward, axis=-1, keepdims=True)


def test_entropy_covariance_identity_has_a_second_order_error() -> None:
    direction = jax.random.normal(jax.random.key(2), LOGITS.shape)
    steps = np.geomspace(1e-3, 3e-2, 6)
    errors = []
    for eta in steps:
        predicted = first_order(LOGP, eta * direction)
        measured = measured_change(LOGITS, eta * direction)
        errors.append(np.abs(np.asarray(measured - predicted)))
    slopes = np.polyfit(np.log(steps), np.log(np.stack(errors)), 1)[0]
    assert np.all((slopes > 1.8) & (slopes < 2.2)), slopes
    fitted = np.polyfit(predicted, measured, 1)[0]
    assert fitted == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 0.5, 5.0, 200.0])
def test_measured_entropy_change_is_accurate_at_every_size(size: float) -> None:
    delta = size * np.asarray(jax.random.normal(jax.random.key(3), LOGITS.shape), np.float64)
    z = np.asarray(LOGITS, np.float64)

    def entropy(z: np.ndarray) -> np.ndarray:
        p = np.exp(z - z.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)

    got = measured_change(LOGITS, jnp.asarray(delta, jnp.float32))
    np.testing.assert_allclose(got, entropy(z + delta) - entropy(z), rtol=2e-3, atol=1e-6 * size)


def test_closed_forms_of_the_first_order_change() -> None:
    eta, A = 1e-3, advantage(LOGP, REWARD)
    pg = exact.policy_gradient_entropy_change(LOGP, A, eta)
    np.testing.assert_allclose(
        pg, measured_change(LOGITS, eta * jnp.exp(LOGP) * A), rtol=2e-2, atol=1e-7
    )
    npg = exact.natural_gradient_entropy_change(LOGP, A, eta)
    np.testing.assert_allclose(npg, measured_change(LOGITS, eta * A), rtol=2e-2, atol=1e-6)
    action, weight = jnp.array([0, 3, 5, 7, 2]), jnp.array([1.0, -1.0, 0.5, 2.0, -3.0])
    sampled = exact.reinforce_entropy_change(LOGP, action, weight, eta)
    score = jax.nn.one_hot(action, 8) - jnp.exp(LOGP)
    delta = eta * weight[:, None] * score
    np.testing.assert_allclose(sampled, first_order(LOGP, delta), rtol=1e-4, atol=1e-9)
    # Averaged over its own action, the sample with its advantage is the exact gradient.
    p, row = jnp.exp(LOGP[0]), jnp.broadcast_to(LOGP[0], (8, 8))
    each = exact.reinforce_entropy_change(row, jnp.arange(8), A[0], eta)
    np.testing.assert_allclose(jnp.sum(p * each), pg[0], rtol=1e-4)


def test_signs_and_zeros_of_the_entropy_change() -> None:
    delta = jax.random.normal(jax.random.key(4), LOGITS.shape)
    uniform = jnp.full((5, 8), -jnp.log(8.0))
    np.testing.assert_allclose(first_order(uniform, delta), 0.0, atol=1e-6)
    constant = jnp.full((5, 8), 3.0)
    np.testing.assert_allclose(first_order(LOGP, constant), 0.0, atol=1e-6)
    np.testing.assert_allclose(measured_change(LOGITS, constant), 0.0, atol=1e-6)
    top = jax.nn.one_hot(jnp.argmax(LOGP, axis=-1), 8)
    for change in (exact.policy_gradient_entropy_change, exact.natural_gradient_entropy_change):
        assert np.all(change(LOGP, advantage(LOGP, top), 1.0) < 0)
    rare = jax.nn.one_hot(jnp.argmin(LOGP, axis=-1), 8)
    assert np.all(exact.natural_gradient_entropy_change(LOGP, advantage(LOGP, rare), 1.0) > 0)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_random_rewards_second_order_by_enumeration(normalized: bool, scale: float) -> None:
    """All actions and all rewards of a group; odd orders cancel, so the error is of order 4."""
    K, G, eta = 3, 4, 0.02
    logits = scale * jax.random.normal(jax.random.key(5), (K,))
    rewards = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=G)))
    A = rewards - jnp.mean(rewards, axis=1, keepdims=True)
    if normalized:
        A = A / jnp.maximum(jnp.std(A, axis=1, keepdims=True), 1e-6)

    def change(actions: jax.Array) -> jax.Array:
        delta = (eta / G) * (A @ jax.nn.one_hot(actions, K))
        row = jnp.broadcast_to(logits, delta.shape)
        beyond = measured_change(row, delta) - first_order(
            jax.nn.log_softmax(row), delta
        )  # first-order terms have mean zero; leaving them out saves digits
        return jnp.mean(beyond)

    logp = jax.nn.log_softmax(logits)
    v = 1.0 - 2.0 ** (1 - G) if normalized else None
    want = exact.second_order_entropy_change_random_rewards(logp, G, eta, v)
    np.testing.assert_allclose(
        jax.jit(lambda x: exact.expected_update(change, x, G))(logp), want, rtol=0.02
    )


@pytest.mark.parametrize(("scale", "sign"), [(0.3, -1), (1.0, -1), (2.0, 0), (4.0, 1)])
def test_random_rewards_second_order_by_simulation(scale: float, sign: int) -> None:
    K, G, eta, n = 16, 8, 0.3, 50_000
    rng = np.random.default_rng(2)
    z = scale * rng.normal(size=K)
    p = np.exp(z) / np.exp(z).sum()
    entropy = -np.sum(p * np.log(p))
    A = rng.integers(0, 2, (n, G)).astype(np.float64)
    A -= A.mean(1, keepdims=True)
    delta = np.zeros((n, K))
    np.add.at(delta, (np.arange(n)[:, None], rng.choice(K, (n, G), p=p)), eta / G * A)
    q = p * np.exp(delta)
    q /= q.sum(1, keepdims=True)
    first = -((delta * np.log(p)) @ p - (delta @ p) * np.sum(p * np.log(p)))
    beyond = -np.sum(q * np.log(q), axis=1) - entropy - first
    want = float(
        exact.second_order_entropy_change_random_rewards(
            jnp.log(jnp.asarray(p, jnp.float32)), G, eta
        )
    )
    assert abs(beyond.mean() - want) < 4 * beyond.std() / np.sqrt(n) + 0.01 * abs(want)
    assert sign == 0 or np.sign(want) == sign


@pytest.mark.parametrize("G", [2, 4, 16])
@pytest.mark.parametrize("p", [0.03, 0.3, 0.9])
def test_difficulty_weight_matches_simulation(G: int, p: float) -> None:
    n = 400_000
    S = np.random.default_rng(G).binomial(G, p, n)
    draws = np.sqrt(S * (G - S)) / (G * p * (1 - p))
    for ddof, factor in ((0, 1.0), (1, np.sqrt((G - 1) / G))):
        got = float(exact.difficulty_weight(jnp.float32(p), G, ddof))
        assert abs(got - factor * draws.mean()) < 4 * draws.std() / np.sqrt(n)


def test_difficulty_weight_limits() -> None:
    p = jnp.array([0.1, 0.5, 0.7])
    limit = 1.0 / np.sqrt(np.asarray(p) * (1 - np.asarray(p)))
    np.testing.assert_allclose(exact.difficulty_weight(p, 4096), limit, rtol=2e-3)
    edge = exact.difficulty_weight(jnp.array([0.0, 1.0, 1e-8]), 8)
    np.testing.assert_allclose(edge, np.sqrt(7.0), rtol=1e-5)
    assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(exact.difficulty_weight(x, 8)))(p)))
    with pytest.raises(je.BadInput, match="ddof"):
        exact.difficulty_weight(p, 8, 2)


def test_expected_group_updates_are_multiples_of_the_exact_gradient() -> None:
    K, G = 4, 5
    logits = jax.random.normal(jax.random.key(6), (K,))
    logp, reward = jax.nn.log_softmax(logits), jnp.array([1.0, 0.0, 1.0, 0.0])
    p = jnp.sum(jnp.exp(logp) * reward)
    gradient = jax.grad(lambda z: jnp.sum(jax.nn.softmax(z) * reward))(logits)

    def update(actions: jax.Array) -> dict[str, jax.Array]:
        R = reward[actions]
        score = jax.nn.one_hot(actions, K) - jnp.exp(logp)[None]
        centered = R - jnp.mean(R)
        advantages = {
            "reinforce": R,
            "centered": centered,
            "leave_one_out": centered * (G / (G - 1)),
            "normalized": centered / jnp.maximum(jnp.std(R), 1e-6),
            "sample": centered / jnp.maximum(jnp.std(R, ddof=1), 1e-6),
        }
        return {k: jnp.mean(A[:, None] * score, axis=0) for k, A in advantages.items()}

    got = jax.jit(lambda x: exact.expected_update(update, x, G))(logp)
    factor = {
        "reinforce": 1.0,
        "centered": (G - 1) / G,
        "leave_one_out": 1.0,
        "normalized": exact.difficulty_weight(p, G),
        "sample": exact.difficulty_weight(p, G, ddof=1),
    }
    for name, value in got.items():
        np.testing.assert_allclose(value, factor[name] * gradient, rtol=1e-4, atol=1e-7)


def test_tuples_are_all_different_and_bounded() -> None:
    found = np.asarray(exact.tuples(3, 4))
    assert found.shape == (81, 4)
    assert found.dtype == np.int32
    assert len({tuple(t) for t in found}) == 81
    assert found.max() == 2
    with pytest.raises(je.BadInput, match="enumerate"):
        exact.tuples(100, 8)
    total = exact.expected_update(lambda a: jnp.int32(1), LOGP[0, :], 3)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


# Three optimal arms and two bad ones.
START = jnp.array([0.3, 0.0, -0.2, 0.5, 0.1])
PAY = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0])


def test_softmax_flow_collapses_deterministically_at_the_known_speed() -> None:
    flow = jax.jit(exact.softmax_flow)(START, PAY, jnp.array([0.0, 10.0, 100.0, 1e5]))
    np.testing.assert_array_equal(flow[0], START)
    shares = np.exp(jax.nn.log_softmax(flow))[:, :3]
    golden = [[0.442, 0.240, 0.173], [0.784, 0.130, 0.076], [0.998, 0.001, 0.001]]
    np.testing.assert_allclose(shares[1:], golden, atol=6e-4)
    total, gap = exact.flow_invariants(flow, jnp.broadcast_to(PAY, flow.shape))
    np.testing.assert_allclose(total, total[0], atol=1e-5)
    np.testing.assert_allclose(gap, np.broadcast_to(gap[0], gap.shape), atol=1e-5)


def test_softmax_flow_is_batched_and_lowers_entropy() -> None:
    times = jnp.array([1.0, 5.0, 20.0, 100.0])
    spread = jnp.stack([START, START[::-1]])
    flow = exact.softmax_flow(spread, jnp.stack([PAY, PAY]), times, substeps=50)
    assert flow.shape == (4, 2, 5)
    np.testing.assert_allclose(flow[:, 0], exact.softmax_flow(START, PAY, times), atol=2e-5)
    assert np.all(np.diff(entropy_of(jax.nn.log_softmax(flow[:, 0])), axis=0) < 0)


def test_replicator_flow_keeps_ratios_of_equal_arms() -> None:
    times = jnp.array([0.0, 1.0, 10.0, 100.0])
    flow = exact.replicator_flow(START, PAY, times)
    np.testing.assert_allclose(flow[0], jax.nn.log_softmax(START), rtol=1e-6)
    np.testing.assert_allclose(flow[:, 0] - flow[:, 1], 0.3, atol=1e-5)
    np.testing.assert_allclose(flow[-1, :3], jax.nn.log_softmax(START[:3]), atol=1e-5)
    # It is the flow of the natural gradient: d log π / dt = A.
    slope = jax.jvp(lambda t: exact.replicator_flow(START, PAY, t), (times,), (jnp.ones(4),))[1]
    A = advantage(flow, jnp.broadcast_to(PAY, flow.shape))
    np.testing.assert_allclose(slope, A, atol=1e-6)
    flat = exact.replicator_flow(jnp.zeros(5), PAY, times)
    assert np.all(np.diff(entropy_of(flat)) <= 1e-6)
