"""Which solutions a policy keeps, and what more attempts find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.errors import expect
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrl_lab.experiments.result import Result
from jaxrl_lab.measures import pass_at_k as chance
from jaxrl_lab.plots import panels, runs


def mode_shares(
    result: Result, name: str, arm: str, ranked: bool = True, ax: Axes | None = None
) -> Figure:
    """How much of the probability each mode has over time, for a measure with a mode dimension.

    Args:
        ranked: number the modes of every seed by their final share, the winner first. Otherwise
            an average over seeds hides a collapse onto another mode in each.

    Raises:
        BadInput: unknown variable or arm, or a variable without exactly one further dimension.
    """
    shares = result.curve(name, arm)
    expect(shares.ndim == 3, name, shares.shape, "shape [seed, update, mode]")
    if ranked:
        order = np.argsort(-shares[:, -1], axis=-1)
        shares = np.take_along_axis(shares, order[:, None], axis=-1)
    with panels.styled():
        ax = panels.own(ax)
        for m in range(shares.shape[-1]):
            panels.band(ax, result.update, shares[:, :, m], f"{m + 1}." if ranked else f"{m}", m)
        ax.set_ylim(bottom=0)
        how = "modes ranked in each seed by their end; " if ranked else ""
        note = f"{how}mean over {runs.seeds(result)}; shade: 95 % t interval"
        panels.finish(ax, f"Modes of {arm}", "update", runs.label(result, name), note=note)
        if shares.shape[-1] > 4:
            ax.legend(ncols=2)
    return panels.figure_of(ax)


def pass_at_k(
    success: Mapping[str, np.ndarray],
    ks: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256),
    ax: Axes | None = None,
) -> Figure:
    """pass@k = mean over prompts of 1 - (1 - p)^k, exact, for success probabilities ``p[S, B]``.

    Raises:
        BadInput: probabilities of another shape or outside [0, 1], or k below 1.
    """
    for name, p in success.items():
        right = np.ndim(p) == 2 and bool(np.all((np.asarray(p) >= 0) & (np.asarray(p) <= 1)))
        expect(right, f"success.{name}", np.shape(p), "probabilities of shape [seeds, prompts]")
    with panels.styled():
        ax = panels.own(ax)
        for i, (name, p) in enumerate(success.items()):
            exact = jnp.asarray(p, jnp.float32)
            found = np.stack([np.asarray(chance(exact, k)).mean(axis=1) for k in ks], axis=1)
            panels.band(ax, np.asarray(ks), found, name, i)
        ax.set_xscale("log", base=2)
        ax.set_xticks(ks, [str(k) for k in ks])
        ax.minorticks_off()
        seeds = panels.many(len(p) for p in success.values())
        note = f"{seeds}, exact for each; shade: 95 % t interval of the mean"
        panels.finish(ax, "pass@k", "attempts k", "pass@k (mean over prompts)", note=note)
    return panels.figure_of(ax)
