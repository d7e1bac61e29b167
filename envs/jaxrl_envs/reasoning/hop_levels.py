"""The questions of ``reasoning/kv_hop`` and the hidden tables that answer them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import factorial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxrl_envs.reasoning.hop_memory import spell


class Shape(NamedTuple):
    """The static structure of a table, named as in the world."""

    mode: str
    keys: int
    hops: int
    base: int
    questions: int
    levels: int

    @property
    def tables(self) -> int:
        """How many tables can answer a question: cycles through the keys, or any values."""
        return factorial(self.keys - 1) if self.mode == "pointer" else self.base**self.keys

    @property
    def slots(self) -> int:
        """How many keys are remembered: those that can matter."""
        return self.keys if self.mode == "pointer" else self.hops

    @property
    def values(self) -> int:
        """How many different results there are."""
        return self.keys if self.mode == "pointer" else self.base

    @property
    def answers(self) -> int:
        """How many different answers can be given."""
        return self.keys if self.mode == "pointer" else self.base**self.hops

    @property
    def candidates(self) -> tuple[int, ...]:
        """C_0 .. C_H, how many answers are possible after j useful results."""
        if self.mode == "index":
            return tuple(self.base ** (self.hops - j) for j in range(self.hops + 1))
        return (*(self.keys - 1 - j for j in range(self.hops)), 1)

    @property
    def rows(self) -> int:
        """How many situations of one question the observation ``"state"`` tells apart."""
        if self.mode == "pointer":
            return (self.hops + 1) * self.keys
        return (self.base + 1) ** self.hops


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """Numbers a sweep may vary.

    Attributes:
        cost: c, the price of a call.
        error: ε, probability that a result is replaced by a uniformly random value.
        stale: share of a level's keys whose first result is out of date; asking again helps.
        memory: share of questions whose answer is the same in every level, so that it can be
            learned without the tool.
        skew: s, probability that the answer is the popular one instead of a uniform one.
    """

    cost: Float[Array, ""]
    error: Float[Array, ""]
    stale: Float[Array, ""]
    memory: Float[Array, ""]
    skew: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """One prompt: its number, its question, and what only the tool knows.

    ``table[N]`` is the value of each key, ``old[N]`` what its first call returns; ``answer`` is
    the right one; ``fixed`` tells whether the question alone determines it.
    """

    id: Int[Array, ""]
    question: Int[Array, ""]
    table: UInt8[Array, "N"]
    old: UInt8[Array, "N"]
    answer: Int[Array, ""]
    fixed: Bool[Array, ""]


class Draws(NamedTuple):
    """What is random about the levels and questions of one structure, as static NumPy tables.

    ``order[L, N]``: for pointers the keys along the cycle, from the first key on; else the values
    of the keys; different in any two levels with the same question. ``skewed[L]`` and
    ``aged[L, N]`` are uniform numbers compared with ``skew`` and ``stale``, ``off[L, N]`` how far
    an old value is from the right one. ``fixed[Q]`` and ``popular[Q]`` are the answer, and the
    number compared with ``skew``, of questions that determine their answer.
    """

    order: np.ndarray
    skewed: np.ndarray
    aged: np.ndarray
    off: np.ndarray
    fixed: np.ndarray
    popular: np.ndarray


@cache
def draws(shape: Shape) -> Draws:
    """The draws of one structure. Cached: they are constants of every program that uses them."""
    random = np.random.RandomState(0)  # this generator is frozen
    question = np.arange(shape.levels) % shape.questions
    order = np.zeros((shape.levels, shape.keys), np.int32)
    again = np.arange(shape.levels)
    while len(again):
        if shape.mode == "pointer":
            luck = random.random_sample((len(again), shape.keys))
            luck[np.arange(len(again)), question[again] + 1] = -1.0  # the first key comes first
            order[again] = np.argsort(luck, axis=1)
        else:
            order[again] = random.randint(shape.base, size=(len(again), shape.keys))
        named = np.concatenate([question[:, None], order], axis=1)
        kept = np.unique(named, axis=0, return_index=True)[1]
        again = np.setdiff1d(np.arange(shape.levels), kept)
    answer = random.randint(shape.candidates[0], size=shape.questions)
    if shape.mode == "pointer":
        answer = answer + (answer > np.arange(shape.questions))  # any key but the first
    return Draws(
        order=order,
        skewed=random.random_sample(shape.levels).astype(np.float32),
        aged=random.random_sample(order.shape).astype(np.float32),
        off=random.randint(1, shape.values, size=order.shape).astype(np.int32),
        fixed=answer.astype(np.int32),
        popular=random.random_sample(shape.questions).astype(np.float32),
    )


def build(shape: Shape, params: Params, index: Int[Array, ""]) -> Level:
    """The level of that number."""
    question = index % shape.questions
    of_level, of_question = draws(shape)[:4], draws(shape)[4:]
    order, skewed, aged, off = (jnp.asarray(x)[index] for x in of_level)
    told, popular = (jnp.asarray(x)[question] for x in of_question)
    fixed = (question.astype(jnp.float32) + 0.5) / shape.questions < params.memory
    weight = jnp.asarray(shape.base ** np.arange(shape.hops), jnp.int32)
    drawn = order[shape.hops] if shape.mode == "pointer" else order[: shape.hops] @ weight
    answer = jnp.where(fixed, told, drawn)
    answer = jnp.where(jnp.where(fixed, popular, skewed) < params.skew, 0, answer)
    if shape.mode == "pointer":  # the drawn answer and the right one change places
        swapped = jnp.where(order == drawn, answer, jnp.where(order == answer, drawn, order))
        table = jnp.zeros_like(order).at[swapped].set(jnp.roll(swapped, -1))
    else:
        table = order.at[: shape.hops].set(spell(answer, shape.base, shape.hops))
    old = jnp.where(aged < params.stale, (table + off) % shape.values, table)
    return Level(index, question, table.astype(jnp.uint8), old.astype(jnp.uint8), answer, fixed)
