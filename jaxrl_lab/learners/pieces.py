"""Large batches through a network in pieces whose activations stay in cache, exactly.

A loss sees outputs, never parameters. So its derivative by the outputs of the whole batch comes
first, and each piece is then pulled back through the network by itself:

    dJ/dtheta = Σ_pieces (d out_piece / d theta)^T dJ/d out_piece

at the price of one more forward pass, which an update of a single step needs anyway for the old
log-probabilities. It bounds the memory of the activations by that of one piece.

Where devices share a batch (an axis :data:`ENV` of the mesh around), each has its part of every
piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from jaxrl_lab.policies.distributions import TableCategorical
from jaxrl_lab.types import Batch, PolicyOutput, Tree

Unroll = Callable[[Tree, Batch], PolicyOutput]
Loss = Callable[[PolicyOutput], tuple[Float[Array, ""], Any]]
SHOWN = ("level_id", "state", "resets", "carry")
"""The entries of a batch that a network is shown."""
ENV = "env"
"""Axis of a mesh: the devices that share the prompts or environments of one learner."""
ROWS = {"cpu": 4096}
OTHER_ROWS = 2**18
"""Rows of a piece: what a core's cache holds; on an accelerator, what its memory never misses."""


def shares(b: int) -> int:
    """How many devices share a batch of ``b`` prompts: 1 where they do not divide it."""
    devices = jax.sharding.get_abstract_mesh().shape.get(ENV, 1)
    return devices if b % devices == 0 else 1


def spread(tree: Tree, b: int) -> Tree:
    """The leaves ``[b, ...]`` of a tree, on the devices that share them."""
    if shares(b) == 1:
        return tree

    def place(x: Array) -> Array:
        if x.shape[:1] != (b,):  # a table that all prompts read
            return x
        return jax.lax.with_sharding_constraint(x, PartitionSpec(ENV))

    return jax.tree.map(place, tree)


def count(unroll: Unroll, params: Tree, batch: Batch) -> int:
    """How many pieces of equal size: 1 where the batch is small or the policy a table.

    Pieces hold whole groups; their number is the smallest divisor of B that makes them small, or
    of the part of B that a device has.
    """
    b, g, t = batch.action.shape
    b //= shares(b)  # every device has its own
    limit = ROWS.get(jax.default_backend(), OTHER_ROWS)
    if b * g * t < 2 * limit:
        return 1
    if isinstance(jax.eval_shape(unroll, params, batch).dist, TableCategorical):
        return 1  # its leaves are rows of the table, not of the batch
    return next(n for n in range(1, b + 1) if b % n == 0 and b // n * g * t <= max(limit, g * t))


def forward(unroll: Unroll, params: Tree, batch: Batch, n: int) -> PolicyOutput:
    """``unroll(params, batch)``, one piece after the other."""
    if n == 1:
        return unroll(params, batch)
    return _joined(jax.lax.map(lambda piece: unroll(params, piece), _split(_needed(batch), n)))


@dataclass(frozen=True)
class Look:
    """A batch as a network saw it; lives inside one trace.

    Attributes:
        out: what the network says of the batch.
        pull: pulls a derivative by ``out`` back to the parameters.
        batch: what was looked at.
    """

    out: PolicyOutput
    pull: Callable[[PolicyOutput], Tree]
    batch: Batch

    def is_of(self, batch: Batch) -> bool:
        """Whether a network would see the same in ``batch``: the very arrays, not equal ones."""

        def shown(batch: Batch) -> list[Array]:
            return jax.tree.leaves([getattr(batch, f) for f in SHOWN])

        return all(a is b for a, b in zip(shown(self.batch), shown(batch), strict=True))


def look(unroll: Unroll, params: Tree, batch: Batch, n: int) -> Look:
    """``unroll(params, batch)`` in n pieces, ready to be differentiated."""
    if n == 1:
        out, pull = jax.vjp(lambda p: unroll(p, batch), params)
        return Look(out, lambda cotangent: pull(cotangent)[0], batch)

    def pull_all(cotangent: PolicyOutput) -> Tree:
        def pull_back(total: Tree, piece: tuple[Batch, PolicyOutput]) -> tuple[Tree, None]:
            part, seen = piece
            _, pull = jax.vjp(lambda p: unroll(p, part), params)
            return jax.tree.map(jnp.add, total, pull(seen)[0]), None

        zero = jax.tree.map(jnp.zeros_like, params)
        parts = _split(_needed(batch), n), _split(cotangent, n)
        return jax.lax.scan(pull_back, zero, parts)[0]

    return Look(forward(unroll, params, batch, n), pull_all, batch)


def value_and_grad(loss: Loss, look: Look) -> tuple[tuple[Float[Array, ""], Any], Tree]:
    """``loss(look.out)`` and its derivative by the parameters."""
    # Rows of a table are integers: their derivative is empty.
    value, cotangent = jax.value_and_grad(loss, has_aux=True, allow_int=True)(look.out)
    return value, look.pull(cotangent)


def _needed(batch: Batch) -> Batch:
    """The batch without what no network reads, so that it is not cut into pieces."""
    fields: dict[str, Any] = dict.fromkeys(batch.__dataclass_fields__)
    fields |= {"channels": {}, "info": {}}
    # Of the actions only their shape is read.
    return Batch(**fields | {f: getattr(batch, f) for f in (*SHOWN, "action")})


def _split(tree: Tree, n: int) -> Tree:
    """Leaves ``[B, ...]`` as ``[n, B / n, ...]``."""

    def split(x: Array) -> Array:
        parts = x.reshape(shares(len(x)), n, -1, *x.shape[1:])
        return jnp.swapaxes(parts, 0, 1).reshape(n, -1, *x.shape[1:])

    return jax.tree.map(split, tree)


def _joined(tree: Tree) -> Tree:
    """Leaves ``[n, B / n, ...]`` as ``[B, ...]``: what :func:`_split` took apart."""

    def join(x: Array) -> Array:
        n, size = x.shape[:2]
        parts = x.reshape(n, shares(n * size), -1, *x.shape[2:])
        return jnp.swapaxes(parts, 0, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(join, tree)
