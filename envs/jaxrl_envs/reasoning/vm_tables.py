"""The two-register machine of ``reasoning/vm_program``, as static tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

DRAWN = 2**15
"""How many random programs the prompts of one structure are chosen from."""

INSTRUCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "END": lambda a, b: (a, b),
    "A+=1": lambda a, b: (a + 1, b),
    "A+=B": lambda a, b: (a + b, b),
    "B=A": lambda a, b: (a, a),
    "A*=B": lambda a, b: (a * b, b),
    "SWAP": lambda a, b: (b, a),
    "A*=2": lambda a, b: (2 * a, b),
    "A=-A": lambda a, b: (-a, b),
    "B+=1": lambda a, b: (a, b + 1),
    "A-=B": lambda a, b: (a - b, b),
    "A*=3": lambda a, b: (3 * a, b),
    "B+=A": lambda a, b: (a, b + a),
    "A*=A": lambda a, b: (a * a, b),
    "B*=A": lambda a, b: (a, b * a),
    "A-=1": lambda a, b: (a - 1, b),
    "A=0": lambda a, b: (0 * a, b),
}
"""What each token does to the registers (A, B); a smaller machine has the first of them."""


class Targets(NamedTuple):
    """The prompts of one structure, in a fixed order.

    ``program[P, l]`` is a program of the hidden function (END after its end), ``output[P, m]``
    what the function gives for each input, ``order[P, m]`` the inputs, visible ones first.
    """

    program: np.ndarray
    output: np.ndarray
    order: np.ndarray


@cache
def moves(modulus: int, instructions: int) -> np.ndarray:
    """``[I, 256]``: a pair of registers, packed as A + 16 B, after each instruction."""
    b, a = np.divmod(np.arange(256), 16)
    done = [run(a, b) for run in list(INSTRUCTIONS.values())[:instructions]]
    return np.stack([x % modulus + 16 * (y % modulus) for x, y in done]).astype(np.uint8)


@cache
def targets(modulus: int, instructions: int, longest: int) -> Targets:
    """Distinct functions of random programs of 1 to ``longest`` instructions.

    The length is drawn first, so that easy functions are not drowned by long ones; a function is
    kept with the first program that computes it. The identity, which END alone computes, is not
    asked for.
    """
    random = np.random.RandomState(0)  # this generator is frozen
    length = random.randint(1, longest + 1, DRAWN)
    program = random.randint(1, instructions, (DRAWN, longest))
    program[np.arange(longest) >= length[:, None]] = 0
    table, inputs = moves(modulus, instructions), np.arange(modulus, dtype=np.uint8)
    registers = np.broadcast_to(inputs, (DRAWN, modulus))
    for t in range(longest):
        registers = table[program[:, t, None], registers]
    output = registers % 16
    _, first = np.unique(output, axis=0, return_index=True)
    first = np.sort(first)
    first = first[np.any(output[first] != inputs, axis=1)]
    order = np.argsort(random.random_sample((DRAWN, modulus)), axis=1)[first]
    return Targets(program[first].astype(np.uint8), output[first], order.astype(np.uint8))
