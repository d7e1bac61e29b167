"""Rows of ``reasoning/vm_program``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from world_cases import World

u8 = jnp.uint8
vm = partial(World, "reasoning/vm_program", state=(u8, u8))

WORLDS = [
    vm({"prompts": 8}, most=17, inert=True),  # without CASE there is nothing to pay for
    vm(
        {"modulus": 5, "instructions": 9, "length": 3, "target_length": 2, "tests": 2}
        | {"case": True, "prompts": 6, "test_prompts": 3, "observation": "position"},
        most=6,
        other={"case_cost": 0.25},
    ),
]
