"""What a policy can do: its pass@1 on every prompt of an enumerable world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import Environment, TabularMDP, require, threefry
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.exact import solutions
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts.episodes import collect_episodes
from jaxrl_lab.rollouts.world import make_world
from jaxrl_lab.types import Plan, Tree


def prompt_ids(env: Environment, split: str) -> Int[Array, "B"]:
    """The ids of a split's prompts."""
    return jnp.asarray(np.asarray(env.level_ids(split), np.int32))


def per_state(mdp: TabularMDP) -> TabularMDP:
    """The same world, for policies that have one row per state."""
    return replace(mdp, row=jnp.arange(mdp.num_states, dtype=jnp.int32))


def most(mdp: TabularMDP) -> Float[Array, ""]:
    """The largest reward of a step: a step that pays it solves the task."""
    return jnp.max(jnp.where(mdp.terminal[:, None], -jnp.inf, mdp.reward))


def over_prompts(f: Callable[[Array], Any], ids: Int[Array, "B"], together: int) -> Any:
    """``vmap`` of f over prompts, a limited number at a time (a loop costs a second compile)."""
    if ids.size <= together:
        return jax.vmap(f)(ids)
    return jax.lax.map(f, ids, batch_size=together)


def pass_rates(
    policy: Policy,
    env: Environment,
    env_params: Tree,
    params: Tree,
    split: str = "train",
    samples: int = 1024,
    seed: int = 0,
) -> Float[Array, "B"]:
    """Pass@1 of each prompt of a split: the probability of a step that pays the most there is.

    Exact (dynamic programming) for memoryless policies wherever the state of ``tabular``
    determines the observation; otherwise the share of ``samples`` episodes per prompt, whose
    standard error √(p(1−p)/samples) is at most 0.016 by default.

    Raises:
        BadInput: a world without ``tabular`` or with stochastic moves, or an unknown split.
    """
    require(env, "tabular")
    ids = prompt_ids(env, split)
    if ids.size == 0:
        return jnp.zeros(0)
    if policy.memoryless:
        rates, complete = _exact_rates(env, policy, env_params, params, ids)
        if bool(jnp.all(complete)):
            return rates
    return _sampled_rates(env, policy, env_params, params, ids, jax.random.key(seed), samples)


@partial(jax.jit, static_argnames=("env", "policy"))
def _exact_rates(
    env: Any, policy: Policy, env_params: Tree, params: Tree, ids: Int[Array, "B"]
) -> tuple[Float[Array, "B"], Bool[Array, "B"]]:
    def one(level_id: Array) -> tuple[Array, Array]:
        level = env.make_level(env_params, level_id)
        mdp = env.tabular(env_params, level)
        obs, complete = _observations(env, env_params, level, mdp)
        states = (mdp.num_states,)
        _, out = policy.step(params, policy.start(states), obs, jnp.ones(states, bool))
        return solutions.success(per_state(mdp), out.dist.logp_all, most(mdp)), complete

    return over_prompts(one, ids, 64)


def _observations(
    env: Any, env_params: Tree, level: Tree, mdp: TabularMDP
) -> tuple[Array, Bool[Array, ""]]:
    """What is seen in each reachable state ``[S, *obs]``, and whether the state determines it.

    A packed state may hold more than the tabular one (a clock, the last token). So one packed
    state is kept for each, found by walking from the start; where two of them look different,
    there is no answer per state.
    """
    solutions.paying(mdp)  # refuses stochastic moves
    assert mdp.next is not None
    ahead = mdp.next
    count, actions = mdp.num_states, jnp.arange(mdp.num_actions, dtype=jnp.int32)
    begin = env.reset(env_params, level, env.draw_reset(jax.random.key(0), ()))
    bank = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), begin)
    known = (mdp.start > 0) & ~mdp.terminal
    still = env.draw(jax.random.key(0), ())
    see = partial(env.observe, env_params, level)

    def successors(bank: Tree) -> Tree:
        move = lambda s, a: env.step(env_params, level, s, a, still).state  # noqa: E731
        return jax.vmap(jax.vmap(move, (None, 0)), (0, None), axis_size=count)(bank, actions)

    def walk(carry: tuple[Tree, Array], _: None) -> tuple[tuple[Tree, Array], None]:
        bank, known = carry
        place = jnp.where(known[:, None] & ~known[ahead], ahead, count)
        after = successors(bank)
        bank = jax.tree.map(lambda b, x: b.at[place].set(x, mode="drop"), bank, after)
        return (bank, known.at[place].set(True, mode="drop")), None

    (bank, known), _ = jax.lax.scan(walk, (bank, known), length=mdp.horizon)
    obs = jax.vmap(see, axis_size=count)(bank)
    again = jax.vmap(jax.vmap(see, axis_size=actions.size), axis_size=count)(successors(bank))
    gap = jnp.abs(again.astype(jnp.float32) - obs[ahead].astype(jnp.float32))
    same = jnp.all(gap.reshape(count, actions.size, -1) < 1e-6, axis=-1)
    matters = known[:, None] & ~mdp.terminal[:, None] & ~mdp.terminal[ahead]
    return obs, jnp.all(same | ~matters)


@partial(jax.jit, static_argnames=("env", "policy", "samples"))
def _sampled_rates(
    env: Any,
    policy: Policy,
    env_params: Tree,
    params: Tree,
    ids: Int[Array, "B"],
    key: Array,
    samples: int,
) -> Float[Array, "B"]:
    world = make_world(env, env_params)

    def one(level_id: Array) -> Array:
        mdp = env.tabular(env_params, env.make_level(env_params, level_id))
        solutions.paying(mdp)  # refuses stochastic moves
        plan = Plan(
            level_id[None], jnp.ones((1, samples), bool), jnp.zeros((1, samples), jnp.int32)
        )
        now = threefry.fold_in(key, level_id)
        batch = collect_episodes(env, policy, world, params, plan, now)
        solved = batch.mask & (batch.channels["true"] >= most(mdp) - solutions.PAID)
        return jnp.mean(jnp.any(solved, axis=-1), dtype=jnp.float32)

    # Few prompts at a time: a transformer's memory of every episode is large.
    return over_prompts(one, ids, 4)
