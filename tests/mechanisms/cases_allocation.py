"""Rows of the further budgets, and of the weight of replayed rollouts."""

ARGUMENTS = {
    "task": {
        "interval_budget": [{}, {"bonus": 0.2, "confidence": 80, "decay": 1.0}],
        "value_budget": [{}],
    },
    "credit": {"replayed_weight": [{"weight": 0.3}]},
}
