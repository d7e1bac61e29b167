"""Where mechanisms with a memory per train prompt keep what they know of each."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxrl_lab.mechanisms.core import Spec


def numbering(spec: Spec) -> dict[str, Array]:
    """``first`` and ``step`` of the train prompts' ids, to be kept in the memory."""
    ids = spec.env.level_ids("train")
    return {"first": jnp.int32(ids.start), "step": jnp.int32(ids.step)}


def place(memory: dict[str, Any], level_ids: Int[Array, "B"]) -> Int[Array, "B"]:
    """The places of some prompts, 0 for the first train prompt."""
    return (level_ids - memory["first"]) // memory["step"]
