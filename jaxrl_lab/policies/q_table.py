"""A table of action values, and the policy that is soft-greedy for them."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxrl_envs import Space
from jaxrl_envs.core import Discrete
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Int

from jaxrl_lab.policies.distributions import TableCategorical
from jaxrl_lab.policies.tabular import check_table
from jaxrl_lab.types import PolicyOutput, Tree


@dataclass(frozen=True)
class QTable:
    """Q(row, a) = v[row] + u[row, a], pi = softmax(u / τ), V = v + τ log Σ_a exp(u_a / τ).

    So Q = V + τ log π, which is how :class:`~jaxrl_lab.mechanisms.q_regression.QRegression` reads
    action values off any policy with a value head. The temperature τ is the policy's own
    randomness: near 0 it is greedy, and Q is learned at the same speed. v is learned from every
    action, so that the actions that are taken more often do not run ahead of the others while all
    values rise. u ~ N(0, scale²) and v = 0 at first.

    Attributes:
        space: observation space; must be discrete.
        actions: K.
        temperature: τ.
        scale: standard deviation of the initial u; 0 starts uniform.
        value: whether the output carries V.

    Raises:
        BadInput: observations that are not numbers of rows, too many rows, or no temperature.

    Source: Q = V + τ log π, arXiv 1702.08892; v and u side by side, arXiv 1511.06581.
    """

    space: Space
    actions: int
    temperature: float = 1.0
    scale: float = 0.0
    value: bool = False

    memoryless = True

    def __post_init__(self) -> None:
        check_table("q_table", self.space, self.actions)
        expect(self.temperature > 0, "temperature", self.temperature, "above 0 (1e-3 is greedy)")
        expect(self.scale >= 0, "scale", self.scale, "0 or a positive standard deviation")

    def init(self, key: Array) -> dict[str, Array]:
        assert isinstance(self.space, Discrete)
        noise = jax.random.normal(key, (self.space.n, self.actions))
        return {"u": self.scale * noise, "v": jnp.zeros(self.space.n)}

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
        scaled = params["u"] / self.temperature
        dist = TableCategorical(jax.nn.log_softmax(scaled, axis=-1), row)
        if not self.value:
            return PolicyOutput(dist)
        value = params["v"] + self.temperature * jax.nn.logsumexp(scaled, axis=-1)
        return PolicyOutput(dist, value[row])
