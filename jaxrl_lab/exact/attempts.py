"""What k independent attempts achieve: pass@k over levels, distinct modes, distinct solutions.

Given a policy conditioned on success (:func:`jaxrl_lab.exact.solutions.success_policy`) or mode
masses divided by their sum, the same functions count among k *successful* attempts.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import TabularMDP
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float, Int
from scipy.special import gammaln

from jaxrl_lab.exact.solutions import paying, success
from jaxrl_lab.exact.solve import Number, Policy, occupancy, policy_at

MOST_ATTEMPTS = 1024
"""Largest k of :func:`distinct_solutions`, whose cost grows like k²."""


def hit(p: Float[Array, "..."], k: int | Float[Array, "..."]) -> Float[Array, "..."]:
    """1 − (1 − p)^k: probability that something of probability p happens within k attempts."""
    # expm1 and log1p keep rare answers: 1 - (1 - 1e-9)^k is 0 in float32.
    sure = p >= 1.0
    return jnp.where(sure, 1.0, -jnp.expm1(k * jnp.log1p(-jnp.where(sure, 0.0, p))))


def mean_pass_at_k(
    mdps: TabularMDP,
    logp: Policy,
    k: int,
    pays: Number = 1.0,
    weight: Float[Array, "L"] | None = None,
) -> Float[Array, ""]:
    """pass@k = Σ_l w_l [1 − (1 − p_l)^k] / Σ_l w_l over levels, p_l the exact success probability.

    ``mdps`` are levels stacked along axis 0 (:func:`jaxrl_lab.exact.levels.tabulate`), ``logp``
    one policy for all of them. All levels weigh alike by default; weight 0 leaves one out.

    Raises:
        BadInput: k below 1, or stochastic worlds (there p is the sum of :func:`mode_mass`).
    """
    expect(k >= 1, "k", k, "at least 1 sample")
    p = jax.vmap(success, in_axes=(0, None, None))(mdps, logp, pays)
    return jnp.average(hit(p, k), weights=weight)


@partial(jax.jit, static_argnames="modes")
def mode_mass(
    mdp: TabularMDP, logp: Policy, mode: Int[Array, "S"] | Int[Array, "S A"], modes: int
) -> Float[Array, "M"]:
    """π_m: probability that an episode ends in mode m, within the horizon.

    ``mode`` numbers the ends: terminal states by what is entered ``[S]``, or the ending steps by
    what is done ``[S, A]`` (where all ends are one state, as in a bandit); -1 for none.
    Works in stochastic worlds; the sum is the success probability if modes are the successes.
    """
    at, mass = policy_at(mdp, logp), occupancy(mdp, logp)

    def add(flow: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        t, here = now
        return flow + here[:, None] * jnp.exp(at(t)), None

    flow = jnp.zeros((mdp.num_states, mdp.num_actions))
    flow, _ = jax.lax.scan(add, flow, (jnp.arange(mdp.horizon), mass))
    if mode.ndim == 1:
        # Starts that are over before the first step have ended there as well.
        flow = jnp.where(mdp.terminal, mdp.push(flow) + mdp.start, 0.0)
    # Index M is out of bounds, and such additions are dropped.
    index = jnp.where(mode >= 0, mode, modes)
    return jnp.zeros(modes).at[index].add(flow, mode="drop")


def distinct_modes(mass: Float[Array, "... M"], k: int) -> Float[Array, "..."]:
    """Expected number of different modes in k attempts: Σ_m 1 − (1 − π_m)^k.

    Raises:
        BadInput: k below 1.
    """
    expect(k >= 1, "k", k, "at least 1 sample")
    return jnp.sum(hit(mass, k), axis=-1)


@partial(jax.jit, static_argnames="k")
def distinct_solutions(
    mdp: TabularMDP, logp: Policy, k: int, pays: Number = 1.0
) -> Float[Array, ""]:
    """Expected number of different successful trajectories among k: Σ_τ 1 − (1 − p(τ))^k.

    Of j attempts that share a history up to state s, Bin(j, π(a|s)) take action a; hence
    D_t(s, j) = Σ_a Σ_i Bin(i; j, π(a|s)) · (1{i ≥ 1} if the step pays, else D_{t+1}(s', i)).
    Sums of positive terms, at cost O(T S A k²), whatever the number of solutions (which the
    result approaches as k grows: :func:`jaxrl_lab.exact.solutions.solution_count`). Trajectories
    from different starts are different. A paying step should end the episode.

    Raises:
        BadInput: k below 1 or above ``MOST_ATTEMPTS``, or a stochastic world.
    """
    expect(1 <= k <= MOST_ATTEMPTS, "k", k, f"1 to {MOST_ATTEMPTS} attempts")
    paid, at = paying(mdp, pays), policy_at(mdp, logp)
    assert mdp.next is not None  # `paying` refuses stochastic worlds
    ahead_of = mdp.next.T
    found = (jnp.arange(k + 1) >= 1).astype(mdp.reward.dtype)[None]
    dead = mdp.terminal[:, None]

    def backup(ahead: Array, t: Array) -> tuple[Array, None]:
        """``ahead[S, k+1]`` one step earlier; one action at a time, for memory's sake."""

        def add(total: Array, one: tuple[Array, Array, Array]) -> tuple[Array, None]:
            log_pi, to, pays_now = one
            worth = jnp.where(pays_now[:, None], found, jnp.where(dead, 0.0, ahead[to]))
            return total + jnp.einsum("sji,si->sj", _binomial(jnp.exp(log_pi), k), worth), None

        each = (at(t).T, ahead_of, paid.T)
        return jax.lax.scan(add, jnp.zeros_like(ahead), each)[0], None

    last = jnp.zeros((mdp.num_states, k + 1))
    worth, _ = jax.lax.scan(backup, last, jnp.arange(mdp.horizon), reverse=True)
    among = _binomial(mdp.start, k)[:, k]
    return jnp.sum(among * worth)


def expected_best(
    logp: Float[Array, "... K"], quality: Float[Array, "... K"], k: int
) -> Float[Array, "..."]:
    """E[max quality of k attempts] = Σ_i q_(i) (F_i^k − F_{i−1}^k), q sorted and F its CDF.

    Raises:
        BadInput: k below 1.
    """
    expect(k >= 1, "k", k, "at least 1 sample")
    order = jnp.argsort(quality, axis=-1)
    ranked = jnp.take_along_axis(quality, order, axis=-1)
    below = jnp.cumsum(jnp.exp(jnp.take_along_axis(logp, order, axis=-1)), axis=-1)
    reached = (below / below[..., -1:]) ** k
    return jnp.sum(ranked * jnp.diff(reached, axis=-1, prepend=0.0), axis=-1)


def _binomial(p: Float[Array, "S"], k: int) -> Float[Array, "S J I"]:
    """Bin(i; j, p) for i, j = 0 .. k."""
    j, i = np.indices((k + 1, k + 1))
    possible, left = i <= j, np.maximum(j - i, 0)
    ways = gammaln(j + 1) - gammaln(i + 1) - gammaln(left + 1)
    log_ways = jnp.asarray(np.where(possible, ways, -np.inf), p.dtype)
    take, leave = jnp.asarray(i, p.dtype), jnp.asarray(left, p.dtype)
    x = jnp.clip(p, 0.0, 1.0)[:, None, None]
    shape = (p.shape[0], k + 1, k + 1)
    x, take, leave, log_ways = (jnp.broadcast_to(y, shape) for y in (x, take, leave, log_ways))
    terms = jax.scipy.special.xlogy(take, x) + jax.scipy.special.xlog1py(leave, -x)
    return jnp.exp(log_ways + terms)
