"""Laws that tie reward to entropy or to time, fitted on the first part of a run (NumPy).

Each fit sees a prefix of the run, predicts all of it, and names a ceiling; whether the ceiling
deserves belief is what ``rmse_rest`` and the final reward say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
import scipy
from jaxrl_envs.errors import expect
from jaxtyping import Float

REFINED = 4
"""Starts of the logistic fit that are refined: the best of the grid."""

Values = Float[np.ndarray, "N"]


@dataclass(frozen=True)
class Fit:
    """A fitted law; after :func:`over_seeds` every field has a leading seed axis.

    Attributes:
        coefficients: see the law's own function.
        prediction: of the reward, over the whole run ``[N]``.
        ceiling: predicted best reward.
        used: number of leading points the fit was given.
        rmse_fit, r2_fit: on those points.
        rmse_rest, r2_rest: on the points after them; NaN where there are none.
    """

    coefficients: np.ndarray
    prediction: np.ndarray
    ceiling: np.ndarray
    used: np.ndarray
    rmse_fit: np.ndarray
    r2_fit: np.ndarray
    rmse_rest: np.ndarray
    r2_rest: np.ndarray


def exponential_law(entropy: Values, reward: Values, fraction: float = 1.0) -> Fit:
    """R = −a e^H + b by linear least squares on the first ``fraction`` of the run.

    Coefficients (a, b); ceiling b − a, the value at H = 0. R falls with H iff a ≥ 0.
    Points that are not finite are left out.

    Raises:
        BadInput: series of different lengths, or fewer than 2 usable points.
    Source: arXiv 2505.22617.
    """
    entropy, reward, used, seen = _prefix(entropy, reward, fraction, least=2)
    a, b = _line(-np.exp(entropy), reward, seen)
    return _fit(np.array([a, b]), -a * np.exp(entropy) + b, b - a, reward, used)


def linear_law(entropy: Values, reward: Values, fraction: float = 1.0) -> Fit:
    """R = −a H + b, the rival of :func:`exponential_law`; coefficients (a, b), ceiling b.

    Raises:
        BadInput: series of different lengths, or fewer than 2 usable points.
    """
    entropy, reward, used, seen = _prefix(entropy, reward, fraction, least=2)
    a, b = _line(-entropy, reward, seen)
    return _fit(np.array([a, b]), -a * entropy + b, b, reward, used)


def logistic_law(
    time: Values,
    reward: Values,
    fraction: float = 1.0,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Fit:
    """R = low + (high − low)/(1 + e^(−rate (t − middle))), with low and high inside ``bounds``.

    Coefficients (low, high, rate ≥ 0, middle) in the units of ``time``; the ceiling is high, the
    limit for long times (below low in a run that falls). The best of a fixed grid of starts is
    kept, so the answer does not depend on luck. A prefix that ends before the bend does not
    determine ``high``: expect it to stick to a bound there.

    Raises:
        BadInput: series of different lengths, fewer than 4 usable points, a time that stands
            still, or empty bounds.
    """
    time, reward, used, seen = _prefix(time, reward, fraction, least=4)
    begin, span = float(np.min(time[seen])), float(np.ptp(time[seen]))
    expect(span > 0, "time", span, "times that differ")
    expect(bounds[0] < bounds[1], "bounds", bounds, "a lower bound below the upper one")
    unit = (time - begin) / span  # the prefix is 0 .. 1: one scale for starts and bounds
    best = _search(unit[seen], reward[seen], bounds)
    low, high, rate, middle = best
    coefficients = np.array([low, high, rate / span, begin + middle * span])
    return _fit(coefficients, _logistic(best, unit), high, reward, used)


def over_seeds(law: Callable[..., Fit], *series: np.ndarray, **options: Any) -> Fit:
    """One fit per seed of series ``[S, N]`` (or ``[N]``, shared by all), stacked along seeds.

    ``over_seeds(exponential_law, entropy, reward, fraction=0.2)``.
    """
    seeds = max(len(s) for s in series if np.ndim(s) == 2)
    fits = [law(*(s[i] if np.ndim(s) == 2 else s for s in series), **options) for i in range(seeds)]
    return Fit(**{f.name: np.stack([getattr(x, f.name) for x in fits]) for f in fields(Fit)})


def _prefix(
    x: Values, reward: Values, fraction: float, least: int
) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Both series in float64, the length of the prefix, and which of its points are finite."""
    x, reward = np.asarray(x, np.float64), np.asarray(reward, np.float64)
    expect(x.ndim == 1 and x.shape == reward.shape, "reward", reward.shape, f"shape {x.shape}")
    expect(0.0 < fraction <= 1.0, "fraction", fraction, "above 0 and at most 1")
    used = int(np.ceil(fraction * len(x)))
    seen = np.isfinite(x) & np.isfinite(reward) & (np.arange(len(x)) < used)
    expect(int(seen.sum()) >= least, "fraction", fraction, f"{least} or more finite points")
    return x, reward, used, seen


def _line(x: np.ndarray, y: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """Slope and intercept; a constant x has slope 0 (the fit of least norm would be arbitrary)."""
    mean_x, mean_y = x[seen].mean(), y[seen].mean()
    spread = float(np.sum((x[seen] - mean_x) ** 2))
    flat = spread <= 1e-20 * max(1.0, mean_x**2) * seen.sum()
    slope = 0.0 if flat else float(np.sum((x[seen] - mean_x) * (y[seen] - mean_y))) / spread
    return slope, float(mean_y - slope * mean_x)


def _logistic(theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    low, high, rate, middle = theta
    return low + (high - low) * scipy.special.expit(rate * (t - middle))


def _jacobian(theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    low, high, rate, middle = theta
    s = scipy.special.expit(rate * (t - middle))
    bend = (high - low) * s * (1.0 - s)
    return np.stack([1.0 - s, s, bend * (t - middle), -rate * bend], axis=1)


def _search(t: np.ndarray, y: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Bounded least squares from a grid of starts; (low, high, rate, middle)."""
    width = bounds[1] - bounds[0]
    lower = np.array([bounds[0], bounds[0], 0.0, -5.0])
    upper = np.array([bounds[1], bounds[1], 200.0, 20.0])
    grid = product((2.0, 8.0, 30.0), (0.0, 0.5, 1.5), (np.max(y), bounds[1]))
    starts = [np.array([np.min(y), high, rate, middle]) for rate, middle, high in grid]
    starts = [np.clip(s, lower + 1e-6 * width, upper - 1e-6 * width) for s in starts]
    starts.sort(key=lambda s: float(np.sum((_logistic(s, t) - y) ** 2)))
    best, best_cost = lower, np.inf
    for start in starts[:REFINED]:
        found = scipy.optimize.least_squares(
            lambda theta: _logistic(theta, t) - y,
            start,
            jac=lambda theta: _jacobian(theta, t),
            bounds=(lower, upper),
        )
        if found.cost < best_cost * (1.0 - 1e-9):  # the first of equals, on every machine
            best, best_cost = found.x, found.cost
    return best


def _fit(
    coefficients: np.ndarray, prediction: np.ndarray, ceiling: float, reward: np.ndarray, used: int
) -> Fit:
    inside = _quality(prediction[:used], reward[:used])
    outside = _quality(prediction[used:], reward[used:])
    values = [np.float64(ceiling), np.int64(used), *inside, *outside]
    return Fit(coefficients, prediction, *(np.asarray(v) for v in values))


def _quality(prediction: np.ndarray, reward: np.ndarray) -> tuple[np.float64, np.float64]:
    """Root mean square error and R²; NaN without points, and R² NaN for a constant reward."""
    finite = np.isfinite(prediction) & np.isfinite(reward)
    if not finite.any():
        return np.float64(np.nan), np.float64(np.nan)
    error = np.mean((prediction[finite] - reward[finite]) ** 2)
    spread = np.var(reward[finite])
    return np.sqrt(error), np.float64(1.0 - error / spread if spread > 0 else np.nan)
