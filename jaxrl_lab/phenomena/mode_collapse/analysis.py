"""From curves to the metric of every claim, one number per seed, and the exact references."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import Environment
from jaxtyping import Array, Float

from jaxrl_lab import exact, measures
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import at_matched
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena import tables as shared
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms
from jaxrl_lab.phenomena.mode_collapse import tables
from jaxrl_lab.phenomena.mode_collapse.claims import ACCURACY, CHOSEN, SHAPERS, WEAK
from jaxrl_lab.rollouts import make_world
from jaxrl_lab.types import Tree

Samples = dict[str, np.ndarray]

ACCURACIES = (0.8, 0.9, ACCURACY, 0.99)
EVEN = ", even"
"""What the name of an arm ends with if it starts even; the others start skewed."""

RATE = "rate 0.4"
"""The arm of the noise experiment that its claims are about."""

NEEDED = {
    "noise": (RATE, RATE + EVEN),
    "methods": (
        *("grpo", WEAK, *(CHOSEN[name] for name in ("reverse_kl", "js", *SHAPERS))),
        *("grpo" + EVEN, WEAK + EVEN, CHOSEN["gbpo"] + EVEN),
    ),
}
"""Arms that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the paths without noise."""
    require_arms(runs, NEEDED)
    noise, main = runs["noise"], runs["methods"]
    reached = {arm: at_accuracy(main, arm, ACCURACIES) for arm in main.arms}
    at = ACCURACIES.index(ACCURACY)
    end = {arm: at_the_end(main, arm) for arm in main.arms}
    paths = {arm: path_without_noise(noise, arm) for arm in (RATE, RATE + EVEN)}
    excess = {arm: lost_to_noise(noise, arm, path) for arm, path in paths.items()}
    reverse, weak = end[CHOSEN["reverse_kl"]], end[WEAK]
    reference = spread_of(main, CHOSEN["reverse_kl"])
    samples = {
        "noise_alone_collapses": excess[RATE + EVEN],
        "noise_adds_to_geometry": excess[RATE],
        "reference_decides": kept(end[WEAK + EVEN], spread_of(main, WEAK + EVEN))
        - kept(weak, spread_of(main, WEAK)),
        "reverse_kl_collapses": reference - reverse,
        "mass_covering_keeps_more": end[CHOSEN["js"]] - reverse,
    }
    for name in SHAPERS:
        gain = reached[CHOSEN[name]][:, at] - reached["grpo"][:, at]
        samples[f"{name}_keeps_modes"] = gain
    luckless = reached[CHOSEN["gbpo"] + EVEN][:, at]
    samples["gbpo_avoids_luck"] = luckless - reached["grpo" + EVEN][:, at]
    kls, counts = levels_of(main, "kl", (0.5,)), levels_of(main, "tokens", (0.05, 1.0))
    by = {
        arm: np.concatenate(
            [along(main, arm, "kl", kls), along(main, arm, "tokens", counts)], axis=1
        )
        for arm in main.arms
    }
    text = [
        shared.final(main, tables.COLUMNS),
        tables.matched(reached, ACCURACIES, {arm: updates_to(main, arm) for arm in main.arms}),
        tables.budget(by, kls, counts),
        tables.luck(noise, {arm: at_accuracy(noise, arm, (0.9, ACCURACY)) for arm in noise.arms}),
    ]
    series = {"paths": paths, "reached": {arm: x[:, at] for arm, x in reached.items()}, "end": end}
    return Analysis(samples, text, series)


# ------------------------------------------------------------------ reading the curves


def at_accuracy(run: Result, arm: str, levels: Sequence[float]) -> np.ndarray:
    """Effective modes where each seed first reaches each pass@1 ``[seed, level]``."""
    return at_matched(run.curve("accuracy", arm), run.curve("solutions", arm), levels)


def updates_to(run: Result, arm: str) -> np.ndarray:
    """Updates until each seed reaches the pass@1 of the claims; NaN if it never does."""
    accuracy = run.curve("accuracy", arm)
    return at_matched(accuracy, np.broadcast_to(run.update, accuracy.shape), [ACCURACY])[:, 0]


def along(run: Result, arm: str, axis: str, at: Sequence[float]) -> np.ndarray:
    """Effective modes where each seed first reaches each value of another curve."""
    return at_matched(np.nan_to_num(run.curve(axis, arm)), run.curve("solutions", arm), at)


def levels_of(run: Result, axis: str, shares: Sequence[float]) -> tuple[float, ...]:
    """Shares of where GRPO ends, on average over its seeds."""
    last = run.curve(axis, "grpo")[:, -1]
    final = float(np.mean(last[np.isfinite(last)])) if np.isfinite(last).any() else 0.0
    return tuple(round(final * share, 2) for share in shares)


def at_the_end(run: Result, arm: str) -> np.ndarray:
    """Effective modes after the last update; NaN for a seed below the pass@1 of the claims."""
    accuracy, modes = run.curve("accuracy", arm)[:, -1], run.curve("solutions", arm)[:, -1]
    return np.where(accuracy >= ACCURACY, modes, np.nan)


def spread_of(run: Result, arm: str) -> np.ndarray:
    """Effective modes of the start, which is the reference too."""
    return run.curve("solutions", arm)[:, 0]


def kept(modes: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Share of the reference's spread that is left: 0 for a single mode, 1 for all it has."""
    return np.asarray((modes - 1.0) / (reference - 1.0))


# ------------------------------------------------------------------ exact references


def has_exact_path(arm: Arm) -> bool:
    """Whether one update is one inner step of plain SGD on a whole batch, from a given start."""
    once = arm.recipe.epochs == 1 and not arm.recipe.regularizer
    return one_step.is_plain_grpo(arm) and bool(arm.base) and once


def path_without_noise(run: Result, arm: str) -> Samples:
    """Pass@1 and effective modes along the expected update, mean over prompts, after every update.

    Empty for an arm that :func:`has_exact_path` turns down.
    """
    chosen = run.arms[arm]
    if not has_exact_path(chosen):
        return {}
    group, ddof = chosen.recipe.group, chosen.recipe.advantage[0].ddof
    accuracy, modes = one_step.expected_path(*_start(chosen), group, run.updates, ddof)
    return {"accuracy": np.asarray(accuracy), "modes": np.asarray(modes)}


def lost_to_noise(run: Result, arm: str, path: Samples) -> np.ndarray:
    """Modes of the path without noise minus those of each run, at the pass@1 of the claims."""
    found = at_accuracy(run, arm, (ACCURACY,))[:, 0]
    if not path:
        return np.full_like(found, np.nan)
    (ideal,) = at_matched(path["accuracy"][None], path["modes"][None], [ACCURACY])[0]
    return np.asarray(ideal - found)


def noise_law(run: Result, arm: str) -> Samples:
    """What linear noise around the exact path predicts: pass@1, and log M − H(π | right).

    To second order in the scatter V of :func:`~jaxrl_lab.exact.linear_noise` the expected deficit
    is that of the path plus ½ Σ V_ab ∂²/∂z_a∂z_b, mean over prompts, at the points of the curves.
    """
    chosen = run.arms[arm]
    if not has_exact_path(chosen):
        return {}
    recipe = chosen.recipe
    sizes = (recipe.group, run.updates, int(run.update[1]), recipe.advantage[0].ddof)
    accuracy, deficit = _noise_law(*_start(chosen), *sizes)
    return {"accuracy": np.asarray(accuracy.mean(0)), "deficit": np.asarray(deficit.mean(0))}


@partial(jax.jit, static_argnames=("env", "group", "updates", "every", "ddof"))
def _noise_law(
    env: Environment,
    env_params: Tree,
    logits: Float[Array, "R K"],
    step: Float[Array, ""],
    group: int,
    updates: int,
    every: int,
    ddof: int,
) -> tuple[Float[Array, "B N"], Float[Array, "B N"]]:
    correct = one_step.right_arms(env, make_world(env, env_params))

    def deficit(z: Array, right: Array) -> Array:
        # Without the clamp at 0 of measures.solution_deficit, which has half a derivative there.
        found = measures.effective_solutions(jax.nn.log_softmax(z), right)
        return jnp.log(jnp.sum(right, dtype=z.dtype)) - jnp.log(found)

    def one(z: Array, right: Array) -> tuple[Array, Array]:
        path, V = exact.linear_noise(z, right, group, step, updates, ddof)
        path, V = path[::every], V[::every]
        bent = jax.vmap(jax.hessian(deficit), in_axes=(0, None))(path, right)
        lost = jax.vmap(deficit, in_axes=(0, None))(path, right)
        logp = jax.nn.log_softmax(path)
        accuracy = measures.accuracy(logp, jnp.broadcast_to(right, logp.shape))
        return accuracy, lost + 0.5 * jnp.sum(bent * V, axis=(-2, -1))

    return jax.vmap(one)(logits[: len(correct)], correct)


def _start(arm: Arm) -> tuple[Environment, Tree, Float[Array, "R K"], float]:
    """World, first logits and step of an arm: what its exact path begins with."""
    assert arm.base is not None
    return arm.env, arm.env_params, arm.base["logits"], one_step.step_per_prompt(arm)
