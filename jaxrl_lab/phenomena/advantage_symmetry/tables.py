"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxrl_lab.experiments.result import Result
from jaxrl_lab.phenomena.advantage_symmetry.claims import ACCURACY, KL
from jaxrl_lab.phenomena.tables import cell, table

Samples = Mapping[str, np.ndarray]


def push(ratio: Samples) -> str:
    """How far arms that nobody sampled are moved."""
    rows = {arm: [cell(x)] for arm, x in ratio.items()}
    return table("Moves of unsampled arms, as a share of those of sampled ones", ["share"], rows)


def reached(start: str, by_arm: Mapping[str, Samples]) -> str:
    """Solutions, and what they cost, at equal accuracy and at equal KL."""
    columns = ("solutions", "updates", "kl", "by_kl")
    rows = {arm: [cell(x[name]) for name in columns] for arm, x in by_arm.items()}
    headings = ["solutions", "updates", "KL to start", f"solutions at KL {KL:g}"]
    return table(f"{start}: at accuracy {ACCURACY:g}", headings, rows)


def focus(run: Result, learned: Samples) -> str:
    """Who learns how fast, and the hard prompts among them."""
    rows = {
        arm: [
            cell(learned[arm]),
            cell(run.curve("accuracy", arm)[:, -1]),
            cell(run.curve("accuracy_hard", arm)[:, -1]),
            cell(run.curve("accuracy_easy", arm)[:, -1]),
        ]
        for arm in run.arms
    }
    headings = ["accuracy, mean", "at the end", "hard third", "easy third"]
    return table(f"Focus: accuracy over {run.updates} updates", headings, rows)
