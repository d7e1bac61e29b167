"""``reasoning/vm_program`` against a machine and an enumeration written in plain Python."""

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
from jaxrl_envs.reasoning import vm_tables
from jaxrl_envs.reasoning.vm_program import VmProgram

RUN = [
    lambda a, b: (a, b),
    lambda a, b: (a + 1, b),
    lambda a, b: (a + b, b),
    lambda a, b: (a, a),
    lambda a, b: (a * b, b),
    lambda a, b: (b, a),
    lambda a, b: (a + a, b),
    lambda a, b: (-a, b),
    lambda a, b: (a, b + 1),
    lambda a, b: (a - b, b),
    lambda a, b: (a + a + a, b),
    lambda a, b: (a, a + b),
    lambda a, b: (a**2, b),
    lambda a, b: (a, a * b),
    lambda a, b: (a - 1, b),
    lambda a, b: (0, b),
]


def outputs(env: VmProgram, program: Any, want: Any = None, visible: Any = ()) -> list[int]:
    """A for each input after a program; tokens behind the instruction set are CASE."""
    m, registers = env.modulus, [(x, 0) for x in range(env.modulus)]
    for token in program:
        if token < env.instructions:
            registers = [tuple(r % m for r in RUN[token](a, b)) for a, b in registers]
            continue
        for x in visible:
            if registers[x][0] != want[x]:
                registers[x] = (want[x], registers[x][1])
                break
    return [a for a, _ in registers]


def programs(tokens: int, length: int) -> list[tuple[int, ...]]:
    """All programs as token sequences, END (0) included where there is one."""
    bodies = lambda k: itertools.product(range(1, tokens), repeat=k)  # noqa: E731
    short = [(*body, 0) for k in range(length) for body in bodies(k)]
    return [*short, *bodies(length)]


def level_of(env: VmProgram, index: int) -> Any:
    return env.make_level(env.default_params, jnp.int32(index))


def padded(rows: list[tuple[int, ...]], width: int, fill: int = 0) -> np.ndarray:
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], np.int32)


def codes_of(tokens: int, length: int, rows: list[tuple[int, ...]]) -> np.ndarray:
    return padded(rows, length) @ tokens ** np.arange(length)[::-1]


CASES = {
    "plain": VmProgram(modulus=4, instructions=6, length=3, target_length=3, tests=2, prompts=5),
    "case": VmProgram(
        modulus=5, instructions=5, length=4, target_length=2, tests=2, prompts=4, case=True
    ),
    "every input is a test": VmProgram(
        modulus=3, instructions=5, length=3, target_length=2, tests=3, prompts=3, case=True
    ),
}


def graded(env: VmProgram, level: Any) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """All programs, and which inputs each is right on."""
    want, visible = level.output.tolist(), level.visible.tolist()
    rows = programs(env.action_space.n, env.length)
    return rows, np.array([outputs(env, row, want, visible) for row in rows]) == want


@pytest.mark.parametrize("name", CASES)
def test_census_against_enumeration(name: str) -> None:
    env = CASES[name]
    V, L = env.action_space.n, env.length
    table = np.random.RandomState(1).randn(env.prompts * L, V).astype(np.float32)
    logp = np.asarray(jax.nn.log_softmax(jnp.asarray(table), axis=-1))
    census = jax.jit(env.census)
    for i in (0, env.prompts - 1):
        level = level_of(env, i)
        rows, right = graded(env, level)
        codes = codes_of(V, L, rows)
        assert len(rows) == sum((V - 1) ** k for k in range(L + 1))
        verdict = np.full(V**L, -1)
        verdict[codes] = right @ (1 << np.arange(env.modulus))
        assert np.array_equal(env.verdicts(level), verdict)
        seen = right[:, np.asarray(level.visible)].all(axis=1)
        mine = logp[i * L : (i + 1) * L]
        chance = np.exp([sum(mine[t, a] for t, a in enumerate(row)) for row in rows])
        assert chance.sum() == pytest.approx(1.0, abs=1e-5)
        for weight, found in (
            (np.ones(len(rows)), census(level)),
            (chance, census(level, jnp.asarray(logp))),
        ):
            assert float(found.programs) == pytest.approx(weight.sum(), rel=1e-5)
            assert float(found.correct) == pytest.approx(weight @ right.all(axis=1), rel=1e-5)
            assert float(found.visible) == pytest.approx(weight @ seen, rel=1e-5)
            np.testing.assert_allclose(found.passes, weight @ right, rtol=1e-5)
            gap = weight @ (seen & ~right.all(axis=1)) / weight.sum()
            assert float(found.hack_gap) == pytest.approx(gap, abs=1e-6)
    if name == "every input is a test":
        assert gap == 0.0


@pytest.mark.parametrize("name", CASES)
def test_rollouts_and_labels_of_all_programs(name: str) -> None:
    """Channels, endings and labels of every program; what is written after its end is junk."""
    env = CASES[name]
    V, L = env.action_space.n, env.length
    params = replace(env.default_params, case_cost=jnp.float32(0.125 if env.case else 0.0))
    level = level_of(env, 1)
    rows, right = graded(env, level)
    tokens, lengths = jnp.asarray(padded(rows, L + 2, fill=V - 1)), np.array([*map(len, rows)])
    solutions = env.solutions(params, level)

    def roll(actions: Any, length: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            after = env.step(params, level, state, action, ())
            return after.state, after

        after = jax.lax.scan(body, env.reset(params, level, ()), actions)[1]
        short = solutions.label((), actions, length - 1), solutions.label((), actions, length + 1)
        return after, solutions.label((), actions, length), *short

    after, code, *wrong = jax.jit(jax.vmap(roll))(tokens, jnp.asarray(lengths, jnp.int32))
    correct = right.all(axis=1)
    at_end = lengths[:, None] - 1 == np.arange(L + 2)
    assert np.array_equal(after.terminated, lengths[:, None] - 1 <= np.arange(L + 2))
    assert not np.any(after.truncated)
    assert np.array_equal(after.reward["true"], at_end & correct[:, None])
    visible = np.asarray(level.visible)
    for j, x in enumerate(visible):
        assert np.array_equal(after.reward[f"test_{j}"], at_end & right[:, [x]])
    running = np.arange(L + 2) < lengths[:, None]
    cost = 0.125 * ((np.asarray(tokens) == env.instructions) & running) * env.case
    proxy = at_end & right[:, visible].all(axis=1, keepdims=True)
    assert np.array_equal(after.reward["proxy"], proxy - cost)
    if env.case:
        assert cost.max() > 0
        assert np.array_equal(after.reward["cost"], cost)
    late = np.arange(L + 2) >= lengths[:, None] - 1
    assert np.array_equal(after.info["correct"], late & correct[:, None])
    assert np.array_equal(after.state.clock, np.where(late, L, np.arange(1, L + 3)))

    assert np.array_equal(code, np.where(correct, codes_of(V, L, rows), -1))
    assert len(np.unique(np.asarray(code)[correct])) == correct.sum() == float(solutions.count) > 0
    assert np.all(np.asarray(wrong) == -1)
    for row, good in zip(rows, correct, strict=True):
        if good and len(row) < L:  # the trajectory may be cut right after END
            found = solutions.label((), jnp.array(row, jnp.int32), jnp.int32(len(row)))
            assert int(found) == codes_of(V, L, [row])[0]
            break


def test_all_inputs_are_visible_means_no_gap_and_cases_suffice() -> None:
    """J = m = L: one CASE per input is a correct program, whatever the function."""
    env = CASES["every input is a test"]
    for i in range(3):
        level = level_of(env, i)
        case = env.instructions
        steps = jnp.full(env.length, case, jnp.int32)
        code = env.solutions(env.default_params, level).label((), steps, jnp.int32(env.length))
        assert int(code) == sum(case * env.action_space.n**k for k in range(env.length))


def test_cases_pass_the_visible_tests_and_not_the_hidden_ones() -> None:
    env = VmProgram(tests=3, length=4, case=True, prompts=8, instructions=8)
    params, failed = replace(env.default_params, case_cost=jnp.float32(0.1)), 0
    for i in range(8):
        level = level_of(env, i)
        state, proxy, bought = env.reset(params, level, ()), 0.0, 0
        for action in (8, 8, 8, 0):
            after = env.step(params, level, state, jnp.int32(action), ())
            bought += int(np.any(np.asarray(after.state.registers) != np.asarray(state.registers)))
            state, proxy = after.state, proxy + float(after.reward["proxy"])
        wrong = np.arange(16) != np.asarray(level.output)
        assert bought == wrong[np.asarray(level.visible)].sum()
        assert proxy == pytest.approx(1.0 - 0.3, abs=1e-5)
        assert np.array_equal(
            np.asarray(state.registers) % 16 == np.asarray(level.output),
            ~wrong | np.isin(np.arange(16), level.visible),
        )
        failed += not bool(after.info["correct"])
    assert failed > 0


def test_default_size_is_enumerated() -> None:
    """8^6 = 262 144 codes, 7^0 + … + 7^6 programs, run in chunks."""
    env = VmProgram()
    level = level_of(env, 3)
    census = jax.jit(env.census)(level)
    assert env.verdicts(level).shape == (262_144,)
    assert float(census.programs) == sum(7**k for k in range(7)) == 137_257
    assert 0 < float(census.correct) <= float(census.visible)
    assert np.all(np.asarray(census.passes) >= float(census.correct))
    seen = np.asarray(census.passes)[np.asarray(level.visible)]
    assert float(census.visible) <= seen.min()
    assert 0.0 <= float(census.hack_gap) < 1.0
    # An independent count of one test: distribution of (A, B) after k instructions from (x, 0).
    x = int(level.visible[0])
    mass, total = {(x, 0): 1}, 0
    for k in range(7):
        total += sum(n for (a, _), n in mass.items() if a == int(level.output[x]))
        step: dict[tuple[int, int], int] = {}
        for (a, b), n in mass.items() if k < 6 else ():
            for run in RUN[1:8]:
                there = tuple(r % 16 for r in run(a, b))
                step[there] = step.get(there, 0) + n
        mass = step
    assert total == seen[0]


@pytest.mark.parametrize("instructions", [8, 16])
@pytest.mark.parametrize("modulus", [5, 16])
def test_targets_are_what_their_programs_return(modulus: int, instructions: int) -> None:
    env = VmProgram(
        modulus=modulus, instructions=instructions, length=4, target_length=3, prompts=1
    )
    known = vm_tables.targets(modulus, instructions, 3)
    found = len(known.output)
    assert len(np.unique(known.output, axis=0)) == found
    for program, output in zip(known.program[:40], known.output, strict=False):
        body = program.tolist()
        end = body.index(0) if 0 in body else 3
        assert not any(body[end:])
        assert outputs(env, body[:end]) == output.tolist() != list(range(modulus))
    assert np.array_equal(np.sort(known.order, axis=1), np.tile(np.arange(modulus), (found, 1)))
    lengths = np.sum(known.program > 0, axis=1)
    assert set(lengths) == {1, 2, 3}
    if instructions == 8:  # so few that all functions of at most 3 instructions are found
        every = {tuple(outputs(env, row)) for row in programs(8, 3)}
        assert {tuple(row) for row in known.output.tolist()} == every - {tuple(range(modulus))}


def test_demo_is_right() -> None:
    env = CASES["case"]
    for i in range(env.prompts):
        level = level_of(env, i)
        body = [a for a in env.demo(level).tolist() if a]
        tokens = jnp.asarray(padded([tuple(body)], env.length)[0])
        length = jnp.int32(min(len(body) + 1, env.length))
        assert int(env.solutions(env.default_params, level).label((), tokens, length)) >= 0


def test_registers_show_the_visible_tests_only() -> None:
    env = CASES["case"]
    params, level = env.default_params, level_of(env, 2)
    state = env.reset(params, level, ())
    for t, token in enumerate((1, 3, 2)):
        obs = np.asarray(env.observe(params, level, state))
        a, b, shown = obs[1:].reshape(3, 5)
        assert obs[0] == t
        assert a.tolist() == outputs(env, (1, 3, 2)[:t])
        assert b.tolist() == (outputs(env, (1,)) if t == 2 else [0] * 5)
        for x in range(5):
            assert shown[x] == (int(level.output[x]) if x in level.visible.tolist() else 5)
        state = env.step(params, level, state, jnp.int32(token), ()).state


def test_positions_are_numbered_and_the_end_shows_the_last() -> None:
    env = VmProgram(length=3, target_length=2, prompts=4, observation="position", modulus=5)
    params, level = env.default_params, level_of(env, 2)
    state, seen = env.reset(params, level, ()), []
    for action in (1, 0, 1):
        seen.append(int(env.observe(params, level, state)))
        state = env.step(params, level, state, jnp.int32(action), ()).state
    assert seen == [6, 7, 8]


def test_no_transition_table() -> None:
    with pytest.raises(je.BadInput, match="a world with `tabular`"):
        je.core.require(VmProgram(prompts=1), "tabular")


@given(
    modulus=st.integers(2, 8),
    instructions=st.integers(4, 7),
    length=st.integers(1, 3),
    tests=st.floats(0, 1),
    case=st.booleans(),
)
@settings(max_examples=6, deadline=None)
def test_any_structure(modulus, instructions, length, tests, case) -> None:  # type: ignore[no-untyped-def]
    static = {"modulus": modulus, "instructions": instructions, "length": length, "case": case}
    static |= {"target_length": length, "tests": 1 + int(tests * (modulus - 1)), "prompts": 1}
    have = len(VmProgram(**static)._targets.output)
    env = VmProgram(**(static | {"test_prompts": have - 1}))
    with pytest.raises(je.BadInput, match="test_prompts"):
        VmProgram(**(static | {"test_prompts": have}))
    levels = jax.vmap(partial(env.make_level, env.default_params))(
        jnp.arange(have, dtype=jnp.int32)
    )
    census = jax.jit(jax.vmap(env.census))(jax.tree.map(lambda x: x[:3], levels))
    assert np.all(np.asarray(census.correct) >= 1)
    assert np.all(np.asarray(census.hack_gap) >= 0)
    level = jax.tree.map(lambda x: x[min(have, 3) - 1], levels)
    _, right = graded(env, level)
    assert float(census.correct[-1]) == right.all(axis=1).sum()
    assert float(census.visible[-1]) == right[:, np.asarray(level.visible)].all(axis=1).sum()


BAD = [
    ({"modulus": 17}, "modulus"),
    ({"modulus": 1}, "modulus"),
    ({"instructions": 3}, "instructions"),
    ({"instructions": 17}, "instructions"),
    ({"length": 9}, "length"),
    ({"length": 8, "case": True}, "length"),
    ({"length": 0}, "length"),
    ({"target_length": 7}, "target_length"),
    ({"tests": 17}, "tests"),
    ({"tests": 0}, "tests"),
    ({"prompts": 1000}, "prompts"),
    ({"prompts": 0}, "prompts"),
    ({"test_prompts": 1000}, "test_prompts"),
]


@pytest.mark.parametrize(("static", "key"), BAD, ids=str)
def test_bad_structure_is_refused_by_name(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("reasoning/vm_program", **static)
    assert caught.value.key == key


@pytest.mark.parametrize(("case", "cost"), [(False, 0.1), (True, -0.1), (True, float("inf"))])
def test_bad_costs_are_refused(case: bool, cost: float) -> None:
    env = VmProgram(case=case)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput, match="case_cost"):
        env.check_params(replace(env.default_params, case_cost=jnp.float32(cost)))


def test_render() -> None:
    env = CASES["case"]
    params, level = env.default_params, level_of(env, 2)
    state = env.step(params, level, env.reset(params, level, ()), jnp.int32(1), ()).state
    words = []
    for x in level.visible.tolist():
        a, want = (x + 1) % 5, int(level.output[x])
        words.append(f"{x}→{a}" if a == want else f"{x}→{a} (want {want})")
    expected = f"prompt 2  step 1/4  tests {', '.join(words)}  tokens END A+=1 A+=B B=A A*=B CASE"
    assert env.render(params, level, state) == expected
