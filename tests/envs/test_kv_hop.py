"""``reasoning/kv_hop`` against a simulation written independently in NumPy."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from hop_worlds import INDEX, POINTER, ask, compiled, level_of, levels_of, params_of, solve
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.reasoning.kv_hop import KVHop


@pytest.mark.parametrize("numbers", [{}, {"skew": 0.5}, {"memory": 0.5, "stale": 0.4}], ids=str)
@pytest.mark.parametrize("static", [POINTER, INDEX], ids=["pointer", "index"])
def test_levels_are_what_they_say(static: Any, numbers: Any) -> None:
    shape = static | {"keys": 8, "prompts": 150, "test_prompts": 40, "outdated": True}
    env = KVHop(**shape)
    levels = jax.tree.map(np.asarray, levels_of(env, params_of(env, **numbers)))
    seen = set()
    for i in range(190):
        table, question = levels.table[i].tolist(), int(levels.question[i])
        assert question == i % env.questions
        _, answer = solve(env, table, question)
        assert answer == levels.answer[i]
        if env.mode == "pointer":
            orbit = [0]
            while len(orbit) <= 8 and table[orbit[-1]] not in orbit:
                orbit.append(table[orbit[-1]])
            assert len(orbit) == 8, "a single cycle"
            assert answer != question + 1
        seen.add((question, *table))
    if not numbers:
        assert len(seen) == 190
        assert np.array_equal(levels.old, levels.table)
    fixed = (np.arange(env.questions) + 0.5) / env.questions < numbers.get("memory", 0.0)
    assert np.array_equal(levels.fixed, fixed[levels.question])
    for question in range(env.questions):
        answers = levels.answer[levels.question == question]
        assert (len(set(answers.tolist())) == 1) == fixed[question]
    changed = np.mean(levels.old != levels.table)
    assert changed == pytest.approx(numbers.get("stale", 0.0), abs=0.06)
    assert np.all(levels.old < (env.keys if env.mode == "pointer" else env.base))


@pytest.mark.parametrize("static", [POINTER, INDEX], ids=["pointer", "index"])
def test_answers_have_the_stated_prior(static: Any) -> None:
    pointer = static is POINTER
    env = KVHop(**(static | {"keys": 8 if pointer else 20, "prompts": 5000}))
    C = 7 if pointer else 8
    for skew in (0.0, 0.4):
        levels = levels_of(env, params_of(env, skew=skew))
        for question in range(env.questions):
            answers = np.asarray(levels.answer)[np.asarray(levels.question) == question]
            share = np.bincount(answers, minlength=8) / len(answers)
            expected = np.full(8, (1 - skew) / C)
            if env.mode == "pointer":
                expected[question + 1] = 0.0
            expected[0] += skew
            assert np.all(np.abs(share - expected) <= 5 * np.sqrt(expected / len(answers)))


def learned(env: KVHop, known: dict[int, int], question: int, answer: int) -> bool:
    """Whether what was seen spells the right answer."""
    if env.mode == "index":
        spelled = [known.get(k) for k in range(env.hops)]
        return None not in spelled and sum(v * env.base**k for k, v in enumerate(spelled)) == answer
    key: int | None = question + 1
    for _ in range(env.hops):
        key = None if key is None else known.get(key)
    return key == answer


@pytest.mark.parametrize("outdated", [False, True])
@pytest.mark.parametrize("static", [POINTER, INDEX], ids=["pointer", "index"])
def test_rollouts_against_a_simulation(static: Any, outdated: bool) -> None:
    """Every channel, flag and observation of random action sequences."""
    env = KVHop(**(static | {"outdated": outdated, "observation": "tokens", "budget": 6}))
    params = params_of(env, cost=0.25, stale=0.5 if outdated else 0.0)
    rng = np.random.default_rng(0)
    n, T = 400, 8
    # Mostly queries, so that many episodes last.
    actions = rng.integers(0, env.keys, (n, T))
    actions = np.where(
        rng.random((n, T)) < 0.15, rng.integers(0, env.action_space.n, (n, T)), actions
    )

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def roll(level: Any, actions: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            after = env.step(params, level, state, action, ())
            return after.state, (after, env.observe(params, level, after.state))

        return jax.lax.scan(body, env.reset(params, level, ()), actions)[1]

    level = level_of(env, params, 1)
    after, seen = jax.tree.map(np.asarray, roll(level, jnp.asarray(actions, jnp.int32)))
    table, old, slots = level.table.tolist(), level.old.tolist(), 6 if env.mode == "pointer" else 3
    endings = set()
    for i in range(n):
        known: dict[int, int] = {}
        ended, last, mode = "", (0, 0), -1
        for t in range(T):
            action, pay, price = int(actions[i, t]), 0.0, 0.0
            if not ended and action < env.keys:
                first = action not in known or action >= slots
                value = old[action] if first else table[action]
                known[action], last, price = value, (action + 1, value + 1), 0.25
                ended = "cut" if t == 5 else ""
            elif not ended:
                ended = "right" if action - env.keys == int(level.answer) else "wrong"
                pay = float(ended == "right")
                if ended == "right":
                    mode = int(learned(env, known, int(level.question), int(level.answer)))
            step = jax.tree.map(lambda x, i=i, t=t: x[i, t], after)
            assert step.reward == {"true": pay, "cost": -price, "penalized": pay - price}
            assert step.info["env_tokens"] == (price > 0)
            assert step.terminated == (ended in ("right", "wrong"))
            assert step.truncated == (ended == "cut")
            assert step.info["correct"] == (ended == "right")
            assert step.info["mode_id"] == mode
            clock = 6 if ended else t + 1
            assert seen[i, t].tolist() == [clock, int(level.question), *last]
            endings.add((ended, mode))
    assert {e for e, _ in endings} == {"", "right", "wrong", "cut"}
    assert {m for e, m in endings if e == "right"} == {0, 1}


@pytest.mark.parametrize("static", [POINTER, INDEX], ids=["pointer", "index"])
def test_a_right_guess_against_wrong_results_was_not_learned(static: Any) -> None:
    """All first results are out of date, so asking once teaches nothing and asking twice all."""
    env = KVHop(**(static | {"outdated": True, "budget": 20}))
    params = params_of(env, stale=1.0)
    for index in range(env.prompts):
        level = level_of(env, params, index)
        _, answer = solve(env, level.table.tolist(), int(level.question))
        _, misled = solve(env, level.old.tolist(), int(level.question))
        for times, mode in ((1, int(misled == answer)), (2, 1)):
            state = ask(env, params, level, [*range(env.keys)] * times)
            after = compiled(env, "step")(params, level, state, jnp.int32(env.keys + answer), ())
            assert int(after.info["mode_id"]) == mode


def test_fixed_answers_are_never_the_first_key() -> None:
    env = KVHop(questions=7, prompts=70)
    levels = levels_of(env, params_of(env, memory=1.0))
    assert np.all(np.asarray(levels.fixed))
    assert not np.any(levels.answer == levels.question + 1)
    assert len(np.unique(np.stack([levels.question, levels.answer]), axis=1).T) == 7


def test_errors_have_the_stated_rate() -> None:
    env = KVHop(mode="index", keys=3, hops=2, base=5, noisy=True, observation="tokens", prompts=4)
    params = params_of(env, error=0.3)
    level, n = level_of(env, params), 100_000
    noise = env.draw(jax.random.key(0), (n,))
    step = jax.jit(jax.vmap(lambda u: env.step(params, level, start, jnp.int32(1), u).state.result))
    start = env.reset(params, level, ())
    share = np.bincount(np.asarray(step(noise)), minlength=6) / n
    expected = np.array([0, *[0.06] * 5])
    expected[int(level.table[1]) + 1] += 0.7
    assert np.all(np.abs(share - expected) <= 5 * np.sqrt(expected / n))


@given(
    mode=st.sampled_from(["pointer", "index"]),
    keys=st.integers(5, 8),
    hops=st.integers(1, 4),
    base=st.integers(2, 4),
    seen=st.sampled_from(["state", "known"]),
)
@settings(max_examples=8, deadline=None)
def test_one_who_asks_in_order_is_right(mode, keys, hops, base, seen) -> None:  # type: ignore[no-untyped-def]
    """A rule that reads only observations earns 1 - c H on every prompt."""
    hops = min(hops, keys // 2)
    static = {"mode": mode, "keys": keys, "hops": hops, "base": base, "observation": seen}
    env = KVHop(**static, questions=3, prompts=24)
    params = params_of(env, cost=0.125)
    levels = levels_of(env, params)

    def rule(obs: Any) -> int:
        if mode == "pointer":
            if seen == "state":
                made, key = divmod(int(obs) % ((hops + 1) * keys), keys)
            else:
                made, key = 0, int(obs[1]) + 1
                while made < hops and int(obs[2 + key]) > 0:
                    made, key = made + 1, int(obs[2 + key]) - 1
            return key if made < hops else keys + key
        if seen == "state":
            number = int(obs) % (base + 1) ** hops
            slots = [number // (base + 1) ** k % (base + 1) for k in range(hops)]
        else:
            slots = obs[2:].tolist()
        missing = [k for k, v in enumerate(slots) if v == 0]
        return missing[0] if missing else keys + sum((v - 1) * base**k for k, v in enumerate(slots))

    see = jax.jit(jax.vmap(partial(env.observe, params)))
    step = jax.jit(jax.vmap(partial(env.step, params), (0, 0, 0, None)))
    states = jax.vmap(partial(env.reset, params), (0, None))(levels, ())
    total, tokens = np.zeros(24), np.zeros(24)
    for _ in range(hops + 1):
        actions = [rule(obs) for obs in np.asarray(see(levels, states))]
        after = step(levels, states, jnp.asarray(actions, jnp.int32), ())
        states = after.state
        total += np.asarray(after.reward["penalized"])
        tokens += np.asarray(after.info["env_tokens"])
    assert np.all(total == 1 - 0.125 * hops)
    assert np.all(tokens == hops)
    assert np.all(after.terminated)
    assert np.all(np.asarray(after.info["mode_id"]) == 1)


@pytest.mark.parametrize("static", [POINTER | {"hops": 2}, INDEX], ids=["pointer", "index"])
def test_solutions_against_all_sequences(static: Any) -> None:
    env = KVHop(**static)
    params, T = env.default_params, env.hops + 1
    rows = np.array(list(itertools.product(range(env.action_space.n), repeat=T)))
    padded = jnp.asarray(np.pad(rows, ((0, 0), (0, 2))), jnp.int32)
    for index in (0, 1):
        level = level_of(env, params, index)
        known = env.solutions(params, level)
        label = jax.jit(jax.vmap(lambda a, n, f=known.label: f((), a, n), (0, None)))
        codes = np.asarray(label(padded, jnp.int32(T)))
        useful, answer = solve(env, level.table.tolist(), int(level.question))
        orders = itertools.permutations(useful) if env.mode == "index" else [useful]
        right = {(*order, env.keys + answer) for order in orders}
        assert np.array_equal(codes >= 0, [tuple(row) in right for row in rows.tolist()])
        assert len(np.unique(codes[codes >= 0])) == len(right) == float(known.count)
        assert np.all(np.asarray(label(padded, jnp.int32(T - 1))) == -1)
    assert float(known.count) == (factorial(env.hops) if env.mode == "index" else 1)
    short = KVHop(**(static | {"budget": env.hops}))
    none = short.solutions(params, level)
    assert float(none.count) == 0.0
    assert int(none.label((), padded[0], jnp.int32(T))) == -1


def test_the_clock_never_wraps_and_a_last_answer_is_in_time() -> None:
    env = KVHop(budget=253)
    params = env.default_params
    level = level_of(env, params)

    def body(state: Any, _: Any) -> Any:
        after = env.step(params, level, state, jnp.int32(0), ())
        return after.state, (after.state.clock, after.terminated, after.truncated)

    start = env.reset(params, level, ())
    _, (clock, terminated, truncated) = jax.lax.scan(body, start, length=260)
    assert np.array_equal(clock, np.minimum(np.arange(1, 261), 253))
    assert not np.any(terminated)
    assert np.array_equal(truncated, np.asarray(clock) == 253)
    last = replace(start, clock=jnp.uint8(252))
    after = env.step(params, level, last, jnp.int32(8 + int(level.answer)), ())
    assert (bool(after.terminated), bool(after.truncated)) == (True, False)
    assert float(after.reward["true"]) == 1.0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"mode": "tree"}, "mode"),
    ({"keys": 9}, "keys"),
    ({"keys": 2}, "keys"),
    ({"mode": "index", "keys": 65}, "keys"),
    ({"hops": 5}, "hops"),
    ({"mode": "index", "hops": 9, "keys": 20}, "hops"),
    ({"mode": "index", "base": 16}, "base"),
    ({"mode": "index", "base": 9, "hops": 4}, "base"),
    ({"budget": 254}, "budget"),
    ({"questions": 8}, "questions"),
    ({"questions": 0}, "questions"),
    ({"prompts": 0}, "prompts"),
    ({"test_prompts": -1}, "test_prompts"),
    ({"keys": 4, "prompts": 10}, "prompts"),
    ({"observation": "text"}, "observation"),
]


@pytest.mark.parametrize(("static", "key"), BAD, ids=str)
def test_bad_structure_is_refused_by_name(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("reasoning/kv_hop", **({"questions": 3, "hops": 2} | static))
    assert caught.value.key == key
    assert caught.value.value == static[key]


BAD_PARAMS = [
    ({}, {"error": 0.1}, "error"),
    ({}, {"stale": 0.1}, "stale"),
    ({"noisy": True}, {"error": 1.5}, "error"),
    ({"outdated": True}, {"stale": -0.5}, "stale"),
    ({}, {"memory": 2.0}, "memory"),
    ({}, {"skew": float("nan")}, "skew"),
    ({}, {"cost": -1.0}, "cost"),
]


@pytest.mark.parametrize(("static", "numbers", "key"), BAD_PARAMS, ids=str)
def test_bad_params_are_refused_by_name(static: Any, numbers: Any, key: str) -> None:
    env = KVHop(**static)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **numbers))
    assert caught.value.key == key


@pytest.mark.parametrize("switch", ["noisy", "outdated"])
def test_facts_that_do_not_exist_are_refused_by_name(switch: str) -> None:
    env = KVHop(**{switch: True})
    params = env.default_params
    level = level_of(env, params)
    for fact in (env.plan, env.information_gain, env.solutions):
        with pytest.raises(je.BadInput, match=switch):
            fact(params, level)
    with pytest.raises(je.BadInput, match=switch):
        env.belief(params, level, env.reset(params, level, env.draw(jax.random.key(0), ())))
    with pytest.raises(je.BadInput, match="keys"):
        env.tabular(params, level)


def test_render() -> None:
    env = KVHop(**INDEX)
    params = env.default_params
    level = level_of(env, params, 1)
    digit, answer = int(level.table[1]), int(level.answer)
    text = env.render(params, level, ask(env, params, level, [1]))
    expected = f"prompt 1  question 1: 3 digits  answer {answer}  step 1/8  known 0:. 1:{digit} 2:."
    assert text == expected
