"""Bootstrap and rank statistics: robust aggregates, with intervals from resampled seeds."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy
from jaxrl_envs.errors import expect
from numpy.typing import ArrayLike

from jaxrl_lab.experiments.statistics.intervals import Band, Floats, Interval, alpha_of, sample_of

Statistic = Callable[..., Any]
"""``f(x)``; one that takes ``axis`` too is evaluated on all resamples at once."""


def iqm(x: ArrayLike, axis: int | None = None) -> Any:
    """Interquartile mean: the mean without the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest entries.

    Of all entries unless ``axis`` is given. Robust as the median, and nearly as precise as the
    mean. Source: arXiv 2108.13264.

    Raises:
        BadInput: no entries, or one that is not finite.
    """
    sample = np.asarray(x, dtype=np.float64)
    expect(sample.size > 0, "x", sample.shape, "at least one seed")
    missing = int(np.count_nonzero(~np.isfinite(sample)))
    expect(missing == 0, "x", f"{missing} values of {sample.size} not finite", "finite numbers")
    return scipy.stats.trim_mean(sample, 0.25, axis=axis)


def bootstrap_interval(
    x: ArrayLike,
    statistic: Statistic = np.mean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of any statistic of the seeds, bias-corrected and accelerated (BCa).

    Where BCa is undefined (all resamples on one side of the estimate, as with a constant sample or
    a maximum) the percentile interval of the same resamples stands in. One seed gives infinite
    bounds.
    """
    sample = sample_of("x", x)
    return _interval([sample], statistic, level, resamples, seed)


def stratified_interval(
    strata: Sequence[ArrayLike],
    statistic: Statistic = iqm,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of a statistic of all strata pooled, seeds resampled within each.

    A stratum is a world, a task or a setting with seeds of its own: ``strata[k]`` has shape
    ``[S_k]``. Every resample keeps each stratum's size, so that the differences between strata,
    which no further seed would change, do not widen the interval. Every seed has the same weight.
    Strata that share their seeds are not independent: average over strata within each seed and
    use :func:`bootstrap_interval`. Source: arXiv 2108.13264.

    Raises:
        BadInput: no strata, or one without seeds or with a value that is not finite.
    """
    samples = _strata(strata)
    of_all = _with_axis(statistic)

    def pooled(*parts: Floats, axis: int) -> Any:
        return of_all(np.concatenate(parts, axis=axis), axis=axis)

    return _interval(samples, pooled, level, resamples, seed)


def paired_interval(
    x: ArrayLike,
    y: ArrayLike,
    statistic: Statistic = iqm,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of statistic(x) - statistic(y), two arms run on the same seeds.

    A seed is drawn for both arms at once, so that what its noise did to both cancels. For the mean
    :func:`paired_difference` has the t interval.

    Raises:
        BadInput: arms with different numbers of seeds, or a value that is not finite.
    """
    first, second = sample_of("x", x), sample_of("y", y)
    expect(first.size == second.size, "y", second.shape, f"{first.size} seeds, as in x")
    of_arm = _with_axis(statistic)

    def difference(one: Floats, other: Floats, axis: int) -> Any:
        return of_arm(one, axis=axis) - of_arm(other, axis=axis)

    return _interval([first, second], difference, level, resamples, seed, paired=True)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """P(x > y) + ½ P(x = y) over all pairs of a seed of x and a seed of y (Mann-Whitney U / nm)."""
    return float(_improvement(sample_of("x", x), sample_of("y", y), axis=-1))


def improvement_interval(
    x: ArrayLike, y: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """:func:`probability_of_improvement` with its bootstrap interval, arms resampled apart.

    An interval wholly above ½ says that a seed of x is more often the better one. It is not a size
    of effect: arms that never overlap have probability 1 at any distance.
    """
    samples = [sample_of("x", x), sample_of("y", y)]
    return _interval(samples, _improvement, level, resamples, seed)


def performance_profile(
    strata: Sequence[ArrayLike],
    thresholds: ArrayLike,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Band:
    """Share of seeds above each threshold, F(τ) = mean_k P(x_k > τ), with a pointwise interval.

    ``strata[k]`` has shape ``[S_k]``, ``thresholds`` shape ``[T]``; strata weigh alike. Seeds are
    resampled within each stratum, bounds are percentiles. Curves that do not cross order two arms
    whatever score counts as good enough. Source: arXiv 2108.13264.

    Raises:
        BadInput: no strata, a value that is not finite, or thresholds that are no vector.
    """
    samples, at = _strata(strata), np.asarray(thresholds, dtype=np.float64)
    valid = at.ndim == 1 and bool(np.isfinite(at).all())
    expect(valid, "thresholds", thresholds, "a vector of finite numbers")
    alpha, draw = alpha_of(level), np.random.default_rng(seed)
    expect(resamples > 0, "resamples", resamples, "a positive number")
    shares, redrawn = np.zeros(at.size), np.zeros((resamples, at.size))
    for sample in samples:
        above = (sample[:, None] > at) / sample.size
        # How often each seed is in a resample of the same size.
        times = draw.multinomial(sample.size, np.full(sample.size, 1 / sample.size), resamples)
        shares += above.sum(axis=0) / len(samples)
        redrawn += times @ above / len(samples)
    low, high = np.quantile(redrawn, [alpha / 2, 1 - alpha / 2], axis=0)
    if any(sample.size == 1 for sample in samples):
        low, high = np.zeros_like(shares), np.ones_like(shares)
    n = sum(sample.size for sample in samples)
    return Band(shares, low, high, np.full(at.size, n, dtype=np.int64))


def _improvement(x: Floats, y: Floats, axis: int) -> Any:
    first, second = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
    return 0.5 + 0.5 * np.sign(first[..., :, None] - second[..., None, :]).mean(axis=(-2, -1))


def _strata(strata: Sequence[ArrayLike]) -> list[Floats]:
    expect(len(strata) > 0, "strata", strata, "at least one vector of seeds")
    return [sample_of(f"strata[{k}]", x) for k, x in enumerate(strata)]


def _with_axis(statistic: Statistic) -> Statistic:
    """A statistic of a vector, for any axis of an array."""
    if "axis" in inspect.signature(statistic).parameters:
        return statistic
    return lambda x, axis: np.apply_along_axis(statistic, axis, x)


def _interval(
    samples: Sequence[Floats],
    statistic: Statistic,
    level: float,
    resamples: int,
    seed: int,
    paired: bool = False,
) -> Interval:
    """BCa, or percentiles where it is undefined, of ``statistic(*samples, axis)``."""
    alpha_of(level)
    expect(resamples > 0, "resamples", resamples, "a positive number")
    of_samples = statistic if len(samples) > 1 else _with_axis(statistic)
    point = float(of_samples(*samples, axis=-1))
    sizes = [x.size for x in samples]
    n = sizes[0] if paired else sum(sizes)
    if min(sizes) == 1:
        return Interval(point, -np.inf, np.inf, n)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # SciPy warns of exactly the degeneracy that is handled below.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        for method in ("BCa", "percentile"):
            bounds = scipy.stats.bootstrap(
                samples,
                of_samples,
                confidence_level=level,
                n_resamples=resamples,
                method=method,
                paired=paired,
                vectorized=True,
                random_state=np.random.default_rng(seed),
            ).confidence_interval
            if np.isfinite(bounds).all():
                break
    return Interval(point, float(bounds.low), float(bounds.high), n)
