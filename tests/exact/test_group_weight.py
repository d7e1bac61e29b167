"""Weight, noise and push of a group advantage against enumeration and against sampled updates."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput

from jaxrl_lab.exact import (
    advantage_tables,
    difficulty_weight,
    group_noise,
    group_weight,
    unsampled_push,
)
from jaxrl_lab.recipes import parse_slot

G = 4
PI = np.array([0.3, 0.15, 0.15, 0.3, 0.1])
RIGHT = np.array([False, True, True, False, False])
RATE = PI[RIGHT].sum()
CHAINS = {
    "centered": ["group_centered"],
    "grpo": ["group_normalized"],
    "disco": ["variance_normalized"],
    "attenuated": ["group_normalized", {"attenuate": {"positive": 0.2}}],
    "wrong only": ["group_normalized", {"attenuate": {"positive": 0.0}}],
    "shifted": ["group_normalized", {"matched_shift": {"positive": 0.2}}],
    "scaled": ["group_normalized", {"matched_scale": {"positive": 0.2}}],
    "hard": ["group_normalized", {"difficulty_focus": {"hard": 1.0}}],
}
every_chain = pytest.mark.parametrize("name", CHAINS)


def tables(name, group=G):
    found = advantage_tables(parse_slot("advantage", CHAINS[name]), group)
    return tuple(np.asarray(x, np.float64) for x in found)


def enumerated(name):
    """Every ordered group: its probability, its actions and Δz/η, in NumPy."""
    right, wrong = tables(name)
    for actions in product(range(len(PI)), repeat=G):
        S = int(RIGHT[list(actions)].sum())
        a = np.where(RIGHT[list(actions)], right[S], wrong[S])
        change = np.zeros(len(PI))
        for action, advantage in zip(actions, a, strict=True):
            change += advantage * (np.eye(len(PI))[action] - PI) / G
        yield np.prod(PI[list(actions)]), actions, change


@every_chain
def test_every_group_advantage_moves_along_the_gradient_on_average(name):
    """E[Δz] = η w(p) π (r − p), attenuated or not: a clock, not a compass."""
    mean = sum(weight * change for weight, _, change in enumerated(name))
    right, wrong = advantage_tables(parse_slot("advantage", CHAINS[name]), G)
    w = float(group_weight(right, wrong, jnp.float32(RATE)))
    assert w > 0.05
    np.testing.assert_allclose(mean, w * PI * (RIGHT - RATE), atol=2e-6)


@every_chain
def test_noise_between_equals_is_the_variance_of_their_difference(name):
    apart = sum(weight * (change[1] - change[2]) ** 2 for weight, _, change in enumerated(name))
    right, _ = advantage_tables(parse_slot("advantage", CHAINS[name]), G)
    v = float(group_noise(right, jnp.float32(RATE)))
    np.testing.assert_allclose(apart, 2 * PI[1] / G * v, atol=2e-6)


@every_chain
def test_unsampled_answers_are_pushed_by_the_mean_advantage(name):
    groups = [(w, change[4]) for w, actions, change in enumerated(name) if 4 not in actions]
    mean = sum(w * c for w, c in groups) / sum(w for w, _ in groups)
    right, wrong = advantage_tables(parse_slot("advantage", CHAINS[name]), G)
    push = float(unsampled_push(right, wrong, jnp.float32(RATE), jnp.float32(PI[4])))
    assert PI[4] * push == pytest.approx(mean, abs=2e-6)
    sums_to_zero = name in ("centered", "grpo", "disco", "scaled", "hard")
    assert (abs(push) < 1e-6) == sums_to_zero


@pytest.mark.parametrize("group", [2, 8])
def test_of_group_normalized_it_is_the_difficulty_weight(group):
    p = jnp.array([0.01, 0.1, 0.5, 0.83, 0.99])
    found = advantage_tables(parse_slot("advantage", ["group_normalized"]), group)
    np.testing.assert_allclose(group_weight(*found, p), difficulty_weight(p, group, 1), rtol=2e-4)


def test_closed_forms():
    """Dr.GRPO (G−1)/G everywhere; DisCO (1 − p^G − q^G)/(pq)."""
    p = np.array([0.05, 0.3, 0.5, 0.9])
    at = jnp.asarray(p, jnp.float32)
    w = group_weight(*advantage_tables(parse_slot("advantage", ["group_centered"]), 8), at)
    np.testing.assert_allclose(w, 7 / 8, rtol=1e-5)
    w = group_weight(*advantage_tables(parse_slot("advantage", ["variance_normalized"]), 8), at)
    np.testing.assert_allclose(w, (1 - p**8 - (1 - p) ** 8) / (p * (1 - p)), rtol=1e-4)


def test_attenuation_lowers_noise_by_more_than_it_lowers_speed():
    """v/w² falls by (β / (β(1−p) + p))² against GRPO: more than any smaller step can do."""
    p = np.array([0.05, 0.2, 0.5, 0.8])
    at = jnp.asarray(p, jnp.float32)
    luck = {}
    for name in ("grpo", "attenuated"):
        right, wrong = advantage_tables(parse_slot("advantage", CHAINS[name]), 8)
        luck[name] = group_noise(right, at) / group_weight(right, wrong, at) ** 2
    expected = (0.2 / (0.2 * (1 - p) + p)) ** 2
    np.testing.assert_allclose(luck["attenuated"] / luck["grpo"], expected, rtol=1e-4)


def test_many_sampled_updates_average_to_the_weight():
    right, wrong = tables("attenuated", 8)
    rng, n = np.random.default_rng(0), 200_000
    S = rng.binomial(8, RATE, n)
    # Along the gradient, a right answer's logit moves by A₊ n_a/G − π_a mean A.
    copies = rng.binomial(S, PI[1] / RATE)
    mean = (S * right[S] + (8 - S) * wrong[S]) / 8
    moved = right[S] * copies / 8 - PI[1] * mean
    w = float(
        group_weight(*(jnp.asarray(x, jnp.float32) for x in (right, wrong)), jnp.float32(RATE))
    )
    error = moved.std() / np.sqrt(n)
    assert abs(moved.mean() - w * PI[1] * (1 - RATE)) < 4 * error
    assert abs(moved.mean()) > 20 * error, "a test without a signal"


def test_a_group_of_one_is_refused():
    with pytest.raises(BadInput):
        advantage_tables(parse_slot("advantage", ["group_centered"]), 1)


def test_it_can_be_differentiated_and_batched():
    found = advantage_tables(parse_slot("advantage", ["group_normalized"]), 8)
    slope = jax.grad(lambda p: group_weight(*found, p))(jnp.float32(0.3))
    assert float(slope) < 0, "least in the middle"
    assert group_weight(*found, jnp.full((2, 3), 0.4)).shape == (2, 3)
