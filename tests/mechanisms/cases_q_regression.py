"""Table rows of action values learned by regression."""

from __future__ import annotations

from typing import Any

ARGUMENTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "surrogate": {"q_regression": [{"episode": 0.7, "step": 0.9, "temperature": 0.5}]},
}
