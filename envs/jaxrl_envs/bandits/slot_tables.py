"""What is static in sentences of slots: kinds, states, and how many sentences there are."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np


class Tables(NamedTuple):
    """Everything about the sentences of one structure.

    Attributes:
        sizes: number m_t of right actions of each slot, ``[T]``.
        forks: which slots are forks, ``[T]``.
        states: all (clock, right, near) with right + near <= clock, lexicographic, ``[S, 3]``.
        number: their place in it, ``[T+1, T+1, 1 or T+1]``.
        sentences: how many sentences have 0 .. T right slots, ``[T+1]``.
    """

    sizes: np.ndarray
    forks: np.ndarray
    states: np.ndarray
    number: np.ndarray
    sentences: np.ndarray


@cache
def tables(
    forks: tuple[int, ...],
    plain: tuple[int, ...],
    fillers: int,
    vocabulary: int,
    stop: bool,
    graded: bool,
) -> Tables:
    """The tables of one structure. Cached: they are constants of every program that uses them.

    Args:
        forks, plain: right words of each fork and each plain slot.
        fillers: how many slots accept everything; the last ones where sentences can ``stop``.
        graded: whether near misses are counted.
    """
    sizes = np.array(forks + plain + (vocabulary + stop,) * fillers)
    T = len(sizes)
    shuffled = T - fillers if stop else T
    order = np.arange(T)
    order[:shuffled] = np.random.RandomState(0).permutation(shuffled)  # this generator is frozen
    sizes = sizes[order]
    most = T if graded else 0
    states = [
        (clock, right, near)
        for clock in range(T + 1)
        for right in range(clock + 1)
        for near in range(min(most, clock - right) + 1)
    ]
    number = np.zeros((T + 1, T + 1, most + 1), np.int32)
    number[tuple(np.transpose(states))] = np.arange(len(states))
    return Tables(
        sizes=sizes.astype(np.uint8),
        forks=order < len(forks),
        states=np.array(states, np.uint8),
        number=number,
        sentences=_sentences(sizes, fillers, vocabulary, stop),
    )


def _sentences(sizes: np.ndarray, fillers: int, vocabulary: int, stop: bool) -> np.ndarray:
    """Sentences by number of right slots: n_j ← (V - m_t) n_j + m_t n_{j-1}, and those that stop.

    Below 2^24 exact; no more than the largest float32.
    """
    T = len(sizes)
    running, stopped = np.eye(T + 1)[0], np.zeros(T + 1)
    for t, size in enumerate(np.minimum(sizes, vocabulary)):
        if stop:  # the fillers that are left count as right
            stopped += np.roll(running, min(T - t, fillers))
        running = (vocabulary - size) * running + size * np.roll(running, 1)
    return np.minimum(running + stopped, np.finfo(np.float32).max).astype(np.float32)
