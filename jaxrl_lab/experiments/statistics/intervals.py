"""Means over seeds with their intervals, and the correction for many tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxrl_envs.errors import expect
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


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
    sample = sample_of("x", x)
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
    quantile = -scipy.special.stdtrit(np.maximum(degrees, 1), alpha_of(level) / 2)
    return np.where(degrees > 0, quantile, np.nan)


def paired_difference(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Interval:
    """t interval of the mean of x_s - y_s: two arms run on the same seeds (common random numbers).

    Shared noise cancels in the difference: between arms of equal spread and correlation ρ across
    seeds the interval is narrower by √(1 - ρ) than between independent arms.
    """
    first, second = sample_of("x", x), sample_of("y", y)
    expect(first.size == second.size, "y", second.shape, f"{first.size} seeds, as in x")
    return mean_interval(first - second, level)


def unpaired_difference(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Interval:
    """Welch's interval of mean(x) - mean(y) between arms that share nothing, not even their spread.

    Half-width t[(1+level)/2, ν] · √(a + b), a = s_x² / n_x, b = s_y² / n_y,
    ν = (a + b)² / (a² / (n_x - 1) + b² / (n_y - 1)).

    Raises:
        BadInput: as :func:`mean_interval`.

    Source: Welch 1947, "The generalization of Student's problem".
    """
    one, two = (mean_and_error(sample_of(k, v)) for k, v in (("x", x), ("y", y)))
    mean, n = float(one[0] - two[0]), int(min(one[2], two[2]))
    if n < 2:
        return Interval(mean, -np.inf, np.inf, n)
    variance = np.array([one[1], two[1]]) ** 2
    total, free = variance.sum(), np.array([one[2], two[2]]) - 1.0
    degrees = total**2 / np.sum(variance**2 / free) if total > 0 else free.sum()
    half = float(t_quantile(level, degrees + 1) * np.sqrt(total))
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Difference:
    """The mean difference of two arms, with the interval that uses the pairing and the one without.

    Attributes:
        paired: seed by seed. unpaired: as if the arms had nothing in common.
        correlation: of the two arms over seeds; NaN where one of them does not vary.
    """

    paired: Interval
    unpaired: Interval
    correlation: float

    @property
    def seeds_saved(self) -> float:
        """As many times the seeds, unpaired, would give the paired interval: a variance ratio."""
        narrow, wide = (i.high - i.low for i in (self.paired, self.unpaired))
        return float((wide / narrow) ** 2) if narrow > 0 else float("inf")

    def __str__(self) -> str:
        paired, unpaired = (
            f"{name} [{i.low:.4g}, {i.high:.4g}]"
            for name, i in (("paired", self.paired), ("unpaired", self.unpaired))
        )
        return (
            f"{self.paired.mean:.4g}: {paired}, {unpaired}; {self.paired.n} seeds, "
            f"correlation {self.correlation:.2f}, worth {self.seeds_saved:.3g} times the seeds"
        )


def difference(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Difference:
    """x - y over seeds, paired beside unpaired.

    Raises:
        BadInput: as :func:`paired_difference`.
    """
    paired = paired_difference(x, y, level)
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    moving = first.size > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
    correlation = float(np.corrcoef(first, second)[0, 1]) if moving else float("nan")
    return Difference(paired, unpaired_difference(x, y, level), correlation)


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


def sample_of(key: str, x: ArrayLike) -> Floats:
    """The vector ``[S]`` of a statistic's argument ``key``.

    Raises:
        BadInput: no vector, no seeds, or a value that is not finite.
    """
    sample = np.asarray(x, dtype=np.float64)
    expect(sample.ndim == 1 and sample.size > 0, key, sample.shape, "shape [seeds], at least one")
    missing = int(np.count_nonzero(~np.isfinite(sample)))
    expect(missing == 0, key, f"{missing} values of {sample.size} not finite", "finite numbers")
    return sample


def alpha_of(level: float) -> float:
    """1 - level; a level outside (0, 1) is refused."""
    expect(0 < level < 1, "level", level, "a number between 0 and 1")
    return 1 - level
