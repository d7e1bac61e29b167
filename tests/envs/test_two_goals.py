"""``gridworld/two_goals`` against enumeration written independently in NumPy."""

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
from grid_walks import LEFT, RIGHT, UP, walk
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.gridworlds.two_goals import State, TwoGoals


def params_of(env: TwoGoals, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


def level_of(env: TwoGoals, index: int = 0) -> Any:
    return env.make_level(env.default_params, jnp.int32(index))


@pytest.mark.parametrize("size", [3, 5, 15])
def test_levels_are_all_rotations_of_all_rows(size: int) -> None:
    env = TwoGoals(size=size, levels=4 * (size - 1))
    seen = set()
    for i in env.level_ids("train"):
        level = level_of(env, i)
        picture = np.zeros((size, size), int)
        picture[0, 0], picture[0, -1], picture[int(level.row), size // 2] = 1, 2, 3
        picture = np.rot90(picture, -int(level.rotation)).ravel()
        assert picture.nonzero()[0].tolist() == sorted([*level.goals.tolist(), int(level.start)])
        assert picture[level.goals[0]] == 1
        assert picture[level.goals[1]] == 2
        seen.add((int(level.rotation), int(level.row)))
    assert seen == set(itertools.product(range(4), range(1, size)))


def test_both_splits_mix_rotations_and_rows() -> None:
    env = TwoGoals(size=15, levels=28, test_levels=28)
    for split in ("train", "test"):
        levels = [level_of(env, i) for i in env.level_ids(split)]
        assert {int(x.rotation) for x in levels} == {0, 1, 2, 3}
        assert min(int(x.row) for x in levels) <= 3
        assert max(int(x.row) for x in levels) >= 12


@cache
def enumerate_routes(size: int, start: int, goals: tuple[int, int], length: int) -> np.ndarray:
    """For each of the 4^length action sequences: the goal first reached at its last step, or -1."""
    reached = []
    for actions in itertools.product(range(4), repeat=length):
        cell, found = start, -1
        for t, action in enumerate(actions):
            cell = walk(size, cell, action)
            if cell in goals:
                found = goals.index(cell) if t == length - 1 else -1
                break
        reached.append(found)
    return np.array(reached)


@pytest.mark.parametrize("second", [1.0, 0.5, 2.0])
@pytest.mark.parametrize(("size", "index"), [(3, 0), (3, 3), (3, 6), (5, 2), (5, 5), (5, 9)])
def test_solutions_against_enumeration(size: int, index: int, second: float) -> None:
    env = TwoGoals(size=size, levels=4 * (size - 1))
    level, params = level_of(env, index), params_of(env, second_reward=second)
    goals = tuple(level.goals.tolist())
    steps = 1
    while np.all(enumerate_routes(size, int(level.start), goals, steps) < 0):
        steps += 1
    reached = enumerate_routes(size, int(level.start), goals, steps)
    best = {1.0: (0, 1), 0.5: (0,), 2.0: (1,)}[second]
    expected = np.isin(reached, best)
    assert np.sum(reached == 0) == np.sum(reached == 1) > 0, "both goals are equally far"

    solutions = env.solutions(params, level)
    assert float(solutions.count) == expected.sum()
    actions = np.array(list(itertools.product(range(4), repeat=steps)))
    junk = np.full((len(actions), 2), UP)  # what a padded trajectory holds after its end
    padded = jnp.asarray(np.concatenate([actions, junk], axis=1), jnp.int32)
    states = State(jnp.zeros(padded.shape, jnp.uint8), jnp.zeros(padded.shape, jnp.uint8))
    label = jax.jit(jax.vmap(solutions.label, (0, 0, None)))
    codes = np.asarray(label(states, padded, jnp.int32(steps)))
    assert np.array_equal(codes >= 0, expected)
    assert np.array_equal(np.sort(codes[expected]), np.arange(expected.sum()))
    assert np.all(np.asarray(label(states, padded, jnp.int32(steps + 1))) == -1)
    half = expected.sum() // 2
    if len(best) == 2:
        assert np.array_equal(codes[expected] >= half, reached[expected] == 1)


def test_ranks_are_lexicographic() -> None:
    env = TwoGoals(size=5, levels=16)
    upright = next(i for i in range(16) if (lv := level_of(env, i)).rotation == 0 and lv.row == 2)
    solutions = env.solutions(env.default_params, level_of(env, upright))
    routes = sorted(set(itertools.permutations([UP, UP, RIGHT, RIGHT])))
    for goal, side in ((0, LEFT), (1, RIGHT)):
        for rank, route in enumerate(routes):
            actions = jnp.array([side if a == RIGHT else a for a in route], jnp.int32)
            assert int(solutions.label((), actions, jnp.int32(4))) == goal * 6 + rank


def test_large_grid_has_the_closed_form_count() -> None:
    env = TwoGoals(size=15, levels=56)
    levels = jax.vmap(partial(env.make_level, env.default_params))(jnp.arange(56))
    count = jax.vmap(lambda lv: env.solutions(env.default_params, lv).count)(levels)
    rows = np.asarray(levels.row)
    assert np.array_equal(count, [2 * comb(int(r) + 7, 7) for r in rows])


def test_no_solution_fits_a_short_horizon() -> None:
    env = TwoGoals(size=3, levels=8, horizon=2)
    for i in range(8):
        level = level_of(env, i)
        fits = int(level.row) + 1 <= 2
        assert (float(env.solutions(env.default_params, level).count) > 0) == fits
        assert float(env.optimal_value(env.default_params, level)) == (1.0 if fits else 0.0)


def expectimax(env: TwoGoals, level: Any, params: Any) -> float:
    """Best expected return by recursion over actions and slips."""
    goals, pay = level.goals.tolist(), (1.0, float(params.second_reward))
    slip, cost = float(params.slip), float(params.step_cost)

    @cache
    def best(cell: int, left: int) -> float:
        if left == 0 or cell in goals:
            return 0.0
        values = []
        for action in range(4):
            total = 0.0
            for turn, chance in ((0, 1 - slip), (1, slip / 2), (3, slip / 2)):
                after = walk(env.size, cell, (action + turn) % 4)
                won = pay[goals.index(after)] if after in goals else 0.0
                total += chance * (won - cost + best(after, left - 1))
            values.append(total)
        return max(values)

    return best(int(level.start), env.horizon)


@given(
    size=st.sampled_from([3, 5]),
    slip=st.floats(0.0, 1.0, width=32),
    cost=st.floats(0.0, 0.5, width=32),
    second=st.floats(-1.0, 3.0, width=32),
    horizon=st.sampled_from([1, 3, 6, 9]),
    index=st.integers(0, 7),
)
@settings(max_examples=12, deadline=None)
def test_optimal_value(size, slip, cost, second, horizon, index) -> None:  # type: ignore[no-untyped-def]
    env = TwoGoals(size=size, slippery=True, levels=8, horizon=horizon)
    params = params_of(env, slip=slip, step_cost=cost, second_reward=second)
    level = level_of(env, index)
    value = float(env.optimal_value(params, level))
    assert value == pytest.approx(expectimax(env, level, params), abs=1e-5)


@pytest.mark.parametrize("second", [0.5, 1.0, 1.5])
def test_deterministic_optimal_value(second: float) -> None:
    env = TwoGoals(size=5, levels=16)
    params = params_of(env, second_reward=second, step_cost=0.01)
    for i in range(16):
        level = level_of(env, i)
        expected = max(1.0, second) - 0.01 * (int(level.row) + 2)
        assert float(env.optimal_value(params, level)) == pytest.approx(expected, abs=1e-5)


def shortest(level: Any, goal: int, size: int) -> list[int]:
    """One shortest route, found by walking downhill in Manhattan distance."""
    target, cell, route = int(level.goals[goal]), int(level.start), []

    def distance(c: int) -> int:
        (r1, c1), (r2, c2) = divmod(c, size), divmod(target, size)
        return abs(r1 - r2) + abs(c1 - c2)

    while cell != target:
        action = min(range(4), key=lambda a: distance(walk(size, cell, a)))
        cell = walk(size, cell, action)
        route.append(action)
    return route


@pytest.mark.parametrize(("extra", "flags"), [(-1, (False, True)), (0, (True, True)),
                                              (1, (True, False))])  # fmt: skip
def test_endings(extra: int, flags: tuple[bool, bool]) -> None:
    """Cut one step short of a goal, at the very step that reaches it, and not at all."""
    for goal in (0, 1):
        probe = TwoGoals(size=5, levels=4)
        level = level_of(probe, 3)
        route = shortest(level, goal, 5)
        env = TwoGoals(size=5, levels=4, horizon=len(route) + extra)
        params = params_of(env, second_reward=0.5, step_cost=0.125)
        state, total = env.reset(params, level, ()), 0.0
        for t, action in enumerate(route[: env.horizon]):
            after = env.step(params, level, state, jnp.int32(action), ())
            last = t == min(len(route), env.horizon) - 1
            seen = (bool(after.terminated), bool(after.truncated))
            assert seen == (flags if last else (False, False))
            state, total = after.state, total + float(after.reward["true"])
        won = flags[0]
        assert bool(after.info["correct"]) == won
        assert int(after.info["mode_id"]) == (goal if won else -1)
        pay = (1.0, 0.5)[goal] if won else 0.0
        assert total == pytest.approx(pay - 0.125 * min(len(route), env.horizon))


@pytest.mark.parametrize(("horizon", "dtype"), [(255, jnp.uint8), (256, jnp.uint16)])
def test_the_clock_never_wraps(horizon: int, dtype: Any) -> None:
    env = TwoGoals(size=3, horizon=horizon)
    params, level = env.default_params, level_of(env)
    start = env.reset(params, level, ())
    away = (int(level.rotation) + 2) % 4  # toward the wall opposite of the goals

    def body(state: Any, _: Any) -> Any:
        after = env.step(params, level, state, jnp.int32(away), ())
        return after.state, (after.state.clock, after.truncated)

    _, (clock, truncated) = jax.lax.scan(body, start, length=horizon + 5)
    assert start.clock.dtype == dtype
    assert np.array_equal(clock, np.minimum(np.arange(1, horizon + 6), horizon))
    assert np.array_equal(truncated, np.asarray(clock) == horizon)


def test_slip_frequencies() -> None:
    """From the center of the grid, 4 actions lead to 4 different cells with the stated chances."""
    env = TwoGoals(size=5, slippery=True)
    params, level = params_of(env, slip=0.3), level_of(env)
    n, center = 200_000, State(jnp.uint8(12), jnp.uint8(0))
    noise = env.draw(jax.random.key(0), (n,))
    step = jax.jit(jax.vmap(partial(env.step, params, level, center), (None, 0)))
    for action in range(4):
        cells = np.asarray(step(jnp.int32(action), noise).state.cell)
        for turn, chance in ((0, 0.7), (1, 0.15), (2, 0.0), (3, 0.15)):
            share = np.mean(cells == walk(5, 12, (action + turn) % 4))
            assert abs(share - chance) <= 5 * np.sqrt(chance * (1 - chance) / n)


def test_slippery_world_has_no_routes() -> None:
    env = TwoGoals(slippery=True)
    with pytest.raises(je.BadInput, match="slippery"):
        env.solutions(env.default_params, level_of(env))


def test_coordinates_tell_where_things_are() -> None:
    env = TwoGoals(size=5, levels=16, observation="coordinates")
    for i in range(16):
        level = level_of(env, i)
        obs = env.observe(env.default_params, level, env.reset(env.default_params, level, ()))
        cells = [int(level.start), *level.goals.tolist()]
        expected = np.array([divmod(c, 5) for c in cells]).ravel() / 2.0 - 1.0
        np.testing.assert_allclose(obs, expected, atol=1e-6)


def test_render() -> None:
    env = TwoGoals(size=3, levels=8)
    i = next(i for i in range(8) if (lv := level_of(env, i)).rotation == 1 and lv.row == 2)
    level, params = level_of(env, i), env.default_params
    state = env.reset(params, level, ())
    assert env.render(params, level, state) == f"level {i}  step 0\n. . 0\nA . .\n. . 1"
    on_goal = State(level.goals[0], jnp.uint8(3))
    assert env.render(params, level, on_goal) == f"level {i}  step 3\n. . *\n. . .\n. . 1"
