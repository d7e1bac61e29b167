"""Run by test_devices.py in a process with eight devices: compares one with several."""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jaxrl_envs
import numpy as np

from jaxrl_lab import policies, recipes
from jaxrl_lab.experiments import devices
from jaxrl_lab.experiments.population import Arm, compile_program, group_arms, run_program
from jaxrl_lab.experiments.run import no_measure
from jaxrl_lab.learners import pieces

UPDATES, EVERY = 4, 2
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


def tabular() -> dict[str, Arm]:
    env = jaxrl_envs.make("bandit/modes", prompts=4, arms=7, modes=2)
    policy = policies.make("tabular", env, scale=1.0)
    recipe = recipes.recipe("grpo", group=4, epochs=2)
    wide = recipes.with_value(recipe, "surrogate.high", 0.4)
    arms = {"grpo": recipe, "wide": wide}
    return {name: Arm(env, env.default_params, policy, r) for name, r in arms.items()}


def stream() -> dict[str, Arm]:
    env = jaxrl_envs.make("gridworld/two_goals")
    policy = policies.make("mlp", env, value=True)
    recipe = recipes.recipe("ppo", prompts=64, steps=8, minibatches=4)
    return {"ppo": Arm(env, env.default_params, policy, recipe)}


def grouped() -> dict[str, Arm]:
    env = jaxrl_envs.make("reasoning/modular_chain", prompts=16, length=4, modulus=5)
    policy = policies.make("transformer", env, layers=1, width=64, heads=2, context=4)
    recipe = recipes.recipe("grpo", group=4, epochs=2, optimizer=[{"sgd": {"learning_rate": 0.5}}])
    return {"grpo": Arm(env, env.default_params, policy, recipe)}


def in_pieces() -> dict[str, Any]:
    """Two pieces of eight environments, of which each device has one."""
    pieces.ROWS["cpu"] = 8
    return compare(stream(), 1, 8)


def trained(arms: dict[str, Arm], seeds: int, many: int) -> tuple[Any, Any, Any, str]:
    mesh = devices.make_mesh(many, seeds, [arm.prompts for arm in arms.values()])
    (program,) = group_arms(arms, mesh=mesh)
    compiled = compile_program(program, range(seeds), UPDATES, EVERY, no_measure)
    states, curves = run_program(compiled, range(seeds))
    leaf = jax.tree.leaves(states.params)[0]
    place = f"{len(leaf.sharding.device_set)} devices"
    return jax.device_get(states), curves, compiled.chunk, place


def compare(arms: dict[str, Arm], seeds: int, many: int) -> dict[str, Any]:
    one, one_curves, whole, _ = trained(arms, seeds, 1)
    split, split_curves, shared, place = trained(arms, seeds, many)
    leaves = list(zip(jax.tree.leaves(one), jax.tree.leaves(split), strict=True))
    curves = [(one_curves[k], split_curves[k]) for k in one_curves]
    pairs = [(np.asarray(x, float), np.asarray(y, float)) for x, y in leaves + curves]
    return {
        "same": all(np.array_equal(x, y, equal_nan=True) for x, y in pairs),
        "apart": max(float(np.nanmax(np.abs(x - y), initial=0.0)) for x, y in pairs),
        "collectives": [c for c in COLLECTIVES if f" {c}" in shared.as_text()],
        "work": shared.cost_analysis()["flops"] / whole.cost_analysis()["flops"],
        "place": place,
    }


if __name__ == "__main__":
    cases = {
        "population": lambda: compare(tabular(), 8, 8),
        "half": lambda: compare(tabular(), 4, 4),
        "env": lambda: compare(stream(), 1, 8),
        "both": lambda: compare(stream(), 2, 8),
        "prompts": lambda: compare(grouped(), 1, 8),
        "pieces": in_pieces,
    }
    json.dump({name: cases[name]() for name in sys.argv[1:]}, sys.stdout)
