"""The borders to gymnax: our worlds for other people's trainers, and theirs for ours.

gymnax is imported inside the functions only: importing it takes seconds, since it loads plotting
and data-frame libraries.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrl_envs import threefry
from jaxrl_envs.core import Box, Discrete, Environment, MultiDiscrete, Space, Transition, Tree
from jaxrl_envs.errors import BadInput, expect, unknown_key

PREFIX = "gymnax/"


def _gymnax() -> Any:
    """The module, or one clear complaint."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its dependencies' deprecations are not our user's
            import gymnax
            import gymnax.environments.environment
            import gymnax.environments.spaces
    except ImportError as error:
        raise BadInput(
            "environment",
            "gymnax",
            f"the packages gymnax and six to be installed ({error}): pip install gymnax six",
        ) from None
    return gymnax


@contextmanager
def _lenient() -> Iterator[None]:
    """Their code promotes dtypes and ranks freely; ours is held to the strict settings."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# ------------------------------------------------------------------ ours, for their trainers


def to_gymnax(env: Environment, params: Tree | None = None, split: str = "train") -> Any:
    """A world as a ``gymnax.environments.environment.Environment`` (gymnax 1.x, six-tuple step).

    Prompts are drawn uniformly from the split at every reset. The reward is the ``true`` channel;
    all channels are in ``info["reward"]`` and what the world knows beside it. ``params`` of the
    world are the leaf ``world`` of gymnax's params, so they may be swept.

    Raises:
        BadInput: gymnax is missing, or the split has no prompts.
    """
    ids = env.level_ids(split)
    expect(len(ids) > 0, "split", split, "a split with at least one prompt")
    params = env.default_params if params is None else params
    return _adapter_class()(env, params, ids)


@cache
def _adapter_class() -> Any:
    """The adapter: a class that can only be written down once gymnax is imported."""
    gymnax = _gymnax()
    from flax import struct

    base = gymnax.environments.environment

    @struct.dataclass
    class EnvState(base.EnvState):  # type: ignore[name-defined]
        level_id: Any
        inner: Any
        terminated: Any
        truncated: Any

    @struct.dataclass
    class EnvParams(base.EnvParams):  # type: ignore[name-defined]
        world: Any = None

    class Adapter(base.Environment):  # type: ignore[name-defined]
        """One of our worlds behind gymnax's methods."""

        def __init__(self, env: Environment, params: Tree, ids: range) -> None:
            super().__init__()
            self.env, self.params, self.ids = env, params, ids

        @property
        def default_params(self) -> Any:
            return EnvParams(max_steps_in_episode=self.env.horizon, world=self.params)

        @property
        def name(self) -> str:
            return type(self.env).__name__

        @property
        def num_actions(self) -> int:
            return self.env.action_space.n

        def reset_env(self, key: Array, params: Any) -> tuple[Array, Any]:
            drawn = jax.random.randint(threefry.fold_in(key, 0), (), 0, len(self.ids), jnp.int32)
            level_id = self.ids.start + self.ids.step * drawn
            level = self.env.make_level(params.world, level_id)
            noise = self.env.draw_reset(threefry.fold_in(key, 1), ())
            inner = self.env.reset(params.world, level, noise)
            no = jnp.bool_(False)
            state = EnvState(jnp.int32(0), level_id, inner, no, no)
            return self._observe(params, level, inner), state

        def step(self, key: Array, state: Any, action: Any, params: Any = None) -> tuple[Any, ...]:
            """gymnax's own step. An action that can be looked at is checked; a traced one clamped.

            Raises:
                BadInput: a concrete action outside the space.
            """
            if not isinstance(action, jax.core.Tracer):
                top = self.num_actions - 1
                inside = bool(jnp.all((jnp.asarray(action) >= 0) & (jnp.asarray(action) <= top)))
                expect(inside, "action", action, f"0 to {top}")
            stepped: tuple[Any, ...] = super().step(key, state, action, params)
            return stepped

        def step_env(self, key: Array, state: Any, action: Array, params: Any) -> tuple[Any, ...]:
            level = self.env.make_level(params.world, state.level_id)
            noise = self.env.draw(key, ())
            action = jnp.asarray(action, jnp.int32)
            after = self.env.step(params.world, level, state.inner, action, noise)
            # The world's own time limit is the only one, so that both flags stay exact.
            state = EnvState(
                state.time + 1, state.level_id, after.state, after.terminated, after.truncated
            )
            obs = self._observe(params, level, after.state)
            info = {
                **after.info,
                "reward": after.reward,
                "discount": self.discount(state, params),
            }
            obs, state = self._apply_transition_gradient_policy(obs, state)
            return obs, state, after.reward["true"], after.terminated, info

        def get_obs(self, state: Any, params: Any = None, key: Any = None) -> Array:
            params = self.default_params if params is None else params
            level = self.env.make_level(params.world, state.level_id)
            return self._observe(params, level, state.inner)

        def _observe(self, params: Any, level: Tree, inner: Tree) -> Array:
            obs = self.env.observe(params.world, level, inner)
            # gymnax gets the type that its space declares, whatever our packed codes are.
            discrete = isinstance(self.env.observation_space, MultiDiscrete)
            return obs.astype(jnp.int32) if discrete else obs

        def is_terminated(self, state: Any, params: Any) -> Array:
            return state.terminated

        def is_truncated(self, state: Any, params: Any) -> Array:
            return state.truncated

        def action_space(self, params: Any = None) -> Any:
            return _to_gymnax_space(self.env.action_space)

        def observation_space(self, params: Any = None) -> Any:
            return _to_gymnax_space(self.env.observation_space)

    return Adapter


def _to_gymnax_space(space: Space) -> Any:
    spaces = _gymnax().environments.spaces
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):  # gymnax has no such space
        high = jnp.asarray(space.nvec, jnp.int32) - 1
        return spaces.Box(jnp.zeros_like(high), high, space.shape, jnp.int32)
    return spaces.Box(space.low, space.high, space.shape, jnp.float32)


# ------------------------------------------------------------------ theirs, for our learners


def from_gymnax(env_id: str, **kwargs: Any) -> Gymnax:
    """A gymnax environment as one of our worlds; also reached by ``make("gymnax/<id>")``.

    Args:
        env_id: gymnax's id, for example ``CartPole-v1``.
        kwargs: hashable arguments of gymnax's constructor.

    Raises:
        BadInput: gymnax is missing, an unknown id or argument, actions that are not discrete,
            observations that are not one array, an environment without a time limit, or one
            whose data cannot be read.
    """
    gymnax = _gymnax()
    known = [PREFIX + name for name in gymnax.registered_envs]
    given = PREFIX + env_id
    if given not in known:
        raise BadInput("environment.id", given, "an environment that gymnax registers", known)
    try:
        wrapped = Gymnax(env_id, tuple(sorted(kwargs.items())))
        inner, _ = _made(wrapped.env_id, wrapped.kwargs)
    except TypeError as error:
        factory = gymnax.registration._registry[env_id]
        names = [n for n in inspect.signature(factory).parameters if n not in ("args", "kwargs")]
        for name in kwargs:
            if name not in names:
                raise unknown_key(name, kwargs[name], names) from None
        raise BadInput("environment", kwargs, f"hashable arguments it accepts ({error})") from None
    except OSError as error:  # one of theirs downloads its images
        raise BadInput("environment.id", given, f"data that can be read ({error})") from None
    spaces = gymnax.environments.spaces
    with _lenient():
        actions, seen = (
            space(inner.default_params) for space in (inner.action_space, inner.observation_space)
        )
    discrete = isinstance(actions, spaces.Discrete)
    expect(discrete, "environment.id", given, "an environment with discrete actions")
    one_array = isinstance(seen, spaces.Discrete | spaces.Box)
    expect(one_array, "environment.id", given, "an environment that observes one array")
    expect(wrapped.horizon >= 1, "environment.id", given, "an environment with a time limit")
    return wrapped


@cache
def _made(env_id: str, kwargs: tuple[tuple[str, Any], ...]) -> tuple[Any, Any]:
    """The gymnax environment and its params as strong arrays (leaves that a sweep may stack)."""
    with _lenient(), jax.ensure_compile_time_eval():
        env, params = _gymnax().make(env_id, **dict(kwargs))
        return env, jax.tree.map(_strong, params)


def _strong(x: Any) -> Array:
    """A Python number or weakly typed array as an ordinary array: scans refuse type changes."""
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype)


@dataclass(frozen=True)
class Gymnax:
    """A gymnax environment behind our methods; build it with :func:`from_gymnax`.

    There is one level, id 0, in the ``train`` split. The noise of a step or reset is one raw key
    per instance, split for the whole batch at once: their environments draw for themselves. The
    state is gymnax's own, unpacked; their auto-reset is bypassed, so the final state is returned.
    """

    env_id: str
    kwargs: tuple[tuple[str, Any], ...] = ()

    truncates = True

    @property
    def horizon(self) -> int:
        return int(getattr(self._params, "max_steps_in_episode", 0))

    @property
    def _env(self) -> Any:
        return _made(self.env_id, self.kwargs)[0]

    @property
    def _params(self) -> Any:
        return _made(self.env_id, self.kwargs)[1]

    @property
    def default_params(self) -> Tree:
        return self._params

    def check_params(self, params: Tree) -> None:
        """Refuse a time limit above the static horizon."""
        most = int(params.max_steps_in_episode)
        expect(1 <= most <= self.horizon, "max_steps_in_episode", most, f"1 to {self.horizon}")

    @property
    def observation_space(self) -> Space:
        spaces = _gymnax().environments.spaces
        with _lenient(), jax.ensure_compile_time_eval():
            space = self._env.observation_space(self._params)
            if isinstance(space, spaces.Discrete):
                return Discrete(int(space.n))
            low, high = float(np.min(space.low)), float(np.max(space.high))
            return Box(low, high, tuple(int(d) for d in space.shape))

    @property
    def action_space(self) -> Discrete:
        return Discrete(int(self._env.action_space(self._params).n))

    def level_ids(self, split: str) -> range:
        expect(split in ("train", "test"), "split", split, "train or test")
        return range(1) if split == "train" else range(1, 1)

    def make_level(self, params: Tree, level_id: Int[Array, ""]) -> Int[Array, ""]:
        return jnp.asarray(level_id, jnp.int32)

    def draw_reset(self, key: Array, batch_shape: tuple[int, ...]) -> Array:
        return jax.random.split(key, batch_shape)

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Array:
        return jax.random.split(key, batch_shape)

    def reset(self, params: Tree, level: Array, noise: Array) -> Tree:
        with _lenient():
            return jax.tree.map(_strong, self._env.reset_env(noise, params)[1])

    def step(
        self, params: Tree, level: Array, state: Tree, action: Int[Array, ""], noise: Array
    ) -> Transition:
        action = jnp.clip(jnp.asarray(action, jnp.int32), 0, self.action_space.n - 1)
        with _lenient():
            _, after, reward, terminated, _ = self._env.step_env(noise, state, action, params)
            truncated = self._env.is_truncated(after, params)
            after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)
        return Transition(
            state=jax.tree.map(_strong, after),
            reward={"true": jnp.asarray(reward, jnp.float32).reshape(())},
            terminated=jnp.asarray(terminated, bool).reshape(()),
            truncated=jnp.asarray(truncated, bool).reshape(()),
        )

    def observe(self, params: Tree, level: Array, state: Tree) -> Float[Array, "..."]:
        """Their observation of the state; where they would draw noise for it, always the same."""
        with _lenient():
            obs = self._env.observe(jax.random.key(0), state, None, params)
        dtype = jnp.int32 if isinstance(self.observation_space, Discrete) else jnp.float32
        return jnp.asarray(obs, dtype)

    def render(self, params: Tree, level: Array, state: Tree) -> str:
        leaves = jax.tree_util.tree_leaves_with_path(state)
        words = [f"{jax.tree_util.keystr(path)[1:]} = {leaf}" for path, leaf in leaves]
        return "\n".join([f"{PREFIX}{self.env_id}", *words])
