"""Laws laid over what they describe: performance against entropy, cost against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxrl_envs.errors import expect
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import curve_band, mean_interval
from jaxrl_lab.measures import exponential_law, over_seeds
from jaxrl_lab.plots import panels, runs


def entropy_law(
    result: Result,
    entropy: str,
    performance: str,
    fraction: float = 0.2,
    arms: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Performance against entropy, and R = -a e^H + b fitted per seed on the first ``fraction``.

    Lines are means over seeds, from high entropy to low; wide gray ones are the means of the fits,
    with a ring where the fitted part ends. The legend has each arm's R² on the rest.

    Raises:
        BadInput: unknown variable or arm, or too few points to fit.
    Source: arXiv 2505.22617.
    """
    with panels.styled():
        ax = panels.own(ax)
        for i, arm in enumerate(arms if arms is not None else result.names):
            h, r = result.curve(entropy, arm), result.curve(performance, arm)
            fit = over_seeds(exponential_law, h, r, fraction=fraction)
            x, y = curve_band(h), curve_band(r)
            beyond = mean_interval(fit.r2_rest[np.isfinite(fit.r2_rest)])
            name = f"{arm}: R² {beyond.mean:.2f} [{beyond.low:.2f}, {beyond.high:.2f}]"
            look = panels.look(i)
            ax.fill_between(x.mean, y.low, y.high, color=look["color"], alpha=0.2, linewidth=0)
            ax.plot(x.mean, curve_band(fit.prediction).mean, **panels.EXACT)
            ax.plot(x.mean, y.mean, label=name, **look)
            last = int(np.max(fit.used)) - 1
            ax.plot(x.mean[last], y.mean[last], "o", fillstyle="none", color=look["color"])
        ax.invert_xaxis()
        note = (
            f"{runs.seeds(result)}; shade and [ ]: 95 % t intervals; "
            f"gray: −a·exp(H) + b, fitted up to the ring"
        )
        title = f"{performance} against {entropy}"
        across, up = runs.label(result, entropy), runs.label(result, performance)
        panels.finish(ax, title, across, up, note=note)
    return panels.figure_of(ax)


def cost(
    sizes: Sequence[float],
    seconds: Mapping[str, np.ndarray],
    what: str = "members",
    ax: Axes | None = None,
) -> Figure:
    """Seconds against size in logarithms: repetitions ``[R, N]`` by name, with fitted exponents.

    Means and t intervals are those of the logarithms: times spread by factors. The exponent is the
    slope of a least-squares line through the upper half of the sizes, where fixed costs matter
    least.

    Raises:
        BadInput: seconds of another shape, or numbers that have no logarithm.
    """
    at = np.asarray(sizes, np.float64)
    expect(at.ndim == 1 and bool(np.all(at > 0)), "sizes", sizes, "a vector of positive numbers")
    upper = at >= np.median(at)
    with panels.styled():
        ax = panels.own(ax)
        for i, (name, given) in enumerate(seconds.items()):
            took = np.asarray(given, np.float64)
            right = took.ndim == 2 and took.shape[1] == at.size and bool(np.all(took > 0))
            expect(right, f"seconds.{name}", took.shape, f"positive, of shape [R, {at.size}]")
            mean = curve_band(np.log(took))
            label, look = name, panels.look(i)
            if upper.sum() > 1:
                slope = np.polyfit(np.log(at[upper]), mean.mean[upper], 1)[0]
                label = f"{name}: exponent {slope:.2f}"
            low, middle, high = (np.exp(x) for x in (mean.low, mean.mean, mean.high))
            bars = np.stack([middle - low, high - middle]) if len(took) > 1 else None
            marker = panels.MARKERS[i % len(panels.MARKERS)]
            ax.errorbar(at, middle, bars, label=label, marker=marker, capsize=2, **look)
        ax.set_xscale("log")
        ax.set_yscale("log")
        repetitions = panels.many((len(took) for took in seconds.values()), "repetition")
        note = f"geometric mean of {repetitions}; bar: 95 % t interval"
        panels.finish(ax, "Cost", what, "time (s)", note=note)
    return panels.figure_of(ax)
