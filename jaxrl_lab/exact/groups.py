"""Mean and covariance of the update that one group of G rollouts makes, exactly or by sampling.

A *group* is G independent draws from π over K outcomes: arms, (arm, noisy reward) pairs, or the
enumerated trajectories of a small world. Group methods treat their rollouts alike, so only the
counts of a group matter: C(K+G−1, G) of them instead of the K^G ordered groups that
:func:`jaxrl_lab.exact.dynamics.expected_update` goes through.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import chain, combinations_with_replacement
from math import comb
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float, Int
from scipy.special import gammaln

from jaxrl_lab.policies.distributions import TableCategorical

MOST_COMPOSITIONS = 2**18
"""Largest number of group compositions that is enumerated."""


class Moments(NamedTuple):
    """What an update does on average, and how much it scatters.

    Attributes:
        mean: E[change], a pytree like one change.
        covariance: Cov[change] of the changes flattened by ``ravel_pytree``, ``[D, D]``.
        error: standard error of ``mean``; 0 where it is exact.
    """

    mean: Any
    covariance: Float[Array, "D D"]
    error: Any


def compositions(K: int, G: int) -> tuple[Int[Array, "N G"], Float[Array, "N"]]:
    """All multisets of G outcomes, sorted within a row, and log of the orders each stands for.

    log G! − Σ_a log n_a!; the sum of exp is K^G.

    Raises:
        BadInput: when there are more than ``MOST_COMPOSITIONS``.
    """
    expect(K >= 1 and G >= 1, "K, G", (K, G), "at least 1 action and 1 rollout")
    n = comb(K + G - 1, G)
    expected = f"at most {MOST_COMPOSITIONS} compositions; beyond, use sampled_moments"
    expect(n <= MOST_COMPOSITIONS, "C(K+G-1, G)", n, expected)
    groups, orders = _compositions(K, G)
    return jnp.asarray(groups), jnp.asarray(orders, jnp.float32)


@cache
def _compositions(K: int, G: int) -> tuple[np.ndarray, np.ndarray]:
    rows = chain.from_iterable(combinations_with_replacement(range(K), G))
    groups = np.fromiter(rows, np.int32, comb(K + G - 1, G) * G).reshape(-1, G)
    # Σ_a log n_a! is Σ_i log(place of rollout i among those of its outcome), in sorted rows.
    orders = np.full(len(groups), gammaln(G + 1))
    place = np.ones(len(groups))
    for i in range(1, G):
        place = np.where(groups[:, i] == groups[:, i - 1], place + 1.0, 1.0)
        orders -= np.log(place)
    return groups, orders


def exact_moments(
    change: Callable[[Int[Array, "G"]], Any], logp: Float[Array, "K"], G: int
) -> Moments:
    """E and Cov of ``change(a_1 .. a_G)`` over independent draws from π, by enumeration.

    Each composition n counts G!/Π n_a! · Π π_a^n_a. ``change`` maps the outcomes ``[G]`` of one
    group to a pytree of floats and is vmapped; it must not depend on their order (no group method
    does; otherwise :func:`jaxrl_lab.exact.dynamics.expected_update`) nor be infinite for groups
    of probability 0. An average over B independent groups has covariance divided by B.

    Raises:
        BadInput: more than ``MOST_COMPOSITIONS`` compositions.
    """
    groups, orders = compositions(logp.shape[-1], G)
    weight = jnp.exp(orders + jnp.sum(logp[groups], axis=-1))
    flat, back = _changes(change, groups)
    mean = weight @ flat
    centered = flat - mean[None]
    return Moments(
        back(mean), (weight[:, None] * centered).T @ centered, back(jnp.zeros_like(mean))
    )


def sampled_moments(
    change: Callable[[Int[Array, "G"]], Any],
    logp: Float[Array, "K"],
    G: int,
    key: Array,
    samples: int,
    block: int = 4096,
) -> Moments:
    """The same from ``samples`` random groups, with the standard error of the mean.

    error = sqrt(diag Cov / n), Cov with divisor n − 1; the truth lies within 4 errors of an entry
    with probability near 0.9999 once n is large enough for the central limit theorem (an update
    that only rare groups make needs n well above their inverse frequency). Order may matter here.

    Args:
        block: groups that are evaluated at once.

    Raises:
        BadInput: fewer than 2 samples.
    """
    expect(samples >= 2, "samples", samples, "at least 2 groups")
    u = jax.random.uniform(key, (samples, G))
    groups = TableCategorical(logp[None], jnp.zeros((samples, G), jnp.int32)).sample(u)
    flat, back = _changes(change, groups, block)
    mean = jnp.mean(flat, axis=0)
    centered = flat - mean[None]
    covariance = centered.T @ centered / (samples - 1)
    return Moments(back(mean), covariance, back(jnp.sqrt(jnp.diagonal(covariance) / samples)))


def _changes(
    change: Callable[[Int[Array, "G"]], Any], groups: Int[Array, "N G"], block: int = 4096
) -> tuple[Float[Array, "N D"], Callable[[Array], Any]]:
    """Every group's change as a vector, and the way back to a pytree."""
    shape = jax.eval_shape(change, jax.ShapeDtypeStruct(groups.shape[1:], groups.dtype))
    back = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape))[1]
    flat = jax.lax.map(lambda a: ravel_pytree(change(a))[0], groups, batch_size=block)
    return flat, back
