"""``bandit/meta`` against tasks, histories and values computed independently."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.bandits.meta import MetaBandit
from scipy import stats

f32 = jnp.float32


def params_of(env: MetaBandit, **given: float) -> Any:
    return replace(env.default_params, **{k: f32(v) for k, v in given.items()})


def levels_of(env: MetaBandit, params: Any, ids: Any) -> Any:
    return jax.vmap(partial(env.make_level, params))(jnp.asarray(ids, jnp.int32))


def rollout(env: MetaBandit, params: Any, level: Any, actions: Any, noise: Any) -> Any:
    """All transitions of one episode, and the states and tasks before each."""

    def pull(state: Any, given: Any) -> Any:
        action, luck = given
        after = env.step(params, level, state, action, luck)
        return after.state, (state, env.task(params, level, state), after)

    first = env.reset(params, level, ())
    return jax.jit(lambda a, u: jax.lax.scan(pull, first, (a, u))[1])(actions, noise)


def play(env: MetaBandit, params: Any, index: int = 0, seed: int = 0, extra: int = 0) -> Any:
    """A rollout of random actions, and these actions."""
    key, steps = jax.random.key(seed), env.horizon + extra
    actions = jax.random.randint(key, (steps,), 0, env.arms)
    level = env.make_level(params, jnp.int32(index))
    run = rollout(env, params, level, actions, env.draw(key, (steps,)))
    return jax.tree.map(np.asarray, (actions, *run))  # looping over device arrays is slow


@pytest.mark.parametrize(
    ("static", "law"),
    [
        ({}, stats.uniform()),
        ({"a": 0.5}, stats.beta(0.5, 1)),
        ({"a": 2.0, "b": 5.0}, stats.beta(2, 5)),
        ({"pay": "gaussian", "prior": "normal"}, stats.norm()),
    ],
    ids=["uniform", "half", "skewed", "normal"],
)
def test_means_follow_the_prior(static: Any, law: Any) -> None:
    env = MetaBandit(arms=4, prompts=5000, **static)
    params = env.default_params
    means = np.asarray(levels_of(env, params, np.arange(5000)).mean)
    for k in range(4):
        assert stats.kstest(means[:, k], law.cdf).pvalue > 1e-3
    correlation = np.corrcoef(means.T)[np.triu_indices(4, 1)]
    assert np.max(np.abs(correlation)) < 4 / np.sqrt(5000)
    following = [np.corrcoef(means[1:, k], means[:-1, k])[0, 1] for k in range(4)]
    assert np.max(np.abs(following)) < 4 / np.sqrt(5000)
    wide = MetaBandit(arms=4, prompts=5000, **static)
    half = levels_of(wide, params_of(wide, location=0.25, scale=0.5), np.arange(50)).mean
    np.testing.assert_allclose(half, 0.25 + 0.5 * means[:50], atol=1e-6)


def test_gap_prior_takes_turns_and_the_safe_arm_is_first() -> None:
    env = MetaBandit(arms=4, prior="gap", safe_arm=True)
    params = params_of(env, location=0.25, scale=0.5, safe=0.375)
    means = np.asarray(levels_of(env, params, np.arange(6)).mean)
    assert np.all(means[:, 0] == 0.375)
    assert np.array_equal(means[:, 1:], np.tile(0.25 + 0.5 * np.eye(3), (2, 1)))


def block_lengths(borders: np.ndarray) -> np.ndarray:
    return np.diff(np.flatnonzero(np.concatenate([[True], borders])))


@pytest.mark.parametrize("n", [1.0, 3.0, 20.0])
def test_geometric_blocks(n: float) -> None:
    env = MetaBandit(blocks="geometric", horizon=40_000)
    _, _, tasks, after = play(env, params_of(env, block=n))
    borders = np.asarray(after.info["border"])
    lengths = block_lengths(borders)
    assert abs(lengths.mean() - n) <= 4 * np.sqrt(n * (n - 1) / len(lengths))
    if n > 1:
        edges = np.arange(1, int(3 * n))
        expected = stats.geom(1 / n).pmf(edges)
        expected = np.append(expected, 1 - expected.sum()) * len(lengths)
        seen = np.array([*(np.sum(lengths == k) for k in edges), np.sum(lengths > edges[-1])])
        assert stats.chisquare(seen, expected).pvalue > 1e-3
    tasks = np.asarray(tasks)
    changed = np.any(tasks[1:] != tasks[:-1], axis=1)
    assert np.all(~changed[~borders[:-1]]), "a task lasts as long as its block"
    assert np.mean(changed[borders[:-1]]) > 0.99
    first = tasks[np.concatenate([[0], np.flatnonzero(borders[:-1]) + 1])]
    assert stats.kstest(first[:, 0], "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first[1:, 0], first[:-1, 0])[0, 1]) < 4 / np.sqrt(len(first))


def test_fixed_blocks() -> None:
    env = MetaBandit(blocks="fixed", horizon=50)
    _, _, _, after = play(env, params_of(env, block=7.0))
    assert np.flatnonzero(after.info["border"]).tolist() == [6, 13, 20, 27, 34, 41, 48]


def test_rollouts_of_a_prompt_share_tasks_and_borders() -> None:
    env = MetaBandit(arms=3, blocks="geometric", horizon=60)
    params = params_of(env, block=5.0)
    a, b = (play(env, params, index=3, seed=s) for s in (0, 1))
    other = play(env, params, index=4)
    assert not np.array_equal(a[0], b[0])
    assert np.array_equal(a[2], b[2])
    assert np.array_equal(a[3].info["border"], b[3].info["border"])
    assert not np.array_equal(a[2], other[2])
    assert not np.array_equal(a[3].info["border"], other[3].info["border"])


@given(
    arms=st.integers(2, 6),
    horizon=st.sampled_from([3, 40, 260]),
    pay=st.sampled_from(["bernoulli", "gaussian"]),
    blocks=st.sampled_from(["none", "geometric", "fixed"]),
    visible=st.booleans(),
    index=st.integers(0, 99),
)
@settings(max_examples=8, deadline=None)
def test_histories(arms, horizon, pay, blocks, visible, index) -> None:  # type: ignore[no-untyped-def]
    """Counts, sums, last pull, clock and endings against a history kept in Python."""
    env = MetaBandit(arms=arms, horizon=horizon, pay=pay, blocks=blocks, visible_borders=visible,
                     observation="last")  # fmt: skip
    params = params_of(env, block=4.0)
    actions, _, _, after = play(env, params, index, extra=3)
    kept: list[tuple[int, float]] = []
    facts = (env.history, env.clock, partial(env.observe, params, None))
    each = jax.jit(lambda states: [jax.vmap(fact)(states) for fact in facts])
    histories, clocks, seen = jax.tree.map(np.asarray, each(after.state))
    for t, (arm, gain) in enumerate(zip(actions, after.reward["true"], strict=True)):
        if t < horizon:
            kept.append((int(arm), float(gain)))
            if visible and bool(after.info["border"][t]):
                kept = []
        else:
            assert all(float(x[t]) == 0.0 for x in after.reward.values())
            assert not bool(after.info["border"][t])
        pulls = [sum(a == k for a, _ in kept) for k in range(arms)]
        total = [sum(g for a, g in kept if a == k) for k in range(arms)]
        assert np.array_equal(histories[0][t], pulls)
        np.testing.assert_allclose(histories[1][t], total, atol=1e-4)
        assert int(clocks[t]) == min(t + 1, horizon)
        ended = (bool(after.terminated[t]), bool(after.truncated[t]))
        over = t + 1 >= horizon
        assert ended == (over and blocks == "none", over and blocks != "none")
        arm, gain = kept[-1] if kept else (-1, 0.0)
        if pay == "bernoulli":
            assert int(seen[t]) == (1 + 2 * arm + gain if kept else 0)
        else:
            np.testing.assert_allclose(seen[t], [*(np.arange(arms) == arm), gain], atol=1e-6)


def test_channels_and_regret() -> None:
    env = MetaBandit(arms=4, horizon=50, prompts=9)
    params = params_of(env, bonus=2.0)
    for index in range(3):
        actions, states, tasks, after = play(env, params, index)
        mean, arm = np.asarray(tasks[0], np.float64), np.asarray(actions)
        regret = mean.max() - mean[arm]
        np.testing.assert_allclose(after.info["regret"], regret, atol=1e-6)
        shaped = 1 - regret / (mean.max() - mean.min())
        np.testing.assert_allclose(after.reward["strategic"], shaped, atol=1e-5)
        assert np.array_equal(after.info["correct"], arm == mean.argmax())
        assert np.array_equal(after.info["mode_id"], np.where(arm == mean.argmax(), arm, -1))
        pulls, pay = (np.asarray(x, np.float64) for x in jax.vmap(env.history)(states))
        with np.errstate(divide="ignore", invalid="ignore"):
            index_ = np.where(pulls > 0, pay / pulls + np.sqrt(2.0 / pulls), np.inf)
        expert = index_[np.arange(50), arm] >= index_.max(axis=1) - 1e-6
        assert np.array_equal(after.reward["imitation"], expert)
        assert 0 < expert.sum() < 50


def test_equal_arms_have_no_regret() -> None:
    env = MetaBandit(horizon=5)
    _, _, _, after = play(env, params_of(env, scale=0.0, location=0.5))
    assert np.all(np.asarray(after.reward["strategic"]) == 1.0)
    assert np.all(np.asarray(after.info["correct"]))


def test_pay_has_the_mean_of_the_arm() -> None:
    n = 200_000
    for pay, noise in (("bernoulli", 1.0), ("gaussian", 0.5)):
        env = MetaBandit(pay=pay)
        params = params_of(env, noise=noise)
        level = env.make_level(params, jnp.int32(1))
        step = jax.vmap(partial(env.step, params, level, env.reset(params, level, ())), (None, 0))
        for arm in range(2):
            luck = env.draw(jax.random.key(arm), (n,))
            gain = np.asarray(jax.jit(step)(jnp.int32(arm), luck).reward["true"], np.float64)
            mu = float(level.mean[arm])
            spread = np.sqrt(mu * (1 - mu)) if pay == "bernoulli" else noise
            assert abs(gain.mean() - mu) < 4 * spread / np.sqrt(n)
            assert abs(gain.std() - spread) < 4 * spread / np.sqrt(n)


@pytest.mark.parametrize("blocks", ["none", "geometric", "fixed"])
def test_optimal_value_is_that_of_an_oracle(blocks: Any) -> None:
    env = MetaBandit(arms=3, horizon=40, blocks=blocks)
    params = params_of(env, block=6.0)
    for index in range(3):
        _, _, tasks, _ = play(env, params, index)
        level = env.make_level(params, jnp.int32(index))
        expected = np.asarray(tasks).max(axis=1).sum()
        assert float(env.optimal_value(params, level)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("horizon", "value"), [(10, 4.9471), (20, 10.3671), (50, 27.1836)])
def test_golden_sacrifice(horizon: int, value: float) -> None:
    env = MetaBandit(arms=3, a=0.5, b=1.0, safe_arm=True, horizon=horizon)
    assert env.bayes_value(env.default_params) == pytest.approx(value, abs=6e-5)
    a, b = env.prior_counts(env.default_params)
    mean = np.asarray(a / (a + b))
    assert mean[0] == pytest.approx(0.4)
    assert mean.argmax() == 0, "greedy takes the safe arm, learns nothing, and never leaves it"


def test_bayes_value_is_refused_where_it_is_not_known() -> None:
    for static, key in (({"blocks": "fixed"}, "blocks"), ({"prior": "gap"}, "prior"),
                        ({"pay": "gaussian"}, "pay")):  # fmt: skip
        env = MetaBandit(**static)
        with pytest.raises(je.BadInput) as caught:
            env.bayes_value(env.default_params)
        assert caught.value.key == key


def test_arms_observation() -> None:
    env = MetaBandit(horizon=30)
    _, _, _, after = play(env, env.default_params)
    seen = np.asarray(jax.vmap(partial(env.observe, env.default_params, None))(after.state))
    pulls, pay = (np.asarray(x) for x in jax.vmap(env.history)(after.state))
    mean = pay / np.maximum(pulls, 1)
    expected = np.stack([pulls / 10, mean, 1 / np.sqrt(pulls + 1)], axis=2).reshape(30, 6)
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_tables_are_offered_where_counts_tell_all() -> None:
    assert hasattr(MetaBandit(horizon=9), "tabular")
    for static in (
        {"horizon": 200},
        {"horizon": 9, "observation": "last"},
        {"horizon": 9, "pay": "gaussian"},
        {"horizon": 9, "blocks": "fixed"},
    ):
        assert not hasattr(MetaBandit(**static), "tabular")
        with pytest.raises(je.BadInput, match="tabular"):
            je.core.require(MetaBandit(**static), "tabular")


BAD = [
    ({"arms": 1}, "arms"),
    ({"horizon": 0}, "horizon"),
    ({"prior": "normal"}, "prior"),
    ({"a": 0.0}, "a"),
    ({"pay": "gaussian", "observation": "counts"}, "observation"),
    ({"arms": 20, "observation": "counts"}, "horizon"),
    ({"arms": 2, "safe_arm": True, "prior": "gap"}, "arms"),
]


@pytest.mark.parametrize(("static", "key"), BAD, ids=str)
def test_bad_structure_is_refused(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("bandit/meta", **static)
    assert caught.value.key == key


BAD_PARAMS = [
    ({}, {"location": 0.5}, "scale"),
    ({}, {"location": -0.5}, "location"),
    ({}, {"safe": 1.5}, "safe"),
    ({}, {"noise": -1.0}, "noise"),
    ({}, {"block": 0.5}, "block"),
    ({"blocks": "fixed"}, {"block": 2.5}, "block"),
]


@pytest.mark.parametrize(("static", "params", "key"), BAD_PARAMS, ids=str)
def test_bad_params_are_refused(static: Any, params: Any, key: str) -> None:
    env = MetaBandit(**static)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **params))
    assert caught.value.key == key


def test_render() -> None:
    env = MetaBandit(prior="gap", horizon=9)
    level = env.make_level(env.default_params, jnp.int32(1))
    state = env.reset(env.default_params, level, ())
    for u in (0.1, 0.9):
        state = env.step(env.default_params, level, state, jnp.int32(1), f32(u)).state
    text = env.render(env.default_params, level, state)
    assert text == "prompt 1  pull 2/9  arms 0×0.00 (0.40)  2×0.50 (0.60)"
