"""From curves to the metric of every claim, one number per seed, and the exact flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import BadInput
from jaxtyping import Array

from jaxrl_lab import measures
from jaxrl_lab.exact import difficulty_weight
from jaxrl_lab.experiments.noise import seed_keys
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import at_matched
from jaxrl_lab.keys import named
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena import tables as shared
from jaxrl_lab.phenomena.core import Analysis, Runs, require_arms
from jaxrl_lab.phenomena.entropy_collapse import tables
from jaxrl_lab.phenomena.entropy_collapse.claims import INTERVENTIONS
from jaxrl_lab.types import Tree

Samples = dict[str, np.ndarray]

ACCURACIES = (0.5, 0.8, 0.9, 0.95)
CLAIMED_AT = 0.9
PREFIX = 0.2
"""Share of the training the laws are fitted on."""

NEEDED = {
    "interventions": ("grpo", *INTERVENTIONS),
    "breakdown": ("sgd 6.4", "adam", "shared"),
}
"""Arms that some claim is about."""


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the exact references."""
    require_arms(runs, NEEDED)
    main, breakdown = runs["interventions"], runs["breakdown"]
    error = {arm: prediction_error(breakdown, arm) for arm in breakdown.arms}
    laws = fit_laws(main.curve("entropy", "grpo"), main.curve("accuracy", "grpo"), main.update)
    flow = exact_flow(main, "grpo")
    solutions = {arm: matched(main, arm, "solutions", ACCURACIES) for arm in main.arms}
    at = ACCURACIES.index(CLAIMED_AT)
    kls, counts = kl_levels(main), token_counts(main)
    by_kl = {arm: along(main, arm, "kl", kls) for arm in main.arms}
    by_tokens = {arm: along(main, arm, "tokens", counts) for arm in main.arms}
    deficit = matched(main, "grpo", "deficit", ACCURACIES)[:, at]
    rivals = np.minimum(laws["linear"]["rmse"], laws["logistic"]["rmse"])
    samples = {
        "excess_collapse": deficit - main.curve("deficit", "grpo")[:, 0],
        "first_order_breaks_sgd": error["sgd 6.4"],
        "first_order_breaks_adam": error["adam"],
        "first_order_breaks_shared": error["shared"],
        "exponential_law_predicts": rivals - laws["exponential"]["rmse"],
    }
    for arm in INTERVENTIONS:
        samples[f"{arm}_keeps_solutions"] = solutions[arm][:, at] - solutions["grpo"][:, at]
    text = [
        shared.final(main, tables.COLUMNS),
        tables.matched(solutions, ACCURACIES),
        tables.budget(by_kl, kls, by_tokens, counts),
        tables.breakdown(error, breakdown.updates),
        tables.laws(laws, main.curve("accuracy", "grpo"), PREFIX),
    ]
    series = {"error": error, "laws": laws, "flow": flow, "solutions": solutions}
    series |= {"kls": kls, "by_kl": by_kl}
    if "further" in runs:
        more = runs["further"]
        others = {arm: matched(more, arm, "solutions", ACCURACIES) for arm in more.arms}
        series |= {"further": others}
        text += [
            f"Further remedies, without a claim. {shared.final(more, tables.COLUMNS)}",
            tables.matched(others, ACCURACIES),
        ]
    return Analysis(samples, text, series)


def matched(run: Result, arm: str, name: str, at: Sequence[float]) -> np.ndarray:
    """A variable where each seed first reaches each accuracy ``[seed, at]``; NaN if never."""
    return at_matched(run.curve("accuracy", arm), run.curve(name, arm), at)


def along(run: Result, arm: str, axis: str, at: Sequence[float] | np.ndarray) -> np.ndarray:
    """Solutions where each seed first reaches each value of another curve, ``[seed, at]``."""
    return at_matched(np.nan_to_num(run.curve(axis, arm)), run.curve("solutions", arm), at)


def kl_levels(run: Result) -> tuple[float, ...]:
    """Distances from the start that GRPO passes through: quarters of its mean final one."""
    last = run.curve("kl", "grpo")[:, -1]
    arrived = last[np.isfinite(last)]
    final = float(arrived.mean()) if len(arrived) else 0.0
    return tuple(round(final * share, 2) for share in (0.25, 0.5, 0.75))


def token_counts(run: Result) -> np.ndarray:
    """A quarter and all of the tokens that every arm has generated."""
    last = np.stack([run.curve("tokens", arm)[:, -1] for arm in run.arms])
    total = np.min(last, initial=np.inf, where=np.isfinite(last))
    return np.array([0.25, 1.0]) * (total if np.isfinite(total) else 0.0)


def prediction_error(run: Result, arm: str) -> np.ndarray:
    """Σ |ΔH − predicted| / Σ |ΔH| over prompts and updates, per seed; 0 if first order is enough.

    Prompt by prompt, because errors of opposite sign would cancel in the mean over prompts.
    """
    gap, change = (run.curve(n, arm)[:, 1:] for n in ("prediction_gap", "absolute_change"))
    return np.asarray(gap.sum(1) / np.maximum(change.sum(1), 1e-12))


def fit_laws(entropy: np.ndarray, reward: np.ndarray, update: np.ndarray) -> dict[str, Samples]:
    """The law and its rivals, fitted per seed on the first fifth of the training."""
    time = np.broadcast_to(update / update[-1], reward.shape)
    return {
        "exponential": _fits(measures.exponential_law, entropy, reward),
        "linear": _fits(measures.linear_law, entropy, reward),
        "logistic": _fits(measures.logistic_law, time, reward),
    }


def _fits(law: Callable[..., measures.Fit], x: np.ndarray, reward: np.ndarray) -> Samples:
    """One fit per seed; NaN for a seed with too few points to fit anything."""
    rows = []
    for one, curve in zip(x, reward, strict=True):
        try:
            fit = law(one, curve, fraction=PREFIX)
            rows.append((fit.rmse_rest, fit.ceiling, fit.prediction))
        except BadInput:
            rows.append((np.array(np.nan), np.array(np.nan), np.full(curve.shape, np.nan)))
    names = ("rmse", "ceiling", "prediction")
    return dict(zip(names, (np.stack(x) for x in zip(*rows, strict=True)), strict=True))


def exact_flow(run: Result, arm: str) -> dict[str, np.ndarray]:
    """Accuracy and solutions along the expected GRPO update without sampling noise.

    Empty for an arm that is not :func:`~.one_step.is_plain_grpo`.

    Δz_a = (learning rate · inner steps / B) · w_G(p) · π_a (r_a − p) per update, taken in as many
    substeps as there are inner steps, from the initial policy of every seed.
    """
    chosen: Arm = run.arms[arm]
    if not one_step.is_plain_grpo(chosen):
        return {}
    recipe, env, policy = chosen.recipe, chosen.env, chosen.policy
    rate = recipe.optimizer[0].learning_rate
    group, ddof, epochs = recipe.group, recipe.advantage[0].ddof, recipe.epochs
    count = len(env.level_ids("train"))

    def begin(key: Array) -> Tree:
        return policy.init(named(key, "init")) if chosen.base is None else chosen.base

    @jax.jit
    def flow(keys: Array) -> dict[str, Array]:
        levels = jax.vmap(env.make_level, in_axes=(None, 0))(
            chosen.env_params, jnp.arange(count, dtype=jnp.int32)
        )
        start = jax.vmap(lambda key: begin(key)["logits"][:count])(keys)
        correct = jnp.broadcast_to(levels.mode >= 0, start.shape)

        def inner(_: int, z: Array) -> Array:
            pi = jax.nn.softmax(z)
            p = jnp.sum(jnp.where(correct, pi, 0.0), -1, keepdims=True)
            weight = difficulty_weight(p[..., 0], group, ddof)[..., None]
            return z + rate / count * weight * pi * (correct.astype(jnp.float32) - p)

        def update(z: Array, _: None) -> tuple[Array, dict[str, Array]]:
            logp = jax.nn.log_softmax(z)
            seen = {
                "accuracy": measures.prompt_mean(measures.accuracy(logp, correct)),
                "solutions": measures.prompt_mean(measures.effective_solutions(logp, correct)),
            }
            return jax.lax.fori_loop(0, epochs, inner, z), seen

        _, seen = jax.lax.scan(update, start, None, length=run.updates + 1)
        return seen

    return {name: np.asarray(x).T for name, x in flow(seed_keys(run.seeds)).items()}
