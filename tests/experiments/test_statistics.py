"""Statistics over seeds against SciPy, brute force, tables and simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs import BadInput
from scipy import stats

from jaxrl_lab.experiments import statistics as ours

numbers = st.floats(-1e6, 1e6)
samples = st.lists(numbers, min_size=2, max_size=30).map(np.array)
coarse = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12).map(np.array)


def check(*drawn: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A property of whatever is drawn, without a deadline: machines are shared."""
    return lambda test: settings(deadline=None)(given(*drawn)(test))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def binomial_error(share: float, trials: int) -> float:
    """Four standard errors: a right implementation fails once in 16 000 choices of the seed."""
    return 4 * math.sqrt(share * (1 - share) / trials)


def of_spread(s: float, n: int) -> np.ndarray:
    """A sample whose standard deviation is s to rounding."""
    x = normal(n)
    return s * (x - x.mean()) / x.std(ddof=1)


@check(samples, st.sampled_from([0.5, 0.95, 0.999]))
def test_mean_interval_is_scipys(x: np.ndarray, level: float) -> None:
    found = ours.mean_interval(x, level)
    assert found.n == x.size
    half = stats.t(x.size - 1).ppf((1 + level) / 2) * x.std(ddof=1) / math.sqrt(x.size)
    expected = (x.mean(), x.mean() - half, x.mean() + half)
    tolerance = 1e-9 * (1 + np.abs(x).max())
    assert (found.mean, found.low, found.high) == pytest.approx(expected, 1e-6, tolerance)


def test_mean_interval_by_hand() -> None:
    # Mean 2, s = √((1 + 0 + 1) / 2) = 1, t[0.975, 2] = 4.302653: half-width 4.302653 / √3. All
    # scales with the values, also where their squares leave the range of a float.
    for scale in (1e-300, 1e-160, 1.0, 1e160, 1e300):
        found = ours.mean_interval(scale * np.array([1, 2, 3]))
        assert found.n == 3
        bounds = (found.low / scale, found.mean / scale, found.high / scale)
        half = 4.302653 / math.sqrt(3)
        assert bounds == pytest.approx((2 - half, 2, 2 + half), abs=1e-6)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_interval_covers_the_mean_as_often_as_it_says(level: float) -> None:
    trials = 4000
    found = (ours.mean_interval(x, level) for x in 3 + 2 * normal(trials, 6, seed=1))
    covered = np.mean([i.low <= 3 <= i.high for i in found])
    assert covered == pytest.approx(level, abs=binomial_error(level, trials))


def test_one_seed_says_nothing_about_the_spread() -> None:
    for found in (ours.mean_interval([5.0]), ours.bootstrap_interval([5.0])):
        assert (found.mean, found.low, found.high, found.n) == (5.0, -math.inf, math.inf, 1)


@check(numbers, st.integers(2, 40))
def test_a_constant_sample_has_exactly_no_width(value: float, n: int) -> None:
    found = ours.mean_interval([value] * n)
    assert found.low == found.mean == found.high == value


@pytest.mark.parametrize("interval", [ours.mean_interval, ours.bootstrap_interval])
def test_intervals_refuse_what_has_none(interval: Any) -> None:
    for x in ([], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(BadInput, match=r"^x = "):
            interval(x)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(BadInput, match=r"^level = "):
            interval([1.0, 2.0], level=level)


def test_curve_band_is_the_interval_of_each_column() -> None:
    y = normal(9, 4)
    y[:4, 1] = math.nan
    y[0, 2], y[1, 2] = math.inf, -math.inf
    band = ours.curve_band(y, 0.9)
    assert band.n.tolist() == [9, 5, 7, 9]
    for t in range(4):
        alone = ours.mean_interval(y[np.isfinite(y[:, t]), t], 0.9)
        at_t = (band.mean[t], band.low[t], band.high[t])
        assert at_t == pytest.approx((alone.mean, alone.low, alone.high), rel=1e-12)


def test_curve_band_where_seeds_are_lacking() -> None:
    band = ours.curve_band([[math.nan, 2.0, 1.0], [math.nan, math.nan, 3.0]])
    assert band.n.tolist() == [0, 1, 2]
    assert math.isnan(band.mean[0])
    assert band.mean[1:].tolist() == [2.0, 2.0]
    assert band.low[:2].tolist() == [-math.inf, -math.inf]
    assert band.high[:2].tolist() == [math.inf, math.inf]
    assert band.high[2] == pytest.approx(2 + 12.7062, abs=1e-4)  # t[0.975, 1] · √2 / √2
    with pytest.raises(BadInput, match=r"y = .*\[seeds, time\]"):
        ours.curve_band([1.0, 2.0])
    assert np.isnan(ours.curve_band(np.empty((0, 2))).mean).all()


def test_paired_difference_uses_the_pairing() -> None:
    noise = normal(40)
    x, y = noise + 0.1 * normal(40, seed=1) + 1, noise
    found = ours.paired_difference(x, y)
    test = stats.ttest_rel(x, y).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))
    shuffled = ours.paired_difference(x, y[::-1])
    assert shuffled.high - shuffled.low > 5 * (found.high - found.low)
    with pytest.raises(BadInput, match="40 seeds"):
        ours.paired_difference(x, y[:-1])


@check(samples)
def test_iqm_is_the_trimmed_mean_of_scipy(x: np.ndarray) -> None:
    assert ours.iqm(x) == pytest.approx(stats.trim_mean(x, 0.25), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("statistic", [np.mean, ours.iqm])
def test_bootstrap_covers_about_as_often_as_it_says(statistic: Any) -> None:
    trials = 250
    draws = normal(trials, 40, seed=2)
    found = [ours.bootstrap_interval(x, statistic, 0.9, resamples=300) for x in draws]
    covered = np.mean([i.low <= 0 <= i.high for i in found])
    # The bootstrap is a few per cent short at 40 seeds; the binomial error is 7.6 per cent.
    assert covered == pytest.approx(0.9, abs=0.03 + binomial_error(0.9, trials))
    width = np.mean([i.high - i.low for i in found])
    assert 1.8 * 1.645 / math.sqrt(40) < width < 2.4 * 1.645 / math.sqrt(40)


def test_bootstrap_approaches_the_t_interval_and_repeats() -> None:
    found, exact = ours.bootstrap_interval(x := normal(400)), ours.mean_interval(x)
    assert (found.mean, found.n) == (pytest.approx(exact.mean), 400)
    assert found.low == pytest.approx(exact.low, abs=0.01)
    assert found.high == pytest.approx(exact.high, abs=0.01)
    assert ours.bootstrap_interval(x) == found
    assert ours.bootstrap_interval(x, seed=1) != found
    wide = ours.bootstrap_interval(x, level=0.99)
    assert wide.low < found.low < found.high < wide.high


def test_bootstrap_of_degenerate_samples() -> None:
    same = ours.bootstrap_interval([2.5] * 8, np.median)
    assert (same.mean, same.low, same.high) == (2.5, 2.5, 2.5)
    # No resample exceeds the maximum, so BCa's bias correction is infinite: percentiles stand in.
    top = ours.bootstrap_interval(np.arange(20.0), np.max)
    assert 10 < top.low < top.high == top.mean == 19.0
    with pytest.raises(BadInput, match="resamples"):
        ours.bootstrap_interval([1.0, 2.0], resamples=0)


@check(coarse, coarse)
def test_probability_of_improvement_by_brute_force(x: np.ndarray, y: np.ndarray) -> None:
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(x, y)]
    found = ours.probability_of_improvement(x, y)
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)
    assert found + ours.probability_of_improvement(y, x) == pytest.approx(1, abs=1e-12)
    u = stats.mannwhitneyu(x, y, method="asymptotic").statistic if np.ptp([*x, *y]) else None
    assert u is None or found * x.size * y.size == pytest.approx(u)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_agrees_with_the_tables(effect: float, seeds: int) -> None:
    """Published sizes for a two-sided one-sample t test at 5 % and power 0.8."""
    assert ours.seeds_needed(of_spread(1.0, 10), effect) == seeds
    assert ours.seeds_needed(of_spread(3.0, 10), -3 * effect) == seeds


def test_the_detectable_effect_is_detected_with_the_stated_power() -> None:
    n, trials = 12, 20_000
    effect = ours.minimum_detectable_effect(of_spread(2.0, n), level=0.9, power=0.7)
    draws = effect + 2 * normal(trials, n, seed=3)
    right = stats.ttest_1samp(draws, 0, axis=1, alternative="greater").pvalue < 0.05
    assert right.mean() == pytest.approx(0.7, abs=binomial_error(0.7, trials))


@check(st.integers(2, 200), st.floats(0.1, 10), st.floats(0.9, 0.999), st.floats(0.2, 0.95))
def test_effect_and_seeds_are_inverse(n: int, s: float, level: float, power: float) -> None:
    x = of_spread(s, n)
    effect = ours.minimum_detectable_effect(x, level, power)
    enough = ours.seeds_needed(x, effect * 1.0001, level, power)
    assert enough <= n < ours.seeds_needed(x, effect * 0.9999, level, power)


def test_planning_at_the_edges() -> None:
    assert ours.minimum_detectable_effect([1.0]) == math.inf
    assert ours.minimum_detectable_effect([1.0, 1.0, 1.0]) == 0.0
    assert ours.seeds_needed([1.0, 1.0, 1.0], 1e-9) == 2
    found = [ours.seeds_needed([0.0, 1.0], effect) for effect in (0.0, 1e-300, 1e-4, 1e300)]
    # At 1e-4: (z + z_power)² s² / d² = 7.84888 · 0.5 · 1e8.
    assert found == [None, None, pytest.approx(7.84888 * 0.5e8, rel=1e-6), 2]
    # At a level this strict SciPy's noncentral t fails, and the limit stands in: two seeds find a
    # distance d where |χ_1| < c / t, so at power p the solution c is t times the p quantile of |χ|.
    strict = ours.minimum_detectable_effect([0.0, math.sqrt(2)], 1 - 1e-6)
    expected = stats.t(1).isf(5e-7) * stats.chi(1).ppf(0.8) / math.sqrt(2)
    assert strict == pytest.approx(expected, rel=1e-3)


def test_many_seeds_follow_the_closed_formula_without_a_jump() -> None:
    # (z + z_power)² = 7.8489, so these distances lie on either side of the switch at 1e5 seeds.
    near = math.sqrt(7.8489 / 1e5)
    counts = [ours.seeds_needed(of_spread(1.0, 10), d * near) for d in (1.00001, 0.99999)]
    assert counts[0] == pytest.approx(100_000, abs=5)
    assert counts[1] == pytest.approx(counts[0] + 4, abs=1)  # 4e-5 of a hundred thousand


def test_planning_refuses_what_it_cannot_plan() -> None:
    with pytest.raises(BadInput, match="power"):
        ours.minimum_detectable_effect([0.0, 1.0], power=0.05)
    for x, effect, power, key in (([0, 1], 1, 1, "power"), ([1], 1, 0.8, "x")):
        with pytest.raises(BadInput, match=f"^{key} = "):
            ours.seeds_needed(x, effect, power=power)
    with pytest.raises(BadInput, match=r"^effect = nan"):
        ours.seeds_needed([0, 1], math.nan)


def test_holm_by_hand() -> None:
    # Sorted: .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; running maximum: .02 .03 .06 .06.
    assert ours.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert ours.holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert ours.holm([]).size == 0
    for bad in ([0.1, 1.1], [-0.1], [math.nan], [[0.1]]):
        with pytest.raises(BadInput, match="p_values"):
            ours.holm(bad)


@check(st.lists(st.sampled_from([0.0, 0.004, 0.01, 0.012, 0.02, 0.03, 0.2, 1.0]), max_size=8))
def test_holm_rejects_what_the_step_down_rule_rejects(p: list[float]) -> None:
    steps = enumerate(np.sort(p))
    rejected = sum(1 for _ in itertools.takewhile(lambda s: s[1] < 0.05 / (len(p) - s[0]), steps))
    found = ours.holm(p) < 0.05
    assert found.sum() == rejected
    assert np.sort(p)[:rejected].tolist() == sorted(np.array(p)[found])


@pytest.mark.parametrize(
    ("at", "y"),
    [
        (0.5, 5.0),  # half-way along the first rise; the second crossing at x = 0.5 is ignored
        (1.0, 10.0),  # reached exactly
        (1.5, 65.0),  # only the last rise gets there: half-way from 40 to 90
        (3.0, 90.0),
        (3.1, math.nan),  # never
        (0.0, 0.0),  # at the start
        (-2.0, 0.0),  # before the start
    ],
)
def test_first_crossing_on_a_curve_that_turns(at: float, y: float) -> None:
    assert ours.first_crossing([0, 1, 0, 3], [0, 10, 40, 90], at) == pytest.approx(y, nan_ok=True)


def test_first_crossing_beside_missing_values() -> None:
    nan = math.nan
    assert math.isnan(ours.first_crossing([0, nan, nan], [1, 2, 3], 0.5))  # died before
    assert ours.first_crossing([0, 1, nan], [1, 2, 3], 0.5) == 1.5  # died after
    assert math.isnan(ours.first_crossing([0, nan, 1], [1, 2, 3], 0.5))  # crossed unseen
    assert ours.first_crossing([0, nan, 1], [1, 2, 3], 1.0) == 3.0  # but stood at 1 exactly
    assert math.isnan(ours.first_crossing([0, math.inf], [1, 2], 0.5))  # blew up, did not cross
    assert math.isnan(ours.first_crossing([0, 1], [nan, 2], 0.5))
    assert math.isnan(ours.first_crossing([0, 1], [1, math.inf], 0.5))
    assert math.isnan(ours.first_crossing([nan, 1], [1, 2], 0.5))


@check(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6))
def test_at_matched_is_the_first_crossing_of_each_seed(draw: int, S: int, T: int) -> None:
    x, y = normal(2, S, T, seed=draw)
    x = x.round(1)  # so that levels are also met exactly
    levels = np.linspace(-1.5, 1.5, 7).round(1)
    found = ours.at_matched(x, y, levels)
    assert found.shape == (S, 7)
    for s, k in itertools.product(range(S), range(7)):
        t = next((t for t in range(T) if x[s, t] >= levels[k]), None)
        near = slice(t - 1, t + 1) if t else slice(0, 1)
        expected = math.nan if t is None else np.interp(levels[k], x[s, near], y[s, near])
        assert found[s, k] == pytest.approx(expected, nan_ok=True)


def test_crossings_refuse_curves_that_do_not_fit() -> None:
    nan = math.nan
    for x, y, at, key in (([0, 1], [0], 0.5, "y"), ([], [], 0.5, "x"), ([0], [0], nan, "levels")):
        with pytest.raises(BadInput, match=f"^{key} = "):
            ours.first_crossing(x, y, at)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_unpaired_difference_is_welch(level: float) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(1.0, 0.3, 12), rng.normal(0.5, 2.0, 31)
    found = ours.unpaired_difference(x, y, level)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(level)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-10)
    assert found.n == 12


def test_a_difference_says_what_the_pairing_is_worth() -> None:
    rng = np.random.default_rng(4)
    luck, own = rng.normal(size=64), rng.normal(size=(2, 64))
    found = ours.difference(3 * luck + own[0], 3 * luck + own[1] - 0.5)
    # Equal spread: Var[x - y] = 2 Var[x] (1 - correlation), so the saving is 1 / (1 - correlation).
    assert found.seeds_saved == pytest.approx(1 / (1 - found.correlation), rel=0.1)
    assert found.correlation > 0.8
    alone = ours.difference(own[0], own[1])
    assert alone.seeds_saved == pytest.approx(1 / (1 - alone.correlation), rel=0.1)
    assert "paired [" in str(found)
    assert "unpaired [" in str(found)


def test_differences_without_spread() -> None:
    same = ours.difference([1.0, 2.0, 4.0], [0.0, 1.0, 3.0])
    assert (same.paired.low, same.paired.high) == (1.0, 1.0)
    assert same.seeds_saved == np.inf
    constant = ours.difference([1.0, 1.0], [0.0, 0.0])
    assert (constant.unpaired.low, constant.unpaired.high) == (1.0, 1.0)
    assert np.isnan(constant.correlation)
    one = ours.unpaired_difference([1.0], [0.0, 1.0])
    assert (one.low, one.high) == (-np.inf, np.inf)
