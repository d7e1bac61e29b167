"""jaxrl_lab: a laboratory for the dynamics of reinforcement learning at small scale.

``import jaxrl_lab as lab`` is light: names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "run": "jaxrl_lab.phenomena",
    "load": "jaxrl_lab.phenomena",
    "train": "jaxrl_lab.experiments.run",
    "sweep": "jaxrl_lab.experiments.run",
    "debug": "jaxrl_lab.experiments.run",
    "pretrain": "jaxrl_lab.experiments.pretrain",
    "make_arm": "jaxrl_lab.experiments.run",
    "Result": "jaxrl_lab.experiments.result",
    "recipe": "jaxrl_lab.recipes",
    "Recipe": "jaxrl_lab.recipes",
    "mechanism": "jaxrl_lab.mechanisms.core",
    "PolicyGradient": "jaxrl_lab.learners.policy_gradient",
    "make": "jaxrl_envs",
    "BadInput": "jaxrl_envs",
}
_MODULES = (
    "exact",
    "measures",
    "mechanisms",
    "policies",
    "phenomena",
    "plots",
    "recipes",
    "rollouts",
)

__all__ = sorted([*_HOMES, *_MODULES])

if TYPE_CHECKING:
    from jaxrl_envs import BadInput, make

    from jaxrl_lab import exact, measures, mechanisms, phenomena, plots, policies, recipes, rollouts
    from jaxrl_lab.experiments.pretrain import pretrain
    from jaxrl_lab.experiments.result import Result
    from jaxrl_lab.experiments.run import debug, make_arm, sweep, train
    from jaxrl_lab.learners.policy_gradient import PolicyGradient
    from jaxrl_lab.mechanisms.core import mechanism
    from jaxrl_lab.phenomena import load, run
    from jaxrl_lab.recipes import Recipe, recipe


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxrl_lab.{name}")
    raise AttributeError(f"module 'jaxrl_lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
