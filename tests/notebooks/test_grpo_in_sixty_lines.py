"""The plain GRPO of the first lesson is the lab's recipe ``grpo``, and is as short as it says."""

import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest

import jaxrl_lab as lab
from jaxrl_lab.keys import named
from jaxrl_lab.rollouts import collect_episodes
from jaxrl_lab.types import Plan

LESSON = Path(__file__).parents[2] / "notebooks/course/00_grpo_in_sixty_lines.py"
CELL = re.compile(r"^# %%(?P<options>.*)\n(?P<body>(?:(?!# %%).*\n)*)", re.MULTILINE)


def algorithm() -> list[str]:
    """Sources of the cells that make up the sixty lines."""
    cells = CELL.finditer(LESSON.read_text())
    return [c["body"] for c in cells if 'tags=["algorithm"]' in c["options"]]


@functools.cache
def lesson() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile("".join(algorithm()), str(LESSON), "exec"), names)
    return names


def test_the_algorithm_has_at_most_sixty_lines() -> None:
    lines = [x.strip() for x in "".join(algorithm()).splitlines()]
    code = [x for x in lines if x and not x.startswith("#")]
    assert 30 < len(code) <= 60
    assert len(algorithm()) >= 5  # built up in pieces


def test_the_algorithm_needs_nothing_but_jax() -> None:
    imports = re.findall(r"^(?:import|from) (\S+)", "".join(algorithm()), re.MULTILINE)
    assert {name.partition(".")[0] for name in imports} == {"jax"}


@pytest.mark.parametrize(("epochs", "rate"), [(4, 1.6), (7, 40.0)])
def test_updates_equal_the_recipe(epochs: int, rate: float) -> None:
    """Same parameters, same prompts, same random numbers: same parameters afterwards."""
    plain = lesson()
    b, g = plain["PROMPTS"], plain["ROLLOUTS"]
    env = jaxrl_envs.make("bandit/modes", prompts=b, arms=plain["ARMS"], modes=plain["RIGHT"])
    policy = lab.policies.make("tabular", env, scale=1.5)
    recipe = lab.recipe("grpo", group=g, epochs=epochs, optimizer={"sgd": {"learning_rate": rate}})
    learner = lab.PolicyGradient(env, policy)
    world = learner.world(env.default_params)
    state = learner.init(recipe, world, jax.random.key(0))
    plan = Plan(jnp.arange(b, dtype=jnp.int32), jnp.ones((b, g), bool), jnp.zeros((b, g), jnp.int8))
    step = jax.jit(learner.update)
    plain_update = jax.jit(plain["update"], static_argnames="epochs")
    for t in range(3):
        key = jax.random.fold_in(jax.random.key(0), t)
        # The learner's first (and here only) round of collection.
        rollout = named(jax.random.fold_in(key, 0), "rollout")
        batch = collect_episodes(env, policy, world, state.params, plan, rollout)
        logits, actions = state.params["logits"], batch.action[..., 0]

        u = jax.random.uniform(jax.random.fold_in(named(rollout, "act"), 0), (b, g))
        np.testing.assert_array_equal(plain["sample"](logits, u), actions)

        ours = plain_update(logits, actions, batch.returns, step=rate, epochs=epochs)
        state, fit = step(recipe, world, state, key, jnp.int32(t), jnp.int32(3))
        moved = float(jnp.abs(state.params["logits"] - logits).max())
        assert moved > 0.01
        np.testing.assert_allclose(ours, state.params["logits"], rtol=1e-6, atol=1e-6)
    if rate > 1.6:
        assert float(fit["clipped"]) > 0  # the clip took part in the comparison


def test_the_clip_matters_in_the_comparison() -> None:
    """With the surrogate unclipped the updates differ: the test above would notice."""
    plain = lesson()
    logits = jax.random.normal(jax.random.key(0), (plain["PROMPTS"], plain["ARMS"]))
    table = plain["make_rewards"](jax.random.key(1))
    u = jax.random.uniform(jax.random.key(2), (plain["PROMPTS"], plain["ROLLOUTS"]))
    actions = plain["sample"](logits, u)
    advantage = plain["advantages"](jnp.take_along_axis(table, actions, axis=1))
    logp_old = plain["log_prob"](logits, actions) - 1.0  # every ratio is e
    slope = jax.grad(plain["objective"])
    clipped = slope(logits, actions, advantage, logp_old)
    free = slope(logits, actions, advantage, logp_old, clip=10.0)
    assert float(jnp.abs(clipped - free).max()) > 0.01


def test_unanimous_groups_have_no_advantage() -> None:
    rewards = jnp.stack([jnp.zeros(8), jnp.ones(8)])
    assert not lesson()["advantages"](rewards).any()


def test_it_learns_the_bandit() -> None:
    plain = lesson()
    table = plain["make_rewards"](jax.random.key(0))
    assert (table.sum(1) == plain["RIGHT"]).all()
    keys = jax.random.split(jax.random.key(1), 4)
    _, accuracy = jax.jit(jax.vmap(plain["train"], in_axes=(0, None)))(keys, table)
    assert (accuracy[:, 0].mean(-1) < 0.5).all()
    assert (accuracy[:, -1].mean(-1) > 0.9).all()


def test_the_solutions_of_the_exercises_hold() -> None:
    """Every block of code in a solution runs, and its assertions are true."""
    plain = dict(lesson())
    plain["table"] = plain["make_rewards"](jax.random.key(0))
    shape = (plain["PROMPTS"], plain["ROLLOUTS"])
    plain["logits"] = jax.random.normal(jax.random.key(2), (plain["PROMPTS"], plain["ARMS"]))
    plain["actions"] = plain["sample"](
        plain["logits"], jax.random.uniform(jax.random.key(3), shape)
    )
    paid = jnp.take_along_axis(plain["table"], plain["actions"], axis=1)
    plain["A"] = plain["advantages"](paid)
    text = re.sub(r"^# ?", "", LESSON.read_text(), flags=re.MULTILINE)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        assert "assert" in block
        exec(compile(block, str(LESSON), "exec"), plain)
