"""Exact gradients in the logits of a tabular policy, in closed form by occupancy and advantage.

All take ``logits[R, K]`` (not yet normalized) and return an array of that shape. They equal
``jax.grad`` of the matching function of :mod:`jaxrl_lab.exact.solve`, at a fraction of its
memory; states that share a row share its gradient.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxrl_envs import TabularMDP
from jaxtyping import Array, Float

from jaxrl_lab.exact.solve import Number, occupancy, rows_to_states, value


def advantage_mass(
    mdp: TabularMDP, logp: Float[Array, "R K"], discount: Number = 1.0
) -> tuple[Float[Array, "R K"], Float[Array, "R"]]:
    """Σ_t Σ_{s in row} γ^t d_t(s) A_t(s, a) and Σ_t Σ_{s in row} γ^t d_t(s), per row.

    A_t = q_t − v_t. The first times π is the policy gradient, the quotient is the natural one.
    """
    v, q = value(mdp, logp, discount)
    power = discount ** jnp.arange(mdp.horizon, dtype=mdp.reward.dtype)
    mass = occupancy(mdp, logp) * power[:, None]
    ahead = jnp.sum(mass[:, :, None] * (q - v[:-1, :, None]), axis=0)
    weighted = jnp.zeros_like(logp).at[mdp.row].add(ahead)
    return weighted, jnp.zeros_like(logp[:, 0]).at[mdp.row].add(jnp.sum(mass, axis=0))


@jax.jit
def policy_gradient(
    mdp: TabularMDP, logits: Float[Array, "R K"], discount: Number = 1.0
) -> Float[Array, "R K"]:
    """∂J/∂z(row, a) = Σ_t Σ_{s in row} γ^t d_t(s) π(a|s) (Q_t(s,a) − V_t(s)).

    In a bandit π(a)(r(a) − π·r). J is :func:`jaxrl_lab.exact.solve.expected_return`.
    """
    logp = jax.nn.log_softmax(logits, axis=-1)
    return jnp.exp(logp) * advantage_mass(mdp, logp, discount)[0]


@jax.jit
def natural_gradient(
    mdp: TabularMDP, logits: Float[Array, "R K"], discount: Number = 1.0
) -> Float[Array, "R K"]:
    """F⁺ ∇J up to a constant per row: the advantage, averaged over the visits to the row.

    F = Σ_t γ^t d_t (diag π − ππᵀ) is block-diagonal over rows, so the quotient of
    :func:`advantage_mass` solves it exactly, shared rows included; Q_t depends on the time left,
    hence the average. In a bandit it is A itself. 0 in rows that are never visited.
    """
    weighted, mass = advantage_mass(mdp, jax.nn.log_softmax(logits, axis=-1), discount)
    seen = (mass > 0)[:, None]
    return jnp.where(seen, weighted / jnp.where(seen, mass[:, None], 1.0), 0.0)


@jax.jit
def entropy_gradient(mdp: TabularMDP, logits: Float[Array, "R K"]) -> Float[Array, "R K"]:
    """Gradient of the trajectory entropy: the policy gradient for the reward −log π(a|s).

    The derivative of that reward itself vanishes in expectation. In a bandit −π (log π + H).
    """
    return _with_reward(mdp, logits, -jax.nn.log_softmax(logits, axis=-1))


@jax.jit
def kl_gradient(
    mdp: TabularMDP, logits: Float[Array, "R K"], other: Float[Array, "R K"]
) -> Float[Array, "R K"]:
    """Gradient of KL(p_π ‖ p_other) over trajectories: reward log π(a|s) − log other(a|s).

    ``other`` holds log-probabilities, finite wherever π takes the action.
    """
    return _with_reward(mdp, logits, jax.nn.log_softmax(logits, axis=-1) - other)


def _with_reward(
    mdp: TabularMDP, logits: Float[Array, "R K"], reward: Float[Array, "R K"]
) -> Float[Array, "R K"]:
    # Actions that are never taken have an infinite reward here, which must not become 0 · inf.
    taken = jax.nn.log_softmax(logits, axis=-1) > -jnp.inf
    finite = jnp.where(taken, reward, 0.0)
    return policy_gradient(replace(mdp, reward=rows_to_states(mdp, finite)), logits)
