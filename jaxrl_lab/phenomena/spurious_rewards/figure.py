"""Six panels: what noise does to the gradient, where random rewards lead, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from scipy.special import log_softmax

from jaxrl_lab import plots
from jaxrl_lab.compiling import THOROUGHLY
from jaxrl_lab.exact import (
    advantage_variance,
    noise_factor,
    noisy_clipped_change,
    random_reward_change,
)
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.phenomena.core import Analysis, Runs
from jaxrl_lab.phenomena.one_step import step_per_prompt
from jaxrl_lab.phenomena.spurious_rewards.analysis import CLIPS, KLS, PRIORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "none": "no clip",
    "symmetric": "symmetric clip",
    "upper": "upper bound only",
    "lower": "lower bound only",
    "on_policy": "on policy, one step",
}
EXACT = plots.panels.EXACT | {"linewidth": 4}

# Enumerates 75 000 groups for every point of the curves.
_change = jax.jit(
    noisy_clipped_change, static_argnames=("G", "epochs"), compiler_options=THOROUGHLY
)
STEPS = np.geomspace(0.1, 3.2, 13).astype(np.float32)


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Six panels; exact curves are drawn through sampled points wherever there are some."""
    main = runs["clipping"]
    outcomes = tally([v.outcome for v in verdicts])
    count = {name: len(run.seeds) for name, run in runs.items()}
    note = (
        f"{count['clipping']} seeds ({count['verifier']} in the first panel, "
        f"{count['one_update']} in the second, {count['steps']} in the last); shades and bars are "
        f"95 % t intervals over seeds. Claims: {outcomes}."
    )
    shape, axes = plots.panels.new_figure(
        2, 3, "Spurious rewards: no signal, and yet the policy moves", note
    )
    _draw_verifier(axes[0, 0], runs["verifier"], analysis)
    _draw_one_update(axes[0, 1], runs["one_update"], analysis)
    _draw_prior(axes[0, 2], main)
    _draw_matched(axes[1, 0], main, analysis)
    _draw_accuracy(axes[1, 1], analysis)
    _draw_steps(axes[1, 2], analysis)
    return shape


def _draw_verifier(ax: Axes, run: Result, analysis: Analysis) -> None:
    labels = {"leave_one_out": "A = R − mean", "group_normalized": "A = (R − mean)/std"}
    factor = analysis.series["factor"]
    some: Arm = next(iter(run.arms.values()))
    fn, group = some.env_params.false_negative, some.recipe.group
    p = np.float32(run.curve("accuracy", next(iter(run.arms)))[0, 0])
    fp = np.linspace(0.0, 1.0, 101, dtype=np.float32)
    exact = {n: noise_factor(p, fp, fn, n == "group_normalized", group) for n in labels}
    large = noise_factor(p, fp, fn, normalized=True)
    for i, (name, label) in enumerate(labels.items()):
        ax.plot(fp, exact[name], **EXACT, label=None if i else f"exact, G = {group}")
        of = {float(arm.split()[1]): x for arm, x in factor.items() if arm.split()[0] == name}
        plots.panels.dots(ax, list(of), list(of.values()), label, i, join=False)
    ax.plot(fp, large, color="#D55E00", linewidth=1, linestyle=":", label="the second, G → ∞")
    ax.axhline(0.0, color="#444444", linewidth=0.8)
    plots.panels.finish(
        ax,
        "A noisy verifier scales the gradient",
        f"false positives f+ (f− = {float(fn):.1f}, pass@1 {float(p):.1f})",
        "gradient / that of a perfect verifier",
    )


def _draw_one_update(ax: Axes, run: Result, analysis: Analysis) -> None:
    first, some = analysis.series["first"], next(iter(run.arms.values()))
    assert some.base is not None
    logits = np.asarray(some.base["logits"])[0]
    liked, group, epochs = int(np.argmax(logits)), some.recipe.group, some.recipe.epochs
    paid = np.full(logits.shape, some.env_params.false_positive, np.float32)
    for i, clip in enumerate(CLIPS):
        of = {arm: x for arm, x in first.items() if arm.split()[0] == clip}
        if not of:
            continue
        surrogate = run.arms[next(iter(of))].recipe.surrogate[0]
        exact = [
            _change(logits, paid, group, epochs, s, surrogate.low, surrogate.high) for s in STEPS
        ]
        scaled_exact = np.array([np.asarray(c.policy)[liked] for c in exact]) / STEPS**2
        ax.plot(STEPS, scaled_exact, **EXACT, label=None if i else "exact expectation")
        at = [step_per_prompt(run.arms[arm]) for arm in of]
        scaled = [x / s**2 for x, s in zip(of.values(), at, strict=True)]
        plots.panels.dots(ax, at, scaled, LABELS[clip], i, join=False)
    variance = advantage_variance(np.float32(0.5), group)
    small = random_reward_change(log_softmax(logits), group, 1.0, epochs, variance)
    plots.panels.reference(ax, float(small[liked]), "second order")
    ax.axhline(0.0, color="#444444", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_ylim(top=0.05)
    plots.panels.finish(
        ax,
        "One update on random rewards",
        "inner step η",
        "E Δπ(preferred arm) / η²",
        legend=False,
    )
    ax.legend(loc="upper left", ncols=2)


def _draw_prior(ax: Axes, run: Result) -> None:
    for i, clip in enumerate(LABELS):
        arm = f"random {clip} correct"
        if arm in run.arms:
            plots.panels.band(ax, run.update, run.curve("prior", arm), LABELS[clip], i)
    start = float(np.mean(run.curve("prior", "random none correct")[:, 0]))
    plots.panels.reference(ax, start, "base policy")
    plots.panels.finish(
        ax,
        "Random rewards over training",
        "updates (batches)",
        "probability of the preferred arm",
        legend=False,
    )


def _draw_matched(ax: Axes, run: Result, analysis: Analysis) -> None:
    for i, clip in enumerate(LABELS):
        arm = f"random {clip} correct"
        if arm in run.arms:
            x = np.arange(len(KLS)) + 0.1 * (i - 2)
            samples = list(analysis.series["prior"][arm].T)
            plots.panels.dots(ax, x, samples, LABELS[clip], i, join=False)
    ax.set_xticks(range(len(KLS)), [f"{k:g}" for k in KLS])
    ax.grid(visible=False, axis="x")
    plots.panels.finish(
        ax, "At matched KL", "KL to the base policy (nats)", "probability of the preferred arm"
    )


def _draw_accuracy(ax: Axes, analysis: Analysis) -> None:
    gain = analysis.series["gain"]
    for j, rewards in enumerate(("random", "flipped")):
        for i, prior in enumerate(PRIORS):
            arms = [f"{rewards} {clip} {prior}" for clip in CLIPS]
            here = [(k, gain[arm]) for k, arm in enumerate(arms) if arm in gain]
            x = [k + 0.12 * (i - 0.5) for k, _ in here]
            like = {"correct": "right", "incorrect": "wrong"}[prior]
            label = f"{rewards}, {like} prior"
            plots.panels.dots(ax, x, [s for _, s in here], label, 2 * j + i, join=False)
    ax.axhline(0.0, color="#444444", linewidth=0.8)
    ax.set_xticks(range(len(CLIPS)), ["no clip", "symmetric", "upper", "lower"])
    ax.grid(visible=False, axis="x")
    plots.panels.finish(
        ax,
        "What becomes of accuracy",
        "bounds of the ratio clip",
        "accuracy, end minus start",
        legend=False,
    )
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 0.15), ncols=2)


def _draw_steps(ax: Axes, analysis: Analysis) -> None:
    excess = analysis.series["excess_entropy"]
    for i, clip in enumerate(CLIPS):
        of = {
            float(arm.split()[2]): x
            for arm, x in excess.items()
            if arm.startswith(f"random {clip}")
        }
        plots.panels.dots(ax, list(of), list(of.values()), LABELS[clip], i)
    ax.axhline(0.0, color="#444444", linewidth=0.8)
    ax.set_xscale("log")
    plots.panels.finish(
        ax, "The sign depends on the step", "inner step η", "entropy minus that without clip (nats)"
    )
