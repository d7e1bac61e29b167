"""From curves to the metric of every claim, one number per seed; and the exact curves to draw."""

from __future__ import annotations

import jax
import numpy as np
from scipy.special import expit

from jaxrl_lab import exact
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import at_matched
from jaxrl_lab.keys import named
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena.advantage_symmetry import tables
from jaxrl_lab.phenomena.advantage_symmetry.claims import ACCURACY, KL
from jaxrl_lab.phenomena.advantage_symmetry.measure import BINS
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms

Samples = dict[str, np.ndarray]

FAMILIES = ("grpo", "attenuated", "scaled", "shifted")
"""GRPO, attenuation, and the two halves of attenuation: each with four learning rates."""

RIVALS = ("grpo", "hard", "easy")

NEEDED = {
    "push": ("inner_steps", "adam", "shared_parameters"),
    "flat": ("grpo", "attenuated", "shifted"),
    "preference": ("grpo", "attenuated"),
    "focus": ("easy_to_hard", *RIVALS),
}
"""Arms that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, and the tables."""
    require_arms(runs, NEEDED)
    flat, preference, focus = runs["flat"], runs["preference"], runs["focus"]
    pushed = {arm: push_ratio(runs["push"], arm) for arm in runs["push"].arms}
    reached = {arm: reach(flat, arm) for arm in flat.arms}
    ahead = {arm: reach(preference, arm) for arm in preference.arms}
    equal = with_equal_steps(reached["attenuated"], _family(reached, "grpo"))
    learned = {arm: focus.curve("accuracy", arm).mean(1) for arm in focus.arms}
    kept, grpo = reached["attenuated"], reached["grpo"]
    samples = {f"{arm}_pushes_unsampled": pushed[arm] for arm in NEEDED["push"]} | {
        "attenuation_keeps_solutions": kept["solutions"] - grpo["solutions"],
        "attenuation_keeps_solutions_at_equal_kl": kept["by_kl"] - grpo["by_kl"],
        "attenuation_beats_a_smaller_step": kept["solutions"] - equal,
        "push_alone_keeps_solutions": reached["shifted"]["solutions"] - grpo["solutions"],
        "attenuation_undoes_a_preference": ahead["attenuated"]["solutions"]
        - ahead["grpo"]["solutions"],
        "easy_to_hard_beats_static_focus": learned["easy_to_hard"] - learned[_best(learned)],
    }
    text = [
        tables.push(pushed),
        tables.reached("From a uniform start", reached),
        tables.reached("One right answer ahead", ahead),
        tables.focus(focus, learned),
    ]
    series = {
        "pushed": pushed,
        "families": {name: _family(reached, name) for name in FAMILIES},
        "measured": {a: by_difficulty(runs["difficulty"], a) for a in runs["difficulty"].arms},
    }
    return Analysis(samples, text, series)


def push_ratio(run: Result, arm: str) -> np.ndarray:
    """How far unsampled arms moved as a share of how far sampled ones did, per seed."""
    unsampled, sampled = (run.curve(f"{n}_move", arm)[:, 1:] for n in ("unsampled", "sampled"))
    return np.asarray(unsampled.sum(1) / np.maximum(sampled.sum(1), 1e-12))


def reach(run: Result, arm: str) -> Samples:
    """Solutions, updates and KL where each seed first reaches the accuracy; solutions by KL."""
    accuracy, kl = run.curve("accuracy", arm), run.curve("kl", arm)
    solutions, updates = run.curve("solutions", arm), np.broadcast_to(run.update, accuracy.shape)
    at = {"solutions": solutions, "updates": updates, "kl": kl}
    found = {name: at_matched(accuracy, y, [ACCURACY])[:, 0] for name, y in at.items()}
    return found | {"by_kl": at_matched(kl, solutions, [KL])[:, 0]}


def with_equal_steps(arm: Samples, others: dict[str, Samples]) -> np.ndarray:
    """Solutions of the others where they would need as many updates as the arm, per seed.

    Linear in the logarithm of the updates between the two nearest; NaN beyond the slowest and the
    fastest, and where the arm never arrives.
    """
    updates = np.log(np.maximum(np.stack([x["updates"] for x in others.values()]), 1e-9))
    solutions = np.stack([x["solutions"] for x in others.values()])
    found = np.full(arm["updates"].shape, np.nan)
    for seed, wanted in enumerate(np.log(np.maximum(arm["updates"], 1e-9))):
        here = np.isfinite(updates[:, seed])
        order = np.argsort(updates[here, seed])
        x, y = updates[here, seed][order], solutions[here, seed][order]
        if len(x) and np.isfinite(wanted):
            found[seed] = np.interp(wanted, x, y, left=np.nan, right=np.nan)
    return found


def _family(reached: dict[str, Samples], name: str) -> dict[str, Samples]:
    """An arm and its other learning rates."""
    return {a: x for a, x in reached.items() if a == name or a.startswith(f"{name} step ")}


def _best(learned: Samples) -> str:
    """The rival of the easy-to-hard focus with the highest mean over seeds."""

    def mean(arm: str) -> float:
        arrived = learned[arm][np.isfinite(learned[arm])]
        return float(arrived.mean()) if len(arrived) else -np.inf

    return max(RIVALS, key=mean)


# ------------------------------------------------------------------ exact


def by_difficulty(run: Result, arm: str) -> Samples:
    """Measured pass@1, weight w and luck v/w² of every class of difficulty, ``[seed, BINS]``.

    v/w² is the variance between equals at the step that makes all arms equally fast.
    """
    step, group = one_step.step_per_prompt(run.arms[arm]), run.arms[arm].recipe.group

    def mean(name: str) -> np.ndarray:
        curves = [run.curve(f"{name}_{i}", arm)[:, 1:].mean(1) for i in range(BINS)]
        return np.stack(curves, axis=1)

    weight, noise = mean("weight") / step, mean("noise") * group / step**2
    return {"rate": mean("rate"), "weight": weight, "luck": noise / weight.mean(0) ** 2}


def exact_by_difficulty(arm: Arm) -> Samples:
    """The same without sampling, on a grid of pass rates."""
    right, wrong = exact.advantage_tables(arm.recipe.advantage, arm.recipe.group)
    p = expit(np.linspace(-4.5, 3.5, 81, dtype=np.float32))
    weight, noise = exact.group_weight(right, wrong, p), exact.group_noise(right, p)
    weight, noise = np.asarray(weight), np.asarray(noise)
    return {"rate": p, "weight": weight, "luck": noise / weight**2}


def expected_path(run: Result, arm: str = "grpo") -> Samples:
    """Accuracy and solutions along the expected update of GRPO, one point per update.

    From the initial policy of the first seed, which is that of all seeds where the start is
    uniform or pretrained.
    """
    chosen: Arm = run.arms[arm]
    start = chosen.base
    if start is None:
        start = jax.jit(chosen.policy.init)(named(jax.random.key(run.seeds[0]), "init"))
    step, group = one_step.step_per_prompt(chosen), chosen.recipe.group
    accuracy, solutions = one_step.expected_path(
        chosen.env, chosen.env_params, start["logits"], step, group, run.updates
    )
    return {"accuracy": np.asarray(accuracy), "solutions": np.asarray(solutions)}
