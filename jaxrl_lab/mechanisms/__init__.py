"""Mechanisms, one room per slot of a recipe.

``catalog()[slot][name]`` finds the ones that configuration files may name; a mechanism of your
own needs no entry there: put the object into the recipe.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import cache
from types import ModuleType
from typing import Any

from jaxrl_lab.mechanisms import (
    advantage,
    aggregate,
    allocation,
    asymmetry,
    averaging,
    boundary,
    bounded,
    branching,
    budget,
    consistency,
    constraint,
    credit,
    demonstration,
    discriminative,
    diversity,
    entropy_advantage,
    entropy_control,
    entropy_weights,
    ewma,
    hint,
    matching,
    optimizer,
    prompt_weight,
    q_regression,
    regularizer,
    replay,
    reward,
    sampled,
    single_rollout,
    source_weight,
    surrogate,
    tail,
    task,
    update,
    weight,
)
from jaxrl_lab.mechanisms.core import SLOTS, Spec, equation_of, mechanism, name_of
from jaxrl_lab.mechanisms.schedules import SCHEDULES, Cosine, Linear, Ramp, Schedule

ROOMS: dict[str, tuple[ModuleType, ...]] = {
    "task": (task, allocation, branching, budget),
    "reward": (reward, demonstration, replay),
    "advantage": (advantage, asymmetry, consistency, diversity, entropy_advantage, single_rollout),
    "credit": (credit, prompt_weight, source_weight),
    "surrogate": (surrogate, boundary, bounded, q_regression, ewma),
    "weight": (weight, discriminative, entropy_weights),
    "regularizer": (regularizer, constraint, matching, entropy_control, tail),
    "aggregate": (aggregate,),
    "optimizer": (optimizer,),
    "update": (update, sampled, hint, averaging),
}
"""The modules that hold the mechanisms of each slot."""


@cache
def catalog() -> dict[str, dict[str, type[Any]]]:
    """All mechanisms of the package by slot and name."""
    return {
        slot: {
            name_of(cls): cls
            for room in rooms
            for _, cls in inspect.getmembers(room, inspect.isclass)
            if cls.__module__ == room.__name__ and dataclasses.is_dataclass(cls)
        }
        for slot, rooms in ROOMS.items()
    }


__all__ = [
    "SCHEDULES",
    "SLOTS",
    "Cosine",
    "Linear",
    "Ramp",
    "Schedule",
    "Spec",
    "advantage",
    "aggregate",
    "catalog",
    "credit",
    "equation_of",
    "mechanism",
    "name_of",
    "optimizer",
    "regularizer",
    "reward",
    "surrogate",
    "task",
    "update",
    "weight",
]
