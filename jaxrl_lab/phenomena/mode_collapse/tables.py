"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrl_lab.experiments.result import Result
from jaxrl_lab.phenomena.tables import cell, table

Samples = Mapping[str, np.ndarray]

COLUMNS = {
    "accuracy": "pass@1",
    "solutions": "modes",
    "entropy": "entropy",
    "kl": "KL to start",
    "tokens": "tokens",
}


def matched(reached: Samples, accuracies: Sequence[float], updates: Samples) -> str:
    """Modes at equal pass@1, and how long it took to get to the one of the claims."""
    rows = {arm: [*(cell(x) for x in by.T), cell(updates[arm])] for arm, by in reached.items()}
    headings = [*(f"pass@1 {a:g}" for a in accuracies), "updates to 0.95"]
    return table("Effective modes at matched pass@1: mean ± 95 % (seeds)", headings, rows)


def budget(by: Samples, kls: Sequence[float], counts: Sequence[float]) -> str:
    """Modes at equal distance from the start and at equal numbers of generated tokens."""
    rows = {arm: [cell(x) for x in found.T] for arm, found in by.items()}
    headings = [f"KL {k:g}" for k in kls] + [f"{n:.0f} tokens" for n in counts]
    return table("Effective modes at matched KL to the start and matched tokens", headings, rows)


def luck(run: Result, reached: Samples) -> str:
    """Modes by step size, from either start."""
    rows = {arm: [cell(x) for x in by.T] for arm, by in reached.items()}
    title = f"GRPO with one inner step, {run.updates} updates: effective modes at matched pass@1"
    return table(title, ["pass@1 0.9", "pass@1 0.95"], rows)
