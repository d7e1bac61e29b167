"""Policies: ``make(id, env, **static)`` builds one for a world's spaces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxrl_envs import BadInput, Environment
from jaxrl_envs.validate import build

from jaxrl_lab.policies.core import Policy
from jaxrl_lab.policies.distributions import Categorical, TableCategorical
from jaxrl_lab.policies.mlp import MLP
from jaxrl_lab.policies.recurrent import GRU
from jaxrl_lab.policies.tabular import Tabular
from jaxrl_lab.policies.transformer import Transformer

POLICIES: dict[str, Callable[..., Policy]] = {
    "tabular": Tabular,
    "mlp": MLP,
    "gru": GRU,
    "transformer": Transformer,
}


def make(policy_id: str, env: Environment, **static: Any) -> Policy:
    """A policy for the observation and action spaces of ``env``.

    Raises:
        BadInput: unknown id or option, or a policy that cannot read the world's observations.
    """
    if policy_id not in POLICIES:
        raise BadInput("policy.id", policy_id, "a policy", POLICIES)
    given = {"space": env.observation_space, "actions": env.action_space.n}
    for name in given.keys() & static.keys():
        raise BadInput(name, static[name], "nothing: it follows from the environment")
    return build(POLICIES[policy_id], given | static)


def options(policy_id: str) -> tuple[str, ...]:
    """Names of the static options of a policy."""
    fields = dataclasses.fields(POLICIES[policy_id])  # type: ignore[arg-type]
    return tuple(f.name for f in fields if f.name not in ("space", "actions"))


__all__ = [
    "GRU",
    "MLP",
    "Categorical",
    "Policy",
    "TableCategorical",
    "Tabular",
    "Transformer",
    "make",
    "options",
]
