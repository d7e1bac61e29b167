"""Resampled intervals against rliable's numbers, an independent NumPy form, and coverage.

rliable itself cannot be imported beside a current pandas (its dependency arch fails), so its
numbers stand here: rliable 1.2.0 on the scores below, with 50 000 resamples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from jaxrl_envs import BadInput
from scipy import stats

from jaxrl_lab.experiments import statistics as ours

SEED, TASK = np.indices((12, 3))
X = ((37 * SEED + 11 * TASK + 5 * SEED * TASK) % 23) / 4 + TASK
Y = ((29 * SEED + 7 * TASK + 3 * SEED * TASK**2) % 19) / 4 + TASK
RLIABLE_IQM = (2.79166667, 3.34722222, 3.88888889)
RLIABLE_MEAN = (2.86111111, 3.36111111, 3.875)
RLIABLE_IMPROVEMENT = (0.16666667, 0.38888889, 0.62152778)
RLIABLE_PROFILE = {
    1.0: (0.83333333, 0.91666667, 1.0),
    2.0: (0.63888889, 0.77777778, 0.88888889),
    3.0: (0.38888889, 0.55555556, 0.72222222),
    4.0: (0.16666667, 0.30555556, 0.44444444),
}
MANY = 10_000


def bounds(found: ours.Interval) -> tuple[float, float, float]:
    return found.low, found.mean, found.high


@pytest.mark.parametrize(
    ("statistic", "expected"), [(ours.iqm, RLIABLE_IQM), (np.mean, RLIABLE_MEAN)]
)
def test_stratified_intervals_are_rliables(statistic: Any, expected: tuple[float, ...]) -> None:
    found = ours.stratified_interval(list(X.T), statistic, resamples=MANY)
    assert found.mean == pytest.approx(expected[1], abs=1e-8)
    assert found.n == X.size
    # Ours is corrected for bias and acceleration, rliable's takes plain percentiles.
    assert bounds(found) == pytest.approx(expected, abs=0.06)


def test_improvement_is_rliables() -> None:
    found = ours.improvement_interval(X[:, 2], Y[:, 2], resamples=MANY)
    assert found.mean == pytest.approx(RLIABLE_IMPROVEMENT[1], abs=1e-8)
    assert found.mean == ours.probability_of_improvement(X[:, 2], Y[:, 2])
    assert bounds(found) == pytest.approx(RLIABLE_IMPROVEMENT, abs=0.03)  # four of 144 pairs


def test_profiles_are_rliables() -> None:
    found = ours.performance_profile(list(X.T), list(RLIABLE_PROFILE), resamples=MANY)
    low, share, high = np.array(list(RLIABLE_PROFILE.values())).T
    np.testing.assert_allclose(found.mean, share, atol=1e-8)
    # Shares move in steps of 1/36; a quantile may fall on either side of one.
    np.testing.assert_allclose(found.low, low, atol=1.01 / 36)
    np.testing.assert_allclose(found.high, high, atol=1.01 / 36)
    assert found.n.tolist() == [36] * 4


def test_strata_are_resampled_apart() -> None:
    """Tasks far from each other do not widen the interval; pooled seeds would."""
    far = X + 1000 * TASK
    near, apart = (ours.stratified_interval(list(s.T), np.mean) for s in (X, far))
    assert apart.high - apart.low == pytest.approx(near.high - near.low, rel=1e-6)
    pooled = ours.bootstrap_interval(far.ravel(), np.mean)
    assert pooled.high - pooled.low > 100 * (apart.high - apart.low)


def test_one_stratum_is_the_plain_bootstrap() -> None:
    assert ours.stratified_interval([X[:, 0]]) == ours.bootstrap_interval(X[:, 0], ours.iqm)


def test_strata_may_have_different_sizes() -> None:
    """Variance of the pooled mean of m + n seeds: (m s² + n t²) / (m + n)² by plug-in spreads."""
    draw = np.random.default_rng(0)
    small, large = draw.normal(size=40), draw.normal(5.0, 3.0, size=160)
    found = ours.stratified_interval([small, large], np.mean, resamples=MANY)
    error = math.sqrt(40 * small.var() + 160 * large.var()) / 200
    assert found.mean == pytest.approx(np.concatenate([small, large]).mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_paired_intervals_use_the_pairing() -> None:
    draw = np.random.default_rng(1)
    noise = draw.normal(size=60)
    x, y = noise + 0.1 * draw.normal(size=60) + 1, noise
    found = ours.paired_interval(x, y, np.mean, resamples=MANY)
    exact = ours.paired_difference(x, y)
    assert found.n == 60
    assert bounds(found) == pytest.approx(bounds(exact), abs=0.01)
    apart = ours.paired_interval(x, y[::-1], np.mean)
    assert apart.high - apart.low > 5 * (found.high - found.low)


def test_paired_interval_of_the_iqm_by_hand() -> None:
    """Percentiles of resampled pairs, drawn by another generator in a plain loop."""
    x, y = X[:, 0], Y[:, 0] + 0.5 * X[:, 0]
    found = ours.paired_interval(x, y, resamples=MANY)
    draw = np.random.RandomState(3)
    redrawn = []
    for _ in range(MANY):
        i = draw.randint(12, size=12)
        redrawn.append(stats.trim_mean(x[i], 0.25) - stats.trim_mean(y[i], 0.25))
    assert found.mean == pytest.approx(np.sort(x)[3:9].mean() - np.sort(y)[3:9].mean())
    low, high = np.quantile(redrawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25)  # BCa against plain


def test_stratified_intervals_cover_about_as_often_as_they_say() -> None:
    """Three tasks of 20 seeds; the mean of all is 1 in truth, and is covered 9 times in 10."""
    trials, draw = 300, np.random.default_rng(4)
    covered = 0
    for _ in range(trials):
        strata = [draw.normal(center, 1.0 + center, size=20) for center in (0.0, 1.0, 2.0)]
        found = ours.stratified_interval(strata, np.mean, 0.9, resamples=300)
        covered += found.low <= 1 <= found.high
    error = 4 * math.sqrt(0.09 / trials)
    assert covered / trials == pytest.approx(0.9, abs=0.03 + error)


def test_a_statistic_without_axis_gives_the_same() -> None:
    plain = ours.bootstrap_interval(X[:, 0], lambda x: float(np.median(x)), resamples=200)
    assert plain == ours.bootstrap_interval(X[:, 0], np.median, resamples=200)
    strata = list(X.T)
    slow = ours.stratified_interval(strata, lambda x: float(np.median(x)), resamples=200)
    assert slow == ours.stratified_interval(strata, np.median, resamples=200)


def test_a_profile_of_one_task_is_its_tail() -> None:
    found = ours.performance_profile([X[:, 0]], np.sort(X[:, 0]))
    np.testing.assert_allclose(found.mean, (11 - np.arange(12)) / 12)
    assert np.all((found.low <= found.mean) & (found.mean <= found.high))
    # A resample of twelve has binomially many above the median.
    middle = ours.performance_profile([X[:, 0]], [np.median(X[:, 0])], resamples=MANY)
    expected = stats.binom(12, 0.5).ppf([0.025, 0.975]) / 12
    np.testing.assert_allclose([middle.low[0], middle.high[0]], expected, atol=1.01 / 12)


def test_one_seed_says_nothing() -> None:
    inf = math.inf
    assert bounds(ours.stratified_interval([[1.0, 2.0], [5.0]])) == (-inf, 2.0 * 4 / 3, inf)
    assert bounds(ours.improvement_interval([2.0], [1.0, 3.0])) == (-inf, 0.5, inf)
    assert bounds(ours.paired_interval([2.0], [1.0])) == (-inf, 1.0, inf)
    profile = ours.performance_profile([[1.0]], [0.0])
    assert (profile.low[0], profile.mean[0], profile.high[0]) == (0.0, 1.0, 1.0)


def test_arms_that_never_overlap_are_sure() -> None:
    found = ours.improvement_interval([3.0, 4.0, 5.0], [0.0, 1.0])
    assert bounds(found) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: ours.stratified_interval([]), "strata"),
        (lambda: ours.stratified_interval([[1.0], [math.nan]]), r"strata\[1\]"),
        (lambda: ours.performance_profile([], [0.0]), "strata"),
        (lambda: ours.performance_profile([[1.0]], [math.nan]), "thresholds"),
        (lambda: ours.performance_profile([[1.0]], 1.0), "thresholds"),
        (lambda: ours.performance_profile([[1.0]], [1.0], level=1.0), "level"),
        (lambda: ours.performance_profile([[1.0]], [1.0], resamples=0), "resamples"),
        (lambda: ours.paired_interval([1.0, 2.0], [1.0]), "y"),
        (lambda: ours.improvement_interval([1.0, 2.0], [math.inf]), "y"),
        (lambda: ours.improvement_interval([1.0, 2.0], [1.0], resamples=0), "resamples"),
        (lambda: ours.iqm([]), "x"),
        (lambda: ours.iqm([[1.0, math.nan]]), "x"),
    ],
)
def test_what_cannot_be_resampled_is_refused(call: Any, key: str) -> None:
    with pytest.raises(BadInput, match=f"^{key} = "):
        call()
