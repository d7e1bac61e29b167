"""The gap of an arm: how far its regularized objective is from the best there is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs import Environment
from jaxrl_envs.core import Discrete
from jaxrl_envs.errors import BadInput, expect
from jaxtyping import Array, Float

from jaxrl_lab.exact import soft_stationary, tabulate
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.mechanisms.regularizer import EntropyBonus
from jaxrl_lab.mechanisms.reward import KLInReward
from jaxrl_lab.scaling import transitions
from jaxrl_lab.types import Tree

WINDOW = 8
"""The end of a run is its last eighth."""

SMALLEST = 1e-9
"""Keeps a logarithm finite where rounding makes a gap 0."""


def temperature(arm: Arm) -> float:
    """τ: the weight of the entropy bonus in one step, or of the KL in the reward.

    A bonus is myopic, so with several steps only the KL in the reward has the soft optimum for
    its optimum; and that KL is to the initial policy, which must then be uniform.
    """
    bonus = [m.coefficient for m in arm.recipe.regularizer if isinstance(m, EntropyBonus)]
    paid = [m.coefficient for m in arm.recipe.reward if isinstance(m, KLInReward)]
    one_step = arm.env.horizon == 1
    found = bonus if one_step else paid
    expected = "one entropy_bonus in one step, or one kl_in_reward in several"
    if len(found) != 1 or (paid if one_step else bonus):
        raise BadInput("recipe.regularizer", len(found), expected)
    scale = getattr(arm.policy, "scale", 0.0)
    expect(one_step or scale == 0.0, "policy.scale", scale, "0: the reference is uniform")
    return float(found[0])


def optimum(arm: Arm) -> float:
    """max_π E[Σ r − τ KL(π ‖ uniform)], mean over levels."""
    return float(_optimum(arm.env, arm.env_params, jnp.float32(temperature(arm))))


@partial(jax.jit, static_argnames=("env",))
def _optimum(env: Environment, params: Tree, tau: Float[Array, ""]) -> Float[Array, ""]:
    space, actions = env.observation_space, env.action_space
    assert isinstance(space, Discrete)
    assert isinstance(actions, Discrete)
    uniform = jnp.full((space.n, actions.n), -jnp.log(jnp.float32(actions.n)))
    levels = tabulate(env, params, jnp.asarray(env.level_ids("train"), jnp.int32))
    values = jax.vmap(lambda level: soft_stationary(level, tau, 1.0, uniform).v)(levels)
    return jnp.mean(jnp.sum(levels.start * values, axis=-1))


def gap_curve(run: Result, arm: str) -> np.ndarray:
    """J* − J of every seed at every point, ``[seed, update]``."""
    chosen = run.arms[arm]
    objective = run.curve("value", arm) - temperature(chosen) * run.curve("cost", arm)
    return np.asarray(np.maximum(optimum(chosen) - objective, SMALLEST))


def at_end(curve: np.ndarray) -> np.ndarray:
    """Mean over the last eighth, per seed."""
    return _mean_until(curve, curve.shape[1])


def before_middle(curve: np.ndarray) -> np.ndarray:
    """Mean over the eighth that ends in the middle, per seed."""
    return _mean_until(curve, curve.shape[1] // 2 + 1)


def late_fall(curve: np.ndarray) -> np.ndarray:
    """Doublings by which the gap falls over the second half, per seed."""
    return np.asarray(np.log2(before_middle(curve)) - np.log2(at_end(curve)))


def _mean_until(curve: np.ndarray, stop: int) -> np.ndarray:
    width = max(curve.shape[1] // WINDOW, 1)
    return np.asarray(curve[:, max(stop - width, 0) : stop].mean(1))


def ratio(run: Result, arm: str) -> np.ndarray:
    """Data-to-divergence ratio: transitions of a batch per nat that the policy moves on it."""
    moved = at_end(run.curve("kl_step", arm))
    return np.asarray(transitions(run.arms[arm].recipe) / np.maximum(moved, SMALLEST))


def home(runs: Mapping[str, Result]) -> dict[str, Result]:
    """The run that each arm is in; their names say their N and occur once."""
    return {arm: run for run in runs.values() for arm in run.arms}
