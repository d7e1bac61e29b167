"""Entropy collapse: a policy that learns with GRPO loses more of its spread than it has to.

World: 64 prompts, 32 arms, 4 of them equally right. Three exact references share its initial
policies. Natural policy gradient multiplies probabilities by e^(t·A) and so never changes the
shares of the right arms among themselves; the optimum of an entropy-regularized objective is
uniform over them; the expected GRPO update without sampling noise is a deterministic flow. What
GRPO loses beyond natural gradient at the same accuracy is excess collapse, and what it loses
beyond its own flow is due to sampling.

Source: arXiv 2505.22617.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import Environment
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrl_lab import measures
from jaxrl_lab.exact import difficulty_weight, first_order_entropy_change
from jaxrl_lab.experiments.claims import Claim, Verdict
from jaxrl_lab.experiments.population import Arm, seed_keys
from jaxrl_lab.experiments.result import Result, summary
from jaxrl_lab.experiments.statistics import at_matched, mean_interval
from jaxrl_lab.keys import named
from jaxrl_lab.phenomena.core import Analysis, Phenomenon, Runs
from jaxrl_lab.plots import panels
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World, observe
from jaxrl_lab.types import LearnerState, Tree

ACCURACIES = (0.5, 0.8, 0.9, 0.95)
CLAIMED_AT = 0.9
PREFIX = 0.2
"""Share of the training the laws are fitted on."""

INTERVENTIONS = ("clip_higher", "entropy_bonus", "clip_cov", "kl_cov")
REGION = "bandit/modes, 64 prompts, 32 arms, 4 solutions, G = 8, tabular softmax, SGD"

CLAIMS = (
    Claim(
        id="excess_collapse",
        text="At accuracy 0.9 GRPO is further from using all right answers than natural policy "
        "gradient started from the same policy.",
        metric="log M − H(π | right), GRPO minus natural gradient, mean over prompts",
        direction="greater",
        effect=0.2,
        unit="nats",
        region=REGION,
    ),
    Claim(
        id="first_order_breaks_sgd",
        text="At the reference step the first-order prediction −Cov(log π, Δz) misses the "
        "entropy change of an update of four inner steps by more than a tenth.",
        metric="Σ|ΔH − predicted| / Σ|ΔH| over prompts and the first 20 updates, SGD 6.4",
        direction="greater",
        effect=0.1,
        unit="share",
        region=REGION,
    ),
    Claim(
        id="first_order_breaks_adam",
        text="The same with Adam.",
        metric="Σ|ΔH − predicted| / Σ|ΔH| over prompts and the first 20 updates, Adam 0.1",
        direction="greater",
        effect=0.1,
        unit="share",
        region=REGION.replace("SGD", "Adam"),
    ),
    Claim(
        id="first_order_breaks_shared",
        text="The same with parameters shared between prompts.",
        metric="Σ|ΔH − predicted| / Σ|ΔH| over prompts and the first 20 updates, MLP, Adam 0.01",
        direction="greater",
        effect=0.1,
        unit="share",
        region="bandit/modes, 64 prompts, 32 arms, 4 solutions, G = 8, MLP on prompt features",
    ),
    Claim(
        id="exponential_law_predicts",
        text="R = −a·exp(H) + b, fitted on the first fifth of the training, predicts the rest "
        "better than a line in H and than a logistic curve in time.",
        metric="smaller of the rivals' RMSE minus the law's RMSE on the last four fifths",
        direction="greater",
        effect=0.01,
        unit="accuracy",
        region=REGION,
    ),
    *(
        Claim(
            id=f"{arm}_keeps_solutions",
            text=f"At accuracy 0.9 {arm} uses more of the right answers than GRPO.",
            metric=f"effective solutions at accuracy 0.9, {arm} minus GRPO, same seeds",
            direction="greater",
            effect=0.1,
            unit="solutions",
            region=REGION,
        )
        for arm in INTERVENTIONS
    ),
)

DESCRIBE = {
    "accuracy": ("probability", "exact pass@1, mean over prompts"),
    "solutions": ("solutions", "exp entropy of the policy among right arms, mean over prompts"),
    "deficit": ("nats", "log M minus the entropy of the policy among right arms"),
    "entropy": ("nats", "entropy of the policy, mean over prompts"),
    "kl": ("nats", "KL from the current to the initial policy, mean over prompts"),
    "kl_step": ("nats", "KL from the policy after the last update to the one before it"),
    "entropy_change": ("nats", "change of the entropy by the last update"),
    "predicted_change": ("nats", "−Cov(log π, Δz) of the last update, exact and first order"),
    "absolute_change": ("nats", "mean over prompts of |change of the entropy| by the last update"),
    "prediction_gap": ("nats", "mean over prompts of |change − predicted change|"),
}


def log_policy(
    env: Environment, policy: Policy, world: World, params: Tree, count: int
) -> Float[Array, "B K"]:
    """Log-probabilities of all arms on the first ``count`` train prompts."""
    ids = jnp.arange(count, dtype=jnp.int32) + env.level_ids("train").start
    shape = (count, 1, 1)
    obs = observe(env, world, ids[:, None, None], (), shape)
    resets = jnp.ones(shape, bool)
    return policy.unroll(params, obs, resets, policy.start(shape[:2])).dist.logp_all[:, 0, 0]


def measure(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """Everything exact that a one-step world allows, means over the train prompts."""
    count = len(env.level_ids("train"))
    look = partial(log_policy, env, policy, world, count=count)
    start, old, new = look(params=first), look(params=before.params), look(params=after.params)
    assert world.bank is not None
    correct = world.bank.mode[:count] >= 0
    mean = measures.prompt_mean
    change = measures.token_entropy(new) - measures.token_entropy(old)
    # Logits are known up to a constant per prompt, which the covariance does not see.
    predicted = first_order_entropy_change(old, new - old)
    return {
        "accuracy": mean(measures.accuracy(new, correct)),
        "solutions": mean(measures.effective_solutions(new, correct)),
        "deficit": mean(measures.solution_deficit(new, correct)),
        "entropy": mean(measures.token_entropy(new)),
        "kl": mean(measures.kl_to(new, start)),
        "kl_step": mean(measures.kl_to(new, old)),
        "entropy_change": mean(change),
        "predicted_change": mean(predicted),
        "absolute_change": mean(jnp.abs(change)),
        "prediction_gap": mean(jnp.abs(change - predicted)),
    }


# ---------------------------------------------------------------------------- analysis


def analyze(runs: Runs) -> Analysis:
    """Metrics of the claims per seed, the tables, and the exact references."""
    main, breakdown = runs["interventions"], runs["breakdown"]
    error = {arm: prediction_error(breakdown, arm) for arm in breakdown.arms}
    laws = fit_laws(main.curve("entropy", "grpo"), main.curve("accuracy", "grpo"), main.update)
    flow = exact_flow(main, "grpo")
    solutions = {arm: matched(main, arm, "solutions", ACCURACIES) for arm in main.arms}
    at = ACCURACIES.index(CLAIMED_AT)
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
    tables = [
        final_table(main),
        matched_table(main, solutions),
        budget_table(main),
        breakdown_table(error),
        law_table(laws, main.curve("accuracy", "grpo")),
    ]
    series = {"error": error, "laws": laws, "flow": flow, "solutions": solutions}
    return Analysis(samples, tables, series)


def matched(run: Result, arm: str, name: str, at: Sequence[float]) -> np.ndarray:
    """A variable where each seed first reaches each accuracy, ``[seed, at]``; NaN if it never does."""
    return at_matched(run.curve("accuracy", arm), run.curve(name, arm), at)


def prediction_error(run: Result, arm: str) -> np.ndarray:
    """Σ |ΔH − predicted| / Σ |ΔH| over prompts and updates, per seed: 0 where first order is enough.

    Prompt by prompt, because errors of opposite sign would cancel in the mean over prompts.
    """
    gap, change = (run.curve(n, arm)[:, 1:] for n in ("prediction_gap", "absolute_change"))
    return np.asarray(gap.sum(1) / np.maximum(change.sum(1), 1e-12))


def fit_laws(
    entropy: np.ndarray, reward: np.ndarray, update: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """The law and its rivals, fitted per seed on the first fifth of the training."""
    time = update / update[-1]
    fits = {
        "exponential": measures.over_seeds(
            measures.exponential_law, entropy, reward, fraction=PREFIX
        ),
        "linear": measures.over_seeds(measures.linear_law, entropy, reward, fraction=PREFIX),
        "logistic": measures.over_seeds(measures.logistic_law, time, reward, fraction=PREFIX),
    }
    return {
        name: {"rmse": f.rmse_rest, "ceiling": f.ceiling, "prediction": f.prediction}
        for name, f in fits.items()
    }


def exact_flow(run: Result, arm: str) -> dict[str, np.ndarray]:
    """Accuracy and solutions along the expected GRPO update without sampling noise.

    Δz_a = (learning rate · inner steps / B) · w_G(p) · π_a (r_a − p) per update, taken in as many
    substeps as there are inner steps, from the initial policy of every seed.
    """
    chosen: Arm = run.arms[arm]
    recipe, env, policy = chosen.recipe, chosen.env, chosen.policy
    rate = recipe.optimizer[0].learning_rate
    group, ddof, epochs = recipe.group, recipe.advantage[0].ddof, recipe.epochs
    count = len(env.level_ids("train"))

    @jax.jit
    def flow(keys: Array) -> dict[str, Array]:
        levels = jax.vmap(env.make_level, in_axes=(None, 0))(
            chosen.env_params, jnp.arange(count, dtype=jnp.int32)
        )
        correct = levels.mode >= 0
        start = jax.vmap(lambda key: policy.init(named(key, "init"))["logits"][:count])(keys)

        def inner(_: int, z: Array) -> Array:
            pi = jax.nn.softmax(z)
            p = jnp.sum(jnp.where(correct, pi, 0.0), -1, keepdims=True)
            weight = difficulty_weight(p[..., 0], group, ddof)[..., None]
            return z + rate / count * weight * pi * (correct.astype(jnp.float32) - p)

        def update(z: Array, _: None) -> tuple[Array, dict[str, Array]]:
            logp = jax.nn.log_softmax(z)
            many = jnp.broadcast_to(correct, logp.shape)
            seen = {
                "accuracy": measures.prompt_mean(measures.accuracy(logp, many)),
                "solutions": measures.prompt_mean(measures.effective_solutions(logp, many)),
            }
            return jax.lax.fori_loop(0, epochs, inner, z), seen

        _, seen = jax.lax.scan(update, start, None, length=run.updates + 1)
        return seen

    return {name: np.asarray(x).T for name, x in flow(seed_keys(run.seeds)).items()}


# ---------------------------------------------------------------------------- tables


def _cell(sample: np.ndarray) -> str:
    """mean ± half interval (seeds that arrived)."""
    arrived = sample[np.isfinite(sample)]
    if not len(arrived):
        return f"never (0/{len(sample)})"
    interval = mean_interval(arrived)
    half = f" ± {interval.high - interval.mean:.3f}" if len(arrived) > 1 else ""
    return f"{interval.mean:.3f}{half} ({len(arrived)}/{len(sample)})"


def _table(title: str, headings: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    width = max(len(name) for name in rows)
    lines = [title, " " * width + "".join(f"{h:>24}" for h in headings)]
    lines += [f"{n:<{width}}" + "".join(f"{c:>24}" for c in cells) for n, cells in rows.items()]
    return "\n".join(lines)


def final_table(run: Result) -> str:
    """Where every arm ends."""
    names = ["accuracy", "solutions", "entropy", "kl", "tokens"]
    headings = ["accuracy", "solutions", "entropy", "KL to start", "tokens"]
    return f"After {run.updates} updates, mean over {len(run.seeds)} seeds\n" + summary(
        run.dataset, names, headings
    )


def matched_table(run: Result, solutions: Mapping[str, np.ndarray]) -> str:
    """Solutions at equal accuracy."""
    rows = {arm: [_cell(x[:, i]) for i in range(len(ACCURACIES))] for arm, x in solutions.items()}
    title = "Effective solutions at matched accuracy: mean ± 95 % (seeds that arrived)"
    return _table(title, [f"accuracy {a:g}" for a in ACCURACIES], rows)


def kl_levels(run: Result) -> tuple[float, ...]:
    """Distances from the start that GRPO passes through: quarters of its mean final one."""
    final = float(np.nanmean(run.curve("kl", "grpo")[:, -1]))
    return tuple(round(final * share, 2) for share in (0.25, 0.5, 0.75))


def at_kl(run: Result, arm: str) -> np.ndarray:
    """Solutions where each seed first reaches each distance from the start."""
    return at_matched(run.curve("kl", arm), run.curve("solutions", arm), kl_levels(run))


def budget_table(run: Result) -> str:
    """Solutions at equal distance from the start and at equal numbers of generated tokens."""
    total = float(np.nanmin([run.curve("tokens", arm)[:, -1].min() for arm in run.arms]))
    shares = (0.25, 1.0)
    rows = {}
    for arm in run.arms:
        by_kl = at_kl(run, arm)
        tokens = np.nan_to_num(run.curve("tokens", arm))
        by_tokens = at_matched(tokens, run.curve("solutions", arm), [s * total for s in shares])
        rows[arm] = [_cell(x) for x in (*by_kl.T, *by_tokens.T)]
    headings = [f"KL {k:g}" for k in kl_levels(run)] + [f"{s * total:.0f} tokens" for s in shares]
    return _table(
        "Effective solutions at matched KL to the start and matched tokens", headings, rows
    )


def breakdown_table(error: Mapping[str, np.ndarray]) -> str:
    """How far first order is off."""
    rows = {arm: [_cell(x)] for arm, x in error.items()}
    title = "First-order entropy change: Σ|ΔH − predicted| / Σ|ΔH|, first 20 updates"
    return _table(title, ["relative error"], rows)


def law_table(laws: Mapping[str, Mapping[str, np.ndarray]], reward: np.ndarray) -> str:
    """Prediction error on the rest of the training, and the ceilings."""
    rows = {name: [_cell(f["rmse"]), _cell(f["ceiling"])] for name, f in laws.items()}
    rows["actual"] = ["", _cell(reward[:, -1])]
    title = f"Laws fitted on the first {PREFIX:.0%} of GRPO's training"
    return _table(title, ["RMSE on the rest", "ceiling"], rows)


# ---------------------------------------------------------------------------- figure


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Six panels: curves, the collapse at matched accuracy and KL, first order, the law."""
    main = runs["interventions"]
    counted = {v.outcome for v in verdicts}
    outcomes = ", ".join(
        f"{sum(v.outcome == o for v in verdicts)} {o}"
        for o in ("reproduced", "refuted", "inconclusive")
        if o in counted
    )
    note = (
        f"{len(main.seeds)} seeds ({len(runs['breakdown'].seeds)} in the first-order panel); "
        f"shades and bars are 95 % t intervals over seeds. Claims: {outcomes}."
    )
    shape, axes = panels.new_figure(
        2, 3, "Entropy collapse: better, and narrower than needed", note
    )
    _draw_curves(axes[0, 0], main)
    _draw_phase(axes[0, 1], main, analysis)
    _draw_matched(axes[0, 2], main, analysis)
    _draw_kl(axes[1, 0], main)
    _draw_breakdown(axes[1, 1], analysis)
    _draw_law(axes[1, 2], main, analysis)
    return shape


def _draw_curves(ax: Axes, run: Result) -> None:
    for i, arm in enumerate(run.arms):
        panels.band(ax, run.update, run.curve("entropy", arm), arm, i)
    panels.finish(ax, "Entropy falls", "updates (batches)", "entropy of the policy (nats)")


def _draw_phase(ax: Axes, run: Result, analysis: Analysis) -> None:
    for i, arm in enumerate(run.arms):
        accuracy = np.nanmean(run.curve("accuracy", arm), 0)
        ax.plot(accuracy, np.nanmean(run.curve("solutions", arm), 0), **panels.look(i))
    flow = analysis.series["flow"]
    mean = {name: x.mean(0) for name, x in flow.items()}
    wide = {"color": "#7F7F7F", "linewidth": 5, "alpha": 0.45, "zorder": 0}
    ax.plot(mean["accuracy"], mean["solutions"], label="exact GRPO flow, no sampling noise", **wide)
    start = float(np.mean(run.curve("solutions", "grpo")[:, 0]))
    best = float(_modes(run))
    panels.reference(ax, start, "exact natural gradient")
    panels.reference(ax, best, "entropy-regularized optimum")
    ax.set_ylim(0.9, best + 0.25)
    panels.finish(ax, "What accuracy costs", "accuracy", f"effective solutions (of {best:g})")
    ax.legend(loc="lower left")


def _draw_matched(ax: Axes, run: Result, analysis: Analysis) -> None:
    for i, arm in enumerate(run.arms):
        x = np.arange(len(ACCURACIES)) + 0.1 * (i - 2.5)
        panels.dots(ax, x, list(analysis.series["solutions"][arm].T), arm, i, join=False)
    ax.set_xticks(range(len(ACCURACIES)), [f"{a:g}" for a in ACCURACIES])
    ax.grid(visible=False, axis="x")
    panels.finish(ax, "At matched accuracy", "accuracy", f"effective solutions (of {_modes(run)})")


def _draw_kl(ax: Axes, run: Result) -> None:
    levels = kl_levels(run)
    for i, arm in enumerate(run.arms):
        x = np.arange(len(levels)) + 0.1 * (i - 2.5)
        panels.dots(ax, x, list(at_kl(run, arm).T), arm, i, join=False)
    ax.set_xticks(range(len(levels)), [f"{k:g}" for k in levels])
    ax.grid(visible=False, axis="x")
    label = f"effective solutions (of {_modes(run)})"
    panels.finish(ax, "At matched KL", "KL to the initial policy (nats)", label, legend=False)


def _draw_breakdown(ax: Axes, analysis: Analysis) -> None:
    error = analysis.series["error"]
    for i, (prefix, label) in enumerate(
        [("sgd", "SGD, tabular, clipped"), ("unclipped", "SGD, tabular, unclipped")]
    ):
        of = {float(arm.split()[1]): x for arm, x in error.items() if arm.startswith(prefix)}
        panels.dots(ax, list(of), list(of.values()), label, i)
    others = {"adam": "Adam 0.1, tabular", "shared": "Adam 0.01, shared MLP"}
    for i, (arm, label) in enumerate(others.items(), start=2):
        panels.level(ax, error[arm], label, i)
    panels.reference(ax, 0.1, "claimed: above this")
    ax.set_xscale("log")
    ax.set_yscale("log")
    panels.finish(
        ax, "Where first order breaks", "learning rate of SGD", "Σ|ΔH − predicted| / Σ|ΔH|"
    )


def _draw_law(ax: Axes, run: Result, analysis: Analysis) -> None:
    panels.band(ax, run.update, run.curve("accuracy", "grpo"), "GRPO", 0)
    labels = {"exponential": "−a·exp(H) + b", "linear": "−a·H + b", "logistic": "logistic in time"}
    for i, (name, fit) in enumerate(analysis.series["laws"].items(), start=1):
        panels.band(ax, run.update, fit["prediction"], labels[name], i)
    ax.axvspan(0, PREFIX * run.update[-1], color="#BBBBBB", alpha=0.3, linewidth=0)
    ax.set_ylim(0, 1.5)
    panels.finish(ax, "Laws fitted on the shaded fifth", "updates (batches)", "accuracy")


def _modes(run: Result) -> int:
    return int(run.arms["grpo"].env.modes)  # type: ignore[attr-defined]


PHENOMENON = Phenomenon(
    name="entropy_collapse",
    claims=CLAIMS,
    measures={"interventions": (measure, DESCRIBE), "breakdown": (measure, DESCRIBE)},
    analyze=analyze,
    figure=figure,
)
