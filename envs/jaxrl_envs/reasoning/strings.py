"""Rewriting systems over the letters a, b, c, d: rules, packed strings, static tables.

A string of n letters is packed as Σ_i letter_i 4^i beside n. Its number among all strings, shorter
ones first, is (4^n - 1) / 3 plus the packed letters.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8, UInt16
from scipy.sparse import csr_array

Integers = TypeVar("Integers", np.ndarray, Array)
"""What packs and rewrites strings serves the static tables and the steps of a program."""

LETTERS = "abcd"
OFFSETS = np.array([(4**n - 1) // 3 for n in range(10)], np.int32)
"""How many strings are shorter than n letters."""

RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "confluent": (
        *(("ba", "ab"), ("ca", "ac"), ("da", "ad"), ("cb", "bc"), ("db", "bd"), ("dc", "cd")),
        *(("aa", "a"), ("dd", "d")),
    ),
    "non_confluent": (
        *(("ab", "c"), ("bc", "d"), ("cd", "a"), ("da", "b")),
        *(("ba", "ab"), ("cb", "bc"), ("dc", "cd"), ("ad", "da")),
    ),
    "reversible": (
        *(("ab", "ba"), ("ba", "ab"), ("cd", "dc"), ("dc", "cd")),
        *(("aa", "c"), ("c", "aa"), ("bb", "d"), ("d", "bb")),
    ),
}
"""Left and right side of each rule of each system."""


class Derivations(NamedTuple):
    """What is known of all prompts of one structure, by dynamic programming over all strings.

    ``row[B]`` is a prompt's row in ``distance[goals, S]``, the steps that still lead to its goal
    (L + 1 where more than L would be needed); ``solutions[B]`` its derivations of at most L steps.
    """

    row: np.ndarray
    distance: np.ndarray
    solutions: np.ndarray


def packed(text: str) -> int:
    return sum(LETTERS.index(letter) << 2 * i for i, letter in enumerate(text))


def as_text(letters: int, length: int) -> str:
    """A packed string in letters; ε is the empty one."""
    return "".join(LETTERS[letters >> 2 * i & 3] for i in range(length)) or "ε"


def index(letters: UInt16[Array, "..."], length: UInt8[Array, "..."]) -> Int[Array, "..."]:
    """The number of a packed string."""
    return jnp.asarray(OFFSETS)[length] + letters.astype(jnp.int32)


@cache
def actions(system: str, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Rule ``[A, 4]`` and position ``[A]`` of every action, which is rule · longest + position.

    A rule is its packed left side, the length of that, its packed right side, the length of that.
    """
    sides = [(packed(a), len(a), packed(b), len(b)) for a, b in RULES[system]]
    number, position = np.divmod(np.arange(len(sides) * longest, dtype=np.int32), longest)
    return np.array(sides, np.int32)[number], position


@cache
def action_words(system: str, longest: int) -> np.ndarray:
    """Rule and position of every action in one number, which a program looks up at once."""
    rules, position = actions(system, longest)
    return np.asarray(rules @ (1, 1 << 16, 1 << 8, 1 << 20) + (position << 24), np.int32)


def unpacked(word: Int[Array, "..."]) -> tuple[tuple[Array, ...], Array]:
    """Rule and position of :func:`action_words`."""
    return (word & 255, word >> 16 & 15, word >> 8 & 255, word >> 20 & 15), word >> 24


def rewritten(
    letters: Integers,
    length: Integers,
    rule: Iterable[Integers],
    position: Integers,
    longest: int,
) -> tuple[Integers, Integers, Integers]:
    """Whether a rule (a column of 4 numbers) applies at a position, and the string it makes.

    The string is meaningless where the rule does not apply.
    """
    left, left_length, right, right_length = rule
    rest = letters >> 2 * position
    new_length = length - left_length + right_length
    stands = (rest & ((1 << 2 * left_length) - 1)) == left
    legal = stands & (position + left_length <= length) & (new_length <= longest)
    before = letters & ((1 << 2 * position) - 1)
    after = (rest >> 2 * left_length) << 2 * right_length
    return legal, before | ((right | after) << 2 * position), new_length


@cache
def successors(system: str, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Legality and successor (the string itself where illegal) of every string and action.

    Both are ``[S, A]``.
    """
    strings = np.arange(OFFSETS[longest + 1], dtype=np.int32)[:, None]
    length = np.searchsorted(OFFSETS, strings, side="right").astype(np.int32) - 1
    rules, position = actions(system, longest)
    legal, letters, new = rewritten(
        strings - OFFSETS[length], length, rules.T[:, None, :], position[None], longest
    )
    ahead = OFFSETS[np.where(legal, new, 0)] + letters
    return legal, np.where(legal, ahead, strings)


@cache
def prompts_of(system: str, longest: int, horizon: int, most: int) -> np.ndarray:
    """Start and goal of the first ``most`` prompts, or of all there are: numbers ``[B, 2]``.

    Starts are all strings in a fixed shuffled order. From each a random derivation is followed
    that passes no string twice: until no rule applies, or for 1 to L steps where every step can be
    undone. The start is skipped where that takes no step, or more than L.
    """
    legal, ahead = successors(system, longest)
    rng = np.random.RandomState(0)  # this generator is frozen
    found: list[tuple[int, int]] = []
    for start in rng.permutation(len(legal)):
        if len(found) == most:
            break
        path, undone = [int(start)], system == "reversible"
        for _ in range(rng.randint(1, horizon + 1) if undone else horizon):
            options = [x for x in ahead[path[-1], legal[path[-1]]].tolist() if x not in path]
            if not options:
                break
            path.append(options[rng.randint(len(options))])
        if len(path) > 1 and (undone or not legal[path[-1]].any()):
            found.append((path[0], path[-1]))
    return np.array(found, np.int32).reshape(-1, 2)


@cache
def derivations(system: str, longest: int, horizon: int, most: int) -> Derivations:
    """Distances and counts: n_j(goal) = 1, else n_j(x) = Σ_legal n_{j-1}(x'), n_0 = 0."""
    legal, ahead = successors(system, longest)
    start, goal = prompts_of(system, longest, horizon, most).T
    goals, row = np.unique(goal, return_inverse=True)
    source, action = np.nonzero(legal)
    step = csr_array(
        (np.ones(len(source)), (source, ahead[source, action])), shape=(len(legal), len(legal))
    )
    columns = np.arange(len(goals))
    ways = np.zeros((len(legal), len(goals)))
    ways[goals, columns] = 1.0
    distance = np.zeros(ways.shape, np.uint8)
    for _ in range(horizon):
        distance += ways == 0
        ways = step @ ways
        ways[goals, columns] = 1.0
    distance += ways == 0
    return Derivations(row.astype(np.int32), distance.T.copy(), ways[start, row])
