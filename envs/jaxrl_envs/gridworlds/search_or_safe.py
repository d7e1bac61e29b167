"""Search for a lasting reward or take a safe one: the exact solution of a block of trials.

C places may hide a reward R that, once found, is taken in every later trial of the block. A trial
checks c new places or takes a known reward s. After each trial the block goes on with probability
1 - 1/n. Only an agent whose discount across trials is high enough gives up s to search.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl_envs.errors import expect
from jaxrl_envs.tabular import TabularMDP

SAFE, SEARCH = 0, 1
"""The two decisions of a trial."""


class Search(NamedTuple):
    """Values with j groups checked, ``j = 0 .. ceil(C / c) - 1``.

    ``search[j]`` of checking group j now and deciding best afterwards; ``safe`` of taking s for
    the rest of the block.
    """

    search: np.ndarray
    safe: float


def solve(
    discount: float,
    *,
    cells: int = 48,
    checked: int = 8,
    safe: float = 0.3,
    reward: float = 1.0,
    block: float = 20.0,
) -> Search:
    """Backward induction over the checked groups; no return crosses the end of the block.

    With d = (1 - 1/n) γ and p_j = min(c, C - jc) / (C - jc),
    search_j = p_j R / (1 - d) + (1 - p_j) d W_{j+1} and W_j = max(search_j, s / (1 - d)).

    Raises:
        BadInput: numbers out of range, or an endless block without discount.

    Source: the blocks of arXiv 2508.01287; the safe reward and its solution are ours.
    """
    _check(cells, checked, safe, reward, block)
    expect(0.0 <= discount <= 1.0, "discount", discount, "0 to 1")
    d = (1.0 - 1.0 / block) * discount
    expect(d < 1.0, "discount", discount, "below 1 where blocks are endless")
    known = safe / (1.0 - d)
    value, search = known, []
    for p in reversed(_chances(cells, checked)):
        search.append(p * reward / (1.0 - d) + (1.0 - p) * d * value)
        value = max(search[-1], known)
    return Search(np.array(search[::-1]), known)


def switch_discount(
    *,
    cells: int = 48,
    checked: int = 8,
    safe: float = 0.3,
    reward: float = 1.0,
    block: float = 20.0,
) -> float:
    """The discount across trials above which a fresh block begins with a search.

    0 where searching pays at once, infinity where it never does.
    """

    def searches(discount: float) -> bool:
        solved = solve(
            discount, cells=cells, checked=checked, safe=safe, reward=reward, block=block
        )
        return bool(solved.search[0] > solved.safe)

    low, high = 0.0, float(np.nextafter(1.0, 0.0))
    if searches(low):
        return 0.0
    if not searches(high):
        return float("inf")
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if searches(middle) else (middle, high)
    return high


def table(
    *,
    cells: int = 48,
    checked: int = 8,
    safe: float = 0.3,
    reward: float = 1.0,
    block: float = 20.0,
    horizon: int = 1000,
) -> TabularMDP:
    """The decisions of one block as a world of its own, for tabular learners.

    States: j groups checked (0 .. m-1), found (m), block over (m+1, terminal). Actions: safe,
    search (where found: take R). ``horizon`` is where a caller that needs one may cut.
    """
    _check(cells, checked, safe, reward, block)
    chance = np.array(_chances(cells, checked))
    m = len(chance)
    P, pay = np.zeros((m + 2, 2, m + 2)), np.zeros((m + 2, 2))
    P[np.arange(m + 1), SAFE, np.arange(m + 1)] = 1.0
    P[np.arange(m), SEARCH, m] = chance
    P[np.arange(m), SEARCH, np.arange(1, m + 1)] += 1.0 - chance  # the last group finds it surely
    P[m, SEARCH, m] = 1.0
    P[: m + 1] *= 1.0 - 1.0 / block
    P[: m + 1, :, m + 1] += 1.0 / block
    P[m + 1, :, m + 1] = 1.0
    pay[: m + 1, SAFE], pay[:m, SEARCH], pay[m, SEARCH] = safe, chance * reward, reward
    return TabularMDP(
        reward=jnp.asarray(pay, jnp.float32),
        start=jnp.asarray(np.eye(m + 2)[0], jnp.float32),
        terminal=jnp.arange(m + 2) == m + 1,
        row=jnp.minimum(jnp.arange(m + 2), m),
        P=jnp.asarray(P, jnp.float32),
        horizon=horizon,
    )


def _chances(cells: int, checked: int) -> list[float]:
    """Probability that the reward is in group j, given that it was in none before."""
    left = range(cells, 0, -checked)
    return [min(checked, rest) / rest for rest in left]


def _check(cells: int, checked: int, safe: float, reward: float, block: float) -> None:
    expect(cells >= 1, "cells", cells, "at least 1 place")
    expect(1 <= checked <= cells, "checked", checked, f"1 to {cells} places per trial")
    expect(0.0 <= safe <= reward, "safe", safe, f"0 to {reward} (what is hidden pays more)")
    expect(block >= 1.0, "block", block, "1 or more trials")
