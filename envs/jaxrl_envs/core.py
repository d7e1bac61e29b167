"""The environment contract: pure functions, explicit noise, small states.

Four things are kept apart. *Static structure* is the environment object itself, frozen and
hashable. *Params* are the numbers an experiment may sweep, a pytree of arrays. A *level* is what
all rollouts of one prompt share, rebuilt from an int32 id. A *state* is what changes during an
episode, in the smallest integers that fit. Every method is written for one instance; callers
``vmap``. Only ``draw`` and ``draw_reset`` see the whole batch, so that a million environments
cost one batched draw per step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.validate import build

Tree = Any
"""A pytree of arrays whose structure is the environment's own business."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Transition:
    """What one step returns.

    Attributes:
        state: the state after the action, also on the last step (never a reset state).
        reward: named channels of float32 scalars; ``true`` is always present, and diagnostics
            always look at it. A recipe says which channels the learner may see.
        terminated: the episode ended by the rules of the world.
        truncated: the episode ended by a time limit. Both flags may be true.
        info: what the world knows exactly and mechanisms may ask for: ``correct`` (bool),
            ``mode_id`` (int32, -1 if none) and whatever else the world documents.
    """

    state: Tree
    reward: dict[str, Float[Array, ""]]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    info: dict[str, Array] = field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Solutions:
    """The distinct optimal solutions of one level.

    Attributes:
        count: how many there are, float32 (counts pass 2^31 quickly).
        label: ``(states, actions[T], length) -> int32`` names the solution a trajectory belongs
            to, in ``0 .. count - 1`` or any other injective code; -1 for a trajectory that is
            not an optimal solution. ``states`` has a leading time axis of the same length T.
    """

    count: Float[Array, ""]
    label: Callable[[Tree, Int[Array, "T"], Int[Array, ""]], Int[Array, ""]] = field(
        metadata={"static": True}
    )


@dataclass(frozen=True)
class Discrete:
    """Integers ``0 .. n - 1``."""

    n: int
    shape: tuple[int, ...] = ()

    def contains(self, x: Array) -> Bool[Array, ""]:
        return jnp.all((x >= 0) & (x < self.n))


@dataclass(frozen=True)
class MultiDiscrete:
    """Vectors of integers, entry i in ``0 .. nvec[i] - 1``: int32, or uint8 where a world observes
    many small codes (a view, a string), which as int32 would cost four times the memory."""

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    def contains(self, x: Array) -> Bool[Array, ""]:
        entry = x.astype(jnp.int32)
        return jnp.all((entry >= 0) & (entry < jnp.asarray(self.nvec)))


@dataclass(frozen=True)
class Box:
    """Float arrays of a fixed shape between two bounds (which may be infinite)."""

    low: float
    high: float
    shape: tuple[int, ...]

    def contains(self, x: Array) -> Bool[Array, ""]:
        return jnp.all((x >= self.low) & (x <= self.high))


Space = Discrete | MultiDiscrete | Box


@runtime_checkable
class Environment(Protocol):
    """The members every world has. See the module docstring for params, level and state.

    Optional members, looked up by name where a caller needs them: ``tabular(params, level)``
    (a :class:`TabularMDP`), ``state_index(params, level, state)`` (int32, the number in it of a
    packed state that is not terminal), ``solutions(params, level)`` (:class:`Solutions`),
    ``optimal_value(params, level)`` (best undiscounted return of the ``true`` channel),
    ``pass_rate(params, level)`` (prescribed success probability of a base policy on the level),
    ``check_params(params)`` (raises :class:`BadInput` on concrete values that make no sense).
    """

    @property
    def horizon(self) -> int:
        """Static upper bound on the length of an episode."""
        ...

    @property
    def truncates(self) -> bool:
        """Whether an episode can be cut by a time limit without having terminated."""
        ...

    @property
    def default_params(self) -> Tree: ...

    @property
    def observation_space(self) -> Space: ...

    @property
    def action_space(self) -> Discrete: ...

    def level_ids(self, split: str) -> range:
        """The ids of ``train`` or ``test`` prompts: disjoint by construction."""
        ...

    def make_level(self, params: Tree, level_id: Int[Array, ""]) -> Tree:
        """The prompt behind an id; deterministic."""
        ...

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> Tree:
        """Base noise of one reset for a whole batch; ``()`` where starts are fixed."""
        ...

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Tree:
        """Base noise of one step for a whole batch; ``()`` where the world is deterministic."""
        ...

    def reset(self, params: Tree, level: Tree, noise: Tree) -> Tree:
        """The first state of an episode."""
        ...

    def step(
        self, params: Tree, level: Tree, state: Tree, action: Int[Array, ""], noise: Tree
    ) -> Transition:
        """One deterministic step given the noise. Actions outside the space are clamped."""
        ...

    def observe(self, params: Tree, level: Tree, state: Tree) -> Array:
        """What the policy sees: pure, so it is recomputed and never stored."""
        ...

    def render(self, params: Tree, level: Tree, state: Tree) -> str:
        """The state as text, for a terminal and a notebook."""
        ...


BUILT_IN = {
    "bandit/meta": "jaxrl_envs.bandits.meta:MetaBandit",
    "bandit/modes": "jaxrl_envs.bandits.modes:ModesBandit",
    "bandit/proxy": "jaxrl_envs.bandits.proxy:ProxyBandit",
    "bandit/slots": "jaxrl_envs.bandits.slots:Slots",
    "gridworld/dark_room": "jaxrl_envs.gridworlds.dark_room:DarkRoom",
    "gridworld/deep_sea": "jaxrl_envs.gridworlds.deep_sea:DeepSea",
    "gridworld/four_rooms": "jaxrl_envs.gridworlds.four_rooms:FourRooms",
    "gridworld/open": "jaxrl_envs.gridworlds.open:OpenGrid",
    "gridworld/proxy": "jaxrl_envs.gridworlds.proxy:ProxyGrid",
    "gridworld/maze": "jaxrl_envs.gridworlds.maze:Maze",
    "gridworld/two_goals": "jaxrl_envs.gridworlds.two_goals:TwoGoals",
    "reasoning/kv_hop": "jaxrl_envs.reasoning.kv_hop:KVHop",
    "reasoning/modular_chain": "jaxrl_envs.reasoning.modular_chain:ModularChain",
    "reasoning/pad_length": "jaxrl_envs.reasoning.pad_length:PadLength",
    "reasoning/rewrite": "jaxrl_envs.reasoning.rewrite:Rewrite",
    "reasoning/self_correct": "jaxrl_envs.reasoning.self_correct:SelfCorrect",
    "reasoning/think_answer": "jaxrl_envs.reasoning.think_answer:ThinkAnswer",
    "reasoning/vm_program": "jaxrl_envs.reasoning.vm_program:VmProgram",
}
"""The package's own worlds, imported when they are made."""

GYMNAX = "gymnax/"
"""Ids that begin so are gymnax's own environments, behind the adapter."""

_REGISTRY: dict[str, Callable[..., Environment]] = {}


def register(env_id: str, factory: Callable[..., Environment]) -> None:
    """Make ``factory`` reachable as ``make(env_id, **static)``.

    Raises:
        BadInput: when the id is already taken by another factory.
    """
    taken = env_id in BUILT_IN or _REGISTRY.get(env_id, factory) is not factory
    if taken or env_id.startswith(GYMNAX):
        raise BadInput("environment.id", env_id, "an id that is not taken yet")
    _REGISTRY[env_id] = factory


def registered() -> tuple[str, ...]:
    """All ids :func:`make` accepts, sorted; gymnax's come on top, as ``gymnax/NAME``."""
    return tuple(sorted([*BUILT_IN, *_REGISTRY]))


def factory_of(env_id: str) -> Callable[..., Environment]:
    """What builds the world of that id.

    Raises:
        BadInput: unknown id, with the nearest one.
    """
    if env_id in BUILT_IN:
        module, _, name = BUILT_IN[env_id].partition(":")
        factory: Callable[..., Environment] = getattr(importlib.import_module(module), name)
        return factory
    if env_id not in _REGISTRY:
        raise BadInput("environment.id", env_id, "a registered environment", registered())
    return _REGISTRY[env_id]


def make(env_id: str, **static: Any) -> Environment:
    """Build a world from its id and its static structure; ``gymnax/NAME`` adapts one of gymnax.

    Raises:
        BadInput: unknown id, unknown parameter name, or a structure the world refuses.
    """
    if env_id.startswith(GYMNAX):
        from jaxrl_envs.compat import from_gymnax

        return from_gymnax(env_id.removeprefix(GYMNAX), **static)
    return build(factory_of(env_id), static)


def check_prompts(train: int, test: int) -> None:
    """Refuse a world without prompts, or with more than there are 32-bit ids.

    Raises:
        BadInput: no prompt to train on, a negative number, or too many of them.
    """
    most = 2**31 - 1
    expect(1 <= train <= most, "prompts", train, f"at least 1 prompt, at most {most}")
    rest = f"0 or more prompts, at most {most} with those to train on"
    expect(0 <= test <= most - train, "test_prompts", test, rest)


def split_ids(split: str, train: int, test: int) -> range:
    """Ids 0 .. train - 1, or for ``test`` those of the ``test`` prompts that follow.

    Raises:
        BadInput: an unknown split.
    """
    expect(split in ("train", "test"), "split", split, "train or test")
    return range(train) if split == "train" else range(train, train + test)


def require(env: Environment, member: str) -> Any:
    """An optional member of a world.

    Raises:
        BadInput: when the world does not have it; the message lists the worlds that do.
    """
    if not hasattr(env, member):
        have = ", ".join(i for i in registered() if hasattr(factory_of(i), member))
        raise BadInput(
            "environment", type(env).__name__, f"a world with `{member}` (one of {have})"
        )
    return getattr(env, member)
