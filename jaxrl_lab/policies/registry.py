"""Policies by name, built for a world's spaces."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from jaxrl_envs.core import Environment
from jaxrl_envs.errors import BadInput, unknown_key
from jaxrl_envs.validate import build

from jaxrl_lab.policies.core import Policy

POLICIES = {
    "tabular": "jaxrl_lab.policies.tabular:Tabular",
    "q_table": "jaxrl_lab.policies.q_table:QTable",
    "mlp": "jaxrl_lab.policies.mlp:MLP",
    "gru": "jaxrl_lab.policies.recurrent:GRU",
    "transformer": "jaxrl_lab.policies.transformer:Transformer",
}
"""Imported when they are made: a tabular run needs no neural-network library."""

GIVEN = ("space", "actions")
"""What follows from the world."""


def make(policy_id: str, env: Environment, **static: Any) -> Policy:
    """A policy for the observation and action spaces of ``env``.

    Raises:
        BadInput: unknown id or option, or a policy that cannot read the world's observations.
    """
    names = options(policy_id)
    for name in static:
        if name not in names:
            raise unknown_key(name, static[name], names)
    given = {"space": env.observation_space, "actions": env.action_space.n}
    return build(_factory(policy_id), given | static)


def options(policy_id: str) -> tuple[str, ...]:
    """Names of the static options of a policy.

    Raises:
        BadInput: unknown id, with the nearest one.
    """
    fields = dataclasses.fields(_factory(policy_id))  # type: ignore[arg-type]
    return tuple(f.name for f in fields if f.name not in GIVEN)


def _factory(policy_id: str) -> Callable[..., Policy]:
    if policy_id not in POLICIES:
        raise BadInput("policy.id", policy_id, "a policy", POLICIES)
    module, _, name = POLICIES[policy_id].partition(":")
    factory: Callable[..., Policy] = getattr(importlib.import_module(module), name)
    return factory
