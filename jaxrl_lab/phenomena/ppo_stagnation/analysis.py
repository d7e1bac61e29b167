"""From gaps to the metric of every claim, one number per seed, and the quadratic's prediction."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import Environment
from jaxtyping import Array, Float

from jaxrl_lab.exact import inner_loop_plateau, regularized_bandit, tabulate
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms
from jaxrl_lab.phenomena.ppo_stagnation import tables
from jaxrl_lab.phenomena.ppo_stagnation.gaps import (
    at_end,
    gap_curve,
    home,
    late_fall,
    ratio,
    temperature,
)
from jaxrl_lab.scaling import transitions

Samples = dict[str, np.ndarray]

SMALL, MIDDLE, LARGE = "ppo 32", "ppo 128", "ppo 512"
GROWTH = 16
"""Environments of the largest gridworld run over those of the smallest."""
ANCHOR = "ewma 32 64"
"""PPO-EWMA whose center of mass is 64 gradient steps: the one that the claim is about."""

LARGER = ("scale_256", "scale_1024", "scale_4096", "scale_16384", "scale_65536")
"""The gridworld on the way to 2^16 environments, in the verdict tier; no claim is about it."""

LINEAR = ("open", "once")
"""Arms of the bandit without a clip, which the quadratic is about to first order."""

NEEDED = {
    "bandit_64": ("ppo n64", "open n64", "once n64"),
    "bandit_4096": ("ppo n4096", "open n4096"),
    "grid_32": (SMALL, "drop 32", "decay 32", ANCHOR),
    "grid_128": (MIDDLE,),
    "grid_512": (LARGE, "whole 512"),
}
"""Arms that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the exact references."""
    require_arms(runs, NEEDED)
    where = home(runs)
    curves = {arm: gap_curve(run, arm) for arm, run in where.items()}
    end = {arm: at_end(curve) for arm, curve in curves.items()}
    log = {arm: np.log2(gap) for arm, gap in end.items()}
    steps = log[SMALL] - log[MIDDLE], log[MIDDLE] - log[LARGE]
    best = {m: tuned(log, rates(runs["grid_512"], m)) for m in (LARGE, "whole 512")}
    samples = {
        "stalls": late_fall(curves[SMALL]),
        "drop_recovers": log[SMALL] - log["drop 32"],
        "coscale_lifts": log[SMALL] - log[LARGE],
        "monotone": np.minimum(*steps),
        "coscale_beats_decay": log["decay 32"] - log[LARGE],
        "sqrt_rate_fails": log[square_root_arm(runs["grid_512"])] - log[LARGE],
        "minibatches_beat_rates": best["whole 512"] - best[LARGE],
        "older_anchor_lowers": log[SMALL] - log[ANCHOR],
        "clip_makes_scale_pay": (log["ppo n64"] - log["ppo n4096"])
        - (log["open n64"] - log["open n4096"]),
        "coscale_beats_one_epoch": log["once n64"] - log["ppo n4096"],
    }
    bandit = [arm for arm in where if in_bandit(where[arm].arms[arm])]
    larger = [arm for name in LARGER if name in runs for arm in runs[name].arms]
    grid = [arm for arm in where if arm not in (*bandit, *larger)]
    exact = {a: predicted(where[a].arms[a]) for a in bandit if a.split()[0] in LINEAR}
    ratios = {arm: ratio(run, arm) for arm, run in where.items()}
    text = [
        tables.bandit({a: end[a] for a in bandit}, exact),
        tables.grid({a: end[a] for a in grid}, ratios),
        tables.tuned({m: 2.0**x for m, x in best.items()}),
    ]
    if larger:
        fall = {a: late_fall(curves[a]) for a in larger}
        text.append(tables.larger({a: end[a] for a in larger}, fall))
    series = {"curves": curves, "end": end, "exact": exact, "ratio": ratios, "best": best}
    series |= {"bandit": bandit, "grid": grid, "larger": larger}
    return Analysis(samples, text, series)


def in_bandit(arm: Arm) -> bool:
    """Whether the arm is one of the bandit's."""
    return arm.env.horizon == 1


# ------------------------------------------------------------------ learning rates


def rate(arm: Arm) -> float:
    """The learning rate at the start."""
    (number,) = (m.learning_rate for m in arm.recipe.optimizer if hasattr(m, "learning_rate"))
    return float(getattr(number, "start", number))


def rates(run: Result, method: str) -> dict[float, str]:
    """The arms of a method by learning rate: ``whole 512``, ``whole 512 0.12``, …"""
    own = [arm for arm in run.arms if arm == method or arm.startswith(f"{method} ")]
    return dict(sorted({rate(run.arms[arm]): arm for arm in own}.items()))


def square_root_arm(run: Result) -> str:
    """The arm with one large minibatch whose rate is nearest to the square-root rule's."""
    wanted = rate(run.arms[LARGE]) * GROWTH**0.5
    arms = rates(run, "whole 512")
    return arms[min(arms, key=lambda x: abs(np.log(x / wanted)))]


def tuned(log: Samples, arms: dict[float, str]) -> np.ndarray:
    """log2 of the gap per seed at the best learning rate, chosen on the other half of the seeds.

    Best is the lowest mean among rates all of whose judges have a finite gap.
    """
    table = np.stack([log[arm] for arm in arms.values()])
    seeds = np.arange(table.shape[1])
    found = np.full(len(seeds), np.nan)
    for half in (seeds % 2 == 0, seeds % 2 == 1):
        judges = ~half if (~half).any() else half  # a single seed has nobody else
        score = table[:, judges].mean(1)
        found[half] = table[int(np.argmin(np.where(np.isnan(score), np.inf, score)))][half]
    return found


# ------------------------------------------------------------------ the quadratic


def predicted(arm: Arm) -> float:
    """The plateau of :func:`~jaxrl_lab.exact.inner_loop_plateau` for an arm of the bandit.

    Prompts are drawn at random and a token mean weighs them alike: curvature and noise of each
    are 1/B of its own, and the gap is the mean over prompts.
    """
    recipe = arm.recipe
    curvature, noise = _modes(arm.env, arm.env_params, temperature(arm))
    return float(
        inner_loop_plateau(
            rate(arm),
            curvature,
            noise,
            minibatch=transitions(recipe) / recipe.minibatches,
            minibatches=float(recipe.minibatches),
            epochs=recipe.epochs,
        )
    )


@partial(jax.jit, static_argnames="env")
def _modes(
    env: Environment, params: Any, tau: Float[Array, ""]
) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
    """Curvature and noise along all modes of all prompts."""
    reward = tabulate(env, params, jnp.asarray(env.level_ids("train"), jnp.int32)).reward[:, 0]
    one = jax.vmap(lambda r: regularized_bandit(r, tau, params.sigma))(reward)
    curvature, noise = (x.reshape(-1) / len(reward) for x in one)
    return curvature, noise
