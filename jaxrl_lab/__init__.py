"""A laboratory for the dynamics of reinforcement learning at small scale."""
