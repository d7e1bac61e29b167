"""Exact answers in a tabular world, by one pass over time: the oracles of the laboratory.

Every function is written for one world and one policy, and may be ``vmap``-ped over levels
(``jax.vmap(env.tabular, (None, 0))``) and over tables, and differentiated in the policy. They are
jitted already: a scan that is called eagerly would be compiled again at every call.

A policy is a table of log-probabilities ``logp[R, K]`` that states look up through ``mdp.row``;
``logp[T, S, A]`` is taken as a policy that sees the state itself and the clock. An entry of -inf
is an action that is never taken. Time runs over ``t = 0 .. T-1`` with ``T = mdp.horizon``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxrl_envs import TabularMDP
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.policies.distributions import entropy_of

TIE = 1e-6
"""Action values closer than this (times 1 + the larger magnitude) count as equally good."""

Policy = Float[Array, "..."]
"""``logp[R, K]`` or ``logp[T, S, A]``; see the module docstring."""

Number = float | Float[Array, ""]


class Solution(NamedTuple):
    """Values ``v[T+1, S]``, ``q[T, S, A]`` and the policy ``logp[T, S, A]`` that attains them.

    Entry t knows that T - t steps are left. Where every episode ends by itself in time (a clock
    in the state, or one step), ``logp[0]`` is the whole answer and needs no clock.
    """

    v: Float[Array, "T1 S"]
    q: Float[Array, "T S A"]
    logp: Float[Array, "T S A"]


def rows_to_states(mdp: TabularMDP, table: Float[Array, "R K"]) -> Float[Array, "S A"]:
    """What a table with one row per observation says in each state: ``table[mdp.row]``."""
    return table[mdp.row]


def policy_at(mdp: TabularMDP, logp: Policy) -> Callable[[Int[Array, ""]], Float[Array, "S A"]]:
    """The policy as a function of time; a table is gathered once and never copied T times."""
    if logp.ndim == 3:
        return lambda t: logp[t]
    states = rows_to_states(mdp, logp)
    return lambda t: states


def backward(
    mdp: TabularMDP,
    backup: Callable[[Int[Array, ""], Array], tuple[Array, Array]],
    last: Float[Array, "S"],
) -> tuple[Float[Array, "T1 S"], Float[Array, "T S A"]]:
    """v_t, q_t = backup(t, v_{t+1}) from t = T-1 down to 0, starting at v_T = last."""

    def step(ahead: Array, t: Array) -> tuple[Array, tuple[Array, Array]]:
        v, q = backup(t, ahead)
        return v, (v, q)

    _, (v, q) = jax.lax.scan(step, last, jnp.arange(mdp.horizon), reverse=True)
    return jnp.concatenate([v, last[None]]), q


def forward(
    mdp: TabularMDP,
    start: Float[Array, "S"],
    logp: Policy,
    leaves: Bool[Array, "S A"] | None = None,
) -> Float[Array, "T S"]:
    """Mass per time and state of episodes that have not ended; ``leaves`` ends further ones."""
    at = policy_at(mdp, logp)

    def step(mass: Array, t: Array) -> tuple[Array, Array]:
        flow = mass[:, None] * jnp.exp(at(t))
        flow = flow if leaves is None else jnp.where(leaves, 0.0, flow)
        return jnp.where(mdp.terminal, 0.0, mdp.push(flow)), mass

    begin = jnp.where(mdp.terminal, 0.0, start)
    return jax.lax.scan(step, begin, jnp.arange(mdp.horizon))[1]


def _q(mdp: TabularMDP, ahead: Float[Array, "S"], discount: Number) -> Float[Array, "S A"]:
    # States are worth nothing once the episode is over, whatever the reward array holds there.
    return jnp.where(mdp.terminal[:, None], 0.0, mdp.reward + discount * mdp.expect(ahead))


@jax.jit
def value(
    mdp: TabularMDP, logp: Policy, discount: Number = 1.0
) -> tuple[Float[Array, "T1 S"], Float[Array, "T S A"]]:
    """Values of a policy: q_t = r + γ E[v_{t+1}(s')], v_t = Σ_a π(a|s) q_t(s, a), v_T = 0.

    Returns ``v[T+1, S]`` and ``q[T, S, A]``; both are 0 in terminal states.
    """
    at = policy_at(mdp, logp)

    def backup(t: Array, ahead: Array) -> tuple[Array, Array]:
        q = _q(mdp, ahead, discount)
        return jnp.sum(jnp.exp(at(t)) * q, axis=-1), q

    return backward(mdp, backup, jnp.zeros_like(mdp.start))


@jax.jit
def expected_return(mdp: TabularMDP, logp: Policy, discount: Number = 1.0) -> Float[Array, ""]:
    """J(π) = Σ_s d0(s) v_0(s); differentiable in ``logp``. See :func:`value`."""
    return jnp.sum(mdp.start * value(mdp, logp, discount)[0][0])


@jax.jit
def optimal(mdp: TabularMDP, discount: Number = 1.0) -> Solution:
    """Finite-horizon value iteration: v_t = max_a q_t; the policy is uniform over tied actions.

    States with ``v[t] == 0`` in a world of 0/1 rewards are points of no return (exact first
    errors). Ties are values within ``TIE``.
    """

    def backup(t: Array, ahead: Array) -> tuple[Array, Array]:
        q = _q(mdp, ahead, discount)
        return jnp.max(q, axis=-1), q

    v, q = backward(mdp, backup, jnp.zeros_like(mdp.start))
    best = jnp.max(q, axis=-1, keepdims=True)
    tied = q >= best - TIE * (1.0 + jnp.abs(best))
    count = jnp.sum(tied, axis=-1, keepdims=True, dtype=q.dtype)
    return Solution(v, q, jnp.where(tied, -jnp.log(count), -jnp.inf))


@jax.jit
def soft_optimal(
    mdp: TabularMDP,
    temperature: Number,
    discount: Number = 1.0,
    reference: Policy | None = None,
) -> Solution:
    """Maximizes E[Σ γ^t (r + τ H(π))], or E[Σ γ^t (r − τ KL(π‖ref))] where a reference is given.

    v_t = τ log Σ_a ref(a|s) exp(q_t(s,a)/τ) and π_t ∝ ref·exp(q_t/τ), with ref = 1 for plain
    entropy: softmax(r/τ) in a one-step world, uniform over equally good actions as τ → 0, and
    ref·exp(r/τ)/Z with a reference.

    Shapes: temperature and discount are scalars, reference as a policy. No state has a value
    once the episode is over. Source: soft value iteration, arXiv 1704.06440.
    """
    prior = None if reference is None else policy_at(mdp, reference)

    def scores(t: Array, q: Array) -> Array:
        return q / temperature if prior is None else prior(t) + q / temperature

    def backup(t: Array, ahead: Array) -> tuple[Array, Array]:
        q = _q(mdp, ahead, discount)
        v = temperature * jax.nn.logsumexp(scores(t, q), axis=-1)
        return jnp.where(mdp.terminal, 0.0, v), q

    v, q = backward(mdp, backup, jnp.zeros_like(mdp.start))
    times = jnp.arange(mdp.horizon)
    return Solution(v, q, jax.nn.log_softmax(jax.vmap(scores)(times, q), axis=-1))


@jax.jit
def occupancy(mdp: TabularMDP, logp: Policy) -> Float[Array, "T S"]:
    """d_t(s): probability of standing in s at time t with the episode not yet over.

    d_0 = start, d_{t+1}(s') = Σ_{s,a} d_t(s) π(a|s) P(s'|s,a) outside terminal states.
    """
    return forward(mdp, mdp.start, logp)


@jax.jit
def trajectory_entropy(mdp: TabularMDP, logp: Policy) -> Float[Array, ""]:
    """Σ_t Σ_s d_t(s) H(π(·|s)): entropy of the action sequence given the start.

    Equal to the entropy of the trajectory when moves are deterministic; otherwise the part of it
    that the policy causes.
    """
    return _per_state(mdp, logp, lambda t, rows: entropy_of(rows))


@jax.jit
def trajectory_kl(mdp: TabularMDP, logp: Policy, other: Policy) -> Float[Array, ""]:
    """KL(p_π ‖ p_other) over trajectories = Σ_t Σ_s d^π_t(s) KL(π(·|s) ‖ other(·|s)).

    Exact for any dynamics (transition probabilities cancel); infinite where the other policy
    rules out an action that this one takes.
    """
    at = policy_at(mdp, other)
    return _per_state(mdp, logp, lambda t, rows: row_kl(rows, at(t)))


def _per_state(
    mdp: TabularMDP, logp: Policy, measure: Callable[[Array, Array], Array]
) -> Float[Array, ""]:
    at = policy_at(mdp, logp)
    mass = occupancy(mdp, logp)
    found = jax.vmap(lambda t: measure(t, at(t)))(jnp.arange(mdp.horizon))
    # Unvisited states may have an infinite divergence, which must not become 0 · inf.
    return jnp.sum(mass * jnp.where(mass > 0, found, 0.0))


def row_kl(logp: Float[Array, "... K"], other: Float[Array, "... K"]) -> Float[Array, "..."]:
    """KL(π ‖ other) = Σ_a π (log π − log other) of each row of log-probabilities.

    Infinite where ``other`` rules out an action that π takes; 0 log 0 = 0.
    """
    taken = logp > -jnp.inf
    # Guarded on both sides: -inf minus -inf would be NaN, in the value and in the gradient.
    gap = jnp.where(taken, logp, 0.0) - jnp.where(taken, other, 0.0)
    return jnp.sum(jnp.exp(logp) * gap, axis=-1)
