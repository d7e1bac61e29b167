"""Running experiments: from arms to a result, with progress between chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs
from jaxrl_envs import BadInput, Environment
from jaxrl_envs.errors import expect

from jaxrl_lab import policies, recipes
from jaxrl_lab.cache import CACHE_VARIABLE as CACHE_VARIABLE
from jaxrl_lab.cache import cache_folder as cache_folder
from jaxrl_lab.cache import use_compilation_cache
from jaxrl_lab.experiments import spec
from jaxrl_lab.experiments.live import Logger
from jaxrl_lab.experiments.members import Measure
from jaxrl_lab.experiments.noise import Noise
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.progress import Progress
from jaxrl_lab.experiments.result import Description, Result
from jaxrl_lab.experiments.retrain import moment
from jaxrl_lab.experiments.running import Running
from jaxrl_lab.learners.slots import Tape
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.recipes import Recipe
from jaxrl_lab.types import Tree


def no_measure(
    env: Environment, policy: Policy, world: Any, first: Tree, before: Any, after: Any
) -> dict[str, Any]:
    """Only the scalars every update reports."""
    return {}


def start_arms(
    arms: Mapping[str, Arm],
    *,
    updates: int,
    seeds: Sequence[int],
    measure: Measure = no_measure,
    every: int = 1,
    describe: Mapping[str, Description] | None = None,
    common_noise: bool = True,
    generator: str = "threefry",
) -> Running:
    """Check a run and start it, one compiled program per structure among the arms.

    Args:
        describe: unit and description of the measures, for the dataset; a measure that is an
            array has the names of its dimensions as a third entry.
        common_noise: whether arms of one seed share all their noise, for paired differences.
        generator: of random numbers, ``threefry`` or, faster on a CPU, ``counter``.

    Raises:
        BadInput: an arm that cannot run, or sizes that do not fit.
    """
    use_compilation_cache()
    seeds = tuple(int(s) for s in seeds)
    if not seeds:
        raise BadInput("seeds", 0, "at least 1 seed")
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise BadInput("seeds", seed, "numbers from 0 to 2^32 - 1")
    expect(updates >= 1, "updates", updates, "at least 1 update")
    expect(every >= 1 and updates % every == 0, "measure_every", every, f"a divisor of {updates}")
    noise = Noise(common_noise, generator)
    noise.check()
    return Running(dict(arms), updates, seeds, measure, every, dict(describe or {}), noise)


def run_arms(
    arms: Mapping[str, Arm],
    *,
    updates: int,
    seeds: Sequence[int],
    measure: Measure = no_measure,
    every: int = 1,
    describe: Mapping[str, Description] | None = None,
    common_noise: bool = True,
    generator: str = "threefry",
    progress: Progress | None = None,
    log: Sequence[Logger] = (),
) -> Result:
    """Train every arm on every seed: :func:`start_arms`, then wait.

    Args:
        log: loggers that are told of every chunk, for example ``[lab.JsonLines("log.jsonl")]``.
    """
    running = start_arms(
        arms,
        updates=updates,
        seeds=seeds,
        measure=measure,
        every=every,
        describe=describe,
        common_noise=common_noise,
        generator=generator,
    )
    return running.result(progress, loggers=log)


def train(
    env: str | Environment,
    policy: str | Policy,
    recipe: str | Recipe,
    *,
    updates: int,
    seeds: int | Sequence[int] = 1,
    measure: Measure = no_measure,
    every: int = 1,
    describe: Mapping[str, Description] | None = None,
    log: Sequence[Logger] = (),
) -> Result:
    """Train one recipe: ``lab.train("bandit/modes", "tabular", "grpo", updates=100, seeds=8)``."""
    arm = make_arm(env, policy, recipe)
    many = range(seeds) if isinstance(seeds, int) else seeds
    name = arm.recipe.name
    return run_arms(
        {name: arm},
        updates=updates,
        seeds=many,
        measure=measure,
        every=every,
        describe=describe,
        log=log,
    )


def make_arm(env: str | Environment, policy: str | Policy, recipe: str | Recipe) -> Arm:
    """An arm from names or objects, with the world's default params."""
    world = jaxrl_envs.make(env) if isinstance(env, str) else env
    acting = policies.make(policy, world) if isinstance(policy, str) else policy
    return Arm(world, world.default_params, acting, recipes.recipe(recipe))


def sweep(
    what: spec.Experiment | Arm,
    axes: Mapping[str, Sequence[Any]],
    *,
    updates: int | None = None,
    seeds: int | Sequence[int] | None = None,
    measure: Measure = no_measure,
    every: int | None = None,
    describe: Mapping[str, Description] | None = None,
    common_noise: bool | None = None,
    generator: str | None = None,
    progress: Progress | None = None,
    log: Sequence[Logger] = (),
) -> Result:
    """Every combination of the given values as an arm, in as few programs as possible.

    ``what`` is an experiment (any dotted path can be swept) or one arm, whose recipe entries
    can be swept, mechanisms of your own included:
    ``lab.sweep(arm, {"recipe.regularizer.strength": [0.0, 0.1]}, updates=100, seeds=16)``.
    """
    if isinstance(what, spec.Experiment):
        experiment = spec.grid(what, axes)
        arms, sizes = experiment.build(), experiment.sizes
    else:
        point = spec.grid(spec.Experiment({}, {"arm": {}}), axes)
        arms = {n: _with_settings(what, own) for n, own in point.arms.items()}
        sizes = {"updates": 100, "seeds": range(1), "every": 1}
    given: dict[str, Any] = {"updates": updates, "seeds": seeds, "every": every}
    given |= {"common_noise": common_noise, "generator": generator}
    sizes |= {k: v for k, v in given.items() if v is not None}
    if isinstance(sizes["seeds"], int):
        sizes["seeds"] = range(sizes["seeds"])
    return run_arms(arms, **sizes, measure=measure, describe=describe, progress=progress, log=log)


def _with_settings(arm: Arm, settings: Mapping[str, Any]) -> Arm:
    built = arm.recipe
    for path, value in settings.items():
        root, _, rest = path.partition(".")
        if root != "recipe" or not rest:
            raise BadInput(path, value, "an entry of the recipe, such as recipe.surrogate.high")
        built = recipes.with_value(built, rest, value)
    return replace(arm, recipe=built)


def debug(result: Result, *, arm: str, seed: int, update: int) -> Tape:
    """One update replayed without jit: every mechanism called, with its input and output.

    The member is trained again up to ``update`` (same key, same bits), then that update runs
    eagerly. Each entry has ``slot``, ``mechanism``, ``input``, ``output``; entries of the loss
    come once per inner step.

    Raises:
        BadInput: unknown arm or seed, an update outside the run, or a result read from disk.
    """
    chosen = result.member(arm, seed)
    expect(0 <= update < result.updates, "update", update, f"0 to {result.updates - 1}")
    key = result.key(arm, seed)
    at = moment(chosen, key, update, result.updates)
    tape: Tape = []
    with jax.disable_jit():
        t, total = jnp.int32(update), jnp.int32(result.updates)
        at.learner.update(at.recipe, at.world, at.state, at.key, t, total, tape)
    return tape


def blame(result: Result, *, arm: str, seed: int) -> str:
    """Where a frozen member first had a number that is not finite: one line.

    The update in which it stopped is replayed, and its tape read from the beginning.

    Raises:
        BadInput: unknown arm or seed, a member that never stopped, or a result read from disk
            without the arms to train it again.
    """
    result.member(arm, seed)
    at = int(result.dataset["stopped"].sel(arm=arm, seed=seed))
    expect(at >= 0, "seed", seed, f"a seed of {arm} that became non-finite")
    tape = debug(result, arm=arm, seed=seed, update=at)
    for i, entry in enumerate(tape):
        who = f"{entry['slot']}: {entry['mechanism']}"
        if not _is_finite(entry["output"]):
            where = "returned" if _is_finite(entry["input"]) else "was given"
            return f"{arm}, seed {seed}, update {at}: {who} {where} what is not finite (call {i})"
    return (
        f"{arm}, seed {seed}, update {at}: every mechanism's output is finite, the parameters not"
    )


def _is_finite(tree: Any) -> bool:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return all(bool(jnp.all(jnp.isfinite(x))) for x in floats)
