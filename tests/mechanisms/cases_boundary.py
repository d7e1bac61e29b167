"""Rows of the mechanisms that learn from other people's rollouts."""

ARGUMENTS = {
    "reward": {"demonstrate": [{}, {"behavior": "certain"}]},
    "surrogate": {"multiple_importance": [{}, {"gamma": 0.0}]},
}
