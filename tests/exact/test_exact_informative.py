"""The chance that a group is informative, against counting all groups."""

from __future__ import annotations

from itertools import product
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_lab.exact import informative_chance

RATES = np.array([0.0, 1e-3, 0.1, 1 / 3, 0.5, 0.8, 0.999, 1.0])


def f32(x: object) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_is_the_probability_of_all_mixed_groups(size: int) -> None:
    expected = np.zeros(len(RATES))
    for outcome in product((0, 1), repeat=size):
        if 0 < sum(outcome) < size:
            expected += RATES ** sum(outcome) * (1 - RATES) ** (size - sum(outcome))
    got = informative_chance(f32(RATES), f32(size))
    np.testing.assert_allclose(got, expected, atol=2e-7)


def test_it_sums_the_binomial_between_its_ends() -> None:
    p, size = 0.3, 8
    middle = sum(comb(size, k) * p**k * (1 - p) ** (size - k) for k in range(1, size))
    assert float(informative_chance(f32(p), f32(size))) == pytest.approx(middle, rel=1e-6)


def test_rare_outcomes_keep_their_digits() -> None:
    for p in (1e-9, 1e-6):
        got = float(informative_chance(f32(p), f32(8)))
        assert got == pytest.approx(8 * p, rel=1e-5)
    near_one = float(informative_chance(f32(1.0 - 2.0**-20), f32(8)))
    assert near_one == pytest.approx(8 * 2.0**-20, rel=1e-4)


def test_symmetric_concave_and_nothing_without_two_rollouts() -> None:
    p = f32(np.linspace(0.02, 0.98, 25))
    for size in (2.0, 4.0, 8.0):
        chance = informative_chance(p, f32(size))
        np.testing.assert_allclose(chance, chance[::-1], atol=2e-6)
        bend = np.diff(np.asarray(chance, np.float64), 2)
        closed = -size * (size - 1) * (p ** (size - 2) + (1 - p) ** (size - 2))
        np.testing.assert_allclose(bend / 0.04**2, closed[1:-1], rtol=0.1)
        assert float(chance.max()) == pytest.approx(1 - 2 ** (1 - size), abs=1e-6)
    for size in (0.0, 1.0):
        np.testing.assert_allclose(informative_chance(p, f32(size)), 0.0, atol=1e-6)
