"""Collecting experience: grouped episodes ``[B, G, T]`` and auto-reset streams ``[N, 1, T]``."""

from jaxrl_lab.rollouts.branch import (
    REPLAY,
    Points,
    Snapshot,
    branch,
    resume,
    snapshot,
    with_branches,
)
from jaxrl_lab.rollouts.episodes import collect_episodes, refill
from jaxrl_lab.rollouts.hashing import state_hash
from jaxrl_lab.rollouts.stream import collect_stream
from jaxrl_lab.rollouts.world import World, levels_at, make_world, observe

__all__ = [
    "REPLAY",
    "Points",
    "Snapshot",
    "World",
    "branch",
    "collect_episodes",
    "collect_stream",
    "levels_at",
    "make_world",
    "observe",
    "refill",
    "resume",
    "snapshot",
    "state_hash",
    "with_branches",
]
