"""``gridworld/maze`` against search and dynamic programming written independently in NumPy."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.gridworlds.maze import Maze, State

MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def params_of(env: Maze, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


@cache
def builder(env: Maze) -> Any:
    return jax.jit(jax.vmap(env.make_level, (None, 0)))


def levels_of(env: Maze, ids: Any, **given: float) -> Any:
    return builder(env)(params_of(env, **given), jnp.asarray(ids, jnp.int32))


def walls_of(size: int, words: Any) -> np.ndarray:
    """The bits of the packed walls as a picture."""
    bits = [int(words[c // 32]) >> (c % 32) & 1 for c in range(size * size)]
    return np.array(bits, bool).reshape(size, size)


def neighbors(walls: np.ndarray, cell: int) -> list[int]:
    """Where each move leads."""
    size = len(walls)
    row, column = divmod(cell, size)
    found = []
    for down, right in MOVES:
        r, c = row + down, column + right
        free = 0 <= r < size and 0 <= c < size and not walls[r, c]
        found.append(r * size + c if free else cell)
    return found


def flood(walls: np.ndarray, goal: int) -> tuple[dict[int, int], dict[int, int]]:
    """Distances to the goal and numbers of shortest routes, by a queue."""
    distance, ways, queue = {goal: 0}, {goal: 1}, deque([goal])
    while queue:
        cell = queue.popleft()
        for there in set(neighbors(walls, cell)) - {cell}:
            if there not in distance:
                distance[there], ways[there] = distance[cell] + 1, 0
                queue.append(there)
            if distance[there] == distance[cell] + 1:
                ways[there] += ways[cell]
    return distance, ways


def passages(walls: np.ndarray) -> int:
    """Open cells between two rooms."""
    return int(np.sum(~walls[1::2, ::2]) + np.sum(~walls[::2, 1::2]))


@pytest.mark.parametrize("size", [3, 5, 7, 11, 15])
def test_without_loops_mazes_are_trees(size: int) -> None:
    env, rooms = Maze(size=size, levels=2), (size + 1) // 2
    levels = levels_of(env, np.arange(2))
    for i in range(2):
        walls = walls_of(size, levels.walls[i])
        assert not np.any(walls[::2, ::2])
        assert np.all(walls[1::2, 1::2])
        assert passages(walls) == rooms**2 - 1
        distance, ways = flood(walls, int(levels.goal[i]))
        assert len(distance) == np.sum(~walls) == 2 * rooms**2 - 1 == env.open_cells
        assert set(ways.values()) == {1}
        assert max(distance.values()) <= 4 * (size - 1)


@pytest.mark.parametrize(("size", "count"), [(3, 2), (5, 16), (7, 512)])
def test_every_tree_comes_once(size: int, count: int) -> None:
    """The coins are an invertible function of the number: all 2^((rooms - 1)²) trees appear."""
    env = Maze(size=size, levels=count)
    walls = np.asarray(levels_of(env, np.arange(count)).walls)
    assert len(np.unique(walls, axis=0)) == count
    with pytest.raises(je.BadInput, match="levels"):
        Maze(size=size, levels=count + 1)
    with pytest.raises(je.BadInput, match="test_levels"):
        Maze(size=size, levels=1, test_levels=count)


def test_coins_are_fair_and_ends_are_uniform() -> None:
    """Over 20 000 levels each wall stands half the time, and coins are uncorrelated."""
    n, env = 20_000, Maze(size=11, levels=20_000)
    levels = levels_of(env, np.arange(n))
    bits = (np.asarray(levels.walls)[:, :, None] >> np.arange(32) & 1).reshape(n, -1)[:, :121]
    coins = bits.reshape(n, 11, 11)[:, 1::2, 2::2].reshape(n, 25)  # 1 is a wall above the room
    assert np.all(np.abs(coins.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(n))
    correlation = np.corrcoef(coins.T) - np.eye(25)
    assert np.max(np.abs(correlation)) < 5 / np.sqrt(n)
    for place in (levels.start, levels.goal):
        row, column = np.divmod(np.asarray(place), 11)
        assert not np.any((row % 2) | (column % 2))
        count = np.bincount((row // 2) * 6 + column // 2, minlength=36)
        assert np.sum((count - n / 36) ** 2 / (n / 36)) < 90  # chi², 35 df: p = 1e-6
    assert not np.any(levels.start == levels.goal)


@pytest.mark.parametrize("loops", [0.0, 0.25, 1.0])
def test_loops_remove_their_share_of_inner_walls(loops: float) -> None:
    n, env = 2_000, Maze(size=9, levels=2_000)
    plain, levels = (levels_of(env, np.arange(n), loops=q) for q in (0.0, loops))
    bits = lambda lv: (np.asarray(lv.walls)[:, :, None] >> np.arange(32) & 1).sum((1, 2))  # noqa: E731
    removed = bits(plain) - bits(levels)
    if loops in (0.0, 1.0):
        assert np.all(removed == 16 * loops)
    error = 5 * np.sqrt(loops * (1 - loops) / (16 * n))
    assert abs(np.mean(removed) / 16 - loops) <= error
    opened = np.asarray(plain.walls) & ~np.asarray(levels.walls)
    assert not np.any(np.asarray(levels.walls) & ~np.asarray(plain.walls)), "none is built"
    assert np.any(opened) == (loops > 0)
    assert np.array_equal(plain.start, levels.start)


@given(
    size=st.sampled_from([3, 5, 11, 15]),
    index=st.integers(0, 1),
    loops=st.sampled_from([0.0, 0.3, 1.0]),
    ends=st.sampled_from(["random", "corners"]),
)
@settings(max_examples=16)
def test_distances_and_routes(size: int, index: int, loops: float, ends: Any) -> None:
    env, facts = searcher(size, ends)
    params = params_of(env, loops=loops)
    level, (distance, ways), count, value = facts(params, jnp.int32(index))
    walls = walls_of(size, level.walls)
    expected, routes = flood(walls, int(level.goal))
    for cell in range(size * size):
        assert int(distance[cell]) == expected.get(cell, 1 << 20)
        assert int(ways[cell]) == routes.get(cell, 0)
    start = int(level.start)
    assert float(count) == routes[start]
    assert float(value) == -expected[start]
    if ends == "corners":
        assert expected[start] == 2 * (size - 1)
        assert (start, int(level.goal)) == (size * size - 1, 0)


@cache
def searcher(size: int, ends: Any) -> Any:
    env = Maze(size=size, levels=2, ends=ends)

    @jax.jit
    def facts(params: Any, index: Any) -> Any:
        level = env.make_level(params, index)
        known = env.distances(level), env.solutions(params, level).count
        return level, *known, env.optimal_value(params, level)

    return env, facts


@pytest.mark.parametrize(("size", "loops"), [(3, 1.0), (5, 0.5), (5, 1.0)])
def test_labels_number_the_shortest_routes(size: int, loops: float) -> None:
    """All 4^length action sequences: the shortest routes and no others, in lexicographic order."""
    env = Maze(size=size, levels=2, ends="corners")
    level = jax.tree.map(lambda x: x[1], levels_of(env, np.arange(2), loops=loops))
    walls, steps = walls_of(size, level.walls), 2 * (size - 1)
    actions = np.array(list(itertools.product(range(4), repeat=steps)))
    ahead = np.array([neighbors(walls, c) for c in range(size * size)])
    cell = np.full(len(actions), int(level.start))
    for t in range(steps):
        cell = ahead[cell, actions[:, t]]
    arrived = cell == int(level.goal)
    solutions = env.solutions(env.default_params, level)
    assert float(solutions.count) == arrived.sum()
    assert arrived.sum() == {(3, 1.0): 2, (5, 1.0): 6}.get((size, loops), arrived.sum())
    label = jax.jit(jax.vmap(lambda a, n: solutions.label((), a, n), (0, None)))
    padded = jnp.asarray(np.pad(actions, ((0, 0), (0, 1))), jnp.int32)
    codes = np.asarray(label(padded, jnp.int32(steps)))
    assert codes[arrived].tolist() == list(range(arrived.sum()))
    assert np.all(codes[~arrived] == -1)
    assert np.all(np.asarray(label(padded, jnp.int32(steps + 1))) == -1)
    short = Maze(size=size, levels=2, ends="corners", horizon=steps - 1)
    assert float(short.solutions(env.default_params, level).count) == 0.0


@given(
    luck=st.floats(0.0, 1.0, width=32),
    cost=st.floats(0.0, 1.0, width=32),
    goal=st.floats(0.0, 2.0, width=32),
    index=st.integers(0, 15),
    horizon=st.sampled_from([3, 20]),
)
@settings(max_examples=15)
def test_optimal_value_with_luck(
    luck: float, cost: float, goal: float, index: int, horizon: int
) -> None:
    env, solve = gambler(horizon)
    params = params_of(env, p_spont=luck, step_cost=cost, goal_reward=goal)
    level, value = solve(params, jnp.int32(index))
    walls, end = walls_of(5, level.walls), int(level.goal)
    best = np.zeros(25)
    for _ in range(horizon):
        entered = np.where(np.arange(25) == end, goal, best)
        best = np.array(
            [max(luck * goal + (1 - luck) * entered[n] for n in neighbors(walls, c)) - cost
             for c in range(25)]
        )  # fmt: skip
    assert float(value) == pytest.approx(best[int(level.start)], abs=1e-4)


@cache
def gambler(horizon: int) -> Any:
    env = Maze(size=5, levels=16, spontaneous=True, horizon=horizon)

    @jax.jit
    def solve(params: Any, index: Any) -> Any:
        level = env.make_level(params, index)
        return level, env.optimal_value(params, level)

    return env, solve


@pytest.mark.parametrize("size", [3, 5, 11, 15])
def test_default_luck_is_that_of_the_paper(size: int) -> None:
    """0.1 over the longest conceivable route, (N+1) ceil(N/2) - N mod 2 cells."""
    env = Maze(size=size, levels=2, spontaneous=True)
    longest = (size + 1) * ((size + 1) // 2) - size % 2
    assert float(env.default_params.p_spont) == pytest.approx(0.1 / longest)
    assert float(Maze(size=size, levels=2).default_params.p_spont) == 0.0


def test_luck_strikes_at_its_rate_wherever_the_agent_goes() -> None:
    env, n = Maze(size=11, spontaneous=True), 100_000
    params = params_of(env, p_spont=0.05)
    level = env.make_level(params, jnp.int32(3))
    noise = env.draw(jax.random.key(0), (n,))
    first = env.reset(params, level, ())
    step = jax.jit(jax.vmap(partial(env.step, params, level, first), (None, 0)))
    for action in range(4):
        after = step(jnp.int32(action), noise)
        assert abs(np.mean(after.terminated) - 0.05) < 5 * np.sqrt(0.05 * 0.95 / n)
        assert np.array_equal(after.terminated, after.state.cell == level.goal)
        assert np.array_equal(after.info["mode_id"], np.where(after.terminated, 0, -1))


@pytest.mark.parametrize(("extra", "flags"), [(-1, (False, True)), (0, (True, True)),
                                              (1, (True, False))])  # fmt: skip
def test_endings(extra: int, flags: tuple[bool, bool]) -> None:
    """Cut one step short of the goal, at the very step that reaches it, and not at all."""
    probe = Maze(size=5, levels=16)
    level = jax.tree.map(lambda x: x[5], levels_of(probe, np.arange(16)))
    walls, cell, route = walls_of(5, level.walls), int(level.start), []
    distance, _ = flood(walls, int(level.goal))
    while distance[cell]:
        move = min(range(4), key=lambda a: distance[neighbors(walls, cell)[a]])
        cell = neighbors(walls, cell)[move]
        route.append(move)
    env = Maze(size=5, levels=16, horizon=len(route) + extra)
    params = params_of(env, goal_reward=1.0, step_cost=0.125)
    step, state, total = jax.jit(env.step), env.reset(params, level, ()), 0.0
    for t, action in enumerate(route[: env.horizon]):
        after = step(params, level, state, jnp.int32(action), ())
        last = t == min(len(route), env.horizon) - 1
        seen = (bool(after.terminated), bool(after.truncated))
        assert seen == (flags if last else (False, False))
        state, total = after.state, total + float(after.reward["true"])
    assert total == float(flags[0]) - 0.125 * min(len(route), env.horizon)
    assert total == float(env.optimal_value(params, level))


@pytest.mark.parametrize(("horizon", "dtype"), [(255, jnp.uint8), (256, jnp.uint16)])
def test_the_clock_never_wraps(horizon: int, dtype: Any) -> None:
    env = Maze(size=5, levels=16, horizon=horizon, ends="corners")
    params, level = env.default_params, env.make_level(env.default_params, jnp.int32(0))

    def body(state: Any, _: Any) -> Any:
        after = env.step(params, level, state, jnp.int32(2), ())
        return after.state, (after.state.clock, after.truncated)

    first = env.reset(params, level, ())
    _, (clock, truncated) = jax.lax.scan(body, first, length=horizon + 3)
    assert first.clock.dtype == dtype
    assert np.array_equal(clock, np.minimum(np.arange(1, horizon + 4), horizon))
    assert np.array_equal(truncated, np.asarray(clock) == horizon)


@pytest.mark.parametrize("visible", [True, False])
def test_what_is_seen(visible: bool) -> None:
    static: dict[str, Any] = {"size": 7, "levels": 4, "goal_visible": visible}
    view = Maze(observation="view", view=5, **static)
    chart = Maze(observation="map", **static)
    level = jax.tree.map(lambda x: x[2], levels_of(view, np.arange(4)))
    walls, goal = walls_of(7, level.walls), divmod(int(level.goal), 7)
    params = view.default_params
    for row, column in [(0, 0), (6, 4), (2, 2), goal]:
        state = State(jnp.uint8(row * 7 + column), jnp.uint8(0))
        expected = walls.astype(int)
        if visible:
            expected[goal] = 2
        padded = np.pad(expected, 2, constant_values=1)[row : row + 5, column : column + 5]
        assert np.array_equal(np.asarray(view.observe(params, level, state)), padded.ravel())
        expected[row, column] = 3
        assert np.array_equal(np.asarray(chart.observe(params, level, state)), expected.ravel())


def test_picture_and_render() -> None:
    env = Maze(size=3, levels=2, ends="corners")
    params = env.default_params
    level = jax.tree.map(lambda x: x[0], levels_of(env, np.arange(2)))
    picture = env.picture(params, level)
    assert np.array_equal(picture.walls, walls_of(3, level.walls))
    assert picture.marks == {(2, 2): "S", (0, 0): "G"}
    state = env.reset(params, level, ())
    middle = "# A" if picture.walls[2, 1] else ". A"
    text = env.render(params, level, state).splitlines()
    assert text[:2] == ["level 0  step 0", "G . ."]
    assert text[3] == f". {middle}"


@pytest.mark.parametrize(
    ("static", "key"),
    [
        ({"size": 4}, "size"),
        ({"size": 17}, "size"),
        ({"size": 1}, "size"),
        ({"view": 4}, "view"),
        ({"size": 5, "levels": 2, "view": 11}, "view"),
        ({"horizon": 65536}, "horizon"),
        ({"levels": 0}, "levels"),
        ({"ends": "far"}, "ends"),
    ],
)
def test_impossible_worlds_are_refused(static: dict[str, Any], key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("gridworld/maze", **static)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("name", "value"),
    [("loops", 1.5), ("p_spont", 0.1), ("step_cost", -1.0), ("goal_reward", float("nan"))],
)
def test_bad_params_are_refused(name: str, value: float) -> None:
    env = Maze()
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput, match=name):
        env.check_params(params_of(env, **{name: value}))


def test_no_routes_with_luck() -> None:
    env = Maze(spontaneous=True)
    with pytest.raises(je.BadInput, match="spontaneous"):
        env.solutions(env.default_params, env.make_level(env.default_params, jnp.int32(0)))
