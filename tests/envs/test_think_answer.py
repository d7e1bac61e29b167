"""``reasoning/think_answer`` against enumeration of all responses, written in NumPy."""

from __future__ import annotations

import itertools
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
from jaxrl_envs.reasoning.responses import winner
from jaxrl_envs.reasoning.think_answer import ThinkAnswer

SMALL = ThinkAnswer(
    prompts=4, strategies=4, right=1, unsure=1, popular=1, answers=3, free=1, vocabulary=5
)
"""5^3 responses; one token names no strategy and two name no answer."""


def params_of(env: ThinkAnswer, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


def all_levels(env: ThinkAnswer, params: Any = None) -> Any:
    params = env.default_params if params is None else params
    ids = jnp.arange(env.prompts + env.test_prompts, dtype=jnp.int32)
    return jax.jit(jax.vmap(partial(env.make_level, params)))(ids)


def pick(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


def sequences(env: ThinkAnswer) -> np.ndarray:
    return np.array(list(itertools.product(range(env.vocabulary), repeat=env.horizon)), np.int32)


def entropy(p: Any) -> float:
    p = np.asarray(p, float).ravel()
    return float(-np.sum(p[p > 0] * np.log(p[p > 0])))


@pytest.fixture(scope="module")
def played() -> Any:
    """All responses to prompt 2 of SMALL at two lucks, and their chances under a random table."""
    params = params_of(SMALL, chance=0.25)
    level = pick(all_levels(SMALL, params), 2)
    tokens = sequences(SMALL)

    def roll(actions: Any, luck: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            after = SMALL.step(params, level, state, action, luck)
            return after.state, (SMALL.observe(params, level, state), after)

        return jax.lax.scan(body, SMALL.reset(params, level, ()), actions)[1]

    rolls = jax.jit(jax.vmap(jax.vmap(roll, (0, None)), (None, 0)))
    rows, after = rolls(jnp.asarray(tokens), jnp.array([0.24, 0.26], jnp.float32))
    rows_of_prompt = SMALL.observation_space.n // 4
    table = np.random.RandomState(3).randn(4 * rows_of_prompt, 5).astype(np.float32)
    logp = jax.nn.log_softmax(jnp.asarray(table), axis=-1)
    chance = np.exp(np.asarray(logp)[np.asarray(rows[0]), tokens].sum(axis=1))
    return level, tokens, after, logp, chance


def test_channels_of_all_responses(played: Any) -> None:
    level, tokens, after, _, _ = played
    worth, own = np.asarray(level.worth), np.asarray(level.own)
    assert sorted(worth.tolist()) == [0.0, 0.0, 0.0, 0.25, 1.0]
    u, a = tokens[:, 0], tokens[:, -1]
    follows = (u < 4) & (a == own[u])
    lucky, unlucky = follows & (worth[u] > 0), follows & (worth[u] == 1)
    final = lambda x: np.asarray(x)[:, :, -1]  # noqa: E731
    assert np.array_equal(final(after.reward["true"]), [lucky, unlucky])
    assert np.array_equal(final(after.reward["proxy"])[0], np.asarray(level.accepted)[a])
    assert np.array_equal(final(after.reward["format"])[0], (u < 4) & (a < 3))
    assert all(np.all(np.asarray(r)[:, :, :-1] == 0) for r in after.reward.values())
    assert np.all(np.asarray(after.reward["proxy"]) >= np.asarray(after.reward["true"]))
    for i, right in enumerate((lucky, unlucky)):
        assert np.array_equal(final(after.info["correct"])[i], right)
        assert np.array_equal(final(after.info["mode_id"])[i], np.where(right, u, -1))
        assert np.array_equal(final(after.info["alive"])[i], right)
    assert np.array_equal(final(after.info["answer"])[0], np.where(a < 3, a, -1))
    assert np.all(np.asarray(after.info["answer"])[:, :, :-1] == -1)
    # Before the answer a response is alive iff one with the same beginning may be right.
    alive = np.asarray(after.info["alive"])[0]
    for t in (0, 1):
        assert np.array_equal(alive[:, t], worth[np.minimum(u, 4)] > 0)
    assert np.array_equal(final(after.terminated), np.ones((2, len(tokens)), bool))
    assert not np.any(np.asarray(after.terminated)[:, :, :-1])
    assert not np.any(after.truncated)


def test_solutions_are_the_right_strategies(played: Any) -> None:
    level, tokens, after, _, _ = played
    solutions = SMALL.solutions(SMALL.default_params, level)
    padded = jnp.asarray(np.pad(tokens, ((0, 0), (0, 2))))
    label = jax.jit(jax.vmap(lambda a, n: solutions.label((), a, n), (0, None)))
    codes = np.asarray(label(padded, jnp.int32(3)))
    sure = np.asarray(after.reward["true"])[1, :, -1] == 1  # right even without luck
    assert np.array_equal(codes >= 0, sure)
    assert len(np.unique(codes[sure])) == float(solutions.count) == 1
    assert sure.sum() == 5, "the free token does not matter"
    assert np.all(np.asarray(label(padded, jnp.int32(2))) == -1)
    assert int(solutions.label((), padded[0, :2], jnp.int32(2))) == -1


def test_labels_of_several_strategies() -> None:
    env = ThinkAnswer(prompts=3, strategies=5, right=3, answers=5, right_answers=2, free=0)
    tokens = jnp.asarray(sequences(env))
    for i in range(3):
        level = pick(all_levels(env), i)
        solutions = env.solutions(env.default_params, level)
        codes = jax.vmap(lambda a, f=solutions.label: f((), a, jnp.int32(2)))(tokens)
        named = np.unique(codes)[1:]
        assert len(named) == float(solutions.count) == 3
        assert np.array_equal(named, np.flatnonzero(np.asarray(level.worth) == 1))
        assert len({int(level.own[u]) for u in named}) == 2


def test_entropies_and_success_against_enumeration(played: Any) -> None:
    level, tokens, after, logp, chance = played
    assert chance.sum() == pytest.approx(1.0, abs=1e-5)
    first = np.bincount(np.minimum(tokens[:, 0], 4), chance, 5)
    answer = np.bincount(np.minimum(tokens[:, -1], 3), chance, 4)
    responses = SMALL.responses(level, logp)
    found = responses.entropies()
    assert float(found.strategy) == pytest.approx(entropy(first), rel=1e-5)
    assert float(found.answer) == pytest.approx(entropy(answer), rel=1e-5)
    assert float(found.token) == pytest.approx(entropy(chance), rel=1e-5)
    lucky, unlucky = np.asarray(after.reward["true"])[:, :, -1] @ chance
    assert float(responses.success()) == pytest.approx(0.25 * lucky + 0.75 * unlucky, rel=1e-5)
    both = np.asarray(after.reward["true"])[:, :, -1]
    both = 1 - 0.25 * both[0] - 0.75 * both[1]
    two = 1 - np.sum(np.outer(both * chance, both * chance))
    p = float(responses.success())
    assert two == pytest.approx(1 - (1 - p) ** 2, rel=1e-4), "pass@2 over pairs of responses"


def test_three_entropies_are_three_numbers() -> None:
    """One and the same answer by several strategies: H(a) = 0, H(u) = log 3, H(tokens) beyond."""
    env = ThinkAnswer(prompts=1, strategies=4, right=3, answers=4, free=2)
    level = pick(all_levels(env), 0)
    right = np.flatnonzero(np.asarray(level.worth) == 1)
    first = np.full(4, -np.inf)
    first[right] = -np.log(3)
    answer = np.where(np.arange(4) == np.asarray(level.own)[right[0]], 0.0, -np.inf)
    free = np.full((2 * 5, 4), -np.log(4))
    logp = jnp.asarray(np.concatenate([first[None], free, np.tile(answer, (5, 1))]), jnp.float32)
    found = env.responses(level, logp).entropies()
    assert float(found.answer) == pytest.approx(0.0, abs=1e-6)
    assert float(found.strategy) == pytest.approx(np.log(3), rel=1e-5)
    assert float(found.token) == pytest.approx(np.log(3) + 2 * np.log(4), rel=1e-5)
    assert float(env.responses(level, logp).success()) == pytest.approx(1.0, abs=1e-5)


def counted_winner(p: np.ndarray, n: int) -> np.ndarray:
    """Plurality of all (K+1)^n ballots one by one; the last value votes for nobody."""
    every = np.append(p, 1 - p.sum())
    won = np.zeros(len(p))
    for ballots in itertools.product(range(len(every)), repeat=n):
        count = np.bincount(ballots, minlength=len(every))[:-1]
        if count.max() > 0:
            best = count == count.max()
            won += np.prod(every[list(ballots)]) * best / best.sum()
    return won


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("p", [(0.5, 0.3, 0.1), (0.25, 0.25, 0.5), (0.7, 0.0, 0.0)], ids=str)
def test_winner_against_all_ballots(p: tuple[float, ...], n: int) -> None:
    found = winner(jnp.array(p, jnp.float32), n)
    np.testing.assert_allclose(found, counted_winner(np.array(p), n), rtol=2e-5, atol=1e-7)


def test_winner_of_many_votes() -> None:
    """Two answers, odd n: the binomial tail; 5 equal answers: a fifth each; no answer: nobody."""
    n, p = 63, 0.55
    pmf = [1.0]
    for k in range(1, n + 1):
        pmf.append(pmf[-1] * (n - k + 1) / k * p / (1 - p))
    tail = sum(pmf[32:]) / sum(pmf)
    found = winner(jnp.array([p, 1 - p], jnp.float32), n)
    np.testing.assert_allclose(found, [tail, 1 - tail], rtol=1e-4)
    np.testing.assert_allclose(winner(jnp.full(5, 0.2), 12), np.full(5, 0.2), rtol=1e-4)
    assert np.all(np.asarray(winner(jnp.zeros(3), 4)) == 0.0)
    for votes in (0, 65):
        with pytest.raises(je.BadInput, match="n = "):
            winner(jnp.full(2, 0.5), votes)


def test_majority_prefers_the_popular_wrong_answer() -> None:
    """A minority of right strategies against a popular wrong answer: votes make it worse."""
    env = ThinkAnswer(prompts=1, strategies=8, right=2, popular=4, answers=6)
    params = params_of(env, hardest=0.3, easiest=0.3)
    level = pick(all_levels(env, params), 0)
    responses = env.responses(level, env.base_policy(params, level))
    value = [float(responses.majority_value(n)) for n in (1, 9, 33)]
    proxy = np.asarray(responses.joint)[:, np.asarray(level.accepted)].sum()
    assert value[0] == pytest.approx(proxy, rel=1e-4)
    assert value[0] > value[1] > value[2]
    easy = params_of(env, hardest=0.6, easiest=0.6)
    responses = env.responses(level, env.base_policy(easy, level))
    value = [float(responses.majority_value(n)) for n in (1, 9, 33)]
    assert value[0] < value[1] < value[2]


def test_base_policy_has_its_pass_rate() -> None:
    env = ThinkAnswer(prompts=12, test_prompts=4, strategies=6, right=2, answers=5, vocabulary=8)
    params = params_of(env, skew=0.7, focus=0.95)
    levels = all_levels(env, params)
    base = jax.jit(jax.vmap(partial(env.base_policy, params)))(levels)
    table = base.reshape(-1, 8)
    assert table.shape[0] == env.observation_space.n
    np.testing.assert_allclose(np.exp(table).sum(axis=1), 1.0, rtol=1e-5)
    success = jax.jit(jax.vmap(lambda level: env.responses(level, table).success()))(levels)
    rates = jax.vmap(partial(env.pass_rate, params))(levels)
    np.testing.assert_allclose(success, rates, rtol=1e-4)
    for i in range(3):
        level = pick(levels, i)
        responses = env.responses(level, table)
        prior, order = np.asarray(responses.strategies), np.argsort(level.rank)
        within = [order[:2], order[2:]]
        for kind in within:
            np.testing.assert_allclose(np.diff(np.log(prior[kind])), -0.7, rtol=1e-3)
        answer = np.exp(np.asarray(responses.later))[-1]
        assert np.allclose(answer[np.arange(6), np.asarray(level.own)[:6]], 0.95, rtol=1e-5)


def test_unsure_strategies_add_to_the_base_policy(played: Any) -> None:
    params = params_of(SMALL, chance=0.25)
    level = played[0]
    table = jax.vmap(partial(SMALL.base_policy, params))(all_levels(SMALL, params)).reshape(-1, 5)
    responses = SMALL.responses(level, table)
    unsure = float(responses.strategies[np.flatnonzero(np.asarray(level.worth) == 0.25)[0]])
    expected = float(SMALL.pass_rate(params, level)) + 0.25 * 0.95 * unsure
    assert float(responses.success()) == pytest.approx(expected, rel=1e-4)


def test_luck_has_the_stated_chance(played: Any) -> None:
    level, n = played[0], 100_000
    params = params_of(SMALL, chance=0.25)
    unsure = jnp.int32(np.flatnonzero(np.asarray(level.worth) == 0.25)[0])
    noise = SMALL.draw(jax.random.key(0), (n,))

    def roll(luck: Any) -> Any:
        state = SMALL.reset(params, level, ())
        for action in (unsure, jnp.int32(0), level.own[unsure]):
            after = SMALL.step(params, level, state, action, luck)
            state = after.state
        return after.reward["true"]

    share = float(jnp.mean(jax.jit(jax.vmap(roll))(noise)))
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n)


@given(
    strategies=st.integers(2, 9),
    answers=st.integers(3, 9),
    numbers=st.tuples(*[st.floats(0, 1)] * 4),
    free=st.integers(0, 3),
)
@settings(max_examples=8, deadline=None)
def test_any_structure(strategies, answers, numbers, free) -> None:  # type: ignore[no-untyped-def]
    right = 1 + int(numbers[0] * (strategies - 2))
    unsure = int(numbers[1] * (strategies - right))
    popular = int(numbers[2] * (strategies - right - unsure))
    others = strategies - right - unsure - popular
    most = min(right, answers - (popular > 0) - (others > 0))
    many = 1 + int(numbers[3] * (most - 1))
    static = {"strategies": strategies, "right": right, "unsure": unsure, "popular": popular}
    static |= {"answers": answers, "free": free, "prompts": 5}
    with pytest.raises(je.BadInput, match="right_answers"):
        ThinkAnswer(**static, right_answers=most + 1)
    env = ThinkAnswer(**static, right_answers=many)
    levels = all_levels(env)
    for i in range(5):
        level = pick(levels, i)
        own, worth = np.asarray(level.own)[:-1], np.asarray(level.worth)[:-1]
        accepted = np.flatnonzero(level.accepted)
        assert np.sum(worth == 1) == right
        assert np.sum(worth == 0.5) == unsure
        assert len(accepted) == many
        assert np.all((own >= 0) & (own < answers))
        assert np.array_equal(np.isin(own, accepted), worth > 0)
        assert set(own[worth == 1]) == set(accepted), "every right answer is some strategy's"
        wrong = np.bincount(own[worth == 0], minlength=answers)
        shared = np.sort(wrong)[::-1]
        spread = answers - many - (popular > 0)
        if popular:
            apart = wrong[wrong > 0].tolist()
            apart.remove(popular)
            assert sum(apart) == others
            assert max(apart, default=0) <= -(-others // max(spread, 1))
        elif others:
            assert shared[0] == -(-others // spread), "spread as evenly as they can be"


BAD = [
    ({"right": 8}, "right"),
    ({"right": 0}, "right"),
    ({"right": 5, "unsure": 4}, "unsure"),
    ({"right": 5, "unsure": 2, "popular": 2}, "popular"),
    ({"right_answers": 4}, "right_answers"),
    ({"right": 7, "right_answers": 4, "answers": 4}, "right_answers"),
    ({"vocabulary": 7}, "vocabulary"),
    ({"free": -1}, "free"),
    ({"strategies": 1}, "strategies"),
    ({"answers": 1}, "answers"),
    ({"prompts": 0}, "prompts"),
]


@pytest.mark.parametrize(("static", "key"), BAD, ids=str)
def test_bad_structure_is_refused_by_name(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("reasoning/think_answer", **static)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("name", "value"), [("chance", 1.0), ("focus", 1.0), ("easiest", 0.96), ("skew", np.inf)]
)
def test_bad_params_are_refused_by_name(name: str, value: float) -> None:
    env = ThinkAnswer()
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **{name: value}))
    assert caught.value.key == name


def test_render(played: Any) -> None:
    level = played[0]
    state = SMALL.reset(SMALL.default_params, level, ())
    text = SMALL.render(SMALL.default_params, level, state)
    words = text.split()
    assert words[:4] == ["prompt", "2", "token", "0/3"]
    for u, word in enumerate(words[4:]):
        mark = {1.0: "*", 0.25: "?", 0.0: ""}[float(level.worth[u])]
        assert word == f"{u}→{int(level.own[u])}{mark}"
    state = SMALL.step(SMALL.default_params, level, state, jnp.int32(1), jnp.float32(0.5)).state
    words = SMALL.render(SMALL.default_params, level, state).split()
    assert words[3] == "1/3"
    assert [w.startswith("[1→") for w in words[4:]] == [False, True, False, False]
