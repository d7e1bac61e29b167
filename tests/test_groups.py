"""Group statistics: equal groups, ragged groups and NumPy agree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_lab.groups import EqualGroups, RaggedGroups, is_informative, mean, std

B, G = 3, 4
value = st.integers(-20, 20).map(lambda i: i / 4)
values = st.lists(value, min_size=B * G, max_size=B * G)
flags = st.lists(st.booleans(), min_size=B * G, max_size=B * G)

STATISTICS = {
    "count": lambda g, x: g.count(),
    "sum": lambda g, x: g.sum(x),
    "max": lambda g, x: g.max(x),
    "rank": lambda g, x: g.rank(x),
    "mean": mean,
    "std0": lambda g, x: std(g, x, 0),
    "std1": lambda g, x: std(g, x, 1),
    "is_informative": is_informative,
}


def all_of(groups, x):
    return {name: f(groups, x) for name, f in STATISTICS.items()}


equal = jax.jit(lambda valid, x: all_of(EqualGroups(valid), x))
ragged = jax.jit(lambda ids, valid, x: all_of(RaggedGroups(ids, valid, B), x))


def by_hand(ids, valid, x):
    """Every statistic of the group of every rollout, one rollout at a time."""
    out = {name: np.zeros(len(x)) for name in STATISTICS}
    for i, group in enumerate(ids):
        own = x[(ids == group) & valid]
        n = len(own)
        itself = 0.5 if valid[i] else 0.0
        one = {
            "count": n,
            "sum": own.sum(),
            "max": own.max() if n else -np.inf,
            "rank": (own < x[i]).sum() + 0.5 * (own == x[i]).sum() - itself,
            "mean": own.mean() if n else 0.0,
            "std0": own.std() if n else 0.0,
            "std1": own.std(ddof=1) if n > 1 else 0.0,
            "is_informative": len(np.unique(own)) > 1,
        }
        for name, number in one.items():
            out[name][i] = number
    return out


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, numbers in expected.items():
        np.testing.assert_allclose(
            np.asarray(got[name], np.float64).reshape(-1), numbers, atol=1e-5, err_msg=name
        )


@settings(max_examples=40, deadline=None)
@given(values, flags)
def test_equal_and_ragged_groups_agree_with_numpy(numbers, valid):
    x, valid = np.array(numbers, np.float32), np.array(valid)
    ids = np.repeat(np.arange(B), G)
    expected = by_hand(ids, valid, x)
    assert_same(equal(valid.reshape(B, G), x.reshape(B, G)), expected)
    assert_same(ragged(ids, valid, x), expected)


@settings(max_examples=40, deadline=None)
@given(values, flags, st.lists(st.integers(0, B - 1), min_size=B * G, max_size=B * G))
def test_ragged_groups_of_any_order_and_size_agree_with_numpy(numbers, valid, ids):
    x, valid, ids = np.array(numbers, np.float32), np.array(valid), np.array(ids)
    assert_same(ragged(ids, valid, x), by_hand(ids, valid, x))


@pytest.mark.parametrize("reward", [0.1, -0.7, 1e-8, 3e8])
def test_equal_rewards_are_never_informative(reward):
    x = jnp.full((2, 7), reward, jnp.float32)
    groups = EqualGroups(jnp.ones((2, 7), bool).at[0, 0].set(False))
    assert not np.any(is_informative(groups, x.at[0, 0].set(99.0)))
    assert np.all(is_informative(groups, x.at[:, 3].set(reward * 1.01))[:, 0])


def test_ranks_of_ties_share_their_places():
    groups = EqualGroups(jnp.ones((1, 4), bool))
    np.testing.assert_array_equal(
        groups.rank(jnp.array([[2.0, 5.0, 5.0, 1.0]])), [[1, 2.5, 2.5, 0]]
    )
