"""Other suites behind one small interface, as their own documentation steps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs.counter import counter_prng


@dataclass(frozen=True)
class Peer:
    """One instance of a foreign world; the benchmark vmaps over keys.

    Attributes:
        reset: key -> carry. step: (key, carry, action) -> (carry, reward), restarts included;
            the carry holds state and observation.
        actions: how many there are.
        share: of the usual number of steps that is enough to time it (slow peers take fewer).
    """

    reset: Callable[[Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    actions: int
    share: float = 0.25


def gymnax(name: str) -> Peer:
    """A gymnax environment with its own automatic reset."""
    import gymnax as suite

    env, params = suite.make(name)

    def step(key: Any, carry: Any, action: Any) -> tuple[Any, Any]:
        obs, state, reward, *_ = env.step(key, carry[1], action, params)
        return (obs, state), reward

    return Peer(lambda key: env.reset(key, params), step, env.num_actions)


def xminigrid(name: str) -> Peer:
    """An XLand-MiniGrid environment behind its GymAutoResetWrapper."""
    import xminigrid as suite
    from xminigrid.wrappers import GymAutoResetWrapper

    env, params = suite.make(name)
    env = GymAutoResetWrapper(env)

    def step(key: Any, carry: Any, action: Any) -> tuple[Any, Any]:
        after = env.step(params, carry, action)
        return after, after.reward

    return Peer(lambda key: env.reset(params, key), step, env.num_actions(params), share=0.02)


def jumanji(name: str) -> Peer:
    """A jumanji environment behind its AutoResetWrapper."""
    import jumanji as suite
    from jumanji.wrappers import AutoResetWrapper

    env = AutoResetWrapper(suite.make(name))

    def step(key: Any, carry: Any, action: Any) -> tuple[Any, Any]:
        state, after = env.step(carry[0], action)
        return (state, after), after.reward

    return Peer(env.reset, step, int(env.action_spec.num_values), share=0.005)


PEERS: dict[str, Callable[[], Peer]] = {
    "gymnax FourRooms-misc": lambda: gymnax("FourRooms-misc"),
    "gymnax BernoulliBandit-misc": lambda: gymnax("BernoulliBandit-misc"),
    "xminigrid FourRooms": lambda: xminigrid("MiniGrid-FourRooms"),
    "xminigrid Empty-8x8": lambda: xminigrid("MiniGrid-Empty-8x8"),
    "jumanji Maze": lambda: jumanji("Maze-v0"),
}


def random_actions(key: Any, n: int, actions: int) -> Any:
    """Uniform actions, two or four from each random word, for any contestant."""
    each = 4 if actions <= 64 else 2
    words = jax.random.bits(key, (-(-n // each),), jnp.uint32)
    parts = jax.lax.bitcast_convert_type(words, jnp.uint8 if each == 4 else jnp.uint16)
    return parts.reshape(-1)[:n] % actions


def stepping(peer: Peer, n: int, steps: int) -> Callable[[], Any]:
    """``steps`` random steps of ``n`` instances, a key per instance; returns a compiled call."""

    def body(carry: Any, keys: Any) -> tuple[Any, None]:
        inner, returns = carry
        act, noise = keys
        action = random_actions(act, n, peer.actions).astype(jnp.int32)
        inner, reward = jax.vmap(peer.step)(jax.random.split(noise, n), inner, action)
        return (inner, returns + reward), None

    @jax.jit
    def run(key: Any, inner: Any) -> Any:
        acts = jax.random.split(jax.random.key(1, impl=counter_prng()), steps)
        keys = (acts, jax.random.split(key, steps))
        return jax.lax.scan(body, (inner, jnp.zeros(n)), keys)[0]

    key = jax.random.PRNGKey(0)
    inner = jax.block_until_ready(jax.jit(jax.vmap(peer.reset))(jax.random.split(key, n)))
    compiled = run.lower(key, inner).compile()
    return lambda: jax.block_until_ready(compiled(key, inner))
