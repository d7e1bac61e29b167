"""Table rows of the mechanisms that keep several right answers."""

from __future__ import annotations

from typing import Any

ARGUMENTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "advantage": {
        "sharpened": [{"strength": 2.0, "cap": 0.7}],
        "confidence_shaped": [{"strength": 0.3, "fraction": 0.5}],
        "diversity_scaled": [{}],
    },
    "surrogate": {"bounded_ratio": [{"low": 0.1, "high": 0.4, "temperature": 0.5}]},
    "regularizer": {
        "distribution_matching": [{"coefficient": 2.0, "temperature": 0.5}],
        "reference_divergence": [
            {"coefficient": 0.1, "divergence": "forward_kl"},
            {"coefficient": 0.2, "divergence": "js"},
        ],
    },
}
