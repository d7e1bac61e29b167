"""From curves to the metric of every claim, one number per seed, and what the figure draws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxrl_lab.exact import difficulty_weight
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import at_matched
from jaxrl_lab.mechanisms.advantage import GroupNormalized
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms
from jaxrl_lab.phenomena.one_step import step_per_prompt
from jaxrl_lab.phenomena.spurious_rewards import tables

Samples = Mapping[str, np.ndarray]

CLIPS = ("none", "symmetric", "upper", "lower")
PRIORS = ("correct", "incorrect")
KLS = (0.1, 0.2, 0.5)
CLAIMED_AT = 0.5

NEEDED = (
    *(f"random {clip} correct" for clip in CLIPS),
    "random symmetric incorrect",
    "flipped symmetric correct",
    "fast none correct",
    "fast symmetric correct",
)
"""Arms of ``clipping`` that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the series of the figure."""
    require_arms(runs, {"clipping": NEEDED})
    main, steps = runs["clipping"], runs["steps"]
    prior = {arm: at_kl(main, arm) for arm in main.arms}
    gain = {arm: rise(main, arm, "accuracy") for arm in main.arms}
    entropy = {arm: main.curve("entropy", arm)[:, -1] for arm in main.arms}
    at = KLS.index(CLAIMED_AT)
    none = prior["random none correct"][:, at]
    samples = {
        "clipping_favors_prior": prior["random symmetric correct"][:, at] - none,
        "upper_clip_favors_prior": prior["random upper correct"][:, at] - none,
        "lower_clip_opposes_prior": prior["random lower correct"][:, at] - none,
        "random_gains_with_right_prior": gain["random symmetric correct"],
        "random_loses_with_wrong_prior": gain["random symmetric incorrect"],
        "no_gain_without_clipping": gain["random none correct"],
        "clipping_narrows_at_small_steps": entropy["random symmetric correct"]
        - entropy["random none correct"],
        "clipping_widens_at_large_steps": entropy["fast symmetric correct"]
        - entropy["fast none correct"],
        "flipped_gains_with_right_prior": gain["flipped symmetric correct"],
    }
    factor = {arm: noise_factors(runs["verifier"], arm) for arm in runs["verifier"].arms}
    series = {
        "prior": prior,
        "gain": gain,
        "factor": factor,
        "excess_entropy": against_none(steps, "entropy"),
        "excess_prior": against_none(steps, "prior"),
        "first": {arm: rise(runs["one_update"], arm, "prior") for arm in runs["one_update"].arms},
    }
    text = [
        tables.ends(main),
        tables.matched(prior, KLS),
        tables.by_step(steps, series["excess_prior"], series["excess_entropy"]),
        tables.factors(runs["verifier"], factor),
    ]
    return Analysis(samples, text, series)


def at_kl(run: Result, arm: str) -> np.ndarray:
    """Probability of the preferred arm where each seed first reaches each KL ``[seed, level]``."""
    return at_matched(np.nan_to_num(run.curve("kl", arm)), run.curve("prior", arm), KLS)


def rise(run: Result, arm: str, name: str) -> np.ndarray:
    """A variable at the end minus at the start, per seed."""
    curve = run.curve(name, arm)
    return np.asarray(curve[:, -1] - curve[:, 0])


def against_none(run: Result, name: str) -> dict[str, np.ndarray]:
    """A variable at the end minus the one without a clip at the same step, same seeds.

    By the arm's name, ``random CLIP STEP``.
    """
    ends = {arm: run.curve(name, arm)[:, -1] for arm in run.arms}
    found = {}
    for arm in ends:
        rewards, clip, step = arm.split()
        other = f"{rewards} none {step}"
        if clip != "none" and other in ends:
            found[arm] = ends[arm] - ends[other]
    return found


def noise_factors(run: Result, arm: str) -> np.ndarray:
    """Expected gradient over that of a perfect verifier, estimated per seed.

    The pull of all updates over what η times the clean expected gradient would have pulled. Needs
    steps so small that the policy stays where it is.
    """
    chosen: Arm = run.arms[arm]
    weight = 1.0
    if isinstance(chosen.recipe.advantage[0], GroupNormalized):
        p = np.float32(run.curve("accuracy", arm)[0, 0])
        weight = float(difficulty_weight(p, chosen.recipe.group, ddof=1))
    taken = run.updates * chosen.recipe.epochs * step_per_prompt(chosen)
    return np.asarray(run.curve("pull", arm)[:, -1] / (taken * weight))
