"""Large batches through a network in pieces whose activations stay in cache, exactly.

A loss sees outputs, never parameters. So its derivative by the outputs of the whole batch comes
first, and each piece is then pulled back through the network by itself:

    dJ/dtheta = Σ_pieces (d out_piece / d theta)^T dJ/d out_piece

at the price of one more forward pass. On a CPU this halves the time of a 64x64 network on 32 768
rows; everywhere it bounds the memory of the activations by that of one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrl_lab.policies.distributions import TableCategorical
from jaxrl_lab.types import Batch, PolicyOutput, Tree

Unroll = Callable[[Tree, Batch], PolicyOutput]
Loss = Callable[[PolicyOutput], tuple[Float[Array, ""], Any]]
ROWS = {"cpu": 4096}
OTHER_ROWS = 2**18
"""Rows of a piece: what a core's cache holds; on an accelerator, what its memory never misses."""


def count(unroll: Unroll, params: Tree, batch: Batch) -> int:
    """How many pieces of equal size: 1 where the batch is small or the policy a table.

    Pieces hold whole groups; their number is the smallest divisor of B that makes them small.
    """
    b, g, t = batch.action.shape
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
    out = jax.lax.map(lambda piece: unroll(params, piece), _split(_needed(batch), n))
    joined: PolicyOutput = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)
    return joined


def value_and_grad(
    unroll: Unroll, loss: Loss, params: Tree, batch: Batch, n: int
) -> tuple[tuple[Float[Array, ""], Any], Tree]:
    """``jax.value_and_grad`` of ``loss(unroll(params, batch))`` by the parameters, in n pieces."""
    if n == 1:
        return jax.value_and_grad(lambda p: loss(unroll(p, batch)), has_aux=True)(params)
    out = forward(unroll, params, batch, n)
    value, cotangent = jax.value_and_grad(loss, has_aux=True)(out)

    def pull_back(total: Tree, piece: tuple[Batch, PolicyOutput]) -> tuple[Tree, None]:
        part, seen = piece
        _, pull = jax.vjp(lambda p: unroll(p, part), params)
        return jax.tree.map(jnp.add, total, pull(seen)[0]), None

    zero = jax.tree.map(jnp.zeros_like, params)
    grads, _ = jax.lax.scan(pull_back, zero, (_split(_needed(batch), n), _split(cotangent, n)))
    return value, grads


def _needed(batch: Batch) -> Batch:
    """The batch without what no network reads, so that it is not cut into pieces."""
    empty: dict[str, Any] = {"channels": {}, "info": {}}
    unread = ("logp_behavior", "reward", "logp_old", "value", "next_value", "advantage", "target")
    fields = {f: getattr(batch, f) for f in batch.__dataclass_fields__}
    return Batch(**(fields | empty | dict.fromkeys(unread)))


def _split(tree: Tree, n: int) -> Tree:
    """Leaves ``[B, ...]`` as ``[n, B / n, ...]``."""
    return jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), tree)
