"""Populations: one program for many members, and every member as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiment_cases import GROUP, PROMPTS, BreakAt, arm, experiment, member
from experiment_cases import light as light
from hypothesis import given
from hypothesis import strategies as st

import jaxrl_lab as lab
from jaxrl_lab.experiments.noise import Noise, seed_keys
from jaxrl_lab.experiments.population import (
    chunk_length,
    compile_program,
    group_arms,
    run_program,
)
from jaxrl_lab.experiments.run import no_measure, run_arms
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.mechanisms.core import canonical

NEVER = 1e9

LEAVES = {
    "recipe.surrogate.high": [0.1, 0.2, 0.4],
    "recipe.optimizer.learning_rate": [1.0, "1e-1"],
    "recipe.advantage.eps": [1e-6, 1e-3],
    "environment.params.decoy_reward": [0.1, 0.9],
    "recipe.regularizer": [[{"entropy_bonus": {"coefficient": c}}] for c in (0.0, 0.1, 1)],
}


def traced(make: Any) -> int:
    """How many update programs ``make`` adds."""
    before = lab.traces()
    make()
    return lab.traces() - before


@pytest.mark.parametrize("path", LEAVES)
def test_a_grid_over_numbers_is_one_program(path: str) -> None:
    assert traced(lambda: lab.sweep(experiment(), {path: LEAVES[path]})) == 1


@pytest.mark.parametrize("size", [1, 8])
def test_the_size_of_a_grid_does_not_matter(size: int) -> None:
    values = [0.1 * (i + 1) for i in range(size)]
    assert traced(lambda: lab.sweep(experiment(), {"recipe.surrogate.high": values})) == 1


def test_two_axes_and_several_chunks_are_one_program_and_a_second_run_is_none() -> None:
    axes = {"recipe.surrogate.high": [0.2, 0.4], "recipe.optimizer.learning_rate": [0.5, 1.0]}
    what = experiment(updates=6)
    runs: list[lab.Result] = []
    assert traced(lambda: runs.append(lab.sweep(what, axes))) == 1
    assert len(runs[0].arms) == 4
    assert traced(lambda: lab.sweep(what, axes)) == 0
    other = {path: [2 * x for x in values] for path, values in axes.items()}
    assert traced(lambda: lab.sweep(what, other)) == 0
    assert traced(lambda: lab.sweep(what, axes, seeds=[7, 3])) == 0


def test_schedules_share_a_program_and_every_structure_has_its_own() -> None:
    falling = [{"linear": {"start": s, "end": 0.0}} for s in (1.0, 2.0)]
    rates: list[Any] = [0.5, 1.0, *falling]
    assert traced(lambda: lab.sweep(experiment(), {"recipe.optimizer.learning_rate": rates})) == 2
    names = {n: {"recipe": n} for n in ("grpo", "rloo", "clip_higher")}
    assert traced(lambda: lab.sweep(experiment(names), {"recipe.group": [3]})) == 2
    arms = experiment(names).build()
    assert [p.names for p in group_arms(arms)] == [("grpo", "clip_higher"), ("rloo",)]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_population_is_its_members_trained_alone(optimizer: str) -> None:
    rates = [0.3, 1.0]
    # Gradients of actions nobody drew are rounding, which Adam would blow up without this eps.
    more = {"eps": 1e-2} if optimizer == "adam" else {}
    slots = [[{optimizer: {"learning_rate": rate} | more}] for rate in rates]
    steps = 4 if optimizer == "sgd" else 1
    result = lab.sweep(
        experiment(), {"recipe.optimizer": slots}, updates=steps, seeds=[3, 11], every=steps
    )
    for name, own in result.arms.items():
        learner = PolicyGradient(own.env, own.policy)
        recipe = canonical(own.recipe)
        world = jax.jit(learner.world)(own.env_params)
        update = jax.jit(learner.update)
        for i, seed in enumerate(result.seeds):
            key = jax.random.key(seed)
            state = jax.jit(learner.init)(recipe, world, key)
            for t in range(steps):
                now = jax.random.fold_in(key, t)
                state, _ = update(recipe, world, state, now, jnp.int32(t), jnp.int32(steps))
            together = member(result.params[name], i)["logits"]
            np.testing.assert_allclose(together, state.params["logits"], rtol=1e-6, atol=1e-6)


def test_the_same_seeds_give_the_same_bits_and_others_do_not() -> None:
    what = experiment()
    axes = {"recipe.optimizer.learning_rate": [1.0, 2.0]}
    first, again = (lab.sweep(what, axes, updates=4, every=2) for _ in range(2))
    assert first.dataset.identical(again.dataset)
    other = lab.sweep(what, axes, updates=4, every=2, seeds=[5, 1])
    assert not np.array_equal(first.dataset["return"][:, 0], other.dataset["return"][:, 0])
    np.testing.assert_array_equal(first.dataset["return"][:, 1], other.dataset["return"][:, 1])


def test_arms_with_the_same_seed_share_their_start_and_their_luck() -> None:
    names = {n: {"recipe": n} for n in ("grpo", "rloo")}
    result = lab.sweep(experiment(names), {"recipe.optimizer.learning_rate": [0.5, 2.0]})
    arms = list(result.arms)
    one, same, other = (
        lab.debug(result, arm=arms[i], seed=seed, update=0)[0]["input"]
        for i, seed in ((0, 1), (3, 1), (0, 0))
    )
    np.testing.assert_array_equal(one.action, same.action)
    np.testing.assert_array_equal(one.logp_old, same.logp_old)
    assert not np.array_equal(one.action, other.action)
    returns = result.dataset["return"].values[:, :, 1]
    assert np.ptp(returns, axis=0).max() == 0
    assert np.ptp(result.dataset["return"].values[:, :, 2]) > 0


def test_keys_of_a_population_are_the_keys_of_its_seeds() -> None:
    seeds = [0, 5, 2**31, 2**32 - 1]
    for key, seed in zip(seed_keys(seeds), seeds, strict=True):
        assert jnp.array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(seed)))


@pytest.fixture(scope="module")
def diverged() -> tuple[lab.Result, lab.Result]:
    """A population of three of whom two break, and the same with nobody breaking."""
    own = arm(**{"recipe.regularizer": [BreakAt(at=NEVER)]})
    sweep = "recipe.regularizer.at"
    broken = lab.sweep(own, {sweep: [0.0, 3.0, NEVER]}, updates=6, seeds=[4, 9], every=2)
    whole = lab.sweep(own, {sweep: [NEVER, 2 * NEVER, 3 * NEVER]}, updates=6, seeds=[4, 9], every=2)
    return broken, whole


def test_a_member_that_diverges_is_frozen_and_reported(
    diverged: tuple[lab.Result, lab.Result],
) -> None:
    broken, whole = diverged
    first, second, healthy = broken.arms
    assert broken.frozen() == [
        f"{name}, seed {seed}: not finite at update {at}"
        for name, at in ((first, 0), (second, 3))
        for seed in (4, 9)
    ]
    assert whole.frozen() == []
    tokens = broken.curve("tokens", second)
    assert np.isnan(tokens[:, 2:]).all()
    assert np.isfinite(tokens[:, :2]).all()
    assert np.isnan(broken.curve("return", first)[:, 1:]).all()
    for tree in broken.params.values():
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))
    assert np.isfinite(broken.curve("return", healthy)[:, 1:]).all()


def test_a_member_that_diverges_changes_nobody_else(
    diverged: tuple[lab.Result, lab.Result],
) -> None:
    broken, whole = diverged
    names = list(whole.arms)
    for name in ("return", "objective", "gradient_norm", "tokens", "clipped"):
        healthy = broken.dataset[name].values[2]
        np.testing.assert_array_equal(healthy, whole.dataset[name].values[2])
        np.testing.assert_array_equal(broken.dataset[name].values[1, :, :2], healthy[:, :2])
    for a, b in zip(broken.params.values(), whole.params.values(), strict=True):
        assert jax.tree.structure(a) == jax.tree.structure(b)
    last = list(broken.params)[2]
    np.testing.assert_array_equal(
        broken.params[last]["logits"], whole.params[names[2]]["logits"], strict=True
    )


@pytest.mark.parametrize("rate", [1e38, float("inf")])
def test_a_step_without_bounds_is_caught(rate: float) -> None:
    result = lab.sweep(
        experiment(), {"recipe.optimizer.learning_rate": [1.0, rate]}, updates=8, every=4
    )
    calm, wild = result.arms
    assert all(line.startswith(f"{wild}, seed ") for line in result.frozen())
    assert np.isfinite(result.curve("return", calm)[:, 1:]).all()
    if rate == float("inf"):
        assert result.dataset["stopped"].values.tolist() == [[-1, -1], [0, 0]]
    for tree in result.params.values():
        assert np.isfinite(tree["logits"]).all()


def test_tokens_add_up_and_count_what_was_thrown_away() -> None:
    dapo = [{"dynamic_sampling": {"rounds": 3}}]
    arms = {"plain": {}, "easy": {"environment.modes": 6}, "refill": {"recipe.task": dapo}}
    arms["hopeless"] = arms["easy"] | arms["refill"]
    result = run_arms(experiment(arms, actions=6).build(), updates=4, seeds=[0, 1], every=2)
    batch = PROMPTS * GROUP
    every = np.array([0, 2, 4]) * batch
    for name in ("plain", "easy"):
        np.testing.assert_array_equal(result.curve("tokens", name), [every, every])
    # Where every answer is right no group is ever informative, and each of three rounds is counted.
    np.testing.assert_array_equal(result.curve("tokens", "hopeless"), [3 * every, 3 * every])
    refilled = result.curve("tokens", "refill")
    assert (refilled >= every).all()
    assert (refilled <= 3 * every).all()
    assert (refilled % batch == 0).all()
    assert refilled[:, -1].sum() > 2 * every[-1]


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 30))
def test_chunks_have_one_length_that_fits(every: int, points: int, pieces: int) -> None:
    updates = every * points
    chunk = chunk_length(updates, every, pieces)
    assert updates % chunk == 0
    assert chunk % every == 0
    assert every <= chunk <= max(every, updates // pieces)
    longer = [c for c in range(chunk + every, updates + 1, every) if updates % c == 0]
    assert all(updates // c < pieces for c in longer)


def test_a_chunk_length_is_found_quickly_however_long_the_run() -> None:
    assert chunk_length(2**31 - 2, 1) > 10**6


def test_arms_share_their_noise_unless_told_otherwise() -> None:
    twins: dict[str, Any] = {"one": {}, "two": {}}
    shared, own = (
        run_arms_with(experiment(twins, actions=7), common_noise) for common_noise in (True, False)
    )
    np.testing.assert_array_equal(shared["one"], shared["two"])
    assert np.all(own["one"] != own["two"])
    # An arm has the same noise of its own whatever runs beside it.
    alone = run_arms_with(experiment({"two": {}}, actions=7), False)
    np.testing.assert_allclose(alone["two"], own["two"], rtol=1e-5)


def test_the_generator_is_chosen() -> None:
    one: dict[str, Any] = {"one": {}}
    fast, other = (
        run_arms_with(experiment(one, actions=7), True, generator)["one"]
        for generator in ("counter", "threefry")
    )
    assert np.all(fast != other)
    again = run_arms_with(experiment(one, actions=7), True, "counter", seeds=range(1, 4))["one"]
    np.testing.assert_allclose(again[:2], fast[1:], rtol=1e-5)  # of a seed, whoever runs beside it


def run_arms_with(
    what: Any, common_noise: bool, generator: str = "threefry", seeds: Sequence[int] = range(3)
) -> dict[str, np.ndarray]:
    """Final parameters ``[S, ...]`` by arm, of whatever shares a program."""
    (program,) = group_arms(what.build(), Noise(common_noise, generator))
    compiled = compile_program(program, seeds, 2, 1, no_measure)
    states, _ = run_program(compiled, seeds)
    logits = np.asarray(states.params["logits"])
    return dict(zip(program.names, logits, strict=True))
