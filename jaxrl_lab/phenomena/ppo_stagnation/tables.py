"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxrl_lab.phenomena.tables import cell, table

Samples = Mapping[str, np.ndarray]


def bandit(end: Samples, exact: Mapping[str, float]) -> str:
    """Gaps of the bandit beside the quadratic's prediction."""
    rows = {
        arm: [cell(1000 * gap), f"{1000 * exact[arm]:.3f}" if arm in exact else "—"]
        for arm, gap in end.items()
    }
    return table("Bandit: gap at the end, thousandths", ["sampled", "quadratic"], rows)


def grid(end: Samples, ratios: Samples) -> str:
    """Gaps of the gridworld beside the data-to-divergence ratio."""
    rows = {arm: [cell(1000 * gap), cell(np.log10(ratios[arm]))] for arm, gap in end.items()}
    heads = ["gap", "log10 DDR"]
    return table("Gridworld: gap at the end, thousandths, and transitions per nat", heads, rows)


def tuned(best: Samples) -> str:
    """Each way of using 512 environments at the best of its learning rates."""
    names = {"ppo 512": "16 minibatches", "whole 512": "1 minibatch"}
    rows = {names[m]: [cell(1000 * gap)] for m, gap in best.items()}
    return table("512 environments, best of three learning rates, thousandths", ["gap"], rows)


def larger(end: Samples, fall: Samples) -> str:
    """The way to 2^16 environments, and whether a run still falls in its second half."""
    rows = {arm: [cell(1000 * gap), cell(fall[arm])] for arm, gap in end.items()}
    heads = ["gap", "still falls"]
    title = "Up to 65 536 environments: gap at the end, thousandths; fall since mid-run, doublings"
    return table(title, heads, rows)
