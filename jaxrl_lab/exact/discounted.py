"""Infinite horizons: what a stationary policy is worth and where it stands, by linear algebra.

P_π(s, s') = Σ_a π(a|s) P(s'|s, a) among the states in which the episode goes on. The horizon of
the world plays no part: nothing is cut, episodes end in terminal states only. A policy is a table
``logp[R, K]`` looked up through ``mdp.row``; for one row per state see :func:`fully_observed`.
Systems are solved in float32, with a relative error near 1e-7 / (1 − γ). Everything may be
``vmap``-ped, and all but :func:`soft_stationary` differentiated in the policy.

At discount 1 a policy may have *traps*: states from which it can never end. They are found on the
graph of its moves, so that a system that has no solution is never solved.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxrl_envs import TabularMDP
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.exact.solve import Number, rows_to_states

SETTLED = 1e-6
"""Soft policy iteration stops when values change by less than this times 1 + the largest value."""

MOST_ROUNDS = 100
"""And after this many rounds in any case; it converges quadratically, so ten are many."""


class Stationary(NamedTuple):
    """Values ``v[S]``, ``q[S, A]`` and the policy ``logp[S, A]`` that attains them for ever.

    The policy has one row per state: evaluate it in :func:`fully_observed`.
    """

    v: Float[Array, "S"]
    q: Float[Array, "S A"]
    logp: Float[Array, "S A"]


def fully_observed(mdp: TabularMDP) -> TabularMDP:
    """The same world with one row per state, as tables ``logp[S, A]`` need it."""
    return replace(mdp, row=jnp.arange(mdp.num_states, dtype=jnp.int32))


@jax.jit
def discounted_value(
    mdp: TabularMDP, logp: Float[Array, "R K"], discount: Number
) -> tuple[Float[Array, "S"], Float[Array, "S A"]]:
    """V = (I − γ P_π)⁻¹ r_π and Q(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V(s'), 0 in terminal states.

    Returns ``v[S]`` and ``q[S, A]``. At discount 1 a trap in which nothing is paid is worth 0;
    what may lead to a trap in which something is has no value, and NaN stands there.

    Raises:
        BadInput: a policy that sees the clock.
    """
    pi, moves, leaves = _moves(mdp, logp)
    reward = jnp.where(mdp.terminal[:, None], 0.0, mdp.reward)
    gain = jnp.sum(pi * reward, axis=-1)
    trap = _traps(mdp, moves, leaves, discount)
    v = _solve(jnp.where(trap[:, None], 0.0, discount * moves), jnp.where(trap, 0.0, gain))
    unsettled = _leads_to(moves, trap & (gain != 0.0))
    risky = mdp.expect(unsettled.astype(v.dtype)) > 0
    q = jnp.where(mdp.terminal[:, None], 0.0, reward + discount * mdp.expect(v))
    return jnp.where(unsettled, jnp.nan, v), jnp.where(risky, jnp.nan, q)


@jax.jit
def discounted_return(
    mdp: TabularMDP, logp: Float[Array, "R K"], discount: Number
) -> Float[Array, ""]:
    """J(π) = Σ_s d0(s) V(s) without a time limit. See :func:`discounted_value`."""
    v = discounted_value(mdp, logp, discount)[0]
    return jnp.sum(jnp.where(mdp.start > 0, mdp.start * v, 0.0))


@jax.jit
def discounted_occupancy(
    mdp: TabularMDP, logp: Float[Array, "R K"], discount: Number
) -> Float[Array, "S"]:
    """d(s) = Σ_t γ^t P(s_t = s, episode not over): d = (I − γ P_πᵀ)⁻¹ d0, 0 in terminal states.

    Not normalized: the sum is the expected (discounted) number of steps, and J = Σ_s d(s) r_π(s).
    At discount 1 it is the expected number of visits, and infinite in traps that are reached (in
    all their states, also those that are passed only once on the way to where it stays).

    Raises:
        BadInput: a policy that sees the clock.
    """
    _, moves, leaves = _moves(mdp, logp)
    trap = _traps(mdp, moves, leaves, discount)
    begin = jnp.where(mdp.terminal, 0.0, mdp.start)
    d = _solve(jnp.where(trap[:, None], 0.0, discount * moves).T, begin)
    return jnp.where(trap & _leads_to(moves.T, begin > 0), jnp.inf, d)


@jax.jit
def soft_stationary(
    mdp: TabularMDP,
    temperature: Number,
    discount: Number,
    reference: Float[Array, "R K"] | None = None,
) -> Stationary:
    """Maximizes E[Σ_t γ^t (r + τ H(π))], or E[Σ_t γ^t (r − τ KL(π‖ref))], without a time limit.

    The fixed point V(s) = τ log Σ_a ref(a|s) exp(Q(s,a)/τ), π ∝ ref·exp(Q/τ), with ref = 1 for
    plain entropy, by soft policy iteration (exact evaluation, hence Newton's method on the fixed
    point). Temperature above 0, and as a rule discount below 1: at 1 an entropy bonus may be
    collected for ever. Not for reverse-mode differentiation. See
    :func:`jaxrl_lab.exact.solve.soft_optimal` for a finite horizon.

    Source: soft policy iteration, arXiv 1801.01290; with a reference, arXiv 1704.06440.
    """
    prior = jnp.zeros_like(mdp.reward) if reference is None else rows_to_states(mdp, reference)
    full, reward = fully_observed(mdp), jnp.where(mdp.terminal[:, None], 0.0, mdp.reward)

    def look_ahead(v: Array) -> Array:
        ahead = reward + discount * mdp.expect(v)
        return jnp.where(mdp.terminal[:, None], 0.0, ahead)

    def improve(v: Array) -> Array:
        return jax.nn.log_softmax(prior + look_ahead(v) / temperature, axis=-1)

    def evaluate(logp: Array) -> Array:
        pi, moves, _ = _moves(full, logp)
        # An action the reference rules out is never taken, and costs nothing.
        gap = jnp.where(pi > 0, logp - jnp.where(pi > 0, prior, 0.0), 0.0)
        gain = jnp.sum(pi * (reward - temperature * gap), axis=-1)
        return _solve(discount * moves, jnp.where(mdp.terminal, 0.0, gain))

    def changing(loop: tuple[Array, Array, Array]) -> Array:
        v, change, rounds = loop
        return (change > SETTLED * (1.0 + jnp.max(jnp.abs(v)))) & (rounds < MOST_ROUNDS)

    def round_(loop: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        v, _, rounds = loop
        after = evaluate(improve(v))
        return after, jnp.max(jnp.abs(after - v)), rounds + 1

    begin = (jnp.zeros_like(mdp.start), jnp.float32(jnp.inf), jnp.int32(0))
    v, _, _ = jax.lax.while_loop(changing, round_, begin)
    q = look_ahead(v)
    soft = temperature * jax.nn.logsumexp(prior + q / temperature, axis=-1)
    return Stationary(jnp.where(mdp.terminal, 0.0, soft), q, improve(v))


def _moves(
    mdp: TabularMDP, logp: Float[Array, "R K"]
) -> tuple[Float[Array, "S A"], Float[Array, "S S"], Bool[Array, "S"]]:
    """π by state, P_π among states in which the episode goes on, and whence one move may end it."""
    expect(logp.ndim == 2, "logp.ndim", logp.ndim, "2 axes [R, K]: a policy without a clock")
    pi = jnp.exp(rows_to_states(mdp, logp))
    if mdp.next is not None:
        here = jnp.arange(mdp.num_states)[:, None]
        moves = jnp.zeros((mdp.num_states, mdp.num_states)).at[here, mdp.next].add(pi)
    else:
        moves = jnp.einsum("sa,sat->st", pi, mdp.P)
    moves = jnp.where(mdp.terminal[:, None], 0.0, moves)
    leaves = jnp.any((moves > 0) & mdp.terminal[None, :], axis=-1)
    return pi, jnp.where(mdp.terminal[None, :], 0.0, moves), leaves


def _traps(
    mdp: TabularMDP, moves: Float[Array, "S S"], leaves: Bool[Array, "S"], discount: Number
) -> Bool[Array, "S"]:
    """States from which the policy can never end; none below discount 1, where all sums exist."""
    return ~_leads_to(moves, leaves) & ~mdp.terminal & (jnp.asarray(discount) >= 1.0)


def _leads_to(moves: Float[Array, "S S"], target: Bool[Array, "S"]) -> Bool[Array, "S"]:
    """States from which some sequence of moves leads to ``target``, itself included."""
    edges = moves > 0

    def growing(loop: tuple[Array, Array]) -> Array:
        return loop[1]

    def grow(loop: tuple[Array, Array]) -> tuple[Array, Array]:
        seen, _ = loop
        more = seen | jnp.any(edges & seen[None, :], axis=-1)
        return more, jnp.any(more != seen)

    return jax.lax.while_loop(growing, grow, (target, jnp.any(target)))[0]


def _solve(moves: Float[Array, "S S"], right: Float[Array, "S"]) -> Float[Array, "S"]:
    """x = moves x + right."""
    return jnp.linalg.solve(jnp.eye(moves.shape[0]) - moves, right)
