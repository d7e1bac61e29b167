"""Shortest routes on any graph given as a table of moves, at fixed shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

FAR = 1 << 20
"""The distance of cells from which the goal was not reached."""


def shortest(
    ahead: Int[Array, "S A"], goal: Int[Array, ""], depth: int
) -> tuple[Int[Array, "S"], Int[Array, "S"]]:
    """Distances to the goal and numbers of shortest routes, by breadth-first search.

    d(s) = 1 + min_a d(s'), n(s) = Σ_a n(s') [d(s') = d(s) - 1], with s' = ahead(s, a), d(goal) = 0
    and n(goal) = 1.

    Args:
        ahead: the neighbor each action leads to; the cell itself where it is blocked.
        depth: how many steps to search, static; cells further away are ``FAR``, with no route.
    """
    at_goal = jnp.arange(ahead.shape[0]) == goal

    def wave(carry: tuple[Array, Array], d: Int[Array, ""]) -> tuple[tuple[Array, Array], None]:
        distance, ways = carry
        nearer = distance[ahead] == d - 1
        found = (distance == FAR) & jnp.any(nearer, axis=1)
        routes = jnp.sum(jnp.where(nearer, ways[ahead], 0), axis=1, dtype=jnp.int32)
        return (jnp.where(found, d, distance), jnp.where(found, routes, ways)), None

    first = (jnp.where(at_goal, 0, FAR).astype(jnp.int32), at_goal.astype(jnp.int32))
    (distance, ways), _ = jax.lax.scan(wave, first, jnp.arange(1, depth + 1, dtype=jnp.int32))
    return distance, ways


def rank(
    ahead: Int[Array, "S A"],
    distance: Int[Array, "S"],
    ways: Int[Array, "S"],
    start: Int[Array, ""],
    actions: Int[Array, "T"],
    length: Int[Array, ""],
) -> Int[Array, ""]:
    """The lexicographic rank of a shortest route among all from ``start``; -1 for any other.

    ``distance`` and ``ways`` are what :func:`shortest` gave. Ranks are 0 .. ways[start] - 1.
    """
    last = ahead.shape[1] - 1
    moves = jnp.clip(jnp.asarray(actions, jnp.int32), 0, last)

    def follow(
        carry: tuple[Array, Array, Array], now: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array, Array], None]:
        cell, code, optimal = carry
        move, active = now
        after = ahead[cell]
        nearer = distance[after] == distance[cell] - 1
        earlier = jnp.arange(last + 1) < move  # routes that branch off here come first
        skipped = jnp.sum(jnp.where(nearer & earlier, ways[after], 0), dtype=jnp.int32)
        taken = (after[move], code + skipped, optimal & nearer[move])
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), taken, carry), None

    first = (jnp.asarray(start, jnp.int32), jnp.int32(0), jnp.bool_(True))
    active = jnp.arange(moves.shape[0]) < length
    (_, code, optimal), _ = jax.lax.scan(follow, first, (moves, active))
    return jnp.where(optimal & (length == distance[start]), code, -1)
