"""``reasoning/pad_length`` against enumeration written independently in NumPy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import ceil, comb
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.reasoning.pad_length import PadLength, State
from pad_sequences import THINK, level_of, params_of, q, sequences


def pay(env: PadLength, params: Any, length: int, right: float) -> float:
    """The channel ``penalized`` of a whole episode whose answer is right with that chance."""
    cost = float(params.penalty) * sum(t >= float(params.free_tokens) for t in range(length))
    return right * (1 - cost) if env.only_right else right - cost


def test_needs_are_spread_evenly_over_both_splits() -> None:
    env = PadLength(prompts=9, test_prompts=4)
    params = params_of(env, shortest=2.0, longest=5.0)
    needed = [float(level_of(env, params, i).needed) for i in range(13)]
    np.testing.assert_allclose(np.sort(needed), np.linspace(2.0, 5.0, 13), rtol=1e-6)
    assert np.ptp(needed[:9]) > 2.0
    assert np.ptp(needed[9:]) > 1.0
    single = PadLength(prompts=1)
    assert float(level_of(single, single.default_params).needed) == 1.0


WORLDS = [
    ({"limit": 5}, {"penalty": 0.0625, "free_tokens": 2.0}),
    ({"limit": 5, "fillers": 1, "only_right": True}, {"penalty": 0.25, "longest": 5.0}),
    ({"limit": 4, "noisy": True}, {"penalty": 0.125, "width": 0.7}),
    ({"limit": 4, "noisy": True, "only_right": True}, {"free_tokens": 1.5, "penalty": 0.25}),
]


@pytest.mark.parametrize(("static", "numbers"), WORLDS, ids=str)
def test_rollouts_of_all_sequences(static: Any, numbers: Any) -> None:
    """Sums of all channels, endings, mode and potential of every trajectory of two prompts."""
    env = PadLength(prompts=3, **static)
    params, luck, T = params_of(env, **numbers), 0.6, env.limit
    rows = sequences(env, T)
    padded = np.array([[*row, *[THINK] * (T + 2 - len(row))] for row in rows])

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def roll(level: Any, actions: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            noise = jnp.float32(luck) if env.noisy else ()
            after = env.step(params, level, state, action, noise)
            return after.state, after

        return jax.lax.scan(body, env.reset(params, level, ()), actions)[1]

    for index in (0, 1):
        level = level_of(env, params, index)
        after = roll(level, jnp.asarray(padded, jnp.int32))
        after = jax.tree.map(np.asarray, after)
        total = {k: np.asarray(v).sum(axis=1) for k, v in after.reward.items()}
        for i, row in enumerate(rows):
            answered = row[-1] == env.fillers + 1
            thoughts = row.count(THINK)
            chance = float(q(env, params, level, thoughts))
            right = answered and (chance > luck if env.noisy else chance == 1.0)
            owed = pay(env, params, len(row), right)
            assert total["true"][i] == right
            assert total["length"][i] == -len(row)
            assert total["penalized"][i] == pytest.approx(owed, abs=1e-6)
            last = np.arange(T + 2) >= len(row) - 1
            assert np.array_equal(after.terminated[i], last & answered)
            assert np.array_equal(after.truncated[i], last & (not answered))
            assert np.array_equal(after.info["correct"][i], last & right)
            assert int(after.info["mode_id"][i, -1]) == (len(row) - 1 if right else -1)
            assert int(after.state.clock[i, -1]) == len(row)
        # The best chance from a prefix is that of the best sequence that continues it.
        seen: dict[Any, float] = {}
        for row in rows:
            if row[-1] == env.fillers + 1:
                chance = float(q(env, params, level, row.count(THINK)))
                for t in range(len(row)):
                    seen[row[:t]] = max(seen.get(row[:t], 0.0), chance)
        for i, row in enumerate(rows):
            for t in range(1, len(row)):
                expected = seen.get(row[:t], 0.0)
                assert float(after.info["potential"][i, t - 1]) == pytest.approx(expected, rel=1e-5)
            won = float(after.reward["true"][i].sum())
            assert float(after.info["potential"][i, -1]) == won
        best = float(env.optimal_value(params, level))
        assert best == pytest.approx(seen[()], rel=1e-5)


@pytest.mark.parametrize("fillers", [0, 1, 3])
def test_solutions_and_labels_against_enumeration(fillers: int) -> None:
    env = PadLength(limit=5, fillers=fillers, prompts=4)
    params = params_of(env, shortest=0.0, longest=4.5)
    rows = sequences(env, 5)
    padded = jnp.asarray([[*r, *[THINK] * (7 - len(r))] for r in rows], jnp.int32)
    length = jnp.asarray([len(r) for r in rows], jnp.int32)

    @jax.jit
    def facts(level: Any, length: Any) -> Any:
        known = env.solutions(params, level)
        return known.count, jax.vmap(lambda a, n: known.label((), a, n))(padded, length)

    for index in range(4):
        level = level_of(env, params, index)
        count, codes = (np.asarray(x) for x in facts(level, length))
        need = ceil(float(level.needed))
        right = np.array([r[-1] == fillers + 1 and r.count(THINK) >= need for r in rows])
        assert np.array_equal(codes >= 0, right)
        assert len(np.unique(codes[right])) == right.sum() == count
        formula = sum(comb(n, j) * fillers ** (n - j) for n in range(5) for j in range(need, n + 1))
        assert right.sum() == formula
        assert np.all(np.asarray(facts(level, length - 1)[1]) == -1), "without its last token"
    every = replace(level, needed=jnp.float32(0.0))  # all sequences that end in time are right
    codes = np.asarray(facts(every, length)[1])
    by_length = sorted((len(r), r, c) for r, c in zip(rows, codes, strict=True) if c >= 0)
    assert [c for _, _, c in by_length] == list(range(len(by_length)))


def random_policy(env: PadLength, rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(env.fillers + 2), (rows, rows))


def chance_of(policy: np.ndarray, row: tuple[int, ...]) -> float:
    j, chance = 0, 1.0
    for t, token in enumerate(row):
        chance *= policy[t, j, token]
        j += token == THINK
    return chance


@pytest.mark.parametrize(("static", "numbers"), WORLDS, ids=str)
def test_value_of_any_policy_against_enumeration(static: Any, numbers: Any) -> None:
    env = PadLength(prompts=2, **static)
    params, T, N = params_of(env, **numbers), env.limit, env.limit + 2
    level = level_of(env, params, 1)
    policy = random_policy(env, N, 0)
    sums = np.zeros(4)
    for row in sequences(env, T):
        right = q(env, params, level, row.count(THINK)) if row[-1] == env.fillers + 1 else 0.0
        cut = row[-1] != env.fillers + 1
        facts = np.array([right, pay(env, params, len(row), right), len(row), cut])
        sums += chance_of(policy, row) * facts
    unlimited = sum(
        chance_of(policy, row) * q(env, params, level, row.count(THINK))
        for row in sequences(env, N)
        if row[-1] == env.fillers + 1
    )
    found = jax.jit(env.evaluate)(params, level, jnp.asarray(policy, jnp.float32))
    expected = [*sums, sums[0] - unlimited]
    np.testing.assert_allclose(jax.tree.leaves(found), expected, rtol=1e-5, atol=1e-6)
    assert float(found.bias) < 0.0


def test_evaluation_agrees_with_the_table() -> None:
    env = PadLength(limit=6, noisy=True, prompts=1)
    params = env.default_params
    level, A = level_of(env, params), env.fillers + 2
    mdp = jax.tree.map(np.asarray, env.tabular(params, level))
    mass, won = mdp.start.astype(float), 0.0
    for _ in range(env.horizon):
        won += mass @ mdp.reward.mean(axis=1)
        spread = np.zeros_like(mass)
        for action in range(A):
            np.add.at(spread, mdp.next[:, action], mass / A)
        mass = np.where(mdp.terminal, 0.0, spread)
    uniform = jnp.full((6, 6, A), 1 / A)
    found = jax.jit(env.evaluate)(params, level, uniform)
    assert float(found.true) == pytest.approx(won, rel=1e-5)


@given(
    limit=st.integers(1, 7),
    fillers=st.integers(0, 2),
    noisy=st.booleans(),
    only_right=st.booleans(),
    needed=st.floats(0.0, 8.0, width=32),
    penalty=st.floats(0.0, 0.5, width=32),
    free=st.sampled_from([0.0, 1.0, 2.5]),
)
@settings(max_examples=10, deadline=None)
def test_best_stop_is_best(limit, fillers, noisy, only_right, needed, penalty, free) -> None:  # type: ignore[no-untyped-def]
    """The best return by backward induction over all tokens is that of the best stopping time."""
    env = PadLength(limit=limit, fillers=fillers, noisy=noisy, only_right=only_right, prompts=1)
    params = params_of(env, shortest=needed, longest=needed, penalty=penalty, free_tokens=free)
    level = level_of(env, params)
    value = np.array([pay(env, params, limit, 0.0)] * (limit + 1))  # cut, whatever was thought
    for t in reversed(range(limit)):
        j = np.arange(t + 1)
        stop = [pay(env, params, t + 1, float(q(env, params, level, i))) for i in j]
        go_on = value[1 : t + 2]
        pad = value[: t + 1] if fillers else go_on
        value = np.maximum(stop, np.maximum(go_on, pad))
    values = np.asarray(jax.jit(env.stopping_values)(params, level))
    assert values.shape == (limit,)
    assert values.max() == pytest.approx(value[0], abs=1e-5)
    n = int(env.best_stop(params, level))
    assert values[n] == values.max()
    assert np.all(values[:n] < values.max()), "no fewer thoughts are as good"
    wait = np.zeros((limit, limit, fillers + 2))
    wait[:, :, THINK], wait[n] = 1.0, 0.0
    wait[n, :, -1] = 1.0
    found = jax.jit(env.evaluate)(params, level, jnp.asarray(wait, jnp.float32))
    assert float(found.penalized) == pytest.approx(values[n], abs=1e-6)
    assert float(found.length) == pytest.approx(n + 1, rel=1e-5)


def test_golden_stops() -> None:
    """σ(j - 5) - j/10 is largest at 7; a sharp need is met exactly or not at all."""
    env = PadLength(limit=12, noisy=True, prompts=1)
    params = params_of(env, shortest=5.0, longest=5.0, penalty=0.1)
    level = level_of(env, params)
    assert int(env.best_stop(params, level)) == 7
    assert float(env.stopping_values(params, level)[7]) == pytest.approx(0.880797 - 0.8, abs=1e-5)
    sharp = PadLength(limit=12, prompts=6)
    for penalty in (0.0, 0.08, 0.15, 0.4):
        params = params_of(sharp, shortest=1.3, longest=11.0, penalty=penalty)
        for index in range(6):
            level = level_of(sharp, params, index)
            need = ceil(float(level.needed))
            expected = need if penalty * need < 1 else 0
            assert int(sharp.best_stop(params, level)) == expected


def test_width_zero_is_the_limit() -> None:
    soft, sharp = (PadLength(limit=8, noisy=noisy, prompts=1) for noisy in (True, False))
    params = params_of(soft, shortest=3.4, longest=3.4, width=0.01)
    level = level_of(soft, params)
    np.testing.assert_allclose(
        soft.stopping_values(params, level), sharp.stopping_values(params, level), atol=1e-6
    )


@pytest.mark.parametrize("limit", [1, 253])
def test_the_clock_never_wraps(limit: int) -> None:
    env = PadLength(limit=limit, prompts=1)
    params = params_of(env, shortest=float(limit), longest=float(limit))
    level = level_of(env, params)

    def body(state: Any, _: Any) -> Any:
        after = env.step(params, level, state, jnp.int32(THINK), ())
        return after.state, (after.state, after.terminated, after.truncated)

    start = env.reset(params, level, ())
    _, (states, terminated, truncated) = jax.lax.scan(body, start, length=limit + 5)
    expected = np.minimum(np.arange(1, limit + 6), limit)
    assert np.array_equal(states.clock, expected)
    assert np.array_equal(states.useful, expected)
    assert not np.any(terminated)
    assert np.array_equal(truncated, expected == limit)


def test_what_is_seen() -> None:
    """Thoughts and fillers look alike only where the length is all there is to see."""
    for observation, alike in (("state", False), ("length", True), ("features", False)):
        env = PadLength(limit=4, prompts=3, observation=observation)
        params = params_of(env, shortest=1.0, longest=3.0)
        level = level_of(env, params, 2)
        start = env.reset(params, level, ())
        see = [
            env.observe(params, level, env.step(params, level, start, jnp.int32(a), ()).state)
            for a in (0, 1, 2)
        ]
        assert np.array_equal(see[1], see[2])
        assert np.array_equal(see[0], see[1]) == alike
        if observation == "features":
            np.testing.assert_allclose(see[0], [0.25, 0.25, float(level.needed) / 4], rtol=1e-6)


def test_every_state_has_a_row_of_its_own() -> None:
    env = PadLength(limit=5, prompts=4)
    params = env.default_params
    rows = [env.tabular(params, level_of(env, params, i)).row[:-1] for i in range(4)]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(env.observation_space.n))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"limit": 0}, "limit"),
    ({"limit": 254}, "limit"),
    ({"fillers": -1}, "fillers"),
    ({"prompts": 0}, "prompts"),
    ({"test_prompts": -1}, "test_prompts"),
    ({"observation": "tokens"}, "observation"),
]


@pytest.mark.parametrize(("static", "key"), BAD, ids=str)
def test_bad_structure_is_refused_by_name(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("reasoning/pad_length", **static)
    assert caught.value.key == key


BAD_PARAMS: list[tuple[bool, dict[str, float], str]] = [
    (False, {"width": 0.5}, "width"),
    (True, {"width": 0.0}, "width"),
    (False, {"penalty": -0.1}, "penalty"),
    (False, {"free_tokens": float("inf")}, "free_tokens"),
    (False, {"shortest": -1.0}, "shortest"),
    (False, {"shortest": 9.0}, "longest"),
]


@pytest.mark.parametrize(("noisy", "numbers", "key"), BAD_PARAMS, ids=str)
def test_bad_params_are_refused_by_name(noisy: bool, numbers: Any, key: str) -> None:
    env = PadLength(noisy=noisy)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **numbers))
    assert caught.value.key == key


def test_facts_that_do_not_exist_are_refused_by_name() -> None:
    noisy, long = PadLength(noisy=True), PadLength(limit=40)
    with pytest.raises(je.BadInput, match="noisy"):
        noisy.solutions(noisy.default_params, level_of(noisy, noisy.default_params))
    params = long.default_params
    with pytest.raises(je.BadInput, match="limit"):
        long.solutions(params, level_of(long, params))
    with pytest.raises(je.BadInput, match="policy"):
        long.evaluate(params, level_of(long, params), jnp.ones((39, 39, 4)) / 4)
    with pytest.raises(je.BadInput, match="group"):
        long.answer_drift(params, level_of(long, params), jnp.float32(0.5), jnp.float32(1.0), 17)


def test_render() -> None:
    env = PadLength(limit=4, prompts=1)
    params = params_of(env, shortest=1.0, longest=1.0)
    level = level_of(env, params)
    text = "prompt 0  needs 1.00 thoughts  token 2/4  "
    for useful, mark in ((1, "useful 1"), (255, "answered, right"), (254, "answered, wrong")):
        assert env.render(params, level, State(jnp.uint8(useful), jnp.uint8(2))) == text + mark
