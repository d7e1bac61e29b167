"""From curves to the metric of every claim, one number per seed, and the exact references."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_lab.exact import informative_chance
from jaxrl_lab.experiments.pass_rate import pass_rates
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import at_matched
from jaxrl_lab.phenomena import tables as shared
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms
from jaxrl_lab.phenomena.dead_groups import tables

Samples = dict[str, np.ndarray]

METHODS = (
    "grpo",
    "rescaled",
    "dynamic_sampling",
    "knapsack",
    "knapsack_equal",
    "replay",
    "hints",
)
"""Arms that come at several learning rates: ``knapsack`` at the common one, ``knapsack 32``, …"""

SAVING = ("knapsack", "replay", "hints")
MATCHED = 0.6
TARGET = 0.9
NEEDED = tuple(m for m in METHODS if m != "knapsack_equal")
"""Arms that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the exact references."""
    require_arms(runs, {"budget": NEEDED})
    run = runs["budget"]
    total = run.curve("tokens", "grpo")[:, -1]
    budget = float(np.max(total, initial=0.0, where=np.isfinite(total)))
    reached = {arm: at_tokens(run, arm, budget) for arm in run.arms}
    needed = {arm: tokens_to(run, arm, TARGET) for arm in run.arms}
    best = {m: tuned(needed, rates(run, m), budget) for m in METHODS if m in run.arms}
    shares = {arm: shares_at(run, arm, MATCHED) for arm in run.arms}
    sampling = reached["dynamic_sampling"]
    samples = {
        "mean_misleads": hidden_share(run, MATCHED),
        "dynamic_sampling_learns": sampling - reached["grpo"],
        "dynamic_sampling_beats_rescaled": sampling - reached["rescaled"],
        "knapsack_rollouts": shares["knapsack"]["rollouts"] - shares["grpo"]["rollouts"],
        "knapsack_learns": reached["knapsack"] - reached["grpo"],
        "knapsack_beats_rescaled": reached["knapsack"] - reached["rescaled"],
    }
    saved = {m: np.log2(x / best["grpo"]) for m, x in best.items()}
    samples |= {f"{name}_saves_tokens": saved[name] for name in SAVING}
    common = [arm for arm in run.arms if arm.partition(" ")[0] == arm]
    hard = {arm: at_tokens(run, arm, budget, "accuracy_hard") for arm in common}
    text = [
        shared.final(run, tables.COLUMNS),
        tables.equal_tokens({arm: reached[arm] for arm in common}, hard, budget),
        tables.informative({arm: shares[arm] for arm in common}, MATCHED),
        tables.savings(saved, best, TARGET),
    ]
    series = {"budget": budget, "reached": reached, "shares": shares, "saved": saved}
    series["limit"] = exploration_limit(run.arms["grpo"], run.update)
    return Analysis(samples, text, series)


# ------------------------------------------------------------------ at equal tokens


def at_tokens(run: Result, arm: str, tokens: float, name: str = "accuracy") -> np.ndarray:
    """A variable of each seed where it has generated so many tokens; thrown-away ones count."""
    spent = np.nan_to_num(run.curve("tokens", arm))
    return np.asarray(at_matched(spent, run.curve(name, arm), [tokens])[:, 0])


def tokens_to(run: Result, arm: str, accuracy: float) -> np.ndarray:
    """Tokens that each seed has generated when it first reaches an accuracy; NaN if never."""
    spent = np.nan_to_num(run.curve("tokens", arm))
    return np.asarray(at_matched(run.curve("accuracy", arm), spent, [accuracy])[:, 0])


def rates(run: Result, method: str) -> dict[float, str]:
    """The arms of a method by learning rate."""
    own = [arm for arm in run.arms if arm.partition(" ")[0] == method]
    by_rate = {float(run.arms[arm].recipe.optimizer[0].learning_rate): arm for arm in own}
    return dict(sorted(by_rate.items()))


def tuned(needed: Samples, arms: dict[float, str], most: float) -> np.ndarray:
    """Tokens per seed at the best learning rate, chosen on the other half of the seeds.

    Best is the lowest mean, seeds that never arrive counting with ``most``; a seed has no part in
    the choice that it is judged by.
    """
    table = np.stack([needed[arm] for arm in arms.values()])
    cost = np.where(np.isfinite(table), np.minimum(table, most), most)
    seeds = np.arange(table.shape[1])
    found = np.full(len(seeds), np.nan)
    for half in (seeds % 2 == 0, seeds % 2 == 1):
        judges = ~half if (~half).any() else half  # a single seed has nobody else
        found[half] = table[int(np.argmin(cost[:, judges].mean(1)))][half]
    return found


# ------------------------------------------------------------------ informative groups


def shares_at(run: Result, arm: str, accuracy: float) -> Samples:
    """Shares of informative groups and rollouts where each seed reaches an accuracy.

    Expected ones, from the exact pass@1 and the sizes of the batch. Where no budget keeps the
    record of a batch, the rollouts are those generated in all rounds.
    """
    x = run.curve("accuracy", arm)
    names = {"groups": "expected_groups", "rollouts": "expected_rollouts"}
    if not np.isfinite(run.curve("expected_groups", arm)).any():
        return sampled_shares(run, arm, accuracy)
    return {k: at_matched(x, run.curve(v, arm), [accuracy])[:, 0] for k, v in names.items()}


def sampled_shares(run: Result, arm: str, accuracy: float) -> Samples:
    """The same as counted: informative groups of the final batch, among those and among all."""
    x, groups = run.curve("accuracy", arm), run.curve("informative_groups", arm)
    recipe = run.arms[arm].recipe
    kept = len(run.arms[arm].env.level_ids("train")) * recipe.group * np.gradient(run.update)
    spent = np.diff(run.curve("tokens", arm), axis=1, prepend=np.nan)
    rollouts = groups * kept / spent
    return {
        "groups": at_matched(x, groups, [accuracy])[:, 0],
        "rollouts": at_matched(x, rollouts, [accuracy])[:, 0],
    }


def mean_rollouts(run: Result) -> int:
    """Rollouts per prompt of a batch of equal groups."""
    (task,) = run.arms["grpo"].recipe.task
    return int(task.budget or run.arms["grpo"].recipe.group // 4)


def hidden_share(run: Result, accuracy: float) -> np.ndarray:
    """The closed form at a mean accuracy minus its mean over prompts where GRPO reaches it.

    With a verifier that makes no errors; the gap is Jensen's, of a function concave in p.
    """
    size = mean_rollouts(run)
    share = run.curve(f"expected_{size}", "grpo")
    there = at_matched(run.curve("accuracy", "grpo"), share, [accuracy])[:, 0]
    return np.asarray(float(informative_chance(jnp.float32(accuracy), jnp.float32(size))) - there)


def exploration_limit(arm: Arm, update: np.ndarray) -> np.ndarray:
    """Accuracy of equal groups if the first informative group solved its prompt for good.

    mean_b [1 − (1 − u_b)^t (1 − p_b)] after t updates, u_b = 1 − p_b^G − (1−p_b)^G: no step on
    an informative group can be faster, and without one GRPO does not move.
    """
    (task,) = arm.recipe.task
    size = jnp.float32(task.budget or arm.recipe.group // 4)
    base = arm.policy.init(jax.random.key(0)) if arm.base is None else arm.base
    p = pass_rates(arm.policy, arm.env, arm.env_params, base)
    dead = 1.0 - np.asarray(informative_chance(p, size))
    unsolved = dead[None, :] ** update[:, None] * (1.0 - np.asarray(p))[None, :]
    return np.asarray(1.0 - unsolved.mean(-1))
