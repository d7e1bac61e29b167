"""A small bandit on which the tests of entropy mechanisms measure what they do."""

from __future__ import annotations

from typing import Any

import jaxrl_envs
import numpy as np

import jaxrl_lab as lab
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.experiments.statistics import at_matched
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.recipes import Recipe, recipe

SEEDS = 16


def train(arms: dict[str, Recipe], updates: int = 120, **world: Any) -> Result:
    """8 prompts, 12 arms, 3 of them right; a step of 0.2 per prompt, as in the phenomenon."""
    env = jaxrl_envs.make("bandit/modes", **({"prompts": 8, "arms": 12, "modes": 3} | world))
    policy = lab.policies.make("tabular", env, scale=1.5)
    sgd = {"sgd": {"learning_rate": 1.6}}
    built = {n: lab.make_arm(env, policy, recipe(r, optimizer=sgd)) for n, r in arms.items()}
    return run_arms(built, updates=updates, seeds=range(SEEDS), measure=one_step.measure, every=3)


def at(ran: Result, accuracy: float, name: str, arm: str) -> np.ndarray:
    """A variable where each seed first reaches an accuracy."""
    return at_matched(ran.curve("accuracy", arm), ran.curve(name, arm), (accuracy,))[:, 0]


def clearly_above(sample: np.ndarray, bound: float = 0.0) -> bool:
    """Whether every seed arrived and the mean is four standard errors above a bound."""
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    return bool(np.isfinite(sample).all() and sample.mean() - 4 * error > bound)
