"""From curves to the metric of every claim, one number per seed, and what the figure draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import at_matched
from jaxrl_lab.phenomena import tables as shared
from jaxrl_lab.phenomena.capability_boundary import tables
from jaxrl_lab.phenomena.capability_boundary.claims import METHODS
from jaxrl_lab.phenomena.capability_boundary.measure import FAR
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms

ACCURACIES = (0.5, 0.6, 0.7)
CLAIMED_AT = 0.6
HELD_OUT = (0.3, 0.4)
"""pass@1 of the held-out prompts at which arms are compared too, without a claim."""

NEEDED = {
    "tabular": ("grpo",),
    "shared": ("grpo", *METHODS),
    "stages": ("grpo", "dr_grpo"),
}
"""Arms that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the series of the figure."""
    require_arms(runs, NEEDED)
    table, main, stages = runs["tabular"], runs["shared"], runs["stages"]
    far = f"pass_{FAR}_test"
    reached = {arm: along(main, arm, "pass_1_train", far, ACCURACIES) for arm in main.arms}
    at = ACCURACIES.index(CLAIMED_AT)
    share = {arm: undone_share(main, arm) for arm in main.arms}
    switched = {arm: stages.curve("switched", arm)[:, -1] for arm in stages.arms}
    samples = {
        "independent_prompts_never_fall": deepest_fall(table, "grpo", f"pass_{FAR}_train"),
        "train_boundary_shrinks": rise(main, "grpo", f"pass_{FAR}_train"),
        "test_boundary_shrinks": rise(main, "grpo", far),
        "coverage_shrinks": rise(main, "grpo", "coverage_train"),
        "solutions_shrink": rise(main, "grpo", "solutions_train"),
        "interference_undoes_gains": share["grpo"],
    }
    for arm in METHODS:
        samples[f"{arm}_keeps_boundary"] = reached[arm][:, at] - reached["grpo"][:, at]
    samples["normalization_drives_stage_two"] = switched["grpo"] - switched["dr_grpo"]
    opposed = {arm: main.curve("opposed", arm).mean(1) for arm in main.arms}
    text = [
        f"A row per prompt. {shared.final(table, tables.TRAIN)}",
        f"Shared parameters. {shared.final(main, tables.BOTH)}",
        *_compared(main),
        tables.interference(share, opposed),
        f"Two stages. {shared.final(stages, tables.STAGES)}",
    ]
    return Analysis(samples, text, {"reached": reached})


def _compared(run: Result) -> list[str]:
    """pass@k of held-out prompts at equal pass@1, of either split, equal KL and equal tokens."""
    far, name = f"pass_{FAR}_test", f"pass@{FAR} of held-out prompts"
    kls, tokens = levels_of(run, "kl_train", (0.25, 0.5)), levels_of(run, "tokens", (0.25, 1.0))
    titles = {
        f"{name} at matched train pass@1": ("pass_1_train", ACCURACIES),
        f"{name} at matched held-out pass@1": ("pass_1_test", HELD_OUT),
        f"{name} at matched KL to the base policy": ("kl_train", kls),
        f"{name} at matched tokens": ("tokens", tokens),
    }
    return [
        tables.matched(
            title,
            [f"{level:g}" for level in levels],
            {arm: list(along(run, arm, axis, far, levels).T) for arm in run.arms},
        )
        for title, (axis, levels) in titles.items()
    ]


def along(run: Result, arm: str, axis: str, name: str, levels: Sequence[float]) -> np.ndarray:
    """A variable where each seed first reaches each level of another ``[seed, level]``."""
    return at_matched(np.nan_to_num(run.curve(axis, arm)), run.curve(name, arm), levels)


def levels_of(run: Result, axis: str, shares: Sequence[float]) -> tuple[float, ...]:
    """Shares of where GRPO ends, on average over its seeds."""
    last = run.curve(axis, "grpo")[:, -1]
    arrived = last[np.isfinite(last)]
    final = float(arrived.mean()) if len(arrived) else 0.0
    return tuple(round(final * share, 2) for share in shares)


def rise(run: Result, arm: str, name: str) -> np.ndarray:
    """A variable at the end minus at the start, per seed."""
    curve = run.curve(name, arm)
    return np.asarray(curve[:, -1] - curve[:, 0])


def deepest_fall(run: Result, arm: str, name: str) -> np.ndarray:
    """The lowest value of a variable minus the first, per seed; 0 where it never fell."""
    curve = run.curve(name, arm)
    return np.asarray(curve.min(1) - curve[:, 0])


def undone_share(run: Result, arm: str) -> np.ndarray:
    """What other prompts undo over what the prompts themselves add, whole training, per seed."""
    undone, own = (run.curve(name, arm).sum(1) for name in ("undone", "own"))
    return np.asarray(undone / own)
