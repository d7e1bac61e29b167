"""What the programs of a study cost here: tracing, compiling, an update, memory, noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_lab.experiments import devices
from jaxrl_lab.experiments.members import Measure
from jaxrl_lab.experiments.noise import GENERATORS
from jaxrl_lab.experiments.plan import in_bytes, in_columns
from jaxrl_lab.experiments.population import Compiled, compile_program, group_arms
from jaxrl_lab.experiments.spec import Experiment


@dataclass(frozen=True)
class Cost:
    """One program, measured.

    Attributes:
        experiment, arms, seeds: what it trains. updates: of every member in a timed call.
        trace, compile: seconds in Python and in XLA, nothing taken from the cache on disk.
        seconds: of a timed call, measures included: median, fastest, slowest.
        tokens: transitions that a timed call collects, of all members.
        noise: share of the time that falls away with the cheapest generator; negative where the
            difference is smaller than what the times vary by.
        memory: bytes that XLA asks for: arguments, results and what lies between.
    """

    experiment: str
    arms: tuple[str, ...]
    seeds: int
    updates: int
    trace: float
    compile: float
    seconds: tuple[float, float, float]
    tokens: float
    noise: float
    memory: int

    @property
    def per_update(self) -> float:
        """Seconds per update of one policy."""
        return self.seconds[0] / (self.updates * self.seeds * len(self.arms))

    def as_dict(self) -> dict[str, Any]:
        """The cost as JSON has it."""
        rate = self.tokens / self.seconds[0]
        return asdict(self) | {"per_update": self.per_update, "tokens_per_second": rate}


def bench(
    experiments: Mapping[str, Experiment],
    measures: Mapping[str, Measure],
    repeats: int = 5,
    generators: Sequence[str] = tuple(GENERATORS),
) -> Iterator[Cost]:
    """Measure every program of a study, one after the other, each a chunk at a time.

    Args:
        measures: of every experiment.
        repeats: timed calls per program and generator; they take turns.
        generators: to compare with the experiment's own.

    Raises:
        BadInput: an experiment that cannot run.
    """
    for name, experiment in experiments.items():
        yield from _bench_experiment(name, experiment, measures[name], repeats, generators)


def _bench_experiment(
    name: str, experiment: Experiment, measure: Measure, repeats: int, generators: Sequence[str]
) -> Iterator[Cost]:
    seeds = experiment.sizes["seeds"]
    arms = experiment.build()
    mesh = devices.current().mesh(len(seeds), (arm.prompts for arm in arms.values()))
    every, updates = experiment.measure_every, experiment.updates
    for program in group_arms(arms, experiment.noise, mesh):
        kinds = [experiment.generator, *(g for g in generators if g != experiment.generator)]
        compiled = {
            kind: compile_program(
                replace(program, noise=replace(program.noise, generator=kind)),
                seeds, updates, every, measure,
            )
            for kind in kinds
        }  # fmt: skip
        times, tokens = take_turns({k: _chunks(c, seeds) for k, c in compiled.items()}, repeats)
        middle = {kind: statistics.median(seconds) for kind, seconds in times.items()}
        own = compiled[experiment.generator]
        yield Cost(
            experiment=name,
            arms=program.names,
            seeds=len(seeds),
            updates=own.length,
            trace=own.trace_seconds,
            compile=own.compile_seconds,
            seconds=(middle[kinds[0]], min(times[kinds[0]]), max(times[kinds[0]])),
            tokens=tokens[kinds[0]],
            noise=1.0 - min(middle.values()) / middle[kinds[0]],
            memory=_memory(own),
        )


def _chunks(compiled: Compiled, seeds: Sequence[int]) -> Callable[[], float]:
    """A call that trains one chunk further and returns how many tokens that took."""
    numbers, keys = compiled.program.placed(seeds)
    worlds, states = compiled.start(numbers, keys)
    first, total = devices.copied(states.params), jnp.int32(compiled.updates)
    at = 0

    def go_on() -> float:
        nonlocal states, at
        states, point = compiled.chunk(
            numbers[0], worlds, states, first, keys, jnp.int32(at), total
        )
        at = (at + compiled.length) % compiled.updates
        return float(np.nansum(devices.fetch(point["tokens"])))

    return go_on


def take_turns(
    calls: Mapping[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every call after one warm-up, the calls taking turns; and the last results."""
    last = {name: call() for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            last[name] = jax.block_until_ready(call())
            times[name].append(time.perf_counter() - begin)
    return times, last


def _memory(compiled: Compiled) -> int:
    """Bytes of the program that trains a chunk; 0 where XLA does not say."""
    said = compiled.chunk.memory_analysis()  # type: ignore[attr-defined]
    if said is None:
        return 0
    sizes = (
        said.argument_size_in_bytes, said.output_size_in_bytes, said.temp_size_in_bytes,
        -said.alias_size_in_bytes,
    )  # fmt: skip
    return int(sum(sizes))


HEADINGS = (
    "experiment", "arms", "seeds", "trace", "compile", "update of a policy", "transitions/s",
    "noise", "memory",
)  # fmt: skip


def table(costs: Sequence[Cost]) -> str:
    """Costs below each other, under :data:`HEADINGS`."""
    return "\n".join(in_columns([HEADINGS, *map(_row, costs)], left=0))


def _row(cost: Cost) -> tuple[str, ...]:
    low, high = (1e6 * cost.per_update * s / cost.seconds[0] for s in cost.seconds[1:])
    return (
        cost.experiment,
        str(len(cost.arms)),
        str(cost.seeds),
        f"{cost.trace:.2f} s",
        f"{cost.compile:.2f} s",
        f"{1e6 * cost.per_update:.3g} µs [{low:.3g}, {high:.3g}]",
        f"{cost.tokens / cost.seconds[0]:.3g}",
        f"{100 * cost.noise:.0f} %",
        in_bytes(cost.memory),
    )
