"""The numbers of the figure as text: mean ± 95 % over seeds, and how many seeds arrived."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxrl_lab.phenomena.tables import cell, table

Samples = Mapping[str, np.ndarray]

COLUMNS = {
    "accuracy": "accuracy",
    "accuracy_hard": "hard third",
    "expected_groups": "groups",
    "expected_rollouts": "rollouts",
    "largest": "largest",
    "tokens": "tokens",
}


def equal_tokens(accuracy: Samples, hard: Samples, tokens: float) -> str:
    """Accuracy of all and of the hardest prompts at equal numbers of generated tokens."""
    rows = {arm: [cell(accuracy[arm]), cell(hard[arm])] for arm in accuracy}
    title = f"After {tokens:.0f} generated tokens, at the common learning rate"
    return table(title, ["accuracy", "hardest third"], rows)


def informative(shares: Mapping[str, Samples], accuracy: float) -> str:
    """Informative groups and rollouts, which a budget moves differently."""
    rows = {arm: [cell(x["groups"]), cell(x["rollouts"])] for arm, x in shares.items()}
    title = f"Informative share where accuracy {accuracy:g} is reached"
    return table(title, ["of groups", "of rollouts"], rows)


def savings(saved: Samples, tokens: Samples, accuracy: float) -> str:
    """Tokens to an accuracy with each method at its best learning rate."""
    rows = {arm: [cell(tokens[arm] / 1000), cell(saved[arm])] for arm in saved}
    title = f"Generated tokens to accuracy {accuracy:g}, each at its best learning rate"
    return table(title, ["thousand tokens", "log2 over grpo"], rows)
