"""Rows of the rollout budgets, of the weight of prompts, and of replay."""

ARGUMENTS = {
    "task": {
        "knapsack": [{}, {"decay": 0.0, "prior": 0.25}],
        "proportional_budget": [{}, {"exponent": 0.5, "prior": 0.0}],
    },
    "reward": {"opposite_replay": [{}, {"ratio": "current", "outcome": "random"}]},
    "credit": {"equal_prompts": [{}]},
    "update": {"hint_hard_prompts": [{"arms": 2}]},
}
