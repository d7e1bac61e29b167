"""What an agent that knows how questions are made believes after j useful tool calls.

There are C_j candidate answers left: b^(H-j) where hop j reveals a digit, and N-1-j (1 for j = H)
where it reveals the next key of a single cycle through N keys. One candidate, the popular answer,
has prior mass m0 = s + (1-s)/C_0 and the others m1 = (1-s)/C_0. While nothing that was seen rules
the popular answer out, its posterior is m0 / w_j with w_j = m0 + (C_j - 1) m1, which is also the
chance that it is not ruled out by then; once it is, all candidates are equally likely. Both
kinds of question share these formulas: what was seen is equally likely under every answer left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Plan(NamedTuple):
    """The best way to use the tool.

    Attributes:
        value: expected ``penalized`` return. calls: expected number of calls, fewest among equals.
    """

    value: Float[Array, ""]
    calls: Float[Array, ""]


@dataclass(frozen=True)
class Beliefs:
    """The posterior after j useful calls.

    Attributes:
        candidates: C_0 .. C_H, static.
        skew: s, the extra prior mass of the popular answer.
    """

    candidates: tuple[int, ...]
    skew: Float[Array, ""]

    @property
    def _left(self) -> Float[Array, "H1"]:
        return jnp.asarray(self.candidates, jnp.float32)

    @property
    def _masses(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        other = (1.0 - self.skew) / self.candidates[0]
        return self.skew + other, other

    @property
    def open(self) -> Float[Array, "H1"]:
        """w_j, the chance that j useful results do not rule the popular answer out."""
        popular, other = self._masses
        return popular + (self._left - 1.0) * other

    def of(
        self, calls: Int[Array, ""], is_popular: Bool[Array, ""], ruled_out: Bool[Array, ""]
    ) -> Float[Array, ""]:
        """Posterior of the right answer, given whether it is the popular one."""
        popular, other = self._masses
        mass = jnp.where(is_popular, popular, other) / self.open[calls]
        known = calls == len(self.candidates) - 1
        return jnp.where(known, 1.0, jnp.where(ruled_out, 1.0 / self._left[calls], mass))

    @property
    def entropy(self) -> Float[Array, "H1"]:
        """Expected entropy of the answer after j = 0 .. H useful calls, in nats."""
        popular, other = self._masses
        first, rest = popular / self.open, other / self.open
        surprise = jnp.log(jnp.where(rest > 0.0, rest, 1.0))  # 0 log 0 is 0
        inner = -first * jnp.log(first) - (self._left - 1.0) * rest * surprise
        return self.open * inner + (1.0 - self.open) * jnp.log(self._left)

    def plan(self, cost: Float[Array, ""], most: int) -> Plan:
        """Ask or answer with the best guess, by backward induction over useful calls.

        V_j = max(best guess, -c + E V_{j+1}), for agents to whom the popular answer is open or
        ruled out; at most ``most`` calls fit into the budget.
        """
        last = min(len(self.candidates) - 1, most)
        popular, _ = self._masses
        guess = jnp.stack([popular / self.open, 1.0 / self._left], axis=1)  # [H+1, open or not]
        value, calls = guess[last], jnp.zeros(2)
        for j in reversed(range(last)):
            stay = self.open[j + 1] / self.open[j]
            mix = jnp.stack([jnp.stack([stay, 1.0 - stay]), jnp.array([0.0, 1.0])])
            ask = mix @ value - cost
            calls = jnp.where(ask > guess[j], 1.0 + mix @ calls, 0.0)
            value = jnp.maximum(ask, guess[j])
        return Plan(value[0], calls[0])
