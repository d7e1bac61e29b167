"""A softmax policy with one row of logits per observation: the policy with exact answers."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxrl_envs import Space
from jaxrl_envs.core import Discrete
from jaxrl_envs.errors import BadInput, expect
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.policies.distributions import TableCategorical
from jaxrl_lab.types import PolicyOutput, Tree

MOST_ENTRIES = 2**31 - 1
"""Entries are looked up by 32-bit numbers."""


def check_table(name: str, space: Space, actions: int) -> None:
    """Refuse a table that observations do not number, or that nobody could look up.

    Raises:
        BadInput: observations that are not numbers of rows, or too many of them.
    """
    if not isinstance(space, Discrete):
        expected = f"a network policy, because observations are {type(space).__name__}"
        raise BadInput("policy.id", name, expected)
    expected = f"a network policy: {space.n} rows of {actions} are too many for a table"
    expect(space.n * actions <= MOST_ENTRIES, "policy.id", name, expected)


@dataclass(frozen=True)
class Tabular:
    """pi(a | row) = softmax(logits[row])[a], logits ~ N(0, scale²) at the start.

    Attributes:
        space: observation space; must be discrete.
        actions: K.
        scale: standard deviation of the initial logits; 0 starts uniform.
        value: whether there is a table of values beside the logits.

    Raises:
        BadInput: when observations are not numbers of rows, or of too many.
    """

    space: Space
    actions: int
    scale: float = 0.0
    value: bool = False

    memoryless = True

    def __post_init__(self) -> None:
        check_table("tabular", self.space, self.actions)
        expect(self.scale >= 0, "scale", self.scale, "0 or a positive standard deviation")

    @property
    def rows(self) -> int:
        assert isinstance(self.space, Discrete)
        return self.space.n

    def init(self, key: Array) -> dict[str, Array]:
        logits = self.scale * jax.random.normal(key, (self.rows, self.actions))
        return {"logits": logits} | ({"value": jnp.zeros(self.rows)} if self.value else {})

    def start(self, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def step(
        self, params: Tree, carry: Tree, obs: Int[Array, "..."], reset: Bool[Array, "..."]
    ) -> tuple[Tree, PolicyOutput]:
        return carry, self._look_up(params, obs)

    def unroll(
        self, params: Tree, obs: Int[Array, "... T"], resets: Bool[Array, "... T"], carry: Tree
    ) -> PolicyOutput:
        return self._look_up(params, obs)

    def _look_up(self, params: Tree, row: Int[Array, "..."]) -> PolicyOutput:
        table: Float[Array, "R K"] = jax.nn.log_softmax(params["logits"], axis=-1)
        value = params["value"][row] if self.value else None
        return PolicyOutput(TableCategorical(table, row), value)
