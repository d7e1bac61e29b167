"""Numbers that change over training: frozen pytrees, resolved once per update.

Our own and not optax's, because those fail on traced steps and rates, and a schedule must be
sweepable like any other number.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Schedule:
    """A function of training progress in [0, 1]."""

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        raise NotImplementedError


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """start + (end - start) · progress."""

    start: float
    end: float

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        return self.start + (self.end - self.start) * progress

    def __str__(self) -> str:
        return f"{float(self.start):g}→{float(self.end):g}"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """end + (start - end) · (1 + cos(π · progress)) / 2."""

    start: float
    end: float

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        return self.end + (self.start - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))

    def __str__(self) -> str:
        return f"{float(self.start):g}⤳{float(self.end):g}"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Ramp(Schedule):
    """start until ``begin``, end from ``until`` on, a straight line in between.

    With ``begin`` = ``until`` a step in mid-run; with 0 and 1 :class:`Linear`; with ``start`` =
    ``end`` a constant that shares its program with them.
    """

    start: float
    end: float
    begin: float = 0.0
    until: float = 1.0

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        length = jnp.maximum(jnp.asarray(self.until - self.begin), 1e-9)
        share = jnp.clip((progress - self.begin) / length, 0.0, 1.0)
        share = jnp.where(progress >= self.until, 1.0, share)
        return self.start + (self.end - self.start) * share

    def __str__(self) -> str:
        when = f"{float(self.begin):g} to {float(self.until):g}"
        return f"{float(self.start):g}→{float(self.end):g} ({when})"


def lowest(number: float | Schedule) -> float:
    """The smallest value a number takes in a training: what a ``check`` has to look at."""
    return min(_ends(number))


def highest(number: float | Schedule) -> float:
    """The largest value a number takes in a training."""
    return max(_ends(number))


def _ends(number: float | Schedule) -> tuple[float, ...]:
    if isinstance(number, Schedule):
        return float(_at(number, 0.0)), float(_at(number, 1.0))
    return (float(number),)


@jax.jit
def _at(number: Schedule, progress: Float[Array, ""]) -> Float[Array, ""]:
    return number(progress)


SCHEDULES: dict[str, type[Linear] | type[Cosine] | type[Ramp]] = {
    "linear": Linear,
    "cosine": Cosine,
    "ramp": Ramp,
}
