"""Any enumerable world as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TabularMDP:
    """A finite world of one level: S states, A actions, at most ``horizon`` steps.

    Exactly one of ``next`` (deterministic) and ``P`` (stochastic) is given. An episode that
    enters a state with ``terminal`` true is over; its reward was paid on the way in.

    Attributes:
        reward: expected ``true`` reward of each state and action, ``[S, A]``.
        start: distribution of the first state, ``[S]``.
        terminal: states in which nothing happens any more, ``[S]``.
        row: the observation index a tabular policy looks up in each state, ``[S]`` (several
            states may share a row: that is partial observability).
        next: successor of each state and action, ``[S, A]``, or None.
        P: transition probabilities ``[S, A, S]``, or None.
        horizon: number of steps after which every episode has ended.
    """

    reward: Float[Array, "S A"]
    start: Float[Array, "S"]
    terminal: Bool[Array, "S"]
    row: Int[Array, "S"]
    next: Int[Array, "S A"] | None = None
    P: Float[Array, "S A S"] | None = None
    horizon: int = field(default=1, metadata={"static": True})

    @property
    def num_states(self) -> int:
        return self.reward.shape[0]

    @property
    def num_actions(self) -> int:
        return self.reward.shape[1]

    def expect(self, value: Float[Array, "S"]) -> Float[Array, "S A"]:
        """E[value(s') | s, a]; zero after a terminal state."""
        alive = jnp.where(self.terminal, 0.0, value)
        if self.next is not None:
            ahead = alive[self.next]
        else:
            assert self.P is not None  # exactly one of the two is given
            ahead = self.P @ alive
        return jnp.where(self.terminal[:, None], 0.0, ahead)

    def best_return(self) -> Float[Array, ""]:
        """The best expected return within the horizon, by backward induction over the clock.

        V_h(s) = max_a E[r + V_{h-1}(s')], with V = 0 after the end.
        """

        def backward(value: Float[Array, "S"], _: None) -> tuple[Float[Array, "S"], None]:
            return jnp.max(self.reward + self.expect(value), axis=1), None

        value, _ = jax.lax.scan(backward, jnp.zeros(self.num_states), length=self.horizon)
        return jnp.sum(self.start * value)

    def push(self, mass: Float[Array, "S A"]) -> Float[Array, "S"]:
        """Where probability mass on (s, a) goes in one step; terminal mass leaves the world."""
        mass = jnp.where(self.terminal[:, None], 0.0, mass)
        if self.next is not None:
            return jnp.zeros(self.num_states).at[self.next].add(mass)
        return jnp.einsum("sa,sat->t", mass, self.P)


def one_step(reward: Float[Array, "A"], row: Int[Array, ""]) -> TabularMDP:
    """A world of one question: state 0 asks it and pays ``reward``, state 1 is the end."""
    actions = reward.shape[0]
    return TabularMDP(
        reward=jnp.stack([reward, jnp.zeros(actions)]),
        start=jnp.array([1.0, 0.0]),
        terminal=jnp.array([False, True]),
        row=jnp.stack([row, row]),
        next=jnp.ones((2, actions), jnp.int32),
        horizon=1,
    )
