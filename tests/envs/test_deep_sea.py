"""``gridworld/deep_sea`` against its rules written out in NumPy, and against gymnax's."""

from __future__ import annotations

import itertools
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
from jaxrl_envs.gridworlds.deep_sea import DeepSea, State


def params_of(env: DeepSea, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


def level_of(env: DeepSea, index: int = 0) -> Any:
    return env.make_level(env.default_params, jnp.int32(index))


def labels(env: DeepSea, index: int) -> np.ndarray:
    return np.asarray(env.swapped(level_of(env, index), jnp.arange(env.cells)))


# --------------------------------------------------------------------------------- exact values


def best_return(size: int, cost: float, wind: float) -> float:
    """Backward induction over the rows, rule by rule."""

    @cache
    def value(row: int, column: int) -> float:
        if row == size:
            return 0.0
        left = value(row + 1, max(column - 1, 0))
        treasure = 1.0 if column == size - 1 else 0.0
        forward, stay = (value(row + 1, c) for c in (min(column + 1, size - 1), column))
        return max(left, treasure - cost / size + (1 - wind) * forward + wind * stay)

    return value(0, 0)


@given(
    size=st.integers(2, 12),
    cost=st.floats(0.0, 0.875, width=32),
    wind=st.floats(0.0, 1.0, width=32),
)
@settings(max_examples=25)
def test_optimal_value_is_that_of_backward_induction(size: int, cost: float, wind: float) -> None:
    env = DeepSea(size=size, windy=True)
    value = env.optimal_value(params_of(env, move_cost=cost, wind=wind), level_of(env))
    assert float(value) == pytest.approx(best_return(size, cost, wind), abs=1e-5)


@pytest.mark.parametrize("size", [2, 10, 50])
def test_calm_sea_is_worth_0_99(size: int) -> None:
    env = DeepSea(size=size)
    assert float(env.optimal_value(env.default_params, level_of(env))) == pytest.approx(0.99)


def policy_value(env: DeepSea, params: Any, policy: np.ndarray) -> float:
    """Expected return of ``policy[S, A]``, by the transition table of level 0."""
    mdp = env.tabular(params, level_of(env))
    P = np.eye(mdp.num_states)[mdp.next] if mdp.P is None else np.asarray(mdp.P, np.float64)
    value = np.zeros(mdp.num_states)
    for _ in range(env.horizon):
        value = np.sum(policy * (np.asarray(mdp.reward) + P @ value), axis=1)
    return float(value[0])


@pytest.mark.parametrize(
    ("size", "always_right", "best"), [(10, 0.377, 0.3809), (20, 0.367, 0.3709)]
)
def test_windy_values(size: int, always_right: float, best: float) -> None:
    """bsuite calls the value of always moving right optimal; whoever is blown off may stop."""
    env = DeepSea(size=size, windy=True, swap=False)
    params = env.default_params
    right = np.tile([0.0, 1.0], (env.cells + 1, 1))
    q = 1 - 1 / size
    assert policy_value(env, params, right) == pytest.approx(q ** (size - 1) - 0.01, abs=1e-6)
    assert policy_value(env, params, right) == pytest.approx(always_right, abs=5e-4)
    assert float(env.optimal_value(params, level_of(env))) == pytest.approx(best, abs=5e-5)


@pytest.mark.parametrize("index", [0, 3])
def test_a_uniform_policy_finds_the_treasure_with_probability_two_to_the_minus_n(
    index: int,
) -> None:
    env = DeepSea(size=7, levels=4)
    params, level = env.default_params, level_of(env, index)
    sequences = jnp.asarray(list(itertools.product(range(2), repeat=7)), jnp.int32)

    def roll(actions: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            after = env.step(params, level, state, action, ())
            return after.state, (after.reward["true"], after.info["correct"], after.terminated)

        _, (reward, correct, ended) = jax.lax.scan(body, env.reset(params, level, ()), actions)
        return jnp.sum(reward), correct, ended

    total, correct, ended = jax.jit(jax.vmap(roll))(sequences)
    found = np.asarray(correct)[:, -1]
    assert found.sum() == 1
    assert not np.asarray(correct)[:, :-1].any()
    assert np.array_equal(ended, np.tile(np.arange(7) == 6, (128, 1)))
    assert float(total[found][0]) == pytest.approx(0.99) == float(np.max(total))

    solutions = env.solutions(params, level)
    assert float(solutions.count) == 1.0
    empty = State(jnp.zeros(9, jnp.uint8), jnp.zeros(9, jnp.uint8))
    padded = jnp.pad(sequences, ((0, 0), (0, 2)), constant_values=1)
    code = jax.vmap(lambda a: solutions.label(empty, a, jnp.int32(7)))(padded)
    assert np.array_equal(code, np.where(found, 0, -1))
    assert int(solutions.label(empty, padded[np.argmax(found)], jnp.int32(6))) == -1
    assert int(solutions.label(empty, padded[np.argmax(found)][:6], jnp.int32(6))) == -1


def test_windy_sea_has_no_solution() -> None:
    env = DeepSea(windy=True)
    with pytest.raises(je.BadInput, match="windy"):
        env.solutions(env.default_params, level_of(env))


# --------------------------------------------------------------------------------- action labels


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_labeling_of_a_small_sea_is_one_level(size: int) -> None:
    cells = size * (size + 1) // 2
    env = DeepSea(size=size, levels=2**cells)
    of = jax.vmap(lambda i: env.swapped(env.make_level((), i), jnp.arange(cells)))  # type: ignore[arg-type]
    tables = np.asarray(jax.jit(of)(jnp.arange(2**cells)))
    assert len(np.unique(tables, axis=0)) == 2**cells


def test_labels_look_like_coins() -> None:
    """Over levels and cells, beyond the first word as well, single bits and pairs are balanced."""
    env = DeepSea(size=14, levels=2000)
    of = jax.vmap(lambda i: env.swapped(env.make_level((), i), jnp.arange(env.cells)))  # type: ignore[arg-type]
    bits = np.asarray(jax.jit(of)(jnp.arange(2000))) * 2.0 - 1.0
    n, cells = bits.shape
    assert cells > 64
    assert np.abs(bits.mean(0)).max() < 5 / np.sqrt(n)
    assert np.abs(bits.mean(1)).max() < 5.5 / np.sqrt(cells)
    between_cells = bits.T @ bits / n - np.eye(cells)
    assert np.abs(between_cells).max() < 5.5 / np.sqrt(n)
    neighbors = np.mean(bits[1:] * bits[:-1], axis=0)
    assert np.abs(neighbors).max() < 5 / np.sqrt(n)


def test_without_swaps_action_1_is_right() -> None:
    assert not labels(DeepSea(size=12, swap=False), 0).any()
    assert labels(DeepSea(size=12), 0).any()


# --------------------------------------------------------------------------------- the rules


def test_rules_are_those_of_gymnax() -> None:
    """Every reachable cell, both actions, with and without a gust and luck."""
    from gymnax.environments.bsuite import deep_sea as theirs

    size, luck = 5, 1.5
    env = DeepSea(size=size, windy=True, swap=False)
    params = params_of(env, wind=0.5, reward_noise=1.0)
    step = jax.jit(partial(env.step, params, level_of(env)))
    blank = theirs.DeepSea(size).reset_env(jax.random.key(0), theirs.EnvParams())[1]
    cells = [(row, column) for row in range(size) for column in range(row + 1)]
    for (row, column), right, gust in itertools.product(cells, (False, True), (False, True)):
        noise = -luck if gust else luck
        ours = step(State(jnp.uint8(row), jnp.uint8(column)), jnp.int32(right), jnp.float32(noise))
        state = blank.replace(row=jnp.int32(row), column=jnp.int32(column))
        with jax.numpy_dtype_promotion("standard"):
            moves = jnp.bool_(right), jnp.bool_(right and not gust)
            given = theirs.EnvParams(deterministic=False)
            reward, _ = theirs.step_reward(state, *moves, jnp.float32(noise), size, given)
            there, below, _ = theirs.step_transition(state, *moves, size)
        assert float(ours.reward["true"]) == pytest.approx(float(reward), abs=1e-6)
        assert int(ours.state.row) == int(below)
        if row < size - 1:  # on the floor theirs forgets the treasure, and ours is not blown off
            assert int(ours.state.column) == int(there)


def test_wind_and_luck_have_their_frequencies() -> None:
    env = DeepSea(size=4, windy=True, swap=False)
    params, level, n = params_of(env, wind=0.3, reward_noise=2.0), level_of(env), 200_000
    noise = env.draw(jax.random.key(0), (n,))
    step = jax.jit(jax.vmap(partial(env.step, params, level), (None, None, 0)))
    middle = step(State(jnp.uint8(2), jnp.uint8(1)), jnp.int32(1), noise)
    blown = np.mean(np.asarray(middle.state.column) == 1)
    assert abs(blown - 0.3) < 5 * np.sqrt(0.21 / n)
    assert np.ptp(np.asarray(middle.reward["true"])) == 0.0
    for column, mean in ((0, -0.0025), (3, 0.9975)):
        pay = np.asarray(
            step(State(jnp.uint8(3), jnp.uint8(column)), jnp.int32(1), noise).reward["true"]
        )
        assert abs(pay.mean() - mean) < 5 * 2.0 / np.sqrt(n)
        assert pay.std() == pytest.approx(2.0, rel=0.02)
        assert not np.array_equal(pay, middle.reward["true"])
    inner = step(State(jnp.uint8(3), jnp.uint8(2)), jnp.int32(1), noise).reward["true"]
    assert np.ptp(np.asarray(inner)) == 0.0


def test_a_gust_at_the_last_step_does_not_take_the_treasure() -> None:
    env = DeepSea(size=3, windy=True, swap=False)
    params = params_of(env, wind=1.0)
    after = env.step(
        params, level_of(env), State(jnp.uint8(2), jnp.uint8(2)), jnp.int32(1), jnp.float32(0)
    )
    assert bool(after.info["correct"])
    assert int(after.info["mode_id"]) == 0


@pytest.mark.parametrize(
    ("static", "key"),
    [
        ({"size": 1}, "size"),
        ({"size": 256}, "size"),
        ({"swap": False, "levels": 2}, "levels"),
        ({"size": 2, "levels": 9}, "levels"),
        ({"size": 2, "levels": 5, "test_levels": 4}, "test_levels"),
        ({"observation": "pixels"}, "observation"),
    ],
    ids=str,
)
def test_refused_structures(static: dict[str, Any], key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("gridworld/deep_sea", **static)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("windy", "name", "value"),
    [
        (False, "wind", 0.1),
        (False, "reward_noise", 1.0),
        (False, "move_cost", 1.0),
        (True, "wind", 1.5),
        (True, "reward_noise", -1.0),
        (True, "move_cost", float("nan")),
    ],
)
def test_refused_params(windy: bool, name: str, value: float) -> None:
    env = DeepSea(windy=windy)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput, match=name):
        env.check_params(params_of(env, **{name: value}))


def test_render() -> None:
    env = DeepSea(size=2, swap=False)
    params, level = env.default_params, level_of(env)
    lines = [
        env.render(params, level, State(jnp.uint8(row), jnp.uint8(column)))
        for row, column in ((0, 0), (2, 2))
    ]
    assert lines[0] == "level 0  step 0\nD #\n1 1\n_ _ T"
    assert lines[1] == "level 0  step 2\n1 #\n1 1\n_ _ *"
