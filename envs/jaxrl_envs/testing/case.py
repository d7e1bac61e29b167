"""One configuration of a world, and what a check cannot know by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_envs.core import make

f32 = jnp.float32


def midpoints(env: Any) -> Any:
    """Sixteen equally likely draws of one uniform number: they meet multiples of 1/16 exactly."""
    return (jnp.arange(16, dtype=f32) + 0.5) / 16


def own_index(env: Any, level: Any, state: Any) -> Any:
    """The number of a packed state, as the world itself counts."""
    return env.state_index(env.default_params, level, state)


@dataclass(frozen=True)
class Case:
    """One configuration of a world, and what a check cannot know by itself.

    Attributes:
        id, static: what ``make`` is given.
        state: dtypes of the packed state's leaves, in order. most: bytes it may take.
        other: params that differ from the default, and that must change something.
        states: ``(env, level) -> states``, all packed states of ``tabular`` in its order (those
            after them in the table are terminal and have no packed state).
        number: ``(env, level, state) -> int32``, the row of the table a packed state stands in,
            terminal ones included.
        noise, starts: ``env ->`` equally likely outcomes of ``draw`` and ``draw_reset``, stacked,
            that meet every outcome with its exact probability; None where nothing is drawn.
        inert: the params of this configuration change nothing.
    """

    id: str
    static: Mapping[str, Any] = field(default_factory=dict)
    state: tuple[Any, ...] = ()
    most: int = 4
    other: Mapping[str, float] = field(default_factory=dict)
    states: Callable[[Any, Any], Any] = lambda env, level: ()
    number: Callable[[Any, Any, Any], Any] = own_index
    noise: Callable[[Any], Any] | None = None
    starts: Callable[[Any], Any] | None = None
    inert: bool = False

    def make(self) -> Any:
        """The world."""
        return make(self.id, **self.static)

    def params(self, env: Any) -> Any:
        """The default params with the ``other`` values."""
        return replace(env.default_params, **{k: f32(v) for k, v in self.other.items()})

    def reset(self, env: Any, params: Any, level: Any, seed: int = 0) -> Any:
        """A first state."""
        return env.reset(params, level, env.draw_reset(jax.random.key(seed), ()))

    def __str__(self) -> str:
        return ",".join([self.id, *(f"{k}={v}" for k, v in self.static.items())])


def ids_of(env: Any) -> np.ndarray:
    """The ids of both splits."""
    return np.array([*env.level_ids("train"), *env.level_ids("test")], np.int32)


def bank(env: Any, params: Any) -> Callable[[Any], Any]:
    """All levels, built once and looked up by id."""
    levels = jax.vmap(partial(env.make_level, params))(jnp.asarray(ids_of(env)))
    return lambda ids: jax.tree.map(lambda x: x[ids], levels)


def leaves(tree: Any) -> list[np.ndarray]:
    """The leaves of a tree as NumPy arrays."""
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def same(a: Any, b: Any) -> bool:
    """Whether two trees agree in structure, dtypes and every bit."""
    one: Any = jax.tree.structure(a)
    other: Any = jax.tree.structure(b)
    assert one == other, f"{one} and {other}"
    return all(
        x.dtype == y.dtype and np.array_equal(x, y)
        for x, y in zip(leaves(a), leaves(b), strict=True)
    )


def kinds(tree: Any) -> Any:
    """Dtype, shape and weak type of every leaf."""
    return jax.tree.map(lambda x: (x.dtype, x.shape, x.weak_type), tree)
