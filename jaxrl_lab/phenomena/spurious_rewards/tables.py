"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrl_lab.experiments.result import Result
from jaxrl_lab.phenomena.tables import cell, final, table

Samples = Mapping[str, np.ndarray]

COLUMNS = {
    "accuracy": "accuracy",
    "prior": "preferred arm",
    "entropy": "entropy",
    "kl": "KL to start",
    "clipped": "clipped share",
}


def ends(run: Result) -> str:
    """Where every arm ends."""
    return final(run, COLUMNS)


def matched(prior: Samples, kls: Sequence[float]) -> str:
    """The preferred arm at equal distance from the base policy."""
    rows = {a: [cell(x) for x in by_kl.T] for a, by_kl in prior.items() if "random" in a}
    title = "Probability of the preferred arm at matched KL: mean ± 95 % (seeds that arrived)"
    return table(title, [f"KL {k:g}" for k in kls], rows)


def by_step(run: Result, prior: Samples, entropy: Samples) -> str:
    """Clip minus no clip over step sizes, beside how often the clip acted."""
    share = {arm: np.nanmean(run.curve("clipped", arm)[:, 1:], axis=1) for arm in prior}
    rows = {arm: [cell(x[arm]) for x in (share, prior, entropy)] for arm in prior}
    title = f"Clip minus no clip after {run.updates} updates, by step (last word)"
    return table(title, ["clipped share", "preferred arm", "entropy"], rows)


def factors(run: Result, factor: Samples) -> str:
    """How far a noisy verifier scales the gradient."""
    rows = {arm: [cell(x)] for arm, x in factor.items()}
    title = f"Expected gradient over a perfect verifier's, {run.updates} updates in place"
    return table(title, ["factor"], rows)
