"""Random keys by name: every stream of randomness has an address and is used once."""

from __future__ import annotations

import zlib

from jaxrl_envs import threefry
from jaxtyping import Array


def named(key: Array, name: str) -> Array:
    """The sub-key of ``key`` for a named purpose; the same name gives the same key."""
    return threefry.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
