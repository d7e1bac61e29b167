"""Worlds for the study of learning dynamics; they know nothing of learning.

``make(id, **static)`` builds one, ``registered()`` lists the ids, ``to_gymnax`` and
``from_gymnax`` are the borders to other people's code.
"""

from jaxrl_envs.bandits.modes import ModesBandit
from jaxrl_envs.compat import from_gymnax, to_gymnax
from jaxrl_envs.core import (
    Box,
    Discrete,
    Environment,
    MultiDiscrete,
    Solutions,
    Space,
    Transition,
    make,
    register,
    registered,
    require,
)
from jaxrl_envs.errors import BadInput
from jaxrl_envs.gridworlds.two_goals import TwoGoals
from jaxrl_envs.reasoning.modular_chain import ModularChain
from jaxrl_envs.tabular import TabularMDP
from jaxrl_envs.vector import StreamState, stream_reset, stream_step

register("bandit/modes", ModesBandit)
register("gridworld/two_goals", TwoGoals)
register("reasoning/modular_chain", ModularChain)

__all__ = [
    "BadInput",
    "Box",
    "Discrete",
    "Environment",
    "ModesBandit",
    "ModularChain",
    "MultiDiscrete",
    "Solutions",
    "Space",
    "StreamState",
    "TabularMDP",
    "Transition",
    "TwoGoals",
    "from_gymnax",
    "make",
    "register",
    "registered",
    "require",
    "stream_reset",
    "stream_step",
    "to_gymnax",
]
