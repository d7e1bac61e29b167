"""Where the noise of a run comes from: which generator, and which members share it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs.counter import counter_prng
from jaxrl_envs.errors import expect
from jaxtyping import Array, Key, UInt32

from jaxrl_lab.keys import named

GENERATORS: dict[str, Callable[[], Hashable]] = {
    "threefry": lambda: "threefry2x32",
    "counter": counter_prng,
}
"""``threefry`` is jax's default and what is published; ``counter`` is faster on a CPU and has no
record of statistical tests but ours (:mod:`jaxrl_envs.counter`). jax's ``rbg`` is missing because
under vmap its draws depend on the other members of the population."""


@dataclass(frozen=True)
class Noise:
    """The noise of a population.

    Attributes:
        common: whether arms of one seed share all of it: initial parameters, prompts, what the
            world draws, and the uniforms behind their actions.
        generator: of :data:`GENERATORS`.
    """

    common: bool = True
    generator: str = "threefry"

    def check(self) -> None:
        """Refuse a generator that does not exist."""
        names = ", ".join(GENERATORS)
        expect(self.generator in GENERATORS, "generator", self.generator, f"one of {names}")

    def keys(self, seeds: Sequence[int], arms: Sequence[str]) -> Array:
        """One key per seed, ``[S]``; with noise of its own, one per arm and seed, ``[A, S]``."""
        if self.common:
            return seed_keys(seeds, generator=self.generator)
        return jnp.stack([seed_keys(seeds, arm, self.generator) for arm in arms])

    def key(self, arm: str, seed: int) -> Array:
        """The key that all noise of one member comes from."""
        return self.keys([seed], [arm]).reshape(-1)[0]


SHARED = Noise()
"""What runs have unless they are told otherwise."""


def seed_keys(seeds: Sequence[int], arm: str = "", generator: str = "threefry") -> Array:
    """One key per seed. Arms share it, and with it all their noise, unless they are named."""
    keys = _keys(np.asarray(list(seeds), np.uint32), generator)
    return jax.vmap(lambda key: named(key, f"arm {arm}"))(keys) if arm else keys


@partial(jax.jit, static_argnames="generator")
def _keys(seeds: UInt32[Array, "S"], generator: str) -> Key[Array, "S"]:
    return jax.vmap(partial(jax.random.key, impl=GENERATORS[generator]()))(seeds)
