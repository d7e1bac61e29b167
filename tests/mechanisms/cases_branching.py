"""Rows of the rollouts that begin inside others."""

ARGUMENTS = {
    "task": {"branch_at_entropy": [{"branches": 1}, {"branches": 0, "where": "anywhere"}]},
}
