"""Populations: arms that share a program are stacked and trained together with their seeds.

Two arms share a program when nothing but their numbers differs: same world structure, same
policy, same mechanisms. Their numbers are stacked along a leading axis for what is compiled in
:mod:`~jaxrl_lab.experiments.members`. Python runs between chunks only, where progress is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxrl_envs import BadInput, Environment
from jaxtyping import Array

from jaxrl_lab.compiling import CHEAPLY
from jaxrl_lab.experiments import devices, members
from jaxrl_lab.experiments.checkpoint import ProgramCheckpoints
from jaxrl_lab.experiments.members import SUMMED, Measure
from jaxrl_lab.experiments.noise import SHARED, Noise
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.mechanisms.core import canonical
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.recipes import Recipe
from jaxrl_lab.types import LearnerState, Tree


@dataclass(frozen=True)
class Arm:
    """One fully built variant of an experiment.

    Attributes:
        env, env_params, policy, recipe: what is trained where and how.
        base: pretrained parameters to start every seed from, or None for fresh ones.
    """

    env: Environment
    env_params: Tree
    policy: Policy
    recipe: Recipe
    base: Tree | None = None

    @property
    def prompts(self) -> int:
        """How many prompts a batch has, or environments side by side."""
        return self.recipe.spec(self.env, self.policy).prompts

    def check(self) -> None:
        """Refuse what cannot run, before anything is compiled."""
        if hasattr(self.env, "check_params"):
            try:
                self.env.check_params(self.env_params)
            except BadInput as error:
                raise error.within("environment.params") from None
        self.recipe.check(self.env, self.policy)


@dataclass(frozen=True)
class Program:
    """Arms that share one compiled update: their names, and their numbers stacked."""

    learner: PolicyGradient
    names: tuple[str, ...]
    numbers: tuple[Recipe, Tree, Tree]
    noise: Noise = SHARED
    mesh: Mesh | None = None

    @property
    def size(self) -> int:
        return len(self.names)

    def keys(self, seeds: Sequence[int]) -> Array:
        """One key per seed, ``[S]``; with noise of its own, one per arm and seed, ``[A, S]``."""
        return self.noise.keys(seeds, self.names)

    def shapes(self, seeds: Sequence[int]) -> tuple[Any, Any]:
        """Shapes of numbers and keys, and where they will be; nothing is computed for it."""
        keys = jax.eval_shape(partial(self.keys, seeds))
        if self.mesh is None:
            return devices.shapes(self.numbers), keys
        split = devices.of_keys(self.mesh, keys)
        everywhere = devices.everywhere(self.mesh, self.numbers)
        return devices.shapes(self.numbers, everywhere), devices.shapes(keys, split)

    def placed(self, seeds: Sequence[int]) -> tuple[tuple[Recipe, Tree, Tree], Array]:
        """Numbers and keys on the devices that use them."""
        if self.mesh is None:
            return self.numbers, self.keys(seeds)
        _, keys = self.shapes(seeds)
        placed = jax.jit(partial(self.keys, seeds), out_shardings=keys.sharding)()
        return devices.put(self.numbers, devices.everywhere(self.mesh, self.numbers)), placed


def group_arms(
    arms: Mapping[str, Arm], noise: Noise = SHARED, mesh: Mesh | None = None
) -> list[Program]:
    """As many programs as there are distinct structures among the arms, in order of appearance.

    Args:
        noise: where it comes from, and whether arms of one seed share it.
        mesh: devices that share seeds and prompts
            (:func:`~jaxrl_lab.experiments.devices.make_mesh`).
    """
    groups: dict[Any, list[tuple[str, tuple[Recipe, Tree, Tree]]]] = {}
    for name, arm in arms.items():
        arm.check()
        nameless = replace(canonical(arm.recipe), name="")
        numbers = jax.tree.map(np.asarray, (nameless, arm.env_params, arm.base))
        leaves, structure = jax.tree.flatten(numbers)
        shapes = tuple((x.shape, str(x.dtype)) for x in leaves)
        groups.setdefault((arm.env, arm.policy, structure, shapes), []).append((name, numbers))
    programs = []
    for (env, policy, _, _), alike in groups.items():
        # Stacked by NumPy: every operation on arrays of jax would be compiled for its shape.
        stacked = jax.tree.map(lambda *xs: np.stack(xs), *[numbers for _, numbers in alike])
        stacked = jax.device_put(stacked)
        learner = PolicyGradient(env, policy)
        names = tuple(name for name, _ in alike)
        programs.append(Program(learner, names, stacked, noise, mesh))
    return programs


def chunk_length(updates: int, every: int, pieces: int = 20) -> int:
    """The longest multiple of ``every`` that divides ``updates`` into at least ``pieces`` chunks.

    All chunks have one length, so that one program serves them all.
    """
    wanted = max(every, updates // pieces)
    longest = wanted - wanted % every
    return next(c for c in range(longest, 0, -every) if updates % c == 0)


@dataclass(frozen=True)
class Chunk:
    """What has been measured since the last time.

    Attributes:
        done: updates so far.
        alive: which members are not frozen, ``[arms, seeds]``; None for chunks of an earlier run.
        points: of every chunk that is told of, by name ``[points, arms, seeds, …]``.
    """

    done: int
    alive: np.ndarray | None
    points: Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Compiled:
    """A program ready to run: its executables, and how long they took to make.

    Attributes:
        trace_seconds, compile_seconds: spent in Python and in XLA (or its cache on disk).
    """

    program: Program
    start: Callable[..., Any]
    measure: Callable[..., Any]
    chunk: Callable[..., Any]
    updates: int
    length: int
    trace_seconds: float
    compile_seconds: float


def compile_program(
    program: Program, seeds: Sequence[int], updates: int, every: int, measure: Measure
) -> Compiled:
    """Trace and compile everything a program needs, without running any of it.

    Kept apart from running, so that the next program can be compiled while this one runs.
    """
    with jax.set_mesh(program.mesh) if program.mesh else nullcontext():
        return _compile(program, seeds, updates, every, measure)


def _compile(
    program: Program, seeds: Sequence[int], updates: int, every: int, measure: Measure
) -> Compiled:
    learner, mesh, length = program.learner, program.mesh, chunk_length(updates, every)
    begin = time.perf_counter()
    numbers, keys = program.shapes(seeds)
    start = members.start.lower(learner, mesh, numbers, keys)
    worlds, states = start.out_info
    worlds = devices.shapes(worlds, mesh and devices.everywhere(mesh, worlds))
    states = devices.shapes(states, mesh and devices.of_states(mesh, states))
    first = members.measure_start.lower(learner, measure, worlds, states.params, states)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    chunk = members.run_chunk.lower(
        learner, measure, length, every, mesh, numbers[0], worlds, states, states.params, keys,
        number, number,
    )  # fmt: skip
    traced = time.perf_counter()
    # What runs once would be optimized for longer than it runs.
    ready = (start.compile(CHEAPLY), first.compile(CHEAPLY), chunk.compile())
    compiled = time.perf_counter()
    return Compiled(program, *ready, updates, length, traced - begin, compiled - traced)


def run_program(
    compiled: Compiled,
    seeds: Sequence[int],
    on_chunk: Callable[[int], None] = lambda updates: None,
    checkpoints: ProgramCheckpoints | None = None,
    listen: Callable[[Chunk], None] | None = None,
) -> tuple[LearnerState, dict[str, np.ndarray]]:
    """Train every arm and seed of a program.

    Args:
        on_chunk: called after each chunk with the updates it did; what it raises ends the run.
        checkpoints: where chunks are kept, and from where a run that was cut goes on.
        listen: told of the start and of every chunk, those of the run that was cut included.

    Returns:
        Final states with leading axes ``[arms, seeds]``, and curves ``[arms, seeds, points]``:
        measures at updates 0, every, 2·every, …, and update scalars reduced over the updates
        since the previous point (NaN at point 0).
    """
    numbers, keys = compiled.program.placed(seeds)
    worlds, states = compiled.start(numbers, keys)
    first = devices.copied(states.params)
    saved = checkpoints.load(states) if checkpoints else None
    if saved:
        states = devices.put(saved.states, jax.tree.map(lambda x: x.sharding, states))
        points, done = list(saved.points), saved.done
        if listen:
            listen(Chunk(done, None, points))
        on_chunk(done)
    else:
        points, done = [devices.fetch(compiled.measure(worlds, first, states))], 0
        _keep(checkpoints, listen, 0, compiled.updates, states, points[-1])
    total = np.int32(compiled.updates)
    for start in range(done, compiled.updates, compiled.length):
        states, point = compiled.chunk(
            numbers[0], worlds, states, first, keys, np.int32(start), total
        )
        points.append(devices.fetch(point))  # waits for the chunk, so progress is real
        end = start + compiled.length
        _keep(checkpoints, listen, end, compiled.updates, states, points[-1])
        try:
            on_chunk(compiled.length)
        except BaseException:  # the run is given up, but not this chunk
            if checkpoints and jax.process_count() == 1:
                checkpoints.keep(end, states)
            raise
    if checkpoints:
        checkpoints.wait()
    return states, _curves(points)


def _keep(
    checkpoints: ProgramCheckpoints | None,
    listen: Callable[[Chunk], None] | None,
    done: int,
    updates: int,
    states: LearnerState,
    points: Any,
) -> None:
    """Every process brings its share of the states, and one of them writes."""
    together = jax.process_count() > 1
    if together:
        states = devices.fetch(states)
    if checkpoints and devices.is_writer():
        checkpoints.save(done, states, points, must=together or done in (0, updates))
    if listen:
        listen(Chunk(done, np.asarray(states.alive), [points]))


def _curves(points: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Chunks ``[points, arms, seeds]`` put together as ``[arms, seeds, points]``."""

    def pieces(name: str) -> Iterator[np.ndarray]:
        shape = next(np.asarray(p[name]).shape for p in points if name in p)
        for p in points:
            yield np.asarray(p[name]) if name in p else np.full((1, *shape[1:]), np.nan)

    names = dict.fromkeys(name for p in points for name in p)
    curves = {n: np.moveaxis(np.concatenate(list(pieces(n))), 0, 2) for n in names}
    for name in SUMMED:
        if name in curves:
            curves[name] = np.nancumsum(curves[name], axis=-1)
    return curves
