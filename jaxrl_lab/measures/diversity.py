"""How many of the right answers a policy still gives: one-step worlds, one row per prompt.

``logp[B, K]`` are normalized log-probabilities of the arms and ``correct[B, K]`` says which arms
solve the prompt; every measure is per prompt, ``[B]`` (any leading axes work).
:func:`prompt_mean` averages. Longer worlds: :func:`jaxrl_lab.exact.success_entropy`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.exact.attempts import hit
from jaxrl_lab.policies.distributions import entropy_of


def accuracy(logp: Float[Array, "... K"], correct: Bool[Array, "... K"]) -> Float[Array, "..."]:
    """p = Σ_{a correct} π(a), pass@1."""
    return jnp.sum(jnp.where(correct, jnp.exp(logp), 0.0), axis=-1)


def effective_solutions(
    logp: Float[Array, "... K"], correct: Bool[Array, "... K"]
) -> Float[Array, "..."]:
    """N_eff = exp H(π restricted to the correct arms and renormalized), between 1 and M.

    Works on logarithms, so it stays right where the correct mass underflows. 0 for a prompt
    without a correct arm that has a finite log-probability.
    """
    usable = correct & (logp > -jnp.inf)
    some = jnp.any(usable, axis=-1)
    # Rows without a usable arm get a harmless stand-in: a NaN would survive the final `where`
    # in the gradient.
    kept = jnp.where(usable, logp, jnp.where(some[..., None], -jnp.inf, 0.0))
    among = jax.nn.log_softmax(kept, axis=-1)
    return jnp.where(some, jnp.exp(entropy_of(among)), 0.0)


def solution_deficit(
    logp: Float[Array, "... K"], correct: Bool[Array, "... K"]
) -> Float[Array, "..."]:
    """log M − log N_eff ≥ 0: KL from the policy among the correct arms to the uniform one.

    0 for a prompt without correct arms; infinite if none of them has a finite log-probability.
    """
    count = jnp.sum(correct, axis=-1, dtype=logp.dtype)
    found = effective_solutions(logp, correct)
    alive = found > 0
    deficit = jnp.log(jnp.maximum(count, 1.0)) - jnp.log(jnp.where(alive, found, 1.0))
    return jnp.where(alive, jnp.maximum(deficit, 0.0), jnp.where(count > 0, jnp.inf, 0.0))


def pass_at_k(p: Float[Array, "..."], k: int) -> Float[Array, "..."]:
    """pass@k = 1 − (1 − p)^k for a known success probability p (see :func:`accuracy`).

    Raises:
        BadInput: k below 1.
    """
    expect(k >= 1, "k", k, "at least 1 sample")
    return hit(p, k)


def estimated_pass_at_k(successes: Int[Array, "..."], n: int, k: int) -> Float[Array, "..."]:
    """Unbiased estimate of pass@k from n samples with c right: 1 − C(n−c, k)/C(n, k).

    The quotient is a product of k factors (n−c−i)/(n−i), so nothing overflows.

    Raises:
        BadInput: k below 1 or above n.
    Source: arXiv 2107.03374.
    """
    expect(1 <= k <= n, "k", k, f"1 to {n}, the number of samples")
    i = jnp.arange(k, dtype=jnp.float32).reshape(k, *(1,) * successes.ndim)
    wrong = (n - successes).astype(jnp.float32)[None]
    return 1.0 - jnp.prod(jnp.maximum(wrong - i, 0.0) / (n - i), axis=0)


def coverage_at_k(
    logp: Float[Array, "... K"], correct: Bool[Array, "... K"], k: int
) -> Float[Array, "..."]:
    """Expected share of the correct arms seen in k samples: mean_{a correct} 1 − (1 − π_a)^k.

    Times M it is the expected number of distinct solutions. 0 for a prompt without correct arms.

    Raises:
        BadInput: k below 1.
    """
    expect(k >= 1, "k", k, "at least 1 sample")
    seen = jnp.sum(jnp.where(correct, hit(jnp.exp(logp), k), 0.0), axis=-1)
    return seen / jnp.maximum(jnp.sum(correct, axis=-1, dtype=logp.dtype), 1.0)


def prompt_mean(
    per_prompt: Float[Array, "... B"], weight: Float[Array, "... B"] | None = None
) -> Float[Array, "..."]:
    """Mean over prompts, weighted where ``weight`` is given (0 leaves a prompt out).

    A prompt of weight 0 may be infinite or NaN. 0 where all weights are 0.
    """
    if weight is None:
        return jnp.mean(per_prompt, axis=-1)
    kept = jnp.where(weight > 0, per_prompt, 0.0)
    total = jnp.sum(weight, axis=-1)
    return jnp.sum(weight * kept, axis=-1) / jnp.where(total > 0, total, 1.0)
