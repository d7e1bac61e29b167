"""Intervals, tests and planning numbers over seeds.

Seeds are the unit of replication everywhere: the axis ``S`` counts independent runs, never
episodes or tokens. A seed that never arrived is NaN; :func:`curve_band` and the crossing functions
carry it along and count it, every other function refuses it, so that nobody averages over
survivors without having decided to.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from jaxrl_envs.errors import expect
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MANY = 10**9
"""Seeds beyond which :func:`seeds_needed` says that no number will do."""


@dataclass(frozen=True)
class Interval:
    """A point estimate (``mean``, or the statistic asked for), its interval, and the seeds."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Band:
    """A curve with its pointwise interval: ``mean[T]``, ``low[T]``, ``high[T]``, seeds ``n[T]``."""

    mean: Floats
    low: Floats
    high: Floats
    n: NDArray[np.int64]


def mean_interval(x: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over seeds with Student's t interval: mean ± t[(1+level)/2, n-1] · s / √n.

    One seed says nothing about the spread: its bounds are infinite.

    Raises:
        BadInput: no seeds, a value that is not finite, or a level outside (0, 1).
    """
    sample = _sample("x", x)
    band = curve_band(sample[:, None], level)
    return Interval(band.mean.item(), band.low.item(), band.high.item(), sample.size)


def curve_band(y: ArrayLike, level: float = 0.95) -> Band:
    """Mean and t interval of ``y[S, T]`` at each time, over the seeds that have a value there.

    NaN and infinity count as missing. A point without seeds has mean NaN; a point with fewer than
    two has infinite bounds. The band is pointwise: it is not a statement about whole curves.
    """
    curves = np.asarray(y, dtype=np.float64)
    expect(curves.ndim == 2, "y", curves.shape, "an array of shape [seeds, time]")
    mean, error, n = mean_and_error(curves)
    half = np.where(n > 1, t_quantile(level, n) * error, np.inf)
    low, high = np.where(n > 0, mean - half, -np.inf), np.where(n > 0, mean + half, np.inf)
    return Band(mean, low, high, n)


def mean_and_error(x: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean, standard error s / √n and count over the finite entries along the first axis.

    The mean is NaN without entries, the error NaN with fewer than two. Equal entries give their
    own value and an error of exactly zero: a constant sample has to be recognizable.
    """
    here = np.isfinite(x)
    n = np.asarray(here.sum(axis=0), dtype=np.int64)
    # Centered on one of its own entries, a constant sample is all zeros, free of rounding; divided
    # by its largest deviation, no sample overflows when squared.
    top = np.max(np.where(here, x, -np.inf), axis=0, initial=-np.inf)
    center = np.where(n > 0, top, np.nan)
    deviation = np.where(here, x - center, 0.0)
    largest = np.max(np.abs(deviation), axis=0, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    deviation = deviation / scale
    count = np.maximum(n, 1)
    shift = deviation.sum(axis=0) / count
    squares = np.where(here, (deviation - shift) ** 2, 0.0).sum(axis=0)
    variance = squares / np.maximum(n - 1, 1)
    error = np.where(n > 1, scale * np.sqrt(variance / count), np.nan)
    return center + scale * shift, error, n


def t_quantile(level: float, n: ArrayLike) -> Floats:
    """Half-width of the central ``level`` interval of Student's t with n - 1 degrees of freedom.

    NaN for n < 2. Taken from the lower tail, which keeps its digits when ``level`` is near 1.
    """
    degrees = np.asarray(n, dtype=np.float64) - 1
    quantile = -scipy.special.stdtrit(np.maximum(degrees, 1), _alpha(level) / 2)
    return np.where(degrees > 0, quantile, np.nan)


def iqm(x: ArrayLike) -> float:
    """Interquartile mean: the mean without the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest seeds."""
    sample = np.sort(_sample("x", x))
    cut = sample.size // 4
    return float(sample[cut : sample.size - cut].mean())


def bootstrap_interval(
    x: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of any statistic of the seeds, bias-corrected and accelerated (BCa).

    Where BCa is undefined (all resamples on one side of the estimate, as with a constant sample or
    a maximum) the percentile interval of the same resamples stands in. A statistic that takes
    ``axis`` is evaluated on all resamples at once. One seed gives infinite bounds.
    """
    sample = _sample("x", x)
    _alpha(level)
    expect(resamples > 0, "resamples", resamples, "a positive number")
    point = float(statistic(sample))
    if sample.size == 1:
        return Interval(point, -np.inf, np.inf, 1)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # SciPy warns of exactly the degeneracy that is handled below.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        for method in ("BCa", "percentile"):
            bounds = scipy.stats.bootstrap(
                (sample,),
                statistic,
                confidence_level=level,
                n_resamples=resamples,
                method=method,
                random_state=np.random.default_rng(seed),
            ).confidence_interval
            if np.isfinite(bounds).all():
                break
    return Interval(point, float(bounds.low), float(bounds.high), sample.size)


def paired_difference(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Interval:
    """t interval of the mean of x_s - y_s: two arms run on the same seeds (common random numbers).

    Shared noise cancels in the difference: between arms of equal spread and correlation ρ across
    seeds the interval is narrower by √(1 - ρ) than between independent arms.
    """
    first, second = _sample("x", x), _sample("y", y)
    expect(first.size == second.size, "y", second.shape, f"{first.size} seeds, as in x")
    return mean_interval(first - second, level)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """P(x > y) + ½ P(x = y) over all pairs of a seed of x and a seed of y (Mann-Whitney U / nm)."""
    first, second = _sample("x", x), np.sort(_sample("y", y))
    wins = np.searchsorted(second, first, side="left").sum()
    wins_and_ties = np.searchsorted(second, first, side="right").sum()
    return float((wins + wins_and_ties) / (2 * first.size * second.size))


def minimum_detectable_effect(x: ArrayLike, level: float = 0.95, power: float = 0.8) -> float:
    """Distance from the null that a two-sided t test on as many seeds as x finds with ``power``.

    Solves P(T > t) = power for d, where T is noncentral t with n - 1 degrees of freedom and
    noncentrality d √n / s, and t = t[(1+level)/2, n-1]: the chance to decide on the right side.
    Infinite for one seed, zero for a constant sample.
    """
    sample = _sample("x", x)
    _check_power(level, power)
    if sample.size == 1:
        return math.inf
    _, error, _ = mean_and_error(sample)
    upper = float(t_quantile(level, sample.size)) + 1.0
    while _power(upper, sample.size, level) < power:
        upper *= 2
    root = scipy.optimize.brentq(lambda c: _power(c, sample.size, level) - power, 0.0, upper)
    return float(root * error)


def seeds_needed(
    x: ArrayLike, effect: float, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Fewest seeds on which a two-sided t test finds a distance ``effect`` with ``power``.

    The spread is that of x; the power is that of :func:`minimum_detectable_effect`. None where no
    number will do: a zero effect, or more than a billion seeds.
    """
    sample = _sample("x", x)
    _check_power(level, power)
    expect(sample.size > 1, "x", sample.shape, "at least two seeds, to know the spread")
    expect(math.isfinite(effect), "effect", effect, "a finite number")
    if effect == 0:
        return None
    _, error, _ = mean_and_error(sample)
    deviation, distance = float(error) * math.sqrt(sample.size), abs(float(effect))
    if deviation >= distance * MANY:  # asked before the division, which could overflow
        return None
    ratio = deviation / distance
    z = float(-scipy.special.ndtri(_alpha(level) / 2))
    # With the spread known, n = ((z_level + z_power) s / d)²; to estimate it costs about z² / 2
    # more (Guenther 1981). The first is a lower bound, the second exact to a seed when n is large.
    known = ((z + float(scipy.special.ndtri(power))) * ratio) ** 2
    if known > MANY:
        return None
    if known > 1e5:
        return math.ceil(known + z**2 / 2)
    n = max(2, int(known))
    while ratio > 0 and _power(math.sqrt(n) / ratio, n, level) < power:
        n += 1
    return n


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjustment: p̃_(k) = max_{j ≤ k} min(1, (m - j) p_(j)), k = 0 … m-1.

    Rejecting where p̃ < α keeps the chance of any false rejection among the m below α, whatever
    the dependence between the tests.
    """
    p = np.asarray(p_values, dtype=np.float64)
    valid = p.ndim == 1 and bool(np.all((p >= 0) & (p <= 1)))
    expect(valid, "p_values", p_values, "a vector of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, (p.size - np.arange(p.size)) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def first_crossing(x: ArrayLike, y: ArrayLike, at: float) -> float:
    """y when x[T] first reaches ``at`` from below, by linear interpolation; NaN if it never does.

    With i the first time where x_i ≥ at and w = (at - x_{i-1}) / (x_i - x_{i-1}), the value is
    (1 - w) y_{i-1} + w y_i; y_0 if i = 0; y_i if x_i = at. Later crossings are ignored, and a value
    that needs a missing (NaN or infinite) neighbor is NaN. For a falling x negate x and ``at``.
    """
    return at_matched(np.asarray(x)[None], np.asarray(y)[None], [at]).item()


def at_matched(x: ArrayLike, y: ArrayLike, levels: ArrayLike) -> Floats:
    """:func:`first_crossing` for ``x[S, T]``, ``y[S, T]``, per seed and level: ``[S, L]``.

    It compares arms at matched x (say, reward at equal KL) instead of at matched time.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    grid = np.asarray(levels, dtype=np.float64)
    expect(xs.ndim == 2 and xs.shape[1] > 0, "x", xs.shape, "shape [seeds, time], time at least 1")
    expect(ys.shape == xs.shape, "y", ys.shape, f"the shape of x, {xs.shape}")
    valid = grid.ndim == 1 and bool(np.isfinite(grid).all())
    expect(valid, "levels", levels, "a vector of finite numbers")
    xs, ys = np.where(np.isfinite(xs), xs, np.nan), np.where(np.isfinite(ys), ys, np.nan)
    out = np.full((xs.shape[0], grid.size), np.nan)
    seed = np.arange(xs.shape[0])
    for k, at in enumerate(grid):
        reached = xs >= at
        i = np.argmax(reached, axis=1)
        before = np.maximum(i - 1, 0)
        x0, x1, y0, y1 = xs[seed, before], xs[seed, i], ys[seed, before], ys[seed, i]
        exact = (i == 0) | (x1 == at)
        w = (at - x0) / np.where(exact, 1.0, x1 - x0)
        value = np.where(exact, y1, (1 - w) * y0 + w * y1)
        out[:, k] = np.where(reached.any(axis=1), value, np.nan)
    return out


def _sample(key: str, x: ArrayLike) -> Floats:
    sample = np.asarray(x, dtype=np.float64)
    expect(sample.ndim == 1 and sample.size > 0, key, sample.shape, "shape [seeds], at least one")
    missing = int(np.count_nonzero(~np.isfinite(sample)))
    expect(missing == 0, key, f"{missing} values of {sample.size} not finite", "finite numbers")
    return sample


def _alpha(level: float) -> float:
    expect(0 < level < 1, "level", level, "a number between 0 and 1")
    return 1 - level


def _check_power(level: float, power: float) -> None:
    expect(_alpha(level) < power < 1, "power", power, f"between {1 - level:g} and 1")


def _power(noncentrality: float, n: int, level: float) -> float:
    """P(T > t[(1+level)/2, n-1]) for noncentral t."""
    t = float(t_quantile(level, n))
    if max(t, noncentrality) > 1e4:
        # SciPy is inexact, then NaN, out here, where T's numerator is as good as constant.
        return float(
            scipy.special.chdtr(n - 1, (n - 1) * (noncentrality / t) * (noncentrality / t))
        )
    return float(1 - scipy.special.nctdtr(n - 1, noncentrality, t))
