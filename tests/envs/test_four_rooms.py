"""``gridworld/four_rooms`` beside gymnax's own, and against dynamic programming in NumPy."""

from __future__ import annotations

import itertools
import warnings
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
from jaxrl_envs.gridworlds.four_rooms import FourRooms, State

ROOMS = """
#############
#     #     #
#     #     #
#           #
#     #     #
#     #     #
## ####     #
#     ### ###
#     #     #
#     #     #
#           #
#     #     #
#############""".strip().splitlines()
FREE = [(r, c) for r in range(13) for c in range(13) if ROOMS[r][c] == " "]
MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def walk(place: tuple[int, int], action: int) -> tuple[int, int]:
    there = (place[0] + MOVES[action][0], place[1] + MOVES[action][1])
    return there if there in FREE else place


def cell(row: int, column: int) -> Any:
    return jnp.uint8(FREE.index((row, column)))


@cache
def flood(goal: tuple[int, int]) -> dict[tuple[int, int], int]:
    found, queue = {goal: 0}, deque([goal])
    while queue:
        place = queue.popleft()
        for there in (walk(place, a) for a in range(4)):
            if there not in found:
                found[there] = found[place] + 1
                queue.append(there)
    return found


@pytest.fixture
def rival() -> Any:
    """gymnax's environment, whose code promotes dtypes freely."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gymnax.environments.misc import rooms
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield rooms.FourRooms()


def test_side_by_side_with_gymnax(rival: Any) -> None:
    """The same 1000 moves, slips left to gymnax's keys: same places, rewards and ends.

    Ours is handed the move that theirs made, so that both meet the same luck.
    """
    n, horizon = 64, 500
    env = FourRooms(start="random", goal="random", slippery=False, observation="coordinates")
    params = env.default_params
    level = env.make_level(params, jnp.int32(0))
    theirs = rival.default_params.replace(resample_init_pos=True, resample_goal_pos=True)
    key = jax.random.key(0)
    _, state = jax.vmap(rival.reset_env, (0, None))(jax.random.split(key, n), theirs)
    number = (
        jnp.zeros((13, 13), jnp.uint8)
        .at[tuple(zip(*FREE, strict=True))]
        .set(jnp.arange(104, dtype=jnp.uint8))
    )
    look = lambda place: number[place[:, 0], place[:, 1]]  # noqa: E731
    ours = State(look(state.pos), jnp.zeros(n, jnp.uint16), look(state.goal))

    def body(carry: Any, t: Any) -> Any:
        state, ours, done = carry
        keys = jax.random.split(jax.random.fold_in(key, t), n)
        action = jax.random.randint(jax.random.fold_in(key, t), (n,), 0, 4)
        _, after, reward, ended, _ = jax.vmap(rival.step_env, (0, 0, 0, None))(
            keys, state, action, theirs
        )

        def made(k: Any, a: Any) -> Any:  # the first lines of gymnax's `step_env`
            first, second = jax.random.split(k)
            slips = jax.random.uniform(first, ()) < theirs.fail_prob * 4 / 3
            return jnp.where(slips, rival.action_space(theirs).sample(second), a)

        step = jax.vmap(env.step, (None, None, 0, 0, None))
        mine = step(params, level, ours, jax.vmap(made)(keys, action), ())
        see = jax.vmap(env.observe, (None, None, 0))(params, level, mine.state)
        alike = jnp.all(see == jax.vmap(rival.get_obs)(after), axis=1)
        alike &= (mine.reward["true"] == reward) & (mine.terminated == ended)
        alike &= mine.truncated == jax.vmap(rival.is_truncated, (0, None))(after, theirs)
        # What follows an end belongs to a reset in theirs, and stands still in ours.
        return (after, mine.state, done | ended | mine.truncated), alike | done

    (_, _, done), alike = jax.jit(
        lambda carry: jax.lax.scan(body, carry, jnp.arange(horizon + 1, dtype=jnp.int32))
    )((state, ours, jnp.zeros(n, bool)))
    assert np.all(alike)
    assert np.all(done)


def test_same_slips_and_first_states_as_gymnax(rival: Any) -> None:
    """Frequencies over many keys: where a move leads, and where episodes begin."""
    n, keys = 20_000, jax.random.split(jax.random.key(1), 20_000)
    theirs = rival.default_params
    env = FourRooms()
    params, level = env.default_params, env.make_level(env.default_params, jnp.int32(0))
    at = rival.reset_env(keys[0], theirs)[1].replace(pos=jnp.array([3, 3]))
    _, after, *_ = jax.vmap(rival.step_env, (0, None, None, None))(keys, at, 1, theirs)
    step = jax.vmap(partial(env.step, params, level, State(cell(3, 3), jnp.uint16(0))), (None, 0))
    mine = step(jnp.int32(1), env.draw(jax.random.key(2), (n,))).state.cell
    for there, chance in (((3, 4), 2 / 3), ((2, 3), 1 / 9), ((4, 3), 1 / 9), ((3, 2), 1 / 9)):
        error = 5 * np.sqrt(chance * (1 - chance) / n)
        assert abs(np.mean(np.all(after.pos == np.array(there), axis=1)) - chance) < error
        assert abs(np.mean(mine == FREE.index(there)) - chance) < error

    drawn = theirs.replace(resample_init_pos=True, resample_goal_pos=True)
    _, first = jax.vmap(rival.reset_env, (0, None))(keys, drawn)
    env = FourRooms(start="random", goal="random")
    words = env.draw_reset(jax.random.key(3), (n,))
    mine = jax.vmap(partial(env.reset, params, level))(words)
    for place, index in ((first.pos, mine.cell), (first.goal, mine.goal)):
        counts = [
            np.bincount([FREE.index(tuple(p)) for p in np.asarray(place).tolist()], minlength=104),
            np.bincount(np.asarray(index), minlength=104),
        ]
        for count in counts:
            assert np.sum((count - n / 104) ** 2 / (n / 104)) < 175  # chi², 103 df: p = 1e-5
    assert not np.any(mine.cell == mine.goal)
    assert not np.any(np.all(first.pos == first.goal, axis=1))
    default = rival.reset_env(keys[0], theirs)[1]
    state = FourRooms().reset(params, level, ())
    assert FREE[int(state.cell)] == tuple(default.pos.tolist())
    assert FREE[int(level.goal)] == tuple(default.goal.tolist())
    assert FourRooms().horizon == theirs.max_steps_in_episode


def test_reset_words_reach_every_pair_equally() -> None:
    """Words evenly spaced over all 2^32: each of the 104 * 103 pairs has its share."""
    env = FourRooms(start="random", goal="random")
    words = np.linspace(0, 2**32, 104 * 103 * 64, endpoint=False).astype(np.uint32)
    level = env.make_level(env.default_params, jnp.int32(0))
    state = jax.jit(jax.vmap(partial(env.reset, env.default_params, level)))(jnp.asarray(words))
    pair = np.asarray(state.goal, int) * 104 + np.asarray(state.cell)
    count = np.bincount(pair, minlength=104 * 104).reshape(104, 104)
    assert np.all(np.diag(count) == 0)
    others = count[~np.eye(104, dtype=bool)]
    assert others.min() >= 63
    assert others.max() <= 65


def test_an_episode_may_begin_on_its_random_goal() -> None:
    env = FourRooms(goal="random", slippery=False)
    params, level = env.default_params, env.make_level(env.default_params, jnp.int32(0))
    begin = State(cell(4, 1), jnp.uint16(0), cell(4, 1))
    away = env.step(params, level, begin, jnp.int32(0), ())
    assert not bool(away.terminated)
    back = env.step(params, level, away.state, jnp.int32(2), ())
    assert bool(back.terminated)
    assert float(back.reward["true"]) == 1.0
    over = env.step(params, level, back.state, jnp.int32(0), ())
    assert bool(over.terminated)
    assert float(over.reward["true"]) == 0.0
    assert int(over.state.cell) == int(back.state.cell)


@pytest.mark.parametrize(("horizon", "dtype"), [(255, jnp.uint8), (256, jnp.uint16)])
def test_the_clock_never_wraps(horizon: int, dtype: Any) -> None:
    env = FourRooms(horizon=horizon, slippery=False)
    params, level = env.default_params, env.make_level(env.default_params, jnp.int32(0))

    def body(state: Any, _: Any) -> Any:
        after = env.step(params, level, state, jnp.int32(3), ())
        return after.state, (after.state.clock, after.truncated)

    first = env.reset(params, level, ())
    assert first.clock.dtype == dtype
    _, (clock, truncated) = jax.lax.scan(body, first, length=horizon + 3)
    assert np.array_equal(clock, np.minimum(np.arange(1, horizon + 4), horizon))
    assert np.array_equal(truncated, np.asarray(clock) == horizon)


@cache
def solver(start: Any, goal: Any) -> Any:
    """One compiled program for all examples of a configuration."""
    env = FourRooms(start=start, goal=goal, horizon=8, goal_cell=(2, 2))
    level = env.make_level(env.default_params, jnp.int32(0))
    return env.default_params, jax.jit(lambda params: env.optimal_value(params, level))


def best(slip: float, cost: float, horizon: int) -> np.ndarray:
    """Best expected return from every place (rows) to every goal (columns)."""
    after = np.array([[FREE.index(walk(s, a)) for a in range(4)] for s in FREE])
    value, won = np.zeros((104, 104)), np.eye(104, dtype=bool)
    for _ in range(horizon):
        entered = np.where(won, 1.0, value)[after]  # [place, move, goal]
        others = entered.sum(axis=1, keepdims=True) - entered
        value = np.max((1 - slip) * entered + slip / 3 * others, axis=1) - cost
    return value


@given(
    slip=st.integers(0, 16).map(lambda k: 3 * k / 64),  # exact in 16 bits
    cost=st.floats(0.0, 0.125, width=32),
    start=st.sampled_from(["fixed", "random"]),
    goal=st.sampled_from(["fixed", "random"]),
)
@settings(max_examples=12)
def test_optimal_value(slip: float, cost: float, start: Any, goal: Any) -> None:
    params, solve = solver(start, goal)
    value = solve(replace(params, slip=jnp.float32(slip), step_cost=jnp.float32(cost)))
    table = best(slip, cost, 8)
    elsewhere = table.sum(axis=0) - np.diag(table)  # a random start is never the goal
    by_goal = elsewhere / 103 if start == "random" else table[FREE.index((4, 1))]
    expected = by_goal.mean() if goal == "random" else by_goal[FREE.index((2, 2))]
    assert float(value) == pytest.approx(expected, abs=1e-5)


def test_distances_and_diameter() -> None:
    distances = np.asarray(FourRooms().distances())
    expected = np.array([[flood(g)[s] for g in FREE] for s in FREE])
    assert np.array_equal(distances, expected)
    assert np.array_equal(distances, distances.T)
    assert len(FREE) == 104


def test_successor_measure_is_the_sum_of_powers() -> None:
    env = FourRooms()
    policy = np.random.RandomState(0).dirichlet(np.ones(4), 104).astype(np.float32)
    measure = np.asarray(env.successor_measure(env.default_params, jnp.asarray(policy), 0.5))
    slip, chance = 1 / 3, np.zeros((104, 104))
    for s, a, b in itertools.product(range(104), range(4), range(4)):
        share = 1 - slip if a == b else slip / 3
        chance[s, FREE.index(walk(FREE[s], b))] += float(policy[s, a]) * share
    total = sum(0.5**k * np.linalg.matrix_power(chance, k) for k in range(40))
    np.testing.assert_allclose(measure, total, atol=2e-5)
    np.testing.assert_allclose(measure.sum(axis=1), 2.0, atol=1e-5)


@pytest.mark.parametrize("goal", [(1, 5), (5, 3), (3, 7), (5, 2)])
def test_solutions_against_enumeration(goal: tuple[int, int]) -> None:
    env = FourRooms(slippery=False, start_cell=(3, 2), goal_cell=goal)
    params, level = env.default_params, env.make_level(env.default_params, jnp.int32(0))
    steps = flood(goal)[3, 2]
    actions = np.array(list(itertools.product(range(4), repeat=steps)))
    arrived = []
    for route in actions:
        place = (3, 2)
        for action in route:
            place = walk(place, action)
        arrived.append(place == goal)
    solutions = env.solutions(params, level)
    assert float(solutions.count) == sum(arrived)
    padded = jnp.asarray(np.pad(actions, ((0, 0), (0, 2))), jnp.int32)
    label = jax.jit(jax.vmap(lambda a, n: solutions.label((), a, n), (0, None)))
    codes = np.asarray(label(padded, jnp.int32(steps)))
    assert codes[arrived].tolist() == list(range(sum(arrived))), "ranks are lexicographic"
    assert np.all(codes[~np.array(arrived)] == -1)
    assert np.all(np.asarray(label(padded, jnp.int32(steps + 1))) == -1)
    short = FourRooms(slippery=False, start_cell=(3, 2), goal_cell=goal, horizon=steps - 1)
    assert float(short.solutions(params, level).count) == 0.0


def test_the_window_shows_walls_and_goal() -> None:
    env = FourRooms(observation="view", view=5)
    params, level = env.default_params, env.make_level(env.default_params, jnp.int32(0))
    for row, column in ((4, 1), (7, 9), (8, 8), (11, 11)):
        seen = env.observe(params, level, State(cell(row, column), jnp.uint16(0)))
        for (i, j), tile in np.ndenumerate(np.asarray(seen).reshape(5, 5)):
            r, c = row + i - 2, column + j - 2
            inside = 0 <= r < 13 and 0 <= c < 13
            assert tile == (2 if (r, c) == (8, 9) else 0 if inside and ROOMS[r][c] == " " else 1)


def test_picture_and_render() -> None:
    env = FourRooms()
    params, level = env.default_params, env.make_level(env.default_params, jnp.int32(0))
    picture = env.picture(params, level)
    assert [["#" if w else " " for w in row] for row in picture.walls] == [list(r) for r in ROOMS]
    assert picture.marks == {(4, 1): "S", (8, 9): "G"}
    assert [divmod(c, 13) for c in picture.cell.tolist()] == FREE
    text = env.render(params, level, env.reset(params, level, ())).splitlines()
    assert text[0] == "level 0  step 0"
    assert text[1 + 4].split()[1] == "A"
    assert text[1 + 8].split()[9] == "G"


@pytest.mark.parametrize(
    ("static", "key"),
    [
        ({"goal_cell": (0, 0)}, "goal_cell"),
        ({"start_cell": (6, 1)}, "start_cell"),
        ({"start_cell": (8, 9)}, "goal_cell"),
        ({"view": 4}, "view"),
        ({"horizon": 0}, "horizon"),
        ({"levels": 104}, "levels"),
        ({"levels": 100, "test_levels": 4}, "test_levels"),
        ({"goal": "random", "levels": 2}, "levels"),
        ({"goal": "random", "test_levels": 1}, "test_levels"),
        ({"start": "somewhere"}, "start"),
    ],
)
def test_impossible_worlds_are_refused(static: dict[str, Any], key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("gridworld/four_rooms", **static)
    assert caught.value.key == key


def test_what_a_configuration_does_not_have_is_refused() -> None:
    for static, key in (({}, "slippery"), ({"slippery": False, "start": "random"}, "start"),
                        ({"slippery": False, "goal": "random"}, "goal")):  # fmt: skip
        env = FourRooms(**static)
        level = env.make_level(env.default_params, jnp.int32(0))
        with pytest.raises(je.BadInput, match=key):
            env.solutions(env.default_params, level)
    with pytest.raises(je.BadInput, match="tabular"):
        je.require(FourRooms(goal="random"), "tabular")
    still = FourRooms(slippery=False)
    with pytest.raises(je.BadInput, match="slip"):
        still.check_params(replace(still.default_params, slip=jnp.float32(0.1)))
    with pytest.raises(je.BadInput, match="slip"):
        FourRooms().check_params(replace(FourRooms().default_params, slip=jnp.float32(0.8)))
    with pytest.raises(je.BadInput, match="step_cost"):
        still.check_params(replace(still.default_params, step_cost=jnp.float32(-0.1)))
