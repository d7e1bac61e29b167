"""What every network shares: reading an observation, the heads, the border to pure dicts."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxrl_envs import Space
from jaxrl_envs.core import Box, Discrete, MultiDiscrete
from jaxrl_envs.errors import BadInput, expect
from jaxtyping import Array, Float, Int

from jaxrl_lab.policies.distributions import Categorical
from jaxrl_lab.types import PolicyOutput, Tree


def orthogonal(gain: float = 1.0) -> Callable[..., Float[Array, "m n"]]:
    """Initializer of a matrix with orthonormal rows or columns, whichever are fewer, times gain.

    Gram-Schmidt on Gaussian rows, twice for accuracy: uniform over such matrices. Not by LAPACK's
    QR, of which two batched calls side by side wait for each other forever on the thread pool of
    a small CPU (jaxlib 0.10.2).
    """

    def init(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Float[Array, "m n"]:
        few, many = sorted(shape)
        gaussian = jax.random.normal(key, (few, many), dtype)

        def orthogonalize(i: Int[Array, ""], rows: Float[Array, "m n"]) -> Float[Array, "m n"]:
            row = rows[i]
            for _ in range(2):
                row = row - jnp.where(jnp.arange(few) < i, rows @ row, 0.0) @ rows
            return rows.at[i].set(row / jnp.linalg.norm(row))

        rows = jax.lax.fori_loop(0, few, orthogonalize, gaussian)
        return gain * (rows if shape == (few, many) else rows.T)

    return init


def over_rows(
    x: Float[Array, "... m"], kernel: Float[Array, "m n"], _: Any, **options: Any
) -> Float[Array, "... n"]:
    """``x @ kernel`` with the leading axes of ``x`` as one, for ``nnx.Linear``.

    The derivative by the kernel is then a plain product of two matrices. With several leading
    axes XLA transposes one of them first, which makes it up to six times as slow on a CPU.
    """
    rows = x.reshape(-1, x.shape[-1])
    product = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


linear = functools.partial(nnx.Linear, dot_general=over_rows)
"""The layer of every network here."""


def check_size(key: str, value: Any) -> None:
    """Refuse what cannot be the size of a layer.

    Raises:
        BadInput: unless ``value`` is an integer of at least 1.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    expect(whole and value >= 1, key, value, "a whole number of at least 1")


def check_space(space: Any) -> None:
    """Refuse a space from which nothing can be read.

    Raises:
        BadInput: an unknown kind of space, no entries, or an entry without values.
    """
    if isinstance(space, Discrete):
        sizes: tuple[int, ...] = (space.n,)
    elif isinstance(space, MultiDiscrete):
        sizes = space.nvec
    elif isinstance(space, Box):
        sizes = (prod(space.shape),)
    else:
        raise BadInput("space", space, "Discrete, MultiDiscrete or Box")
    expect(len(sizes) > 0 and min(sizes) >= 1, "space", space, "at least one entry and value")


class Encoder(nnx.Module):
    """The first layer: an observation becomes a vector, ``[..., *space.shape] -> [..., width]``.

    ``Discrete`` looks up a row, ``MultiDiscrete`` adds one row per entry (a single table with
    offsets, a single gather), ``Box`` is flattened and multiplied by a matrix. The first two equal
    a linear layer on one-hot vectors. Rows are drawn so that each coordinate of the sum has unit
    variance.
    """

    def __init__(self, space: Space, width: int, *, rngs: nnx.Rngs) -> None:
        self.axes = len(space.shape)
        self.nvec = space.nvec if isinstance(space, MultiDiscrete) else None
        if isinstance(space, Box):
            kernel = orthogonal(sqrt(2))
            self.linear = linear(prod(space.shape), width, kernel_init=kernel, rngs=rngs)
        else:
            sizes = (space.n,) if isinstance(space, Discrete) else space.nvec
            rows = nnx.initializers.normal(1 / sqrt(len(sizes)))
            self.table = nnx.Embed(sum(sizes), width, embedding_init=rows, rngs=rngs)

    def __call__(self, obs: Array) -> Float[Array, "... width"]:
        if hasattr(self, "linear"):
            batch = obs.shape[: obs.ndim - self.axes]
            flat = obs.reshape(*batch, self.linear.in_features)
            return self.linear(flat.astype(self.linear.kernel[...].dtype))
        # Packed states come in small integers, in which offsets would overflow.
        row = obs.astype(jnp.int32)
        table = self.table.embedding[...]
        if self.nvec is None:
            return table[row]
        offset = np.cumsum((0, *self.nvec[:-1]), dtype=np.int32)
        return table[row + jnp.broadcast_to(offset, row.shape)].sum(axis=-2)


class Heads(nnx.Module):
    """Logits, and where wanted a value and the hidden vector itself.

    Small initial logits start the policy near uniform, with the gains of the single-file PPO
    (0.01 for the policy, 1 for the value).
    """

    def __init__(
        self, width: int, actions: int, value: bool, features: bool, *, rngs: nnx.Rngs
    ) -> None:
        self.features = features

        def head(size: int, gain: float) -> nnx.Linear:
            return linear(width, size, kernel_init=orthogonal(gain), rngs=rngs)

        self.policy = head(actions, 0.01)
        self.value = head(1, 1.0) if value else None

    def __call__(
        self, hidden: Float[Array, "... D"], critic: Float[Array, "... D"] | None = None
    ) -> PolicyOutput:
        """``critic`` is what the value is read from, where that is not ``hidden``.

        What leaves the network is float32, whatever it computes in.
        """
        value = None
        if self.value is not None:
            value = self.value(hidden if critic is None else critic)[..., 0].astype(jnp.float32)
        dist = Categorical.from_logits(self.policy(hidden).astype(jnp.float32))
        return PolicyOutput(dist, value, hidden.astype(jnp.float32) if self.features else None)


@dataclass(frozen=True)
class Network(ABC):
    """A policy whose arithmetic is an nnx module; outside, parameters are dicts of arrays.

    Attributes:
        space: observation space.
        actions: K.
        precision: in what the network computes, ``float32`` or ``bfloat16``. Parameters,
            gradients, logits and values are float32 either way.

    Raises:
        BadInput: a space from which nothing can be read, no actions, or another precision.
    """

    space: Space
    actions: int
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        check_space(self.space)
        check_size("actions", self.actions)
        known = self.precision in ("float32", "bfloat16")
        expect(known, "precision", self.precision, "float32 or bfloat16")

    @property
    def dtype(self) -> jnp.dtype:
        """Of everything between the observation and the heads, memories included."""
        return jnp.dtype(self.precision)

    @abstractmethod
    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """The module with fresh parameters."""

    def init(self, key: Array) -> dict[str, Any]:
        """Fresh parameters: nested dicts with text keys and float32 leaves."""
        state = nnx.state(self.build(nnx.Rngs(key)), nnx.Param)
        return _text_keys(nnx.to_pure_dict(state))

    def bind(self, params: Tree) -> Any:
        """The module that computes with ``params``; rebuilt inside every trace."""
        graph, abstract = _skeleton(self)
        # Replacing writes into the state, and the cached one must not hold a trace's arrays.
        state = jax.tree.map(lambda x: x, abstract)
        nnx.replace_by_pure_dict(state, jax.tree.map(lambda x: x.astype(self.dtype), params))
        return nnx.merge(graph, state)


@functools.lru_cache(maxsize=256)
def _skeleton(network: Network) -> tuple[nnx.GraphDef, nnx.State]:
    graph, state = nnx.split(nnx.eval_shape(lambda: network.build(nnx.Rngs(0))))
    return graph, state


def _text_keys(tree: Any) -> Any:
    """nnx numbers the members of a list; checkpoints want text, and nnx reads it back."""
    if not isinstance(tree, dict):
        return tree
    return {str(name): _text_keys(branch) for name, branch in tree.items()}
