"""How many seeds: what those at hand can find, and how many would find a given effect."""

from __future__ import annotations

import math

import scipy
from jaxrl_envs.errors import expect
from numpy.typing import ArrayLike

from jaxrl_lab.experiments.statistics.intervals import (
    alpha_of,
    mean_and_error,
    sample_of,
    t_quantile,
)

MANY = 10**9
"""Seeds beyond which :func:`seeds_needed` says that no number will do."""


def minimum_detectable_effect(x: ArrayLike, level: float = 0.95, power: float = 0.8) -> float:
    """Distance from the null that a two-sided t test on as many seeds as x finds with ``power``.

    Solves P(T > t) = power for d, where T is noncentral t with n - 1 degrees of freedom and
    noncentrality d √n / s, and t = t[(1+level)/2, n-1]: the chance to decide on the right side.
    Infinite for one seed, zero for a constant sample.
    """
    sample = sample_of("x", x)
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
    sample = sample_of("x", x)
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
    z = float(-scipy.special.ndtri(alpha_of(level) / 2))
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


def _check_power(level: float, power: float) -> None:
    expect(alpha_of(level) < power < 1, "power", power, f"between {1 - level:g} and 1")


def _power(noncentrality: float, n: int, level: float) -> float:
    """P(T > t[(1+level)/2, n-1]) for noncentral t."""
    t = float(t_quantile(level, n))
    if max(t, noncentrality) > 1e4:
        # SciPy is inexact, then NaN, out here, where T's numerator is as good as constant.
        return float(
            scipy.special.chdtr(n - 1, (n - 1) * (noncentrality / t) * (noncentrality / t))
        )
    return float(1 - scipy.special.nctdtr(n - 1, noncentrality, t))
