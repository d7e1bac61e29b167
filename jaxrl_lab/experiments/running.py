"""A run under way: programs compiled ahead, and trained one after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import jax
import numpy as np

from jaxrl_lab.experiments import devices
from jaxrl_lab.experiments.checkpoint import ProgramCheckpoints
from jaxrl_lab.experiments.live import Listening, Logger
from jaxrl_lab.experiments.members import Measure
from jaxrl_lab.experiments.noise import Noise
from jaxrl_lab.experiments.population import (
    Arm,
    Compiled,
    compile_program,
    group_arms,
    run_program,
)
from jaxrl_lab.experiments.progress import Progress
from jaxrl_lab.experiments.result import Description, Result, assemble, further_dimensions
from jaxrl_lab.programs import forget_programs, run_ahead
from jaxrl_lab.types import Tree

AHEAD = 8
"""Programs that may wait compiled: as many as a study has, and not as many as a box."""


class Running:
    """A checked run: threads compile its programs ahead, the caller executes them in order.

    Programs are not executed side by side: on the CPU backend two at once were seen to wait
    forever.
    """

    def __init__(
        self,
        arms: dict[str, Arm],
        updates: int,
        seeds: tuple[int, ...],
        measure: Measure,
        every: int,
        describe: dict[str, Description],
        noise: Noise,
    ) -> None:
        self.arms, self.updates, self.seeds = arms, updates, seeds
        self.measure, self.every, self.describe = measure, every, describe
        self.noise = noise
        self.blocks = devices.current().blocks(seeds)
        batches = (arm.prompts for arm in arms.values())
        mesh = devices.current().mesh(len(self.blocks[0]), batches)
        self._waiting = iter(group_arms(arms, noise, mesh))
        self._jobs: deque[Future[Compiled]] = deque()
        self._compile_ahead(AHEAD)

    def _compile_ahead(self, programs: int) -> None:
        for program in islice(self._waiting, programs):
            arguments = (program, self.blocks[0], self.updates, self.every, self.measure)
            self._jobs.append(run_ahead(compile_program, *arguments))

    def result(
        self,
        progress: Progress | None = None,
        checkpoints: Callable[[int], Any] | None = None,
        loggers: Sequence[Logger] = (),
    ) -> Result:
        """Train every arm on every seed, program after program.

        Args:
            checkpoints: number of a program (each block of seeds counts) -> its checkpoints, to
                keep and to go on from.
            loggers: told of every chunk.
        """
        progress = progress or Progress(quiet=True)
        progress.start(self.updates * len(self.arms) * len(self.seeds))
        try:
            trained: list[Trained] = []
            while self._jobs:
                compiled = self._jobs.popleft().result()
                for name, shape in measured_shapes(compiled).items():  # before any training
                    further_dimensions(name, self.describe.get(name, ()), len(shape) - 3)
                begin = time.perf_counter()
                parts: list[Part] = []
                for block in self.blocks:
                    number = len(trained) * len(self.blocks) + len(parts)
                    saved = checkpoints(number) if checkpoints else None
                    parts.append(self._train(compiled, block, progress, saved, loggers))
                trained.append(_joined(compiled, parts, time.perf_counter() - begin))
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
        self,
        compiled: Compiled,
        block: tuple[int, ...],
        progress: Progress,
        checkpoints: ProgramCheckpoints | None,
        loggers: Sequence[Logger],
    ) -> Part:
        """One block of seeds, its end in the memory of the host."""
        members = compiled.program.size * len(block)
        listeners = [*loggers, *([] if progress.quiet else [progress])]
        heard = Listening(compiled.program.names, self.every, listeners) if listeners else None
        states, curves = run_program(
            compiled, block, lambda done: progress.advance(done * members), checkpoints, heard
        )
        params, stopped = devices.fetch((states.params, states.stopped))
        return Part(params, stopped, curves)

    def _assemble(self, trained: Sequence[Trained]) -> Result:
        curves: dict[str, dict[str, np.ndarray]] = {}
        stopped: dict[str, np.ndarray] = {}
        params: dict[str, Tree] = {}
        for one in trained:
            for i, name in enumerate(one.names):
                curves[name] = {k: v[i] for k, v in one.curves.items()}
                stopped[name] = one.stopped[i]
                params[name] = jax.tree.map(lambda x, i=i: x[i], one.params)
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
            self.noise,
        )


@dataclass(frozen=True)
class Part:
    """The end of one block of seeds, leading axes ``[arms, seeds]``, and its curves."""

    params: Tree
    stopped: Any
    curves: dict[str, np.ndarray]


@dataclass(frozen=True)
class Trained:
    """One program after its run, without its executables: all seeds."""

    names: tuple[str, ...]
    params: Tree
    stopped: Any
    curves: dict[str, np.ndarray]
    seconds: dict[str, float]


def _joined(compiled: Compiled, parts: Sequence[Part], seconds: float) -> Trained:
    """The blocks of a program as one."""
    whole = parts[0]
    if len(parts) > 1:
        ends = [(part.params, part.stopped, part.curves) for part in parts]
        whole = Part(*jax.tree.map(lambda *xs: np.concatenate(xs, axis=1), *ends))
    spent = {
        "trace": compiled.trace_seconds,
        "compile": compiled.compile_seconds,
        "run": seconds,
    }
    return Trained(compiled.program.names, whole.params, whole.stopped, whole.curves, spent)


def measured_shapes(compiled: Compiled) -> dict[str, tuple[int, ...]]:
    """Shape ``[1, arms, seeds, …]`` of every measure of a program."""
    found: Mapping[str, Any] = cast(Any, compiled.measure).out_info
    return {name: x.shape for name, x in found.items()}
