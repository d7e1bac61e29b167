"""Plans: counted by hand where that can be done, and compared with the compiler's own account."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from experiment_cases import experiment
from experiment_cases import light as light

import jaxrl_lab as lab
from jaxrl_lab.experiments import plan as planning
from jaxrl_lab.experiments.plan import in_bytes, in_seconds, operations, peak_bytes, plan
from jaxrl_lab.experiments.population import (
    chunk_length,
    compile_program,
    group_arms,
    run_program,
)
from jaxrl_lab.experiments.run import no_measure

ARMS = {
    "low": {"recipe.surrogate.high": 0.2},
    "high": {"recipe.surrogate.high": 0.4},
    "rloo": {"recipe": "rloo"},
}


def test_a_plan_has_the_programs_and_members_of_the_run() -> None:
    one = experiment(ARMS, updates=40, measure_every=2, seeds=6)
    before = lab.traces()
    found = plan({"x": one, "y": experiment()}).programs
    assert lab.traces() == before, "nothing is compiled"
    programs = group_arms(one.build())
    assert [p.arms for p in found] == [*[p.names for p in programs], ("arm",)]
    assert [p.experiment for p in found] == ["x", "x", "y"]
    assert [p.members for p in found] == [12, 6, 2]
    assert {p.chunk for p in found[:2]} == {chunk_length(40, 2)}


def test_the_state_of_a_member_is_what_a_checkpoint_holds_of_it() -> None:
    one = experiment(ARMS, **{"recipe.optimizer": [{"adam": {"learning_rate": 0.1}}]})
    for planned, program in zip(plan({"x": one}).programs, group_arms(one.build()), strict=True):
        seeds = range(one.seeds)
        compiled = compile_program(program, seeds, 2, 1, no_measure)
        states, _ = run_program(compiled, seeds)
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(states))
        assert planned.state * planned.members == held
        analysis = compiled.chunk.memory_analysis()
        needed = analysis.temp_size_in_bytes + held
        assert needed / 4 < planned.memory < needed * 4


X = jnp.ones((10, 20))


@pytest.mark.parametrize(
    ("function", "count", "peak"),
    [
        (lambda x: x + 1, 200, 800),
        (lambda x: (x + 1) * (x + 2), 600, 2400),
        (lambda x: ((x + 1) * 2).sum(), 401, 1600),
        (lambda x: x @ x.T, 200 + 10 * 10 * 20, 800 + 400),
        (lambda x: jax.lax.scan(lambda c, r: (c + r, None), x[0], x)[0], None, None),
    ],
    ids=["one", "two", "sum", "product", "loop"],
)
def test_operations_and_bytes_counted_by_hand(function, count, peak) -> None:  # type: ignore[no-untyped-def]
    jaxpr = jax.make_jaxpr(function)(X).jaxpr
    if count is None:  # a row for each of ten steps, beside the first row and its index
        assert 10 * 20 <= operations(jaxpr) < 13 * 20
        return
    assert operations(jaxpr) == count
    assert peak_bytes(jaxpr) == peak


def test_of_a_choice_the_longest_branch_counts() -> None:
    def choose(x: jax.Array) -> jax.Array:
        return jax.lax.cond(x[0, 0] > 0, lambda y: y + 1, lambda y: jnp.sin(y * 2) - 1, x)

    branches = operations(jax.make_jaxpr(choose)(X).jaxpr)
    assert 600 <= branches < 600 + 10, "three operations on 200 numbers, and the comparison"


def test_time_is_proportional_to_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "operations_per_second", lambda: 1e9)
    short = plan({"x": experiment(actions=8, updates=4, seeds=2)})
    long = plan({"x": experiment(actions=8, updates=8, seeds=6)})
    assert long.seconds == pytest.approx(6 * short.seconds)
    work = short.programs[0].operations * 4 * 2
    assert short.seconds == pytest.approx(planning.OVERHEAD * work / 1e9)
    assert planning.Plan((), 1e9).memory == 0


def test_a_block_is_what_is_trained_at_once() -> None:
    one = experiment(actions=8, updates=4, seeds=6)
    whole = plan({"x": one}).programs[0]
    with lab.resources(block=2):
        part = plan({"x": one}).programs[0]
    assert (whole.block, part.block) == (6, 2)
    assert whole.memory == 3 * part.memory


@pytest.mark.parametrize(
    ("seeds_that_fit", "advice"),
    [(6, ""), (5, "--block 3 does"), (1, "--block 1 does"), (0, "not even")],
)
def test_a_plan_that_does_not_fit_says_which_block_would(seeds_that_fit: int, advice: str) -> None:
    found = plan({"x": experiment(actions=8, updates=4, seeds=6)})
    room = seeds_that_fit * found.programs[0].update + 1
    assert advice in planning.Plan(found.programs, 1e9, room).advice
    assert bool(advice) == bool(planning.Plan(found.programs, 1e9, room).advice)
    assert planning.Plan(found.programs, 1e9, None).advice == ""


def test_sizes_and_times_in_words() -> None:
    assert [in_bytes(x) for x in (0, 999, 8200, 123456, 5e9, 7e12)] == [
        "0 B", "999 B", "8.2 kB", "123 kB", "5.0 GB", "7.0 TB",
    ]  # fmt: skip
    assert [in_seconds(x) for x in (0.123, 45, 600, 36000)] == ["0.12 s", "45 s", "10 min", "10 h"]


def test_a_plan_warns_of_environments_that_grow_alone() -> None:
    small = lab.recipe("ppo", prompts=8, minibatches=2, steps=4)
    grown = {
        "small": small,
        "followed": lab.co_scale(small, 32),
        "alone": lab.recipe(small, prompts=32),
        "episodes": lab.recipe("grpo", group=64),
    }
    arms = {
        name: lab.make_arm("gridworld/two_goals", "tabular", recipe)
        for name, recipe in grown.items()
    }
    (said,) = planning.scaling_warnings(arms)
    assert said.startswith(
        "alone (32 environments) beside small (8): minibatches of 64 transitions"
    )
    assert planning.scaling_warnings({"episodes": arms["episodes"]}) == []
    long = planning.Plan((), 1.0, warnings=tuple("abcdefg"))
    assert str(long).splitlines()[-2:] == ["Scaling: e", "Scaling: … 2 more"]
    assert long.as_dict()["warnings"] == list("abcdefg")
