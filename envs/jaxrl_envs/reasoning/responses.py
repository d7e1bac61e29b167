"""The responses of a tabular policy: how they differ, how often they are right, how they vote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Array, Bool, Float

from jaxrl_envs.errors import expect

MOST_VOTES = 64
"""With more, e^{-n p} underflows in float32."""


class Entropies(NamedTuple):
    """Spread of one prompt's responses in nats: of strategy, answer, and the whole sequence."""

    strategy: Float[Array, ""]
    answer: Float[Array, ""]
    token: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Responses:
    """What a policy writes on one prompt: a strategy, further tokens given it, an answer.

    Of V tokens the first U name a strategy, and the first K an answer.

    Attributes:
        first: log-probabilities of the first token, ``[V]``.
        later: the same of each further token given the strategy, ``[T-1, U+1, V]``; row U is for
            first tokens that name none. The last of them is the answer.
        grade: probability that (strategy, answer token) is right, ``[U+1, V]``.
        accepted: which answers are right ones, ``[K]``.
    """

    first: Float[Array, "V"]
    later: Float[Array, "T1 U1 V"]
    grade: Float[Array, "U1 V"]
    accepted: Bool[Array, "K"]

    @property
    def strategies(self) -> Float[Array, "U1"]:
        """P(u), and of no strategy."""
        p, named = jnp.exp(self.first), self.later.shape[1] - 1
        return jnp.concatenate([p[:named], jnp.sum(p[named:])[None]])

    @property
    def joint(self) -> Float[Array, "U1 V"]:
        """P(u, a) of strategy and answer token."""
        return self.strategies[:, None] * jnp.exp(self.later[-1])

    @property
    def answers(self) -> Float[Array, "K"]:
        """P(a); what is missing to 1 are tokens that name no answer."""
        return jnp.sum(self.joint[:, : self.accepted.shape[0]], axis=0)

    def entropies(self) -> Entropies:
        """H(u) and H(a), where all that names none counts as one value, and H of all T tokens.

        The last is H(first) + Σ_t Σ_u P(u) H(token t | u) ≥ max(H(u), H(a)).
        """
        none = jnp.sum(self.joint[:, self.accepted.shape[0] :])
        spread = jnp.sum(entr(jnp.exp(self.later)), axis=(0, 2))
        return Entropies(
            strategy=jnp.sum(entr(self.strategies)),
            answer=jnp.sum(entr(self.answers)) + entr(none),
            token=jnp.sum(entr(jnp.exp(self.first))) + jnp.sum(self.strategies * spread),
        )

    def success(self) -> Float[Array, ""]:
        """p, the expected ``true`` reward: pass@1; pass@k is 1 − (1 − p)^k."""
        return jnp.sum(self.joint * self.grade)

    def vote(self, n: int) -> Float[Array, "K"]:
        """Probability that each answer wins among n responses; see :func:`winner`."""
        return winner(self.answers, n)

    def majority_value(self, n: int) -> Float[Array, ""]:
        """maj@n: probability that the most frequent of n answers is a right one."""
        return jnp.sum(jnp.where(self.accepted, self.vote(n), 0.0))


@partial(jax.jit, static_argnames="n")
def winner(p: Float[Array, "K"], n: int) -> Float[Array, "K"]:
    """Probability that each of K answers gets the most of n votes; ties are broken by lot.

    P(a wins) = Σ_{c≥1} Σ_j 1/(j+1) · P(a has c votes, j others have c, the rest fewer).

    ``p[K]`` may sum to less than 1: what is missing votes for nobody, and where all n do so there
    is no winner. Multinomial counts are independent Poisson counts of mean n p given their sum,
    so no factorial overflows. Work K³ n³: made for K and n of a few tens at most.

    Raises:
        BadInput: n outside 1 .. 64.
    """
    expect(1 <= n <= MOST_VOTES, "n", n, f"1 to {MOST_VOTES} votes")
    size = p.shape[0]
    counts, steps = jnp.arange(n + 1), jnp.arange(1, n + 1, dtype=jnp.float32)
    spare = jnp.maximum(1.0 - jnp.sum(p), 0.0)
    mean = n * jnp.concatenate([p, spare[None]])[:, None]
    powers = jnp.concatenate([jnp.ones_like(mean), mean / steps[None]], axis=1)
    poisson = jnp.exp(-mean) * jnp.cumprod(powers, axis=1)  # [K+1, n+1]
    gap = counts[:, None] - counts[None, :]

    def wins(a: Array, c: Array) -> Float[Array, ""]:
        """Poisson probability that c votes are the most, a has them, and n are cast in all."""

        def add(votes: Array, other: Array) -> tuple[Array, None]:
            """``votes[m, j]``: m votes cast so far, j answers beside a with c of them."""
            given = poisson[other]
            fewer = jnp.where((gap >= 0) & (gap < c), given[jnp.maximum(gap, 0)], 0.0) @ votes
            equal = jnp.where(gap == c, given[c], 0.0) @ votes
            tied = jnp.concatenate([jnp.zeros((n + 1, 1)), equal[:, :-1]], axis=1)
            return jnp.where(other == a, equal, fewer + tied), None

        nobody = jnp.zeros((n + 1, size)).at[:, 0].set(poisson[size])
        votes, _ = jax.lax.scan(add, nobody, jnp.arange(size))
        return jnp.sum(votes[n] / jnp.arange(1, size + 1, dtype=jnp.float32))

    over_counts = jax.vmap(wins, (None, 0))
    found = jnp.sum(jax.vmap(over_counts, (0, None))(jnp.arange(size), counts[1:]), axis=1)
    return found / (jnp.exp(-jnp.float32(n)) * jnp.prod(n / steps))
