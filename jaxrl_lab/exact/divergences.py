"""How far two policies are apart, in what they do along a trajectory and in where they stand.

:func:`jaxrl_lab.exact.solve.trajectory_kl` is the KL divergence between trajectories; here are
its chi-squared companion and both divergences between occupancies. All are infinite where the
other side has no mass, and 0 · ∞ never occurs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxrl_envs import TabularMDP
from jaxtyping import Array, Float

from jaxrl_lab.exact.solve import Policy, policy_at, rows_to_states


def row_chi_squared(
    logp: Float[Array, "... K"], other: Float[Array, "... K"]
) -> Float[Array, "..."]:
    """χ²(π ‖ other) = Σ_a (π − other)²/other of each row of log-probabilities.

    Infinite where ``other`` rules out an action that π takes.
    """
    pi, base = jnp.exp(logp), jnp.exp(other)
    covered = base > 0
    ratio = jnp.where(covered, (pi - base) ** 2 / jnp.where(covered, base, 1.0), 0.0)
    return jnp.sum(jnp.where(covered | (pi <= 0), ratio, jnp.inf), axis=-1)


@jax.jit
def trajectory_chi_squared(mdp: TabularMDP, logp: Policy, other: Policy) -> Float[Array, ""]:
    """χ²(p_π ‖ p_other) over trajectories: the variance of the sequence importance weight.

    With w_t = Π_{i<t} π/other and m_t(s) = E_other[w_t² 1{s_t = s, not over}], one forward pass
    m_0 = d0, m_{t+1}(s') = Σ_{s,a} m_t(s) π²/other P(s'|s,a) gives
    χ² = Σ_t Σ_s m_t(s) χ²(π(·|s) ‖ other(·|s)): all terms are positive, so small divergences keep
    their digits. E_other[w²] = 1 + χ², hence the effective share of n samples is 1/(1 + χ²).

    Exact for any dynamics (transition probabilities cancel). It grows exponentially with the
    horizon: infinite above 3e38, and where ``other`` rules out an action that π takes.
    """
    at, base = policy_at(mdp, logp), policy_at(mdp, other)

    def step(mass: Array, t: Array) -> tuple[Array, Array]:
        log_pi, log_base = at(t), base(t)
        apart = row_chi_squared(log_pi, log_base)
        # Unvisited states may be infinitely far apart, which must not become 0 · inf.
        term = jnp.sum(jnp.where(mass > 0, mass * jnp.where(mass > 0, apart, 0.0), 0.0))
        # Actions the other rules out have made the sum infinite already; they carry no flow.
        usable = (log_pi > -jnp.inf) & (log_base > -jnp.inf)
        gap = jnp.where(usable, 2.0 * log_pi - log_base, -jnp.inf)
        flow = mass[:, None] * jnp.exp(gap)
        return jnp.where(mdp.terminal, 0.0, mdp.push(flow)), term

    begin = jnp.where(mdp.terminal, 0.0, mdp.start)
    return jnp.sum(jax.lax.scan(step, begin, jnp.arange(mdp.horizon))[1])


def action_occupancy(
    mdp: TabularMDP, mass: Float[Array, "... S"], logp: Policy
) -> Float[Array, "... S A"]:
    """d(s, a) = d(s) π(a|s) from an occupancy ``[S]``, or ``[T, S]`` (needed with a clock)."""
    table = logp if logp.ndim == 3 else rows_to_states(mdp, logp)
    table = jnp.broadcast_to(table, (*mass.shape, mdp.num_actions))
    return mass[..., None] * jnp.exp(table)


def occupancy_kl(mass: Float[Array, "..."], other: Float[Array, "..."]) -> Float[Array, ""]:
    """KL(d ‖ e) = Σ d log(d/e) of two occupancies, each divided by its own sum.

    Any occupancies of one shape: over states ``[S]``, over time and states ``[T, S]``, with
    actions (:func:`action_occupancy`), discounted or not. Summed as Σ [d log(d/e) − d + e], whose
    terms are positive, so that a small divergence is not lost in rounding.
    """
    d, e = mass / jnp.sum(mass), other / jnp.sum(other)
    both = (d > 0) & (e > 0)
    gap = jnp.where(both, (e - d) / jnp.where(both, d, 1.0), 0.0)
    return jnp.sum(jnp.where(both, d * (gap - jnp.log1p(gap)), _uncovered(d, e)))


def occupancy_chi_squared(
    mass: Float[Array, "..."], other: Float[Array, "..."]
) -> Float[Array, ""]:
    """χ²(d ‖ e) = Σ (d − e)²/e of two occupancies; see :func:`occupancy_kl` for what they are."""
    d, e = mass / jnp.sum(mass), other / jnp.sum(other)
    covered = e > 0
    term = (d - e) ** 2 / jnp.where(covered, e, 1.0)
    return jnp.sum(jnp.where(covered, term, _uncovered(d, e)))


def _uncovered(d: Float[Array, "..."], e: Float[Array, "..."]) -> Float[Array, "..."]:
    """The terms where one side is empty: e where d is, infinite where only e is."""
    return jnp.where(d > 0, jnp.inf, e)
