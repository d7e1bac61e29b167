"""Calling the mechanisms of a recipe: contexts, the chain of a slot, the objective, the tape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrl_lab.keys import named
from jaxrl_lab.mechanisms.aggregate import SequenceSum
from jaxrl_lab.mechanisms.core import name_of
from jaxrl_lab.mechanisms.surrogate import ScoreFunction
from jaxrl_lab.recipes import Recipe
from jaxrl_lab.types import Batch, Context, LearnerState, Outputs

Tape = list[dict[str, Any]]
"""What :func:`~jaxrl_lab.experiments.debug` reads: one entry per mechanism called."""


def write(tape: Tape | None, slot: str, mech: Any, given: Any, returned: Any) -> None:
    """Note a call, where somebody reads along."""
    if tape is not None:
        tape.append({"slot": slot, "mechanism": name_of(mech), "input": given, "output": returned})


def chain(
    recipe: Recipe,
    slot: str,
    value: Any,
    state: LearnerState,
    ctx: Context,
    tape: Tape | None,
) -> Any:
    """Pass a value through the mechanisms of a slot, left to right."""
    for i, mech in enumerate(getattr(recipe, slot)):
        before, value = value, mech(value, context_of(ctx, slot, i, state))
        write(tape, slot, mech, before, value)
    return value


def context_of(ctx: Context, slot: str, i: int, state: LearnerState) -> Context:
    """The context of one mechanism: its own key and memory."""
    name = f"{slot}.{i}"
    return replace(ctx, key=named(ctx.key, name), memory=state.memory.get(name, ()))


def objective(
    recipe: Recipe,
    out: Outputs,
    batch: Batch,
    state: LearnerState,
    ctx: Context,
    tape: Tape | None = None,
) -> tuple[Float[Array, ""], dict[str, Any]]:
    """Slots ``surrogate``, ``weight``, ``regularizer`` and ``aggregate``: what is maximized.

    J = aggregate( Σ surrogate · Π sg(weight) - Σ per-token regularizer ) - Σ scalar ones.
    """
    per_token, aux = jnp.zeros_like(out.logp), {"clipped": jnp.ones_like(batch.mask)}
    for i, mech in enumerate(recipe.surrogate or (ScoreFunction(),)):
        term, more = mech(out, batch, context_of(ctx, "surrogate", i, state))
        # A token is clipped when no surrogate of the slot moves it any more.
        clipped = aux["clipped"] & more.get("clipped", jnp.zeros_like(batch.mask))
        per_token, aux = per_token + term, aux | more | {"clipped": clipped}
        write(tape, "surrogate", mech, (out, batch), (term, more))
    for i, mech in enumerate(recipe.weight):
        factor = mech(out, batch, aux, context_of(ctx, "weight", i, state))
        per_token = per_token * jax.lax.stop_gradient(factor)
        write(tape, "weight", mech, (out, batch, aux), factor)
    scalar = jnp.float32(0.0)
    for i, mech in enumerate(recipe.regularizer):
        penalty = mech(out, batch, aux, context_of(ctx, "regularizer", i, state))
        if penalty.ndim == 0:
            scalar = scalar + penalty
        else:
            per_token = per_token - penalty
        write(tape, "regularizer", mech, (out, batch, aux), penalty)
    aggregate = recipe.aggregate[0] if recipe.aggregate else SequenceSum()
    objective = aggregate(per_token, batch.mask)
    write(tape, "aggregate", aggregate, (per_token, batch.mask), objective)
    return objective - scalar, aux
