"""What a study would compile and run, read off its equations: nothing of it is compiled or run.

Memory: at each equation of one member's update, what was computed and is still needed. Time: the
numbers that the equations compute, at the rate at which this device computes such numbers. XLA
fuses and reorders the equations, so both are right to a factor of two or three, and no better.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxrl_lab.doctor import free_memory
from jaxrl_lab.experiments import devices
from jaxrl_lab.experiments.population import Arm, Program, chunk_length, group_arms
from jaxrl_lab.experiments.spec import Experiment
from jaxrl_lab.scaling import scaling_faults

OVERHEAD = 2.5
"""Time of an update over that of its operations alone; 1.1 to 2.9 in five programs of phenomena."""
NUMBER = jax.ShapeDtypeStruct((), jnp.int32)


@dataclass(frozen=True)
class ProgramPlan:
    """One program to compile.

    Attributes:
        experiment, arms: what it trains. seeds: of every arm. block: of them trained at once.
        updates: of every member. chunk: updates between two checkpoints.
        state: bytes that one member keeps between updates, and that a checkpoint holds.
        update: bytes one member needs at the peak of an update, its state included; about.
        operations: numbers that one update of one member computes.
    """

    experiment: str
    arms: tuple[str, ...]
    seeds: int
    block: int
    updates: int
    chunk: int
    state: int
    update: int
    operations: int

    @property
    def members(self) -> int:
        """Policies to train."""
        return len(self.arms) * self.seeds

    @property
    def memory(self) -> int:
        """Bytes at the peak, about: of the policies trained side by side."""
        return len(self.arms) * self.block * self.update

    def block_for(self, room: int) -> int:
        """The most seeds at once, in equal blocks, that need no more than so many bytes; or 0."""
        fit = [b for b in range(1, self.seeds + 1) if self.seeds % b == 0]
        return max((b for b in fit if len(self.arms) * b * self.update <= room), default=0)


@dataclass(frozen=True)
class Plan:
    """All programs of a study, in the order in which they run.

    Attributes:
        rate: operations per second of the device. room: bytes of memory that are free, if known.
        warnings: arms that have more environments than another and differ in other ways too.
    """

    programs: tuple[ProgramPlan, ...]
    rate: float
    room: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def memory(self) -> int:
        """Bytes at the peak, about; programs run one after another."""
        return max((program.memory for program in self.programs), default=0)

    @property
    def seconds(self) -> float:
        """Training time after the compilations, about."""
        work = sum(p.members * p.updates * p.operations for p in self.programs)
        return OVERHEAD * work / self.rate

    @property
    def smaller_block(self) -> int | None:
        """Seeds at once that fit into the free memory, 0 where not even one does; None: it fits."""
        if self.room is None or self.memory <= self.room:
            return None
        return min(program.block_for(self.room) for program in self.programs)

    @property
    def advice(self) -> str:
        """What to do where the memory that is free is too small; empty where it is not."""
        if self.room is None or self.smaller_block is None:
            return ""
        block = self.smaller_block
        how = f"--block {block} does" if block else "not even one seed at a time does"
        return f"This does not fit into the {in_bytes(self.room)} that are free; {how}."

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON has it, bytes as numbers."""
        programs = [asdict(p) | {"members": p.members, "memory": p.memory} for p in self.programs]
        sizes = {"memory": self.memory, "free": self.room, "seconds": self.seconds}
        said = {"advice": self.advice, "warnings": list(self.warnings)}
        return {"programs": programs} | sizes | said

    def __str__(self) -> str:
        members = sum(p.members for p in self.programs)
        work = sum(p.members * p.updates for p in self.programs)
        head = (
            f"{len(self.programs)} programs to compile, {members} policies, "
            f"{work} policy updates; about {in_bytes(self.memory)} at the peak, "
            f"{in_seconds(self.seconds)} of training"
        )
        titles = ("", "experiment", "arms", "seeds", "block", "updates", "chunk", *BYTES)
        rows = [titles, *(_row(i, p) for i, p in enumerate(self.programs, 1))]
        lines = in_columns(rows, left=1)
        named = [f"  {_shorten(p.arms)}" for p in self.programs]
        advice = [self.advice] if self.advice else []
        more = len(self.warnings) - MOST_WARNINGS
        warned = [f"Scaling: {text}" for text in self.warnings[:MOST_WARNINGS]]
        warned += [f"Scaling: … {more} more"] * (more > 0)
        table = [lines[0], *map(str.__add__, lines[1:], named)]
        return "\n".join([head, *table, *warned, *advice])


MOST_WARNINGS = 5
BYTES = ("state/policy", "peak/policy", "peak/arm", "peak")


def plan(experiments: Mapping[str, Experiment]) -> Plan:
    """What the experiments of a study would compile and run.

    Raises:
        BadInput: an experiment that cannot run.
    """
    programs, warnings = [], []
    for name, experiment in experiments.items():
        arms = experiment.build()
        warnings += [f"{name}: {text}" for text in scaling_warnings(arms)]
        for program in group_arms(arms, experiment.noise):
            programs.append(_plan_program(name, experiment, program))
    return Plan(tuple(programs), operations_per_second(), free_memory(), tuple(warnings))


def scaling_warnings(arms: Mapping[str, Arm]) -> list[str]:
    """What else differs where an arm has more environments than the smallest stream among them.

    One sentence per departure from :func:`~jaxrl_lab.scaling.co_scale`.
    """
    streams = {
        name: arm.recipe
        for name, arm in arms.items()
        if arm.recipe.rollout == "stream" and arm.recipe.prompts > 0 and arm.recipe.steps > 0
    }
    smallest = min(streams, key=lambda name: streams[name].prompts, default="")
    return [
        f"{name} ({recipe.prompts} environments) beside {smallest} "
        f"({streams[smallest].prompts}): {fault}"
        for name, recipe in streams.items()
        if recipe.prompts > streams[smallest].prompts
        for fault in scaling_faults(recipe, streams[smallest])
    ]


def _plan_program(name: str, experiment: Experiment, program: Program) -> ProgramPlan:
    """One program, from the shapes of its first member."""
    recipe, env_params, base = jax.tree.map(lambda x: x[0], program.numbers)
    learner, key = program.learner, jax.eval_shape(lambda: jax.random.key(0))
    world = jax.eval_shape(learner.world, env_params)
    state = jax.eval_shape(learner.init, recipe, world, key, base)
    update = jax.make_jaxpr(learner.update)(recipe, world, state, key, NUMBER, NUMBER)
    kept = sum(_bytes(leaf) for leaf in jax.tree.leaves(state))
    return ProgramPlan(
        experiment=name,
        arms=program.names,
        seeds=experiment.seeds,
        block=len(devices.current().blocks(range(experiment.seeds))[0]),
        updates=experiment.updates,
        chunk=chunk_length(experiment.updates, experiment.measure_every),
        state=kept,
        update=kept + peak_bytes(update.jaxpr),
        operations=operations(update.jaxpr),
    )


def peak_bytes(jaxpr: core.Jaxpr) -> int:
    """The most bytes alive at once among what the equations of a program compute."""
    end = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in _variables(eqn.invars)}
    end |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    alive: dict[core.Var, int] = {}
    peak = 0
    for i, eqn in enumerate(jaxpr.eqns):
        alive |= {v: _bytes(v.aval) for v in eqn.outvars if v in end}
        inside = max(map(peak_bytes, core.jaxprs_in_params(eqn.params)), default=0)
        peak = max(peak, sum(alive.values()) + inside)
        for v in _variables(eqn.invars):
            if end[v] == i:
                alive.pop(v, None)
    return peak


def operations(jaxpr: core.Jaxpr) -> int:
    """How many numbers the equations of a program compute, products of matrices term by term.

    A loop whose length is not known counts once, and of the branches of a choice the longest.
    """
    count = 0
    for eqn in jaxpr.eqns:
        inside = [operations(inner) for inner in core.jaxprs_in_params(eqn.params)]
        if eqn.primitive.name == "cond":
            count += max(inside)
        elif inside:
            count += sum(inside) * eqn.params.get("length", 1)
        else:
            count += sum(prod(getattr(v.aval, "shape", ())) for v in eqn.outvars) * _terms(eqn)
    return count


def _terms(eqn: core.JaxprEqn) -> int:
    """Products that are summed in each number of a matrix product; 1 for other equations."""
    if eqn.primitive.name != "dot_general":
        return 1
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape: tuple[int, ...] = eqn.invars[0].aval.shape  # type: ignore[attr-defined]
    return prod(shape[axis] for axis in contracted)


@cache
def operations_per_second() -> float:
    """Of this device, measured in some hundredths of a second on exp(-x) / 2 + x."""
    x, rounds = jnp.ones((256, 1024)), 20

    @jax.jit
    def work(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, rounds, lambda i, x: jnp.exp(-x) * 0.5 + x, x)

    work(x).block_until_ready()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work(x).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 4 * x.size * rounds / min(times)


def _variables(atoms: Iterable[Any]) -> Iterator[core.Var]:
    return (v for v in atoms if isinstance(v, core.Var))


def _bytes(shaped: Any) -> int:
    """Of an array or its shape; of a token, none."""
    itemsize = getattr(getattr(shaped, "dtype", None), "itemsize", 0)
    return int(prod(getattr(shaped, "shape", ())) * itemsize)


def in_bytes(size: float) -> str:
    """A number of bytes to two digits: ``8.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def in_seconds(seconds: float) -> str:
    """A time to two digits: ``1.5 s``, ``12 min``."""
    for unit, length in (("s", 100.0), ("min", 100.0)):
        if seconds < length:
            return f"{seconds:.2g} {unit}"
        seconds /= 60
    return f"{seconds:.2g} h"


def _row(number: int, p: ProgramPlan) -> tuple[str, ...]:
    sizes = (p.state, p.update, p.block * p.update, p.memory)
    counts = (len(p.arms), p.seeds, p.block, p.updates, p.chunk)
    return (str(number), p.experiment, *map(str, counts), *map(in_bytes, sizes))


def in_columns(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as lines of a table: the names of column ``left`` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{c:<{w}}" if i == left else f"{c:>{w}}" for i, (c, w) in cells)
        for cells in (enumerate(zip(row, widths, strict=True)) for row in rows)
    ]


def _shorten(arms: tuple[str, ...], most: int = 3) -> str:
    more = f"; … {len(arms) - most} more" if len(arms) > most else ""
    return "; ".join(arms[:most]) + more
