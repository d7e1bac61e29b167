"""``gridworld/open`` against enumeration written independently in NumPy."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache, partial
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from grid_walks import UP, walk
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.gridworlds.open import OpenGrid, State


def params_of(env: OpenGrid, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


def level_of(env: OpenGrid, index: int = 0) -> Any:
    return env.make_level(env.default_params, jnp.int32(index))


# --------------------------------------------------------------------------------- the levels


@pytest.mark.parametrize("goals", [0, 1, 2, 3])
def test_corner_levels_are_quarter_turns(goals: int) -> None:
    env = OpenGrid(size=4, goals=goals, levels=4)
    picture = np.zeros((4, 4), int)
    picture[0, 0], picture[3, 3], picture[0, 3], picture[3, 0] = 9, 1, 2, 3
    for turn in range(4):
        level, turned = level_of(env, turn), np.rot90(picture, -turn).ravel()
        assert turned[int(level.start)] == 9
        assert turned[np.asarray(level.goals)].tolist() == [1, 2, 3][:goals]


@pytest.mark.parametrize("start", ["fixed", "random"])
def test_scattered_levels_differ_as_grids(start: str) -> None:
    """Not only by the order of their goals, and not by a start that nobody uses."""
    env = OpenGrid(size=3, goals=2, layout="scattered", start=start, levels=18)  # type: ignore[arg-type]
    levels = [level_of(env, i) for i in range(18)]
    seen = {(int(x.start) if start == "fixed" else -1, frozenset(x.goals.tolist())) for x in levels}
    assert len(seen) == 18
    for level in levels:
        cells = level.goals.tolist() + ([int(level.start)] if start == "fixed" else [])
        assert len(set(cells)) == len(cells)
    fewer = replace(env, levels=5)
    for i in range(5):
        assert level_of(fewer, i).goals.tolist() == levels[i].goals.tolist()


# --------------------------------------------------------------------------------- routes


def test_seventy_routes_from_corner_to_corner() -> None:
    for size, count in ((2, 2), (5, 70), (7, comb(12, 6)), (15, comb(28, 14))):
        env = OpenGrid(size=size, levels=4)
        for turn in (0, 3):
            distance, ways = env.routes(env.default_params, level_of(env, turn))
            assert (distance.tolist(), ways.tolist()) == ([2 * (size - 1)], [count])


@pytest.mark.parametrize("index", range(6))
def test_distances_to_one_goal_are_manhattan(index: int) -> None:
    env = OpenGrid(size=9, layout="scattered", levels=6)
    level = level_of(env, index)
    (r1, c1), (r2, c2) = divmod(int(level.start), 9), divmod(int(level.goals[0]), 9)
    down, right = abs(r1 - r2), abs(c1 - c2)
    distance, ways = env.routes(env.default_params, level)
    assert distance.tolist() == [down + right]
    assert ways.tolist() == [comb(down + right, down)]


LENGTH = 6


@cache
def every_sequence(size: int, start: int, goals: tuple[int, ...]) -> list[tuple[int, int]]:
    """For all 4^LENGTH action sequences: which goal is reached and after how many steps."""
    found = []
    for actions in itertools.product(range(4), repeat=LENGTH):
        cell, end = start, (-1, LENGTH)
        for t, action in enumerate(actions):
            cell = walk(size, cell, action)
            if cell in goals:
                end = (goals.index(cell), t + 1)
                break
        found.append(end)
    return found


@pytest.mark.parametrize("prices", [(0.0, 0.0), (0.0, 0.125), (0.25, 0.0), (0.25, 0.125)])
@pytest.mark.parametrize("index", [0, 1, 4])
def test_solutions_against_enumeration(index: int, prices: tuple[float, float]) -> None:
    gap, cost = prices
    env = OpenGrid(size=3, goals=3, layout="scattered", levels=6, horizon=LENGTH)
    level, params = level_of(env, index), params_of(env, gap=gap, step_cost=cost)
    ends = every_sequence(3, int(level.start), tuple(level.goals.tolist()))
    shortest = [min((n for g, n in ends if g == m), default=99) for m in range(3)]
    worth = [1.0 - gap * m - cost * n for m, n in enumerate(shortest)]
    best = max(w for w, n in zip(worth, shortest, strict=True) if n < 99)
    counted = [m for m in range(3) if shortest[m] < 99 and worth[m] == best]
    actions = np.array(list(itertools.product(range(4), repeat=LENGTH)))
    routes = {
        (*actions[i, :n].tolist(),)
        for i, (g, n) in enumerate(ends)
        if g in counted and n == shortest[g]
    }
    solutions = env.solutions(params, level)
    assert float(solutions.count) == len(routes)

    label = jax.jit(solutions.label)
    blank = State(jnp.zeros(LENGTH, jnp.uint8), jnp.zeros(LENGTH, jnp.uint8))
    code = jax.jit(jax.vmap(label, (None, 0, 0)))
    lengths = np.array([n for _, n in ends], np.int32)
    codes = np.asarray(code(blank, jnp.asarray(actions, jnp.int32), jnp.asarray(lengths)))
    given: dict[tuple[int, ...], set[int]] = {}
    for row, n, c in zip(actions.tolist(), lengths, codes, strict=True):
        given.setdefault((*row[:n],), set()).add(int(c))
    assert all(len(c) == 1 for c in given.values()), "what follows the end does not matter"
    labeled = {route: c.pop() for route, c in given.items()}
    assert {route for route, c in labeled.items() if c >= 0} == routes
    assert sorted(c for c in labeled.values() if c >= 0) == list(range(len(routes)))


def test_a_goal_behind_goals_has_no_route() -> None:
    env = OpenGrid(size=3, goals=3, layout="scattered", levels=1)
    level = replace(level_of(env), start=jnp.uint8(8), goals=jnp.array([0, 1, 3], jnp.uint8))
    distance, ways = env.routes(env.default_params, level)
    assert distance.tolist() == [1 << 20, 3, 3]
    assert ways.tolist() == [0, 3, 3]
    assert float(env.solutions(env.default_params, level).count) == 6.0


def test_no_solution_fits_a_short_horizon() -> None:
    env = OpenGrid(size=3, horizon=3)
    params = params_of(env, step_cost=0.5)
    assert float(env.solutions(params, level_of(env)).count) == 0.0
    assert float(env.optimal_value(params, level_of(env))) == -1.5


@pytest.mark.parametrize(
    ("static", "match"), [({"noisy": True}, "noisy"), ({"start": "random"}, "start"),
                          ({"goals": 0}, "goals")],
)  # fmt: skip
def test_worlds_without_solutions_say_so(static: dict[str, Any], match: str) -> None:
    env = OpenGrid(**static)
    with pytest.raises(je.BadInput, match=match):
        env.solutions(env.default_params, level_of(env))


# --------------------------------------------------------------------------------- values


def expectimax(env: OpenGrid, level: Any, params: Any) -> float:
    """Best expected return by recursion over actions, slips and gifts."""
    goals, M = level.goals.tolist(), env.goals
    gap, cost, slip, spont = map(float, (params.gap, params.step_cost, params.slip, params.p_spont))

    @cache
    def best(cell: int, left: int) -> float:
        if left == 0 or cell in goals:
            return 0.0

        def arrive(after: int) -> float:
            won = 1.0 - gap * goals.index(after) if after in goals else 0.0
            return won - cost + best(after, left - 1)

        gift = sum(map(arrive, goals)) / M
        values = []
        for action in range(4):
            moved = sum(
                chance * arrive(walk(env.size, cell, (action + turn) % 4))
                for turn, chance in ((0, 1 - slip), (1, slip / 2), (3, slip / 2))
            )
            values.append(spont * gift + (1 - spont) * moved)
        return max(values)

    starts = [int(level.start)]
    if env.start == "random":
        starts = [c for c in range(env.size**2) if c not in goals]
    return float(np.mean([best(cell, env.horizon) for cell in starts]))


@given(
    goals=st.integers(1, 3),
    layout=st.sampled_from(["corner", "scattered"]),
    start=st.sampled_from(["fixed", "random"]),
    horizon=st.sampled_from([1, 4, 9]),
    index=st.integers(0, 3),
    gap=st.floats(0.0, 0.5, width=32),
    cost=st.floats(0.0, 1.0, width=32),
    slip=st.floats(0.0, 1.0, width=32),
    spont=st.floats(0.0, 1.0, width=32),
)
@settings(max_examples=12)
def test_optimal_value(  # type: ignore[no-untyped-def]
    goals, layout, start, horizon, index, gap, cost, slip, spont
) -> None:
    env = OpenGrid(
        size=3, goals=goals, layout=layout, start=start, noisy=True, horizon=horizon, levels=4
    )
    params = params_of(env, gap=gap, step_cost=cost, slip=slip, p_spont=spont)
    level = level_of(env, index)
    value = float(env.optimal_value(params, level))
    assert value == pytest.approx(expectimax(env, level, params), abs=1e-5)


def test_without_goals_only_time_passes() -> None:
    env = OpenGrid(size=3, goals=0, horizon=5)
    params, level = params_of(env, step_cost=1.0), level_of(env)
    assert float(env.optimal_value(params, level)) == -5.0
    state = env.reset(params, level, ())
    for t in range(5):
        after = env.step(params, level, state, jnp.int32(t % 4), ())
        assert float(after.reward["true"]) == -1.0
        assert (bool(after.terminated), bool(after.truncated)) == (False, t == 4)
        assert int(after.info["mode_id"]) == -1
        assert not bool(after.info["correct"])
        state = after.state


def test_goals_pay_by_rank_and_end_the_episode() -> None:
    env = OpenGrid(size=3, goals=3, levels=4)
    params, level = params_of(env, gap=0.25, step_cost=0.5), level_of(env, 2)
    for m, goal in enumerate(level.goals.tolist()):
        beside, action = next(
            (cell, a) for cell in range(9) for a in range(4)
            if cell not in level.goals.tolist() and walk(3, cell, a) == goal
        )  # fmt: skip
        after = env.step(
            params, level, State(jnp.uint8(beside), jnp.uint8(0)), jnp.int32(action), ()
        )
        assert float(after.reward["true"]) == 1.0 - 0.25 * m - 0.5
        assert bool(after.terminated)
        assert bool(after.info["correct"])
        assert int(after.info["mode_id"]) == m


def test_goal_shares_are_those_of_many_rollouts() -> None:
    env = OpenGrid(size=3, goals=3, noisy=True, horizon=7, levels=2)
    params, level = params_of(env, slip=0.25, p_spont=0.05), level_of(env, 1)
    policy = np.random.RandomState(0).dirichlet(np.ones(4), size=9).astype(np.float32)
    n, key = 100_000, jax.random.key(0)

    @jax.jit
    def roll() -> Any:
        def body(state: Any, t: Any) -> Any:
            now = jax.random.fold_in(key, t)
            logits = jnp.log(jnp.asarray(policy))[state.cell.astype(jnp.int32)]
            action = jax.random.categorical(now, logits)
            noise = env.draw(jax.random.fold_in(now, 1), (n,))
            after = jax.vmap(partial(env.step, params, level))(state, action, noise)
            return after.state, after.info["mode_id"]

        first = env.reset(params, level, ())
        many = jax.tree.map(lambda x: jnp.broadcast_to(x, (n,)), first)
        return jax.lax.scan(body, many, jnp.arange(7))[1][-1]

    ended = np.asarray(roll())
    shares = np.asarray(env.goal_shares(params, level, jnp.asarray(policy)))
    assert 0.2 < shares.sum() < 0.95
    for m in range(3):
        assert abs(np.mean(ended == m) - shares[m]) < 5 * np.sqrt(shares[m] / n)


def test_a_uniform_walk_from_the_corner_treats_mirror_goals_alike() -> None:
    env = OpenGrid(size=5, goals=3, horizon=400)
    uniform = jnp.full((25, 4), 0.25)
    shares = np.asarray(env.goal_shares(env.default_params, level_of(env), uniform))
    assert shares.sum() == pytest.approx(1.0, abs=1e-4)
    assert shares[1] == pytest.approx(shares[2], abs=1e-6)
    assert shares[1] > shares[0]


# --------------------------------------------------------------------------------- noise


def test_random_starts_are_uniform_over_free_cells() -> None:
    env = OpenGrid(size=4, goals=3, layout="scattered", start="random", levels=3)
    n = 130_000
    for index in range(3):
        level = level_of(env, index)
        noise = env.draw_reset(jax.random.key(index), (n,))
        cells = jax.jit(jax.vmap(partial(env.reset, env.default_params, level)))(noise).cell
        counts = np.bincount(np.asarray(cells), minlength=16)
        assert np.all(counts[np.asarray(level.goals)] == 0)
        free = np.delete(counts, np.asarray(level.goals))
        assert np.abs(free - n / 13).max() < 5 * np.sqrt(n / 13)
        last = env.reset(env.default_params, level, jnp.float32(1 - 2**-24)).cell
        assert int(last) == max(c for c in range(16) if c not in level.goals.tolist())


def test_slips_and_gifts_have_their_frequencies() -> None:
    env = OpenGrid(size=5, goals=2, noisy=True)
    params, level, n = params_of(env, slip=0.3, p_spont=0.2), level_of(env), 200_000
    noise = env.draw(jax.random.key(0), (n,))
    step = jax.jit(jax.vmap(partial(env.step, params, level), (None, None, 0)))
    cells = np.asarray(step(State(jnp.uint8(12), jnp.uint8(0)), jnp.int32(UP), noise).state.cell)
    wanted = {7: 0.8 * 0.7, 13: 0.8 * 0.15, 11: 0.8 * 0.15, 24: 0.1, 4: 0.1}
    assert set(np.unique(cells)) == set(wanted)
    for cell, chance in wanted.items():
        assert abs(np.mean(cells == cell) - chance) < 5 * np.sqrt(chance * (1 - chance) / n)


@pytest.mark.parametrize(
    ("static", "key"),
    [
        ({"size": 1}, "size"),
        ({"size": 16}, "size"),
        ({"goals": 4}, "goals"),
        ({"goals": -1}, "goals"),
        ({"layout": "scattered", "goals": 9}, "goals"),
        ({"layout": "scattered", "size": 2, "goals": 3}, "goals"),
        ({"layout": "circle"}, "layout"),
        ({"start": "center"}, "start"),
        ({"horizon": 70_000}, "horizon"),
        ({"levels": 5}, "levels"),
        ({"levels": 3, "test_levels": 2}, "test_levels"),
        ({"start": "random", "goals": 0, "levels": 2}, "levels"),
        ({"layout": "scattered", "size": 2, "levels": 7}, "levels"),
    ],
    ids=str,
)
def test_refused_structures(static: dict[str, Any], key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("gridworld/open", **static)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("static", "name", "value"),
    [
        ({}, "slip", 0.1),
        ({}, "p_spont", 0.1),
        ({"noisy": True}, "slip", 1.5),
        ({"noisy": True, "goals": 0}, "p_spont", 0.1),
        ({}, "step_cost", -1.0),
        ({"goals": 3}, "gap", 0.6),
        ({}, "gap", float("nan")),
    ],
    ids=str,
)
def test_refused_params(static: dict[str, Any], name: str, value: float) -> None:
    env = OpenGrid(**static)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput, match=name):
        env.check_params(params_of(env, **{name: value}))


def test_drawings() -> None:
    env = OpenGrid(size=3, goals=2)
    params, level = env.default_params, level_of(env)
    first = env.reset(params, level, ())
    assert env.render(params, level, first) == "level 0  step 0\nA . 1\n. . .\n. . 0"
    ended = State(jnp.uint8(8), jnp.uint8(4))
    assert env.render(params, level, ended) == "level 0  step 4\n. . 1\n. . .\n. . *"
    picture = env.picture(params, level)
    assert picture.marks == {(0, 0): "S", (2, 2): "0", (0, 2): "1"}
    assert picture.shape == (3, 3)
