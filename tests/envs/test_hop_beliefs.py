"""Beliefs and plans of ``reasoning/kv_hop`` against all tables and all ways to ask."""

from __future__ import annotations

import itertools
from functools import cache, partial
from math import log
from typing import Any

import numpy as np
import pytest
from hop_worlds import INDEX, POINTER, ask, compiled, level_of, params_of, solve
from jaxrl_envs.reasoning.kv_hop import KVHop


@cache
def possible(mode: str, keys: int, hops: int, base: int, skew: float) -> list[Any]:
    """(chance, table, answer) of all tables of question 0."""
    env = KVHop(mode=mode, keys=keys, hops=hops, base=base, questions=1, prompts=1)
    if mode == "index":
        tables = list(itertools.product(range(base), repeat=keys))
        C = base**hops
    else:
        tables = []
        for others in itertools.permutations([0, *range(2, keys)]):
            order = [1, *others]
            tables.append(tuple(order[(order.index(k) + 1) % keys] for k in range(keys)))
        C = keys - 1
    answers = [solve(env, table, 0)[1] for table in tables]
    alike = {a: answers.count(a) for a in answers}
    prior = {a: skew * (a == 0) + (1 - skew) / C for a in alike}
    return [(prior[a] / alike[a], t, a) for t, a in zip(tables, answers, strict=True)]


def guess(worlds: Any) -> dict[int, float]:
    """Posterior of every answer."""
    mass: dict[int, float] = {}
    for chance, _, answer in worlds:
        mass[answer] = mass.get(answer, 0.0) + chance
    total = sum(mass.values())
    return {a: m / total for a, m in mass.items()}


def best_return(worlds: Any, keys: int, cost: float, calls: int) -> float:
    """The best penalized return over all ways to ask, off the way included."""

    @cache
    def best(left: tuple[int, ...], asked: frozenset[int], calls: int) -> float:
        here = [worlds[i] for i in left]
        total = sum(w[0] for w in here)
        value = max(guess(here).values())
        for key in set(range(keys)) - asked if calls and value < 1 - 1e-12 else ():
            split: dict[int, list[int]] = {}
            for i in left:
                split.setdefault(worlds[i][1][key], []).append(i)
            ask = -cost
            for part in split.values():
                share = sum(worlds[i][0] for i in part) / total
                if share > 0:
                    ask += share * best(tuple(part), asked | {key}, calls - 1)
            value = max(value, ask)
        return value

    return best(tuple(i for i in range(len(worlds)) if worlds[i][0] > 0), frozenset(), calls)


SMALL = [
    ("pointer", 3, 1, 2),
    ("pointer", 4, 2, 2),
    ("pointer", 5, 2, 2),
    ("pointer", 6, 3, 2),
    ("index", 3, 2, 2),
    ("index", 4, 3, 2),
    ("index", 3, 2, 3),
]


@pytest.mark.parametrize(("mode", "keys", "hops", "base"), SMALL)
def test_the_plan_is_best_among_all_ways_to_ask(mode: Any, keys: int, hops: int, base: int) -> None:
    static = {"mode": mode, "keys": keys, "hops": hops, "base": base}
    for budget in (1, hops, hops + 1, hops + 2):
        env = KVHop(**static, questions=1, prompts=1, budget=budget)
        for cost, skew in [(0.0, 0.0), (0.07, 0.0), (0.07, 0.3), (0.2, 0.3), (0.1, 0.8)]:
            params = params_of(env, cost=cost, skew=skew)
            found = compiled(env, "plan")(params, level_of(env, params))
            worlds = possible(mode, keys, hops, base, skew)
            expected = best_return(worlds, keys, cost, budget - 1)
            assert float(found.value) == pytest.approx(expected, abs=1e-5)
            assert 0.0 <= float(found.calls) <= min(hops, budget - 1)


@pytest.mark.parametrize("static", [POINTER, INDEX], ids=["pointer", "index"])
def test_without_skew_one_asks_to_the_end_or_not_at_all(static: Any) -> None:
    """V = max(1/C, 1 - c H), and nothing but the first where the budget forbids H calls."""
    C = 5 if static is POINTER else 8
    for cost in (0.01, 0.2, 0.28, 0.5):
        env = KVHop(**static)
        params = params_of(env, cost=cost)
        value, calls = compiled(env, "plan")(params, level_of(env, params))
        asks = 1 - 3 * cost > 1 / C
        assert float(value) == pytest.approx(1 - 3 * cost if asks else 1 / C, abs=1e-6)
        assert float(calls) == (3 if asks else 0)


@pytest.mark.parametrize("skew", [0.0, 0.4])
@pytest.mark.parametrize("static", [POINTER, INDEX], ids=["pointer", "index"])
def test_beliefs_against_all_tables(static: Any, skew: float) -> None:
    env = KVHop(**(static | {"questions": 1, "prompts": 4}))
    params = params_of(env, skew=skew)
    belief = partial(compiled(env, "belief"), params)
    worlds = possible(env.mode, env.keys, env.hops, env.base, skew)
    for index in range(4):
        level = level_of(env, params, index)
        table = level.table.tolist()
        useful, answer = solve(env, table, 0)
        ways = [useful[:j] for j in range(env.hops + 1)]
        if env.mode == "index":
            ways = [list(w) for j in range(4) for w in itertools.combinations(range(3), j)]
        for way in ways:
            left = [w for w in worlds if all(w[1][k] == table[k] for k in way)]
            found = float(belief(level, ask(env, params, level, way)))
            assert found == pytest.approx(guess(left)[answer], abs=1e-6)
            aside = [k for k in range(env.keys) if k not in useful][:1]
            assert float(belief(level, ask(env, params, level, [*aside, *way]))) == found
    told = params_of(env, skew=skew, memory=1.0)
    fixed = level_of(env, told)
    assert float(compiled(env, "belief")(told, fixed, env.reset(told, fixed, ()))) == 1.0
    assert [float(x) for x in compiled(env, "plan")(told, fixed)] == [1.0, 0.0]
    assert not np.any(compiled(env, "information_gain")(told, fixed))


def test_golden_beliefs() -> None:
    """Three binary digits: 1/8, 1/4, 1/2, 1."""
    env = KVHop(**INDEX)
    params = env.default_params
    level = level_of(env, params)
    belief = partial(compiled(env, "belief"), params, level)
    found = [float(belief(ask(env, params, level, range(j)))) for j in range(4)]
    assert found == [0.125, 0.25, 0.5, 1.0]


@pytest.mark.parametrize("skew", [0.0, 0.4])
@pytest.mark.parametrize("static", [POINTER, INDEX], ids=["pointer", "index"])
def test_information_gain_against_all_tables(static: Any, skew: float) -> None:
    env = KVHop(**static)
    params = params_of(env, skew=skew)
    gain = np.asarray(compiled(env, "information_gain")(params, level_of(env, params)))
    worlds = possible(env.mode, env.keys, env.hops, env.base, skew)
    entropy = []
    for j in range(env.hops + 1):
        parts: dict[Any, list[Any]] = {}
        for world in worlds:
            useful, _ = solve(env, world[1], 0)
            parts.setdefault(tuple(world[1][k] for k in useful[:j]), []).append(world)
        entropy.append(
            sum(
                sum(w[0] for w in part) * sum(-p * log(p) for p in guess(part).values() if p > 0)
                for part in parts.values()
            )
        )
    np.testing.assert_allclose(gain, -np.diff(entropy), atol=1e-5)
    if skew == 0.0:
        expected = [log(2)] * 3 if env.mode == "index" else [log(5 / 4), log(4 / 3), log(3)]
        np.testing.assert_allclose(gain, expected, rtol=1e-5)
