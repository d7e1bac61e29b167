"""How often a policy solves a deterministic world, and in how many different ways.

A step *solves* the task when it pays the optimum ``pays``; it should end the episode (a world
that goes on is followed no further). Everything is kept as logarithms, so that a solution of
probability 1e-60 still counts for diversity, and gradients stay finite where success is
impossible. Policies and shapes are those of :mod:`jaxrl_lab.exact.solve`; every function raises
:class:`BadInput` in a stochastic world, where one step does not decide success.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxrl_envs import BadInput, TabularMDP
from jaxtyping import Array, Bool, Float

from jaxrl_lab.exact.solve import Number, Policy, backward, forward, policy_at
from jaxrl_lab.policies.distributions import entropy_of

PAID = 1e-4
"""How far below the optimum a reward may lie through rounding and still count as success."""


def paying(mdp: TabularMDP, pays: Number = 1.0) -> Bool[Array, "S A"]:
    """Steps that solve the task: those that pay the optimum.

    Raises:
        BadInput: in a stochastic world, where one step does not decide success. There
            :func:`expected_return` is the success probability if rewards are 0 or 1 paid once.
    """
    if mdp.next is None:
        raise BadInput("mdp.P", "given", "a deterministic world (`next`); see expected_return")
    return (mdp.reward >= pays - PAID) & ~mdp.terminal[:, None]


@jax.jit
def log_success(
    mdp: TabularMDP, logp: Policy, pays: Number = 1.0
) -> tuple[Float[Array, "T1 S"], Float[Array, "T S A"]]:
    """log V_t(s) and log W_t(s, a): log-probability of success from there on; -inf where none.

    W_t(s,a) = 1 if the step pays, else V_{t+1}(s'); V_t = Σ_a π W_t. Kept as logarithms, so that
    a solution of probability 1e-60 still counts for diversity; gradients stay finite.
    Success means a step that pays ``pays``; such a step should end the episode.

    Raises:
        BadInput: in a stochastic world.
    """
    paid, at = paying(mdp, pays), policy_at(mdp, logp)

    def backup(t: Array, ahead: Array) -> tuple[Array, Array]:
        w = jnp.where(paid, 0.0, jnp.where(mdp.terminal[:, None], -jnp.inf, ahead[mdp.next]))
        return _log_sum(at(t) + w), w

    return backward(mdp, backup, jnp.full_like(mdp.start, -jnp.inf))


@jax.jit
def success(mdp: TabularMDP, logp: Policy, pays: Number = 1.0) -> Float[Array, ""]:
    """Probability that the total reward reaches the optimum.

    Meant for deterministic worlds in which one step pays ``pays`` and ends the episode; where all
    other rewards are 0 and ``pays`` is 1 this is the expected return, and only there.

    Raises:
        BadInput: in a stochastic world.
    """
    return jnp.sum(mdp.start * jnp.exp(log_success(mdp, logp, pays)[0][0]))


@jax.jit
def solution_count(mdp: TabularMDP, pays: Number = 1.0) -> Float[Array, ""]:
    """Number of action sequences that succeed within the horizon, over all possible starts.

    The recursion of success with π replaced by 1: n_t(s) = Σ_a [1 if paid, else n_{t+1}(s')].
    Detours count; ``replace(mdp, horizon=d)`` leaves sequences of at most d steps. Exact below
    2^24, infinite above 1e38 (there use ``log_success(mdp, zeros)``).

    Raises:
        BadInput: in a stochastic world.
    """
    paid = paying(mdp, pays)

    def backup(t: Array, ahead: Array) -> tuple[Array, Array]:
        n = jnp.where(paid, 1.0, jnp.where(mdp.terminal[:, None], 0.0, ahead[mdp.next]))
        return jnp.sum(n, axis=-1), n

    count = backward(mdp, backup, jnp.zeros_like(mdp.start))[0][0]
    return jnp.sum(jnp.where(mdp.start > 0, count, 0.0))


@jax.jit
def success_policy(
    mdp: TabularMDP, logp: Policy, pays: Number = 1.0
) -> tuple[Float[Array, "S"], Float[Array, "T S A"]]:
    """The policy conditioned on success: log π⁺_t(a|s) = log π + log W_t(s,a) − log V_t(s).

    Returns the log-distribution of the start given success ``[S]`` and ``log π⁺[T, S, A]``; rows
    from which success is impossible are all -inf. With ``logp = 0`` it draws solutions uniformly.

    Raises:
        BadInput: in a stochastic world.
    """
    at = policy_at(mdp, logp)
    v, w = log_success(mdp, logp, pays)

    def row(t: Array, v_t: Array, w_t: Array) -> Array:
        return _log_ratio(at(t) + w_t, v_t[:, None])

    plus = jax.vmap(row)(jnp.arange(mdp.horizon), v[:-1], w)
    start = jnp.where(mdp.start > 0, jnp.log(jnp.where(mdp.start > 0, mdp.start, 1.0)), -jnp.inf)
    return _log_ratio(start + v[0], _log_sum(start + v[0])[None]), plus


@jax.jit
def success_entropy(mdp: TabularMDP, logp: Policy, pays: Number = 1.0) -> Float[Array, ""]:
    """H⁺ = H(start | success) + Σ_t Σ_s d⁺_t(s) H(π⁺_t(·|s)): entropy over successful trajectories.

    exp(H⁺) is the effective number of solutions in use, between 1 and :func:`solution_count`; in
    a bandit, exp of the entropy of π restricted to the correct arms. 0 where success is
    impossible. Assumes that the paying step ends the episode.

    Raises:
        BadInput: in a stochastic world.
    """
    start, plus = success_policy(mdp, logp, pays)
    mass = forward(mdp, jnp.exp(start), plus, leaves=paying(mdp, pays))
    return entropy_of(start) + jnp.sum(mass * entropy_of(plus))


def _log_sum(x: Float[Array, "... K"]) -> Float[Array, "..."]:
    """logsumexp whose gradient is 0 and not NaN where every entry is -inf."""
    some = jnp.any(x > -jnp.inf, axis=-1)
    total = jax.nn.logsumexp(jnp.where(some[..., None], x, 0.0), axis=-1)
    return jnp.where(some, total, -jnp.inf)


def _log_ratio(x: Float[Array, "..."], total: Float[Array, "..."]) -> Float[Array, "..."]:
    """x − total, and -inf (never -inf + inf) where x is -inf."""
    some = x > -jnp.inf
    return jnp.where(some, jnp.where(some, x, 0.0) - jnp.where(some, total, 0.0), -jnp.inf)
