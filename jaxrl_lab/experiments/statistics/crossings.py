"""Arms compared at matched values of another curve, instead of at matched time."""

from __future__ import annotations

import numpy as np
from jaxrl_envs.errors import expect
from numpy.typing import ArrayLike

from jaxrl_lab.experiments.statistics.intervals import Floats


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
