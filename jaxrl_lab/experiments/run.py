"""Running experiments: from arms to a result, with progress between chunks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any, cast

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
from jaxrl_envs import BadInput, Environment
from jaxrl_envs.errors import expect

from jaxrl_lab import policies, recipes
from jaxrl_lab.cache import CACHE_VARIABLE as CACHE_VARIABLE
from jaxrl_lab.cache import cache_folder as cache_folder
from jaxrl_lab.cache import forget_programs, use_compilation_cache
from jaxrl_lab.experiments import spec
from jaxrl_lab.experiments.checkpoint import ProgramCheckpoints
from jaxrl_lab.experiments.live import Listening, Logger
from jaxrl_lab.experiments.population import (
    Arm,
    Compiled,
    Measure,
    compile_program,
    group_arms,
    run_program,
)
from jaxrl_lab.experiments.progress import Progress
from jaxrl_lab.experiments.result import Description, Result, assemble, further_dimensions
from jaxrl_lab.experiments.retrain import moment
from jaxrl_lab.learners.policy_gradient import Tape
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.recipes import Recipe
from jaxrl_lab.types import LearnerState, Tree


def no_measure(
    env: Environment, policy: Policy, world: Any, first: Tree, before: Any, after: Any
) -> dict[str, Any]:
    """Only the scalars every update reports."""
    return {}


AHEAD = 8
"""Programs that may wait compiled: as many as a study has, and not as many as a box."""


class Running:
    """A checked run: one thread compiles programs ahead, the caller executes them in order.

    XLA compiles outside the interpreter lock, so that half of a short run is hidden. Programs are
    not executed side by side: on the CPU backend two at once were seen to wait forever.
    """

    def __init__(
        self,
        arms: dict[str, Arm],
        updates: int,
        seeds: tuple[int, ...],
        measure: Measure,
        every: int,
        describe: dict[str, Description],
        common_noise: bool,
    ) -> None:
        self.arms, self.updates, self.seeds = arms, updates, seeds
        self.measure, self.every, self.describe = measure, every, describe
        self.common_noise = common_noise
        self._waiting = iter(group_arms(arms, common_noise))
        self._jobs: deque[Future[Compiled]] = deque()
        self._compile_ahead(AHEAD)

    def _compile_ahead(self, programs: int) -> None:
        for program in islice(self._waiting, programs):
            arguments = (program, self.seeds, self.updates, self.every, self.measure)
            self._jobs.append(_compiler().submit(compile_program, *arguments))

    def result(
        self,
        progress: Progress | None = None,
        checkpoints: Callable[[int], Any] | None = None,
        loggers: Sequence[Logger] = (),
    ) -> Result:
        """Train every arm on every seed, program after program.

        Args:
            checkpoints: number of a program -> its checkpoints, to keep and to go on from.
            loggers: told of every chunk.
        """
        progress = progress or Progress(quiet=True)
        progress.start(self.updates * len(self.arms) * len(self.seeds))
        try:
            trained: list[Trained] = []
            while self._jobs:
                saved = checkpoints(len(trained)) if checkpoints else None
                compiled = self._jobs.popleft().result()
                for name, shape in measured_shapes(compiled).items():  # before any training
                    further_dimensions(name, self.describe.get(name, ()), len(shape) - 3)
                listeners = [*loggers, *([] if progress.quiet else [progress])]
                if listeners:
                    # It stands in for the checkpoints, which are told of every chunk.
                    heard = Listening(compiled.program.names, self.every, listeners, saved)
                    saved = cast(ProgramCheckpoints, heard)
                trained.append(self._train(compiled, progress, saved))
                forget_programs()
                self._compile_ahead(1)
            return self._assemble(trained)
        except BaseException:
            self.stop()
            raise
        finally:
            progress.finish()

    def stop(self) -> None:
        """Give the run up: programs that wait are never compiled."""
        for job in self._jobs:
            job.cancel()

    def _train(
        self, compiled: Compiled, progress: Progress, checkpoints: ProgramCheckpoints | None
    ) -> Trained:
        members = compiled.program.size * len(self.seeds)
        begin = time.perf_counter()
        state, curves = run_program(
            compiled,
            self.seeds,
            lambda updates: progress.advance(updates * members),
            checkpoints,
        )
        seconds = {
            "trace": compiled.trace_seconds,
            "compile": compiled.compile_seconds,
            "run": time.perf_counter() - begin,
        }
        return Trained(compiled.program.names, state, curves, seconds)

    def _assemble(self, trained: Sequence[Trained]) -> Result:
        curves: dict[str, dict[str, np.ndarray]] = {}
        stopped: dict[str, np.ndarray] = {}
        params: dict[str, Tree] = {}
        for one in trained:
            for i, name in enumerate(one.names):
                curves[name] = {k: v[i] for k, v in one.curves.items()}
                stopped[name] = np.asarray(one.state.stopped[i])
                params[name] = jax.tree.map(lambda x, i=i: x[i], one.state.params)
        ordered = {name: curves[name] for name in self.arms}
        dataset = assemble(ordered, stopped, self.seeds, self.every, self.describe)
        seconds = {", ".join(one.names): one.seconds for one in trained}
        return Result(
            dataset,
            self.arms,
            self.updates,
            self.seeds,
            self.measure,
            params,
            seconds,
            self.common_noise,
        )


@dataclass(frozen=True)
class Trained:
    """One program after its run, without its executables."""

    names: tuple[str, ...]
    state: LearnerState
    curves: dict[str, np.ndarray]
    seconds: dict[str, float]


def measured_shapes(compiled: Compiled) -> dict[str, tuple[int, ...]]:
    """Shape ``[1, arms, seeds, …]`` of every measure of a program."""
    found: Mapping[str, Any] = cast(Any, compiled.measure).out_info
    return {name: x.shape for name, x in found.items()}


@cache
def _compiler() -> ThreadPoolExecutor:
    """The one thread that compiles ahead."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="jaxrl-lab-compile")


def run_ahead(work: Callable[[], None]) -> None:
    """Do something besides the training, after the compilations that already wait."""
    _compiler().submit(work)


def start_arms(
    arms: Mapping[str, Arm],
    *,
    updates: int,
    seeds: Sequence[int],
    measure: Measure = no_measure,
    every: int = 1,
    describe: Mapping[str, Description] | None = None,
    common_noise: bool = True,
) -> Running:
    """Check a run and start it, one compiled program per structure among the arms.

    Args:
        describe: unit and description of the measures, for the dataset; a measure that is an
            array has the names of its dimensions as a third entry.
        common_noise: whether arms of one seed share all their noise, for paired differences.

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
    return Running(dict(arms), updates, seeds, measure, every, dict(describe or {}), common_noise)


def run_arms(
    arms: Mapping[str, Arm],
    *,
    updates: int,
    seeds: Sequence[int],
    measure: Measure = no_measure,
    every: int = 1,
    describe: Mapping[str, Description] | None = None,
    common_noise: bool = True,
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
    common_noise: bool = True,
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
    given = {"updates": updates, "seeds": seeds, "every": every}
    sizes |= {k: v for k, v in given.items() if v is not None}
    if isinstance(sizes["seeds"], int):
        sizes["seeds"] = range(sizes["seeds"])
    return run_arms(
        arms,
        **sizes,
        measure=measure,
        describe=describe,
        common_noise=common_noise,
        progress=progress,
        log=log,
    )


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
