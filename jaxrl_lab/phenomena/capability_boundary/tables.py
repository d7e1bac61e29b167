"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrl_lab.phenomena.tables import cell, table

Samples = Mapping[str, np.ndarray]

TRAIN = {
    "pass_1_train": "pass@1",
    "pass_256_train": "pass@256",
    "coverage_train": "coverage@256",
    "solutions_train": "solutions",
    "lost_train": "lost prompts",
}
BOTH = TRAIN | {
    "pass_1_test": "test pass@1",
    "pass_256_test": "test pass@256",
    "lost_test": "lost",
    "kl_train": "KL to base",
}
STAGES = {"best": "best arm", "known": "known arm", "switched": "switched"}


def matched(title: str, columns: Sequence[str], found: Mapping[str, Sequence[np.ndarray]]) -> str:
    """One row per arm, one column per level at which arms are compared."""
    return table(title, columns, {arm: [cell(x) for x in by] for arm, by in found.items()})


def interference(share: Samples, opposed: Samples) -> str:
    """What other prompts undo."""
    rows = {arm: [cell(share[arm]), cell(opposed[arm])] for arm in share}
    title = "Interference between train prompts, whole training"
    return table(title, ["undone / own", "prompts pushed down"], rows)
