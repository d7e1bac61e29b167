"""Six panels: two causes of the collapse, the law of the noise, references, remedies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl_lab import plots
from jaxrl_lab.experiments.claims import Verdict, tally
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.statistics import at_matched, curve_band
from jaxrl_lab.phenomena.core import Analysis, Runs
from jaxrl_lab.phenomena.mode_collapse.analysis import EVEN, RATE, noise_law
from jaxrl_lab.phenomena.mode_collapse.claims import ACCURACY, CHOSEN, SHAPERS, WEAK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAW_AT = 0.8
"""Pass@1 at which the law of the noise is drawn: also the smallest step gets there."""

NAMES = {
    "entropy": "entropy bonus",
    "reverse_kl": "reverse KL",
    "forward_kl": "forward KL",
    "js": "JS (DPH-RL)",
    "dmpo": "DMPO",
    "xrpo": "XRPO",
    "progrpo": "ProGRPO",
    "gardo": "GARDO",
    "gbpo": "GBPO",
}


def figure(runs: Runs, analysis: Analysis, verdicts: Sequence[Verdict]) -> Figure:
    """Geometry and luck, what luck costs, which reference keeps modes, fronts, matched pass@1."""
    noise, main = runs["noise"], runs["methods"]
    outcomes = tally([v.outcome for v in verdicts])
    note = (
        f"{len(main.seeds)} seeds, {len(noise.seeds)} in the first two panels; shades and bars are "
        f"95 % t intervals over seeds. Claims: {outcomes}."
    )
    shape, axes = plots.panels.new_figure(2, 3, "Mode collapse: geometry or luck", note)
    _draw_causes(axes[0, 0], noise, analysis)
    _draw_law(axes[0, 1], noise)
    _draw_references(axes[0, 2], main)
    after = f"after {main.updates} updates, skewed"
    penalties, shapers = ("entropy", "reverse_kl", "forward_kl", "js"), tuple(SHAPERS)
    _draw_front(axes[1, 0], main, f"Penalties {after}", penalties)
    _draw_front(axes[1, 1], main, f"Group methods {after}", shapers)
    _draw_matched(axes[1, 2], main, analysis)
    return shape


def _draw_causes(ax: Axes, run: Result, analysis: Analysis) -> None:
    """Modes over the logarithm of time, sampled and exact, from both starts."""
    later = run.update > 0
    for i, (arm, label) in enumerate([(RATE + EVEN, "even start"), (RATE, "skewed start")]):
        shown = run.curve("solutions", arm)[:, later]
        plots.panels.band(ax, run.update[later], shown, f"sampled, {label}", i)
        path = analysis.series["paths"][arm]
        if path:
            modes = path["modes"][1:]
            label = "expected update, no noise" if i == 0 else "_"
            ax.plot(np.arange(1, len(modes) + 1), modes, label=label, **plots.panels.EXACT)
    ax.set_xscale("log")
    start = float(np.mean(run.curve("solutions", RATE)[:, 0]))
    plots.panels.reference(ax, start, "natural gradient, skewed start")
    plots.panels.finish(ax, "Two causes", "updates (log)", _label(run))
    _make_room(ax, run)


def _draw_law(ax: Axes, run: Result) -> None:
    """What is lost to luck, by step size, beside what linear noise predicts."""
    for i, end in enumerate((EVEN, "")):
        arms = [a for a in run.arms if a.endswith(EVEN) == bool(end)]
        rates = [float(a.removesuffix(EVEN).split()[1]) for a in arms]
        lost = [_deficit(run, a) for a in arms]
        plots.panels.dots(ax, rates, lost, f"sampled, {'even' if end else 'skewed'} start", i)
        laws = [noise_law(run, a) for a in arms]
        if all(laws):
            law = [at_matched(x["accuracy"][None], x["deficit"][None], [LAW_AT])[0] for x in laws]
            label = "linear noise on the exact path" if i == 0 else "_"
            ax.plot(rates, np.concatenate(law), label=label, **plots.panels.EXACT)
    ax.set_xscale("log")
    ax.set_yscale("log")
    title = f"The law of luck, at pass@1 {LAW_AT:g}"
    y = f"log {_modes(run)} − H(π | right) (nats)"
    plots.panels.finish(ax, title, "step per prompt (one inner step)", y)


def _deficit(run: Result, arm: str) -> np.ndarray:
    return at_matched(run.curve("accuracy", arm), run.curve("deficit", arm), [LAW_AT])[:, 0]


def _draw_references(ax: Axes, run: Result) -> None:
    """Divergences to an even and to a skewed reference, over the logarithm of time."""
    shown = {
        WEAK + EVEN: "reverse KL 0.05, even",
        WEAK: "reverse KL 0.05, skewed",
        CHOSEN["reverse_kl"]: "reverse KL 0.2, skewed",
        CHOSEN["forward_kl"]: "forward KL 0.05, skewed",
        CHOSEN["js"]: "JS 0.8, skewed",
    }
    later = run.update > 0
    for i, (arm, label) in enumerate(shown.items()):
        if arm in run.arms:
            curve = run.curve("solutions", arm)[:, later]
            plots.panels.band(ax, run.update[later], curve, label, i)
    ax.set_xscale("log")
    spread = float(np.mean(run.curve("solutions", WEAK)[:, 0]))
    plots.panels.reference(ax, spread, "skewed reference")
    plots.panels.finish(ax, "Lost first, recovered in time", "updates (log)", _label(run))
    _make_room(ax, run)


def _draw_front(ax: Axes, run: Result, title: str, methods: Sequence[str]) -> None:
    """Where every value of a method's number ends, beside the path of GRPO."""
    accuracy, modes = (curve_band(run.curve(n, "grpo")).mean for n in ("accuracy", "solutions"))
    ax.plot(_error(accuracy), modes, label="path of GRPO", **plots.panels.EXACT)
    for i, name in enumerate(methods):
        arms = [a for a in run.arms if a.split()[0] == name and not a.endswith(EVEN)]
        ends = [_ends(run, a) for a in arms]
        x = [float(_error(e[0].mean())) for e in ends if len(e[0])]
        y = [e[1] for e in ends if len(e[0])]
        plots.panels.dots(ax, x, y, NAMES[name], i)
    ax.set_xscale("log")
    ax.invert_xaxis()
    line: dict[str, Any] = {"color": "#444444", "linewidth": 1, "linestyle": ":"}
    ax.axvline(float(_error(ACCURACY)), label=f"pass@1 {ACCURACY:g}", **line)
    plots.panels.finish(ax, title, "1 − pass@1 (better to the right)", _label(run))
    _make_room(ax, run)


def _error(accuracy: Any) -> np.ndarray:
    return np.maximum(1.0 - np.asarray(accuracy), 1e-5)


def _ends(run: Result, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Pass@1 and modes after the last update, of the seeds that have one."""
    accuracy, modes = (run.curve(n, arm)[:, -1] for n in ("accuracy", "solutions"))
    there = np.isfinite(accuracy)
    return accuracy[there], modes[there]


def _draw_matched(ax: Axes, run: Result, analysis: Analysis) -> None:
    """Every method against GRPO of the same start and seed, where pass@1 first is 0.95."""
    reached = analysis.series["reached"]
    for i, (end, label) in enumerate([(EVEN, "even start"), ("", "skewed start")]):
        never = np.full(len(run.seeds), np.nan)
        base = reached.get("grpo" + end, never)
        gains = [reached.get(arm + end, never) - base for arm in CHOSEN.values()]
        x = np.arange(len(CHOSEN)) + 0.2 * (i - 0.5)
        plots.panels.dots(ax, x, gains, label, i, join=False)
    ax.set_xticks(range(len(CHOSEN)), [NAMES[n] for n in CHOSEN], rotation=35, ha="right")
    ax.grid(visible=False, axis="x")
    plots.panels.reference(ax, 0.25, "claimed: above this")
    title = f"Tuned, where pass@1 first is {ACCURACY:g}"
    plots.panels.finish(ax, title, "method", "effective modes beyond GRPO's")


def _make_room(ax: Axes, run: Result) -> None:
    """The legend above the curves, which end at the number of modes."""
    ax.set_ylim(0.9, _modes(run) + 1.5)
    ax.set_yticks(range(1, _modes(run) + 1))
    ax.legend(loc="upper center", ncols=2, columnspacing=1.0, handlelength=2.6)


def _label(run: Result) -> str:
    return f"effective modes (of {_modes(run)})"


def _modes(run: Result) -> int:
    arm = next(iter(run.arms.values()))
    return int(arm.env.modes)  # type: ignore[attr-defined]
