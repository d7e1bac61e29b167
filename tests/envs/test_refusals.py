"""Every world refuses what it cannot be built or run with, and names the key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import jaxrl_envs as je
import pytest

BAD = [
    ("bandit/modes", {"modes": 40}, "modes"),
    ("bandit/modes", {"arm": 3}, "arm"),
    ("gridworld/two_goals", {"size": 4}, "size"),
    ("gridworld/two_goals", {"size": 17}, "size"),
    ("gridworld/two_goals", {"size": 1}, "size"),
    ("gridworld/two_goals", {"levels": 17}, "levels"),
    ("gridworld/two_goals", {"levels": 0}, "levels"),
    ("gridworld/two_goals", {"levels": 10, "test_levels": 7}, "test_levels"),
    ("gridworld/two_goals", {"horizon": -1}, "horizon"),
    ("gridworld/two_goals", {"horizon": 70_000}, "horizon"),
    ("gridworld/two_goals", {"observation": "pixels"}, "observation"),
    ("gridworld/two_goals", {"slipery": True}, "slipery"),
    ("reasoning/modular_chain", {"modulus": 1}, "modulus"),
    ("reasoning/modular_chain", {"modulus": 257}, "modulus"),
    ("reasoning/modular_chain", {"vocabulary": 1}, "vocabulary"),
    ("reasoning/modular_chain", {"length": 0}, "length"),
    ("reasoning/modular_chain", {"vocabulary": 2, "length": 31}, "length"),
    ("bandit/modes", {"prompts": 10**30}, "prompts"),
    ("bandit/meta", {"prompts": 0}, "prompts"),
    ("reasoning/kv_hop", {"prompts": 1, "test_prompts": 2**31 - 1}, "test_prompts"),
    ("reasoning/modular_chain", {"prompts": 65}, "prompts"),
    ("reasoning/modular_chain", {"test_prompts": 1}, "test_prompts"),
    ("reasoning/modular_chain", {"operators": "power"}, "operators"),
    # Only 2 of 8 residues can be reached in one step: 16 pairs have a solution.
    ("reasoning/modular_chain", {"vocabulary": 2, "length": 1, "prompts": 17}, "prompts"),
]


@pytest.mark.parametrize(("env_id", "static", "key"), BAD, ids=str)
def test_bad_structure_is_refused_by_name(env_id: str, static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make(env_id, **static)
    assert caught.value.key == key
    assert caught.value.value == static[key]


BAD_PARAMS = [
    ("bandit/modes", {}, {"decoy_reward": 1.0}),
    ("bandit/modes", {}, {"hardest": 0.0}),
    ("gridworld/two_goals", {}, {"slip": 0.1}),
    ("gridworld/two_goals", {"slippery": True}, {"slip": 1.5}),
    ("gridworld/two_goals", {}, {"step_cost": -0.1}),
    ("gridworld/two_goals", {}, {"second_reward": float("nan")}),
    ("reasoning/modular_chain", {}, {"easiest": 1.0}),
]


@pytest.mark.parametrize(("env_id", "static", "params"), BAD_PARAMS, ids=str)
def test_bad_params_are_refused_by_name(env_id: str, static: Any, params: Any) -> None:
    env = je.make(env_id, **static)
    env.check_params(env.default_params)
    (name,) = params
    with pytest.raises(je.BadInput) as caught:
        env.check_params(replace(env.default_params, **{name: jnp.float32(params[name])}))
    assert caught.value.key == name
