"""From curves to the metric of every claim, one number per seed, and the exact references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from jaxrl_envs.gridworlds import search_or_safe

from jaxrl_lab import exact
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.phenomena import tables as shared
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms
from jaxrl_lab.phenomena.emergent_exploration.claims import WITHOUT

FULL = "sampling 0.9"
ABLATED = {"structure": "no structure", "memory": "no memory", "credit": "sampling 0"}
"""The arm without each of the conditions of :data:`~.claims.WITHOUT`."""
LEARNERS = ("sampling", "greedy")
"""How an agent acts while it trains."""
AGENTS = ("full credit", "no credit", "imitation")

NEEDED = {
    "switch": (FULL, "sampling 0", "greedy 0.9", *ABLATED.values()),
    "bandit": AGENTS,
}
"""Arms that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the exact references."""
    require_arms(runs, NEEDED)
    main, bandit = runs["switch"], runs["bandit"]
    solved = exact_switch(main)
    switches = {kind: crossing(main, kind) for kind in LEARNERS}
    pay = {arm: main.curve("pay", arm)[:, -1] for arm in main.arms}
    rules = exact_rules(bandit)
    ends = {name: final(bandit, name) for name in exact.Played._fields}
    reward, failure, greedy = (ends[k] for k in ("reward", "suffix_failure", "greedy"))
    samples = {
        "switch_is_exact": np.abs(switches["sampling"] - solved),
        "greedy_training_suffices": np.abs(switches["greedy"] - solved),
        "bandit_hides_credit": reward["full credit"] - reward["no credit"],
        "no_credit_beats_thompson": reward["no credit"] - rules["thompson"].reward,
        "training_abandons": failure["full credit"] - rules["ucb"].suffix_failure,
        "imitator_is_greedier": greedy["imitation"] - rules["ucb"].greedy,
    }
    samples |= {f"needs_{what}": pay[FULL] - pay[ABLATED[what]] for what in WITHOUT}
    text = [
        _switch_table(switches, solved),
        _ablation_table(main),
        _bandit_table(ends, rules),
    ]
    series = {"solved": solved, "switches": switches, "rules": rules, "ends": ends}
    return Analysis(samples, text, series)


def discounts(run: Result, kind: str) -> dict[float, str]:
    """The arms of a sweep, by their discount across trials, in ascending order."""
    swept = [arm for arm in run.arms if arm.startswith(f"{kind} ")]
    number = {arm: float(run.arms[arm].recipe.surrogate[0].episode) for arm in swept}
    of = {round(at, 6): arm for arm, at in number.items()}  # float32: 0.4 is not quite 0.4
    return dict(sorted(of.items()))


def crossing(run: Result, kind: str) -> np.ndarray:
    """The discount from which every seed's agent begins a block with a search, ``[seed]``.

    Between the last arm that begins with safe and the first of those that all search, where the
    line through the two learned differences of value is 0; 0 where all search and 1 where the
    highest discount does not.
    """
    swept = discounts(run, kind)
    at = np.array(list(swept))
    gaps = np.stack([run.curve("gap", arm)[:, -1] for arm in swept.values()], axis=1)
    return np.array([_last_crossing(at, gap) for gap in gaps])


def _last_crossing(at: np.ndarray, gap: np.ndarray) -> float:
    if not np.isfinite(gap).all():
        return float("nan")
    safe = np.flatnonzero(gap <= 0)
    if not len(safe):
        return 0.0
    i = int(safe[-1])
    if i == len(at) - 1:
        return 1.0
    return float(at[i] + (at[i + 1] - at[i]) * gap[i] / (gap[i] - gap[i + 1]))


def places(run: Result) -> dict[str, Any]:
    """The world of the switch, in the words of its exact solution."""
    arm = run.arms[FULL]
    params = arm.env_params
    numbers = {"safe": params.safe, "reward": params.location + params.scale}
    known: Any = arm.env
    world = {name: float(x) for name, x in numbers.items()} | {"block": float(params.block)}
    return world | {"cells": known.arms - 1, "checked": 1}


def exact_switch(run: Result) -> float:
    """The discount across trials above which a fresh block begins with a search."""
    return search_or_safe.switch_discount(**places(run))


def exact_gap(run: Result, at: Sequence[float] | np.ndarray) -> np.ndarray:
    """Optimal value of searching minus that of taking the safe pay first, at a fresh block."""
    world, gaps = places(run), []
    for discount in at:
        solved = search_or_safe.solve(float(discount), **world)
        search, d = solved.search[0], (1.0 - 1.0 / world["block"]) * float(discount)
        gaps.append(search - world["safe"] - d * max(search, solved.safe))
    return np.array(gaps)


def exact_rules(run: Result) -> dict[str, exact.Played]:
    """What the reference rules earn, try and abandon in the bandit of a run."""
    known: Any = run.arms[AGENTS[0]].env
    bonus = float(run.arms[AGENTS[0]].env_params.bonus)
    return _rules(known.arms, known.horizon, known.a, known.b, bonus)


@cache
def _rules(arms: int, horizon: int, a: float, b: float, bonus: float) -> dict[str, exact.Played]:
    """Cached: every cell of a box asks for the same."""
    counts = exact.beliefs(arms, horizon, a, b)
    rules = exact.reference_rules(counts, bonus)
    play = jax.jit(lambda table: exact.play_counts(table, counts))
    return {name: jax.tree.map(float, play(table)) for name, table in rules.items()}


def final(run: Result, name: str) -> dict[str, np.ndarray]:
    """Where every agent of the bandit ends, ``[seed]``."""
    measured = "pay" if name == "reward" else name
    return {arm: run.curve(measured, arm)[:, -1] for arm in run.arms}


def _switch_table(switches: Mapping[str, np.ndarray], solved: float) -> str:
    rows = {f"{kind} in training": [shared.cell(x)] for kind, x in switches.items()}
    rows["exact"] = [f"{solved:.3f}"]
    title = "Discount across trials from which the greedy policy searches first"
    return shared.table(title, ["switch"], rows)


def _ablation_table(run: Result) -> str:
    names = ("searches", "pay", "coverage")
    arms = {"full": FULL} | {f"without {what}": arm for what, arm in ABLATED.items()}
    rows = {
        label: [shared.cell(run.curve(name, arm)[:, -1]) for name in names]
        for label, arm in arms.items()
    }
    return shared.table("Greedy policies at discount 0.9", ["search first", "pay", "tried"], rows)


def _bandit_table(
    ends: Mapping[str, Mapping[str, np.ndarray]], rules: Mapping[str, exact.Played]
) -> str:
    rows = {arm: [shared.cell(ends[name][arm]) for name in ends] for arm in ends["reward"]}
    rows |= {f"{name}, exact": [f"{x:.3f}" for x in rule] for name, rule in rules.items()}
    heads = ["pay per pull", "coverage", "suffix failure", "greedy"]
    return shared.table("Bandit without a sacrifice, mean over all tasks", heads, rows)
