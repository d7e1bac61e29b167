"""Several devices, several processes: which part of a population lives where.

A mesh has two axes. ``population`` splits the seeds: members never speak to each other, so each
device runs its own and the results are the same bits as on one device. ``env`` splits the prompts
or parallel environments of one learner: gradients are then summed across devices, in another order
than on one, and results agree to rounding.

Several processes are JAX's own distributed runtime. Every process runs the same program on its
share of the mesh, every process holds all results, and the first one writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import gcd

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxrl_envs import BadInput
from jaxrl_envs.errors import expect

from jaxrl_lab.learners.pieces import ENV
from jaxrl_lab.types import LearnerState, Tree

POPULATION = "population"
JOIN_VARIABLE, JOIN_SECONDS = "JAXRL_LAB_JOIN_SECONDS", 60
"""How long a process waits for the others to arrive."""
HEARTBEAT_SECONDS = 20
"""How long a process may be silent; one that ends is missed at the next exchange."""


@dataclass(frozen=True)
class Resources:
    """What a run may use.

    Attributes:
        devices: how many; None is one for one process, and all there are for several.
        block: seeds that are trained at once; None is all of them.
    """

    devices: int | None = None
    block: int | None = None

    def blocks(self, seeds: Sequence[int]) -> list[tuple[int, ...]]:
        """The seeds in blocks of one size, trained one after the other.

        Raises:
            BadInput: a size that does not divide them.
        """
        size, n = len(seeds) if self.block is None else self.block, len(seeds)
        fits = size >= 1 and n % size == 0
        expect(fits, "block", size, f"a divisor of the number of seeds, {n}")
        return [tuple(seeds[i : i + size]) for i in range(0, n, size)]

    def mesh(self, seeds: int, batches: Iterable[int]) -> Mesh | None:
        """The mesh for blocks of so many seeds; None on a single device."""
        if self.devices is None and jax.process_count() == 1:
            return None
        return make_mesh(self.devices or len(jax.devices()), seeds, batches)


DEFAULT = Resources()
_RESOURCES: ContextVar[Resources] = ContextVar("resources", default=DEFAULT)


@contextmanager
def resources(devices: int | None = None, block: int | None = None) -> Iterator[None]:
    """Runs started inside use several devices, or train their seeds in blocks.

    ``with lab.resources(devices=8): lab.run("entropy_collapse")``. What is trained does not
    depend on it: the same seeds give the same bits, or, where environments of one learner are
    split over devices, the same up to rounding.
    """
    token = _RESOURCES.set(Resources(devices, block))
    try:
        yield
    finally:
        _RESOURCES.reset(token)


def current() -> Resources:
    """What a run that starts now may use."""
    return _RESOURCES.get()


def make_mesh(devices: int, seeds: int, batches: Iterable[int] = ()) -> Mesh:
    """As many seeds apart as possible, and the prompts or environments of each over what is left.

    Args:
        devices: how many of all processes' devices to use.
        seeds: of every program that will run on the mesh.
        batches: how many prompts or environments each arm has.

    Raises:
        BadInput: devices that are not there, or that seeds and batches do not fill.
    """
    found = len(jax.devices())
    more = (
        "; JAX_NUM_CPU_DEVICES makes several of one CPU" if jax.default_backend() == "cpu" else ""
    )
    expect(1 <= devices <= found, "devices", devices, f"1 to {found}, the devices there are{more}")
    processes = jax.process_count()
    expect(
        processes == 1 or devices == found,
        "devices",
        devices,
        f"{found}, all devices of the {processes} processes",
    )
    population = gcd(devices, seeds)
    env = devices // population
    for b in batches if env > 1 else ():
        wanted = f"a divisor of the {seeds} seeds times one of the {b} prompts of an arm"
        expect(b % env == 0, "devices", devices, wanted)
    places = np.array(jax.devices()[:devices]).reshape(population, env)
    return Mesh(places, (POPULATION, ENV))


def everywhere(mesh: Mesh, tree: Tree) -> Tree:
    """A copy on every device."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree)


def of_keys(mesh: Mesh, keys: Tree) -> NamedSharding:
    """Keys ``[S]`` or ``[A, S]``: split by seed."""
    leading = [None] * (keys.ndim - 1)
    return NamedSharding(mesh, PartitionSpec(*leading, POPULATION))


def of_states(mesh: Mesh, states: LearnerState) -> LearnerState:
    """Learner states ``[A, S, ...]``: split by seed, streams ``[A, S, N, ...]`` by environment."""
    by_seed = NamedSharding(mesh, PartitionSpec(None, POPULATION))
    by_env = NamedSharding(mesh, PartitionSpec(None, POPULATION, ENV))
    shardings: LearnerState = jax.tree.map(lambda _: by_seed, states)
    return replace(shardings, stream=jax.tree.map(lambda _: by_env, states.stream))


def split(mesh: Mesh | None, states: LearnerState) -> LearnerState:
    """Inside a program: the states where :func:`of_states` wants them."""
    if mesh is None:
        return states
    placed: LearnerState = jax.lax.with_sharding_constraint(states, of_states(mesh, states))
    return placed


def shapes(tree: Tree, shardings: Tree | None = None) -> Tree:
    """What a program is compiled for: shapes, dtypes, and places where there are any."""
    if shardings is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, shardings
    )


def put(tree: Tree, shardings: Tree) -> Tree:
    """Arrays that every process has, on the devices of all processes."""
    held = jax.tree.map(np.asarray, tree)
    return jax.jit(lambda x: x, out_shardings=shardings)(held)


def copied(tree: Tree) -> Tree:
    """The same where it is, in memory of its own."""
    if jax.process_count() > 1:
        return jax.tree.map(jnp.copy, tree)
    return jax.device_put(tree, may_alias=False)  # without a program to compile


def fetch(tree: Tree) -> Tree:
    """The whole tree in the memory of this process, as NumPy arrays."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def is_writer() -> bool:
    """Whether this process writes files and speaks to the terminal: the first one does."""
    return jax.process_index() == 0


def join() -> None:
    """Join the other processes of this run, before anything else of jax is used.

    ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` say who belongs
    together; without them jax asks the cluster (SLURM, TPU pods).

    Where not all of them arrive in time (``JAXRL_LAB_JOIN_SECONDS``), XLA aborts this process.

    Raises:
        BadInput: the environment does not say who belongs together, or jax is in use already.
    """
    patience = _number(JOIN_VARIABLE) or JOIN_SECONDS
    try:
        jax.distributed.initialize(
            num_processes=_number("JAX_NUM_PROCESSES"),
            process_id=_number("JAX_PROCESS_ID"),
            initialization_timeout=patience,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        expected = "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or a cluster"
        raise BadInput("distributed", " ".join(str(error).split()), expected) from None


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    expect(text is None or text.isdigit(), variable, text, "a number")
    return None if text is None else int(text)
