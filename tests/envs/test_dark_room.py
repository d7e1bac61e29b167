"""``gridworld/dark_room`` against a walk in Python, and its search problem against recursion."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from grid_walks import DOWN, LEFT, RIGHT, STAY, UP, walk
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.gridworlds import search_or_safe
from jaxrl_envs.gridworlds.dark_room import DarkRoom
from scipy import stats


def params_of(env: DarkRoom, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


def rollout(env: DarkRoom, params: Any, index: int, actions: Any) -> Any:
    """Transitions of one episode, what is seen after each, and the goals before each."""
    level = env.make_level(params, jnp.int32(index))

    def move(state: Any, action: Any) -> Any:
        after = env.step(params, level, state, action, ())
        goal = env.goal(level.id, state.since.astype(jnp.int32))
        return after.state, (after, env.observe(params, level, after.state), goal)

    run = jax.jit(lambda a: jax.lax.scan(move, env.reset(params, level, ()), a)[1])
    return jax.tree.map(np.asarray, run(jnp.asarray(actions, jnp.int32)))


@given(
    size=st.sampled_from([3, 5]),
    steps=st.sampled_from([1, 3, 7]),
    trials=st.sampled_from([4, 300]),
    safe_goal=st.booleans(),
    block=st.sampled_from([1.0, 3.0, float("inf")]),
    observation=st.sampled_from(["transcript", "memory"]),
    index=st.integers(0, 999),
)
@settings(max_examples=10, deadline=None)
def test_walks(size, steps, trials, safe_goal, block, observation, index) -> None:  # type: ignore[no-untyped-def]
    """Random actions; the goal may change only where a border was announced."""
    env = DarkRoom(size, steps, trials, safe_goal, observation)
    params = params_of(env, goal_reward=2.0, safe=0.5, block=block)
    actions = np.random.default_rng(index).integers(0, 5, min(env.horizon + 4, 400))
    after, seen, goals = rollout(env, params, index, actions)
    center = size * size // 2
    cell, moves, trial, last, entered = center, 0, 0, (0, 0), {center}
    for t, action in enumerate(actions.tolist()):
        goal, over = int(goals[t]), trial >= trials
        assert goal != center
        pay, found, ended, border = 0.0, False, False, bool(after.info["border"][t])
        if not over:
            resting = safe_goal and action == STAY and cell == center
            cell, moves = walk(size, cell, action), moves + 1
            found = cell == goal
            pay = 2.0 if found else 0.5 if resting else 0.0
            ended = found or resting or moves == steps
            last = (action + 1, 1 if found else 2 if resting else 0)
            entered.add(cell)
            if ended:
                cell, moves, trial = center, 0, trial + 1
            if border:
                last, entered = (0, 0), {center}
        assert float(after.reward["true"][t]) == pay
        assert bool(after.info["correct"][t]) == found
        assert int(after.info["mode_id"][t]) == (goal if found else -1)
        assert bool(after.info["trial_end"][t]) == ended
        assert ended or not border
        assert (bool(after.terminated[t]), bool(after.truncated[t])) == (False, trial >= trials)
        assert (int(after.state.cell[t]), int(after.state.trial[t])) == (cell, trial)
        if t + 1 < len(actions):
            assert border or goals[t + 1] == goal
        if observation == "transcript":
            assert seen[t].tolist() == [cell, *last]
        else:
            now = int(goals[t + 1]) if t + 1 < len(actions) else goal
            place = 2 * np.array(divmod(cell, size)) / (size - 1) - 1
            np.testing.assert_allclose(seen[t, :2], place, atol=1e-6)
            own = np.isin(np.arange(size * size), list(entered))
            if t + 1 < len(actions) or not border:
                known = own & (np.arange(size * size) == now)
                assert np.array_equal(seen[t, 2:], np.concatenate([own, known]))


def test_goals_and_blocks_have_their_law() -> None:
    env = DarkRoom(size=5, steps=1, trials=30_000)
    params = params_of(env, block=4.0)
    after, _, goals = rollout(env, params, 7, np.zeros(30_000))
    border = after.info["border"]
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], border])))
    edges = np.arange(1, 15)
    expected = np.append(stats.geom(0.25).pmf(edges), stats.geom(0.25).sf(14)) * len(lengths)
    counted = np.array([*(np.sum(lengths == k) for k in edges), np.sum(lengths > 14)])
    assert stats.chisquare(counted, expected).pvalue > 1e-3
    first = goals[np.concatenate([[0], np.flatnonzero(border[:-1]) + 1])]
    cells = np.bincount(first, minlength=25)
    assert cells[12] == 0
    assert stats.chisquare(np.delete(cells, 12)).pvalue > 1e-3
    pairs = np.corrcoef(first[1:], first[:-1])[0, 1]
    assert abs(pairs) < 4 / np.sqrt(len(first))


def test_a_systematic_first_trial_finds_the_goal_with_its_chance() -> None:
    """The first goals of 48 prompts are the 48 cells; a spiral enters 8 new ones in 8 moves."""
    env = DarkRoom(trials=1, prompts=48)
    spiral = [UP, RIGHT, DOWN, DOWN, LEFT, LEFT, UP, UP]
    levels = jax.vmap(partial(env.make_level, env.default_params))(jnp.arange(48))

    def search(level: Any) -> Any:
        def move(state: Any, action: Any) -> Any:
            after = env.step(env.default_params, level, state, action, ())
            return after.state, after.info["correct"]

        first = env.reset(env.default_params, level, ())
        return jnp.any(jax.lax.scan(move, first, jnp.array(spiral))[1])

    assert sorted(levels.goal.tolist()) == [c for c in range(49) if c != 24]
    assert int(jnp.sum(jax.jit(jax.vmap(search))(levels))) == 8


@pytest.mark.parametrize(("steps", "safe_goal"), [(2, False), (2, True), (6, True)])
def test_optimal_value(steps: int, safe_goal: bool) -> None:
    """Against an agent that is told the goal of each trial."""
    env = DarkRoom(size=7, steps=steps, trials=30, safe_goal=safe_goal)
    params = params_of(env, block=3.0)
    for index in range(3):
        level, total = env.make_level(params, jnp.int32(index)), 0.0
        _, _, goals = rollout(replace(env, steps=1), params, index, np.zeros(30))
        for goal in goals.tolist():
            row, column = divmod(goal, 7)
            near = abs(row - 3) + abs(column - 3) <= steps
            total += 1.0 if near else 0.3 if safe_goal else 0.0
        assert float(env.optimal_value(params, level)) == pytest.approx(total, abs=1e-4)
        best = env.tabular(params, level).best_return()
        assert float(best) == pytest.approx(total, abs=1e-4), "by backward induction"


def test_golden_switch() -> None:
    assert search_or_safe.switch_discount() == pytest.approx(0.4726, abs=5e-5)


def by_recursion(j: int, discount: float, cells: int, checked: int, safe: float, n: float) -> float:
    """Best value with j groups checked, where the choice is free in every trial of 400."""
    found = 0.0
    groups = -(-cells // checked)
    value = np.zeros(groups + 1)
    go_on = (1 - 1 / n) * discount
    for _ in range(400):
        found = 1.0 + go_on * found
        new = value.copy()
        for k in range(groups):
            rest = cells - k * checked
            p = min(checked, rest) / rest
            search = p * found + (1 - p) * go_on * value[k + 1]
            new[k] = max(safe + go_on * value[k], search)
        value = new
    return float(value[j])


@given(
    cells=st.integers(1, 30),
    checked=st.integers(1, 8),
    safe=st.floats(0.0, 1.0),
    n=st.floats(1.0, 30.0),
    discount=st.floats(0.0, 0.95),
)
@settings(max_examples=25, deadline=None)
def test_search_or_safe_against_value_iteration(cells, checked, safe, n, discount) -> None:  # type: ignore[no-untyped-def]
    checked = min(checked, cells)
    problem = {"cells": cells, "checked": checked, "safe": safe, "block": n}
    solved = search_or_safe.solve(discount, **problem)
    best = np.maximum(solved.search, solved.safe)
    for j in range(len(best)):
        expected = by_recursion(j, discount, cells, checked, safe, n)
        assert best[j] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    switch = search_or_safe.switch_discount(**problem)
    if abs(discount - switch) > 1e-6:
        assert (solved.search[0] > solved.safe) == (discount > switch)


def test_limits_of_the_switch() -> None:
    find = search_or_safe.switch_discount
    assert find(safe=0.1) == 0.0, "8 of 48 cells at once are worth more"
    assert find(block=1.0) == float("inf"), "nothing found can be used again"
    assert find(safe=1.0) == float("inf")
    assert find(block=5.0) > find(block=20.0) > find(block=100.0) > 0.0


@pytest.mark.parametrize(("offset", "choice"), [(-0.01, 0), (0.01, 1)])
def test_the_table_flips_at_the_switch(offset: float, choice: int) -> None:
    mdp = search_or_safe.table()
    discount = search_or_safe.switch_discount() + offset
    P, r = np.asarray(mdp.P, np.float64), np.asarray(mdp.reward, np.float64)
    np.testing.assert_allclose(P.sum(axis=2), 1.0, atol=1e-6)
    value = np.zeros(mdp.num_states)
    for _ in range(300):
        q = r + discount * P @ np.where(mdp.terminal, 0.0, value)
        value = np.where(mdp.terminal, 0.0, q.max(axis=1))
    solved = search_or_safe.solve(discount)
    np.testing.assert_allclose(q[0, 1], solved.search[0], rtol=1e-5)
    np.testing.assert_allclose(value[6], 1 / (1 - 0.95 * discount), rtol=1e-5)
    assert q[0].argmax() == choice


BAD = [({"size": 4}, "size"), ({"size": 17}, "size"), ({"steps": 0}, "steps"),
       ({"trials": 70_000}, "trials"), ({"observation": "light"}, "observation")]  # fmt: skip


@pytest.mark.parametrize(("static", "key"), BAD, ids=str)
def test_bad_structure_is_refused(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("gridworld/dark_room", **static)
    assert caught.value.key == key


@pytest.mark.parametrize("given", [{"block": 0.5}, {"safe": float("nan")}], ids=str)
def test_bad_params_are_refused(given: Any) -> None:
    env = DarkRoom()
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **given))
    assert caught.value.key in given


@pytest.mark.parametrize("given", [{"safe": 2.0}, {"checked": 0}, {"block": 0.0}], ids=str)
def test_bad_search_problems_are_refused(given: Any) -> None:
    with pytest.raises(je.BadInput) as caught:
        search_or_safe.solve(0.5, **given)
    assert caught.value.key in given


def test_render() -> None:
    env = DarkRoom(size=3)
    level = env.make_level(env.default_params, jnp.int32(0))
    state = env.step(
        env.default_params, level, env.reset(env.default_params, level, ()), jnp.int32(DOWN), ()
    ).state
    text = env.render(env.default_params, level, state)
    assert text == "prompt 0  trial 0  move 1\nG . .\n. S .\n. A ."
