"""Rows of the mechanisms that look at entropy and confidence."""

from __future__ import annotations

from typing import Any

ARGUMENTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "advantage": {
        "dcpo": [{}, {"target": 1.5, "cap": 0.7}],
        "ucas": [{}, {"confidence": "certainty_mean", "right": 0.5}, {"confidence": "logp"}],
        "entropy_capped": [{}, {"scale": 0.2, "bonus": "sampled"}],
        "beta_baseline": [{}, {"start": 0.3, "window": 3, "target": 0.5}],
    },
    "weight": {
        "steer": [{}, {"low": 0.0, "high": 2.0, "score": "one_sample"}, {"shuffle": True}],
        "steer_exponential": [{}, {"low": 0.1, "score": "one_sample"}],
    },
    "regularizer": {
        "epo": [{"coefficient": 0.1}, {"coefficient": 0.1, "form": "literal"}],
        "safe": [{}, {"threshold": 0.5, "form": "literal"}],
        "lp_reg": [{}, {"keep": 0.3, "fraction": 0.5}],
    },
}
