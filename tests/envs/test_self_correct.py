"""``reasoning/self_correct`` against enumeration written independently in NumPy."""

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
from jaxrl_envs.reasoning.self_correct import SelfCorrect


def params_of(env: SelfCorrect, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


@cache
def levels_of(env: SelfCorrect) -> list[Any]:
    make = jax.jit(jax.vmap(partial(env.make_level, env.default_params)))
    many = make(jnp.arange(env.prompts + env.test_prompts))
    return [jax.tree.map(lambda x, i=i: x[i], many) for i in range(len(many.id))]


def policies(env: SelfCorrect, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.dirichlet(np.ones(env.answers))
    second = rng.dirichlet(np.ones(env.answers), size=(env.reports, env.answers))
    return first.astype(np.float32), second.astype(np.float32)


def brute_force(
    env: SelfCorrect, params: Any, level: Any, first: np.ndarray, second: np.ndarray
) -> dict[str, float]:
    """Sum over first answers, truth tables of the report, and second answers."""
    right, passed = np.asarray(level.mode) >= 0, np.asarray(level.passed)
    fp, fn = float(params.false_positive), float(params.false_negative)
    total = dict.fromkeys(("first", "second", "fixed", "spoiled", "shaped"), 0.0)
    for a in range(env.answers):
        for told in itertools.product([0, 1], repeat=env.tests):
            chance = float(first[a])
            for j, bit in enumerate(told):
                says_pass = 1 - fn if passed[a] >> j & 1 else fp
                chance *= says_pass if bit else 1 - says_pass
            report = sum(bit << j for j, bit in enumerate(told))
            for b in range(env.answers):
                mass = chance * float(second[report, a, b])
                total["first"] += mass * right[a]
                total["second"] += mass * right[b]
                total["fixed"] += mass * (right[b] and not right[a])
                total["spoiled"] += mass * (right[a] and not right[b])
                improved = float(right[b]) - float(right[a])
                total["shaped"] += mass * (right[b] + float(params.alpha) * improved)
    return total


def as_numbers(correction: Any) -> dict[str, float]:
    return {k: float(v) for k, v in vars(correction).items()}


@given(
    answers=st.integers(2, 5),
    modes=st.integers(1, 2),
    tests=st.integers(0, 3),
    noisy=st.booleans(),
    fp=st.floats(0.0, 1.0, width=32),
    fn=st.floats(0.0, 1.0, width=32),
    alpha=st.floats(0.0, 10.0, width=32),
    seed=st.integers(0, 99),
)
@settings(max_examples=8, deadline=None)
def test_correction_of_any_pair(answers, modes, tests, noisy, fp, fn, alpha, seed) -> None:  # type: ignore[no-untyped-def]
    noisy = noisy and tests > 0
    env = SelfCorrect(prompts=1, answers=answers, modes=modes, tests=tests, noisy=noisy)
    rates = {"false_positive": fp, "false_negative": fn} if noisy else {}
    params, level = params_of(env, alpha=alpha, **rates), levels_of(env)[0]
    env.check_params(params)
    first, second = policies(env, seed)
    found = as_numbers(jax.jit(env.correction)(params, level, first, second))
    assert found == pytest.approx(brute_force(env, params, level, first, second), abs=2e-5)
    assert found["second"] - found["first"] == pytest.approx(
        found["fixed"] - found["spoiled"], abs=1e-5
    )


def test_repeating_oneself_improves_nothing() -> None:
    env = SelfCorrect(prompts=3, answers=6, modes=2, tests=2, noisy=True)
    params = params_of(env, false_positive=0.3, false_negative=0.1, alpha=5.0)
    copy = jnp.broadcast_to(jnp.eye(6), (4, 6, 6))
    for level in levels_of(env):
        first, _ = policies(env, int(level.id))
        found = as_numbers(jax.jit(env.correction)(params, level, first, copy))
        assert found["fixed"] == found["spoiled"] == 0.0
        skill = first[np.asarray(level.mode) >= 0].sum()
        assert [found[k] for k in ("first", "second", "shaped")] == pytest.approx([skill] * 3)


def test_what_a_noisy_bit_is_worth() -> None:
    """Keep what is praised, otherwise answer rightly (or wrongly): closed forms."""
    env = SelfCorrect(prompts=1, answers=4, noisy=True)
    params, level = params_of(env, false_positive=0.2, false_negative=0.1), levels_of(env)[0]
    right = int(np.argmax(np.asarray(level.mode) >= 0))
    wrong = (right + 1) % 4
    for other, fixed, spoiled in ((right, 0.75 * 0.8, 0.0), (wrong, 0.0, 0.25 * 0.1)):
        second = jnp.stack([jnp.zeros((4, 4)).at[:, other].set(1.0), jnp.eye(4)])
        found = jax.jit(env.correction)(params, level, jnp.full(4, 0.25), second)
        assert float(found.fixed) == pytest.approx(fixed, abs=1e-6)
        assert float(found.spoiled) == pytest.approx(spoiled, abs=1e-6)


def test_gradient_is_that_of_the_enumeration() -> None:
    """d shaped / d first, by finite differences of the brute force (it is linear in `first`)."""
    env = SelfCorrect(prompts=2, answers=4, modes=2, tests=2, noisy=True)
    params = params_of(env, false_positive=0.25, false_negative=0.5, alpha=2.0)
    level = levels_of(env)[1]
    first, second = policies(env, 7)
    shaped = lambda p: env.correction(params, level, p, jnp.asarray(second)).shaped  # noqa: E731
    grad = jax.jit(jax.grad(shaped))(jnp.asarray(first))
    each = [brute_force(env, params, level, row, second)["shaped"] for row in np.eye(4)]
    np.testing.assert_allclose(grad, each, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 2.5])
def test_all_pairs_of_answers(alpha: float) -> None:
    """Channels, flags and labels of every trajectory; one step too many changes nothing."""
    env = SelfCorrect(prompts=2, answers=5, modes=2, tests=2)
    params, level = params_of(env, alpha=alpha), levels_of(env)[1]
    right, passed = np.asarray(level.mode) >= 0, np.asarray(level.passed)
    solutions = env.solutions(params, level)
    assert right.sum() == float(solutions.count) == 2
    step = jax.jit(partial(env.step, params, level))
    seen = set()
    for a, b in itertools.product(range(5), repeat=2):
        one = step(env.reset(params, level, ()), jnp.int32(a), ())
        two = step(one.state, jnp.int32(b), ())
        three = step(two.state, jnp.int32(a), ())
        assert int(one.state.report) == passed[a]
        assert [bool(x.terminated) for x in (one, two, three)] == [False, True, True]
        assert not any(bool(x.truncated) for x in (one, two, three))
        paid = [{k: float(v) for k, v in x.reward.items()} for x in (one, two, three)]
        bonus = right[b] + alpha * (float(right[b]) - float(right[a]))
        assert paid[0] == {"true": 0.0, "first": float(right[a]), "shaped": 0.0}
        assert paid[1] == {"true": float(right[b]), "first": 0.0, "shaped": pytest.approx(bonus)}
        assert set(paid[2].values()) == {0.0}
        assert [bool(x.info["right"]) for x in (one, two)] == [right[a], right[b]]
        assert [bool(x.info["correct"]) for x in (one, two, three)] == [False, right[b], right[b]]
        modes = [int(x.info["mode_id"]) for x in (one, two, three)]
        assert modes == [-1, int(level.mode[b]), int(level.mode[b])]
        label = int(solutions.label((), jnp.array([a, b, 0], jnp.int32), jnp.int32(2)))
        assert label == modes[1]
        seen.add(label)
        assert int(solutions.label((), jnp.array([b], jnp.int32), jnp.int32(1))) == -1
        assert int(solutions.label((), jnp.array([a, b], jnp.int32), jnp.int32(1))) == -1
    assert seen == {-1, 0, 1}


@pytest.mark.parametrize("tests", [0, 1, 3])
def test_only_right_answers_pass_all_tests(tests: int) -> None:
    env = SelfCorrect(prompts=40, answers=8, modes=2, tests=tests)
    passed = np.stack([level.passed for level in levels_of(env)])
    right = np.stack([np.asarray(level.mode) >= 0 for level in levels_of(env)])
    everything = 2**tests - 1
    assert np.all(passed[right] == everything)
    assert tests == 0 or np.all(passed[~right] < everything)
    assert set(passed[~right]) == set(range(max(everything, 1))), "partial passes all occur"


def test_a_right_policy_is_optimal_and_alone_shaped_pays_for_feigning() -> None:
    env = SelfCorrect(prompts=1, answers=3)
    params, level = params_of(env, alpha=2.0), levels_of(env)[0]
    right = np.asarray(level.mode) >= 0
    second = jnp.broadcast_to(jnp.asarray(right, jnp.float32), (2, 3, 3))
    honest = env.correction(params, level, jnp.asarray(right, jnp.float32), second)
    feigned = env.correction(params, level, jnp.asarray(~right, jnp.float32) / 2, second)
    best = float(env.optimal_value(params, level))
    assert float(honest.second) == float(feigned.second) == best
    assert float(honest.shaped) == 1.0
    assert float(feigned.shaped) == 3.0


def test_reports_have_their_rates() -> None:
    """Sampled reports of every answer, bits independent, against the exact rates."""
    env = SelfCorrect(prompts=1, answers=4, tests=2, noisy=True)
    params, level = params_of(env, false_positive=0.3, false_negative=0.1), levels_of(env)[0]
    n, start = 100_000, env.reset(params, level, ())
    noise = env.draw(jax.random.key(0), (n,))
    step = jax.jit(jax.vmap(partial(env.step, params, level, start), (None, 0)))
    rates = np.asarray(env.report_rates(params, level))
    np.testing.assert_allclose(rates.sum(axis=1), 1.0, atol=1e-6)
    for a in range(4):
        told = np.bincount(np.asarray(step(jnp.int32(a), noise).state.report), minlength=4) / n
        error = 5 * np.sqrt(rates[a] * (1 - rates[a]) / n)
        assert np.all(np.abs(told - rates[a]) <= error)


def test_features_show_the_answer_and_the_report() -> None:
    env = SelfCorrect(prompts=2, answers=3, tests=2, observation="features", features=4)
    params, level = env.default_params, levels_of(env)[1]
    state = env.reset(params, level, ())
    x = np.asarray(level.features).tolist()
    assert env.observe(params, level, state).tolist() == x + [0.0] * 6
    state = env.step(params, level, state, jnp.int32(2), ()).state
    bits = [1.0 if int(level.passed[2]) >> j & 1 else -1.0 for j in range(2)]
    assert env.observe(params, level, state).tolist() == [*x, 1.0, 0.0, 0.0, 1.0, *bits]


def test_rows_tell_everything_apart() -> None:
    env = SelfCorrect(prompts=2, test_prompts=1, answers=3, tests=1)
    rows = []
    for level in levels_of(env):
        mdp = env.tabular(env.default_params, level)
        rows += np.asarray(mdp.row)[:-1].tolist()
    assert sorted(rows) == list(range(env.observation_space.n))


@pytest.mark.parametrize(
    ("static", "key"),
    [({"answers": 1}, "answers"), ({"answers": 257}, "answers"), ({"modes": 9}, "modes"),
     ({"tests": 5}, "tests"), ({"tests": 0, "noisy": True}, "noisy"), ({"prompts": 0}, "prompts"),
     ({"test_prompts": -1}, "test_prompts"), ({"features": 0}, "features"),
     ({"observation": "prompt"}, "observation")],
    ids=str,
)  # fmt: skip
def test_bad_structure_is_refused(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("reasoning/self_correct", **static)
    assert (caught.value.key, caught.value.value) == (key, static[key])


@pytest.mark.parametrize(
    ("noisy", "name", "value"),
    [(False, "false_positive", 0.1), (False, "false_negative", 0.1), (True, "false_negative", 1.5),
     (True, "false_positive", -0.1), (True, "alpha", -1.0), (True, "alpha", float("nan")),
     (True, "hardest", 0.0), (True, "easiest", 1.0)],
)  # fmt: skip
def test_bad_params_are_refused(noisy: bool, name: str, value: float) -> None:
    env = SelfCorrect(noisy=noisy)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **{name: value}))
    assert caught.value.key == name


def test_render() -> None:
    env = SelfCorrect(prompts=1, answers=4, tests=2)
    params, level = env.default_params, levels_of(env)[0]
    right = int(np.argmax(np.asarray(level.mode) >= 0))
    state = env.reset(params, level, ())
    shown = f"prompt 0  answers {'.' * right}*{'.' * (3 - right)}  turn"
    assert env.render(params, level, state) == f"{shown} 0/2"
    state = env.step(params, level, state, jnp.int32(right), ()).state
    assert env.render(params, level, state) == f"{shown} 1/2  answer {right}  report ++"
