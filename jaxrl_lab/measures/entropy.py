"""Spread of a policy per token, and its distance from another one."""

from __future__ import annotations

from jaxtyping import Array, Float

from jaxrl_lab.exact.solve import row_kl
from jaxrl_lab.policies.distributions import entropy_of


def token_entropy(logp: Float[Array, "... K"]) -> Float[Array, "..."]:
    """H = −Σ_a π log π of each row of log-probabilities, in nats; 0 log 0 = 0."""
    return entropy_of(logp)


def kl_to(logp: Float[Array, "... K"], logp_ref: Float[Array, "... K"]) -> Float[Array, "..."]:
    """KL(π ‖ π_ref) = Σ_a π (log π − log π_ref) of each row; infinite where π_ref rules out a."""
    return row_kl(logp, logp_ref)
