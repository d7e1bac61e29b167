"""Slot ``update``: a running average of the parameters, kept as a further tree.

As ``proximal`` it is the anchor of :class:`~.ewma.DecoupledClip`, as ``reference`` a slow reference
policy; under any other name it is a policy that may be evaluated in place of the last one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.core import OLD, Spec, mechanism
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.types import Batch, Context, LearnerState


@mechanism
class ParameterAverage:
    """w' = decay·w + 1, average ← (decay·w / w')·average + params / w', once per outer update.

    Bias-corrected: w starts at 1 with the initial parameters, so that after k updates the weights
    are decay^(age) / Σ decay^(age) and sum to 1. ``decay`` 0 is the last parameters, 1 the plain
    mean of all of them (Polyak-Ruppert). The center of mass is decay / (1 − decay) outer updates,
    and epochs · minibatches times as many gradient steps: see :func:`decay_of`.

    Source: Hilton et al., arXiv 2110.00641 (the weighting); Polyak and Juditsky 1992.
    """

    decay: float
    tree: str = "average"

    formula: ClassVar[str] = "θ_{tree} ← average of θ, decay {decay}"

    @property
    def passes(self) -> tuple[str, ...]:
        return (self.tree,)

    def check(self, spec: Spec) -> None:
        expect(lowest(self.decay) >= 0, "decay", lowest(self.decay), "0 to 1")
        expect(highest(self.decay) <= 1, "decay", highest(self.decay), "0 to 1")
        expect(self.tree != OLD, "tree", self.tree, "a name of its own: the old policy is no tree")

    def init(self, spec: Spec) -> Float[Array, ""]:
        return jnp.float32(1.0)

    def __call__(
        self, state: LearnerState, candidate: LearnerState, fit: dict[str, Array], ctx: Context
    ) -> LearnerState:
        fresh = 1.0 / self._grown(ctx.memory)
        average = jax.tree.map(
            lambda new, mean: mean + fresh * (new - mean),
            candidate.params,
            candidate.trees[self.tree],
        )
        return replace(candidate, trees=candidate.trees | {self.tree: average})

    def advance(
        self, memory: Float[Array, ""], batch: Batch, fit: dict[str, Array], ctx: Context
    ) -> Float[Array, ""]:
        return self._grown(memory)

    def _grown(self, weight: Float[Array, ""]) -> Float[Array, ""]:
        return self.decay * weight + 1.0


def decay_of(center: float, steps: int) -> float:
    """The decay per outer update whose center of mass is ``center`` gradient steps.

    ``steps`` gradient steps per outer update: decay / (1 − decay) = center / steps.
    """
    return center / (center + steps)
