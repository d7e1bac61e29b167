"""Top-k, quantiles and aggregates against sorting and summing in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mechanism_cases import build, random_case

from jaxrl_lab.mechanisms.tokens import quantile, token_covariance, top_k_mask

N = 12
number = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]),
    st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
)
scores = st.lists(number, min_size=N, max_size=N).map(lambda x: np.array(x, np.float32))
masks = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)

top = jax.jit(top_k_mask)
level_of = jax.jit(quantile)


@settings(max_examples=150, deadline=None)
@given(scores, masks, st.integers(0, N + 3))
@example(np.array([-0.0, 0.0] * 6, np.float32), np.ones(N, bool), 3)
@example(np.array([-np.inf, np.inf, -1.0] * 4, np.float32), np.ones(N, bool), 5)
def test_top_k_are_the_first_of_a_stable_sort(score, among, k):
    order = [i for i in np.argsort(-score, kind="stable") if among[i]][:k]
    expected = np.isin(np.arange(N), order)
    np.testing.assert_array_equal(top(score, jnp.int32(k), among), expected)


@settings(max_examples=100, deadline=None)
@given(scores, masks.filter(np.any), st.integers(0, 8).map(lambda i: i / 8))
def test_quantile_is_an_entry_of_the_sorted_candidates(x, among, level):
    """With levels in eighths, level · count is exact in float32."""
    candidates = np.sort(x[among])
    k = max(int(np.ceil(level * len(candidates))), 1)
    got = float(level_of(x, jnp.float32(level), among))
    assert got == candidates[k - 1]
    assert np.mean(candidates <= got) >= level


def test_top_k_keeps_the_shape_and_works_under_vmap():
    score = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2, 3, 4)), jnp.float32)
    k = jnp.array([0, 1, 5, 24, 30])
    chosen = jax.vmap(lambda s, k: top_k_mask(s, k, s < 1.0))(score, k)
    assert chosen.shape == score.shape
    most = np.sum(score < 1.0, axis=(1, 2, 3))
    np.testing.assert_array_equal(np.sum(chosen, axis=(1, 2, 3)), np.minimum(k, most))


def test_token_covariance_is_centered_over_real_tokens_and_detached():
    case = random_case((3, 5, 4), invalid=True)
    batch, mask = case.batch, np.asarray(case.batch.mask)
    a, logp = np.asarray(batch.advantage), np.asarray(case.out().logp)
    expected = (a - a[mask].mean()) * (logp - logp[mask].mean())
    np.testing.assert_allclose(token_covariance(case.out(), batch), expected, atol=1e-5)
    grad = jax.grad(lambda z: jnp.sum(token_covariance(case.out(z), batch)))(case.logits)
    assert not np.any(grad)


def responses(x, mask):
    rows = zip(x.reshape(-1, x.shape[-1]), mask.reshape(-1, x.shape[-1]), strict=True)
    return [row[m] for row, m in rows if m.any()]


AGGREGATES = {
    "token_mean": lambda rows: np.mean(np.concatenate(rows)),
    "sequence_mean": lambda rows: np.mean([row.mean() for row in rows]),
    "sequence_sum": lambda rows: np.mean([row.sum() for row in rows]),
    "constant_length": lambda rows: np.mean([row.sum() / 3.0 for row in rows]),
}


@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_equal_sums_over_responses(name):
    mech = build("aggregate", name, {"length": 3.0} if name == "constant_length" else {})
    case = random_case((3, 5, 4), invalid=True)
    x, mask = np.asarray(case.value), case.batch.mask
    expected = AGGREGATES[name](responses(x, np.asarray(mask)))
    assert float(mech(case.value, mask)) == pytest.approx(expected, abs=1e-6)
    assert float(mech(case.value, jnp.zeros_like(mask))) == 0.0
