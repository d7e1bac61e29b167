"""Probe worlds with known values: what a value head learns from terminations and time limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import Discrete, Transition, make
from learner_cases import ONE, ZERO, start, train

from jaxrl_lab import policies
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.recipes import recipe

DISCOUNT = 0.9


@dataclass(frozen=True)
class Corridor:
    """Walk through rows 0 .. rows-1; entering the end pays or the clock cuts the walk off.

    ``pays(row, action)`` is the reward. The walk terminates after the last row, or is truncated
    after ``limit`` steps (0: never), standing then at the row it would have gone on from. A
    ``ring`` never terminates: its last row leads back to row 0.
    """

    rows: int = 1
    limit: int = 0
    ring: bool = False
    pay: str = "one"
    starts: int = 1

    default_params = ()
    observation_space = property(lambda self: Discrete(self.rows))
    action_space = Discrete(2)
    horizon = property(lambda self: self.limit or self.rows)
    truncates = property(lambda self: self.limit > 0)

    def level_ids(self, split):
        return range(1) if split == "train" else range(1, 1)

    def make_level(self, params, level_id):
        return ()

    def draw_reset(self, key, batch_shape):
        return jax.random.randint(key, batch_shape, 0, self.starts)

    def draw(self, key, batch_shape):
        return ()

    def reset(self, params, level, noise):
        return {"row": noise.astype(jnp.int32), "clock": jnp.int32(0)}

    def step(self, params, level, state, action, noise):
        row, clock = state["row"] + 1, state["clock"] + 1
        pays = {
            "one": jnp.float32(1.0),
            "last": (row == self.rows).astype(jnp.float32),
            "row": state["row"].astype(jnp.float32),
            "action": action.astype(jnp.float32),
            "match": (action == state["row"]).astype(jnp.float32),
        }
        late = clock >= self.limit if self.limit else jnp.bool_(False)
        over = jnp.bool_(False) if self.ring else row >= self.rows
        row = row % self.rows if self.ring else row
        return Transition({"row": row, "clock": clock}, {"true": pays[self.pay]}, over, late)

    def observe(self, params, level, state):
        return jnp.minimum(state["row"], self.rows - 1)


def learned(env, updates=60, discount=DISCOUNT, decay=0.95, **changes):
    """Values and probabilities of action 1 after some PPO on the probe."""
    policy = policies.make("tabular", env, value=True)
    built = recipe(
        "ppo",
        prompts=16,
        steps=8,
        advantage=[{"gae": {"discount": discount, "decay": decay}}],
        regularizer=[{"value_loss": {"coefficient": 1.0}}],
        optimizer=[{"adam": {"learning_rate": 0.05}}],
        **changes,
    )
    learner = PolicyGradient(env, policy)
    world, state = start(learner, built)
    state, fit = train(learner, built, world, state, jax.random.key(0), updates)
    assert bool(state.alive)
    return (
        np.asarray(state.params["value"]),
        np.asarray(jax.nn.softmax(state.params["logits"]))[:, 1],
        fit,
    )


def test_value_of_one_step_that_pays_one():
    np.testing.assert_allclose(learned(Corridor())[0], [1.0], atol=0.05)


def test_value_equals_the_observation():
    """Starts in rows 1 .. 2 of a walk that every clock tick ends: V(row) = row, undisturbed."""
    value = learned(Corridor(rows=4, limit=0, pay="row", starts=4), decay=1.0, discount=0.0)[0]
    np.testing.assert_allclose(value, [0, 1, 2, 3], atol=0.05)


def test_two_steps_are_discounted_once():
    value = learned(Corridor(rows=2, pay="last"))[0]
    np.testing.assert_allclose(value, [DISCOUNT, 1.0], atol=0.05)


def test_the_action_that_pays_is_learned_and_its_value_too():
    value, right, fit = learned(Corridor(pay="action"))
    assert right[0] > 0.95
    np.testing.assert_allclose(value, [1.0], atol=0.1)
    assert float(fit["return"][-1]) > 0.9


def test_the_action_depends_on_the_observation():
    _, right, _ = learned(Corridor(rows=2, pay="match", starts=2), discount=0.0)
    assert right[0] < 0.1
    assert right[1] > 0.9


@pytest.mark.parametrize("decay", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_a_time_limit_is_not_a_death(limit, decay):
    """A ring that pays 1 for ever is worth 1/(1-γ) wherever the clock cuts the episode."""
    value = learned(
        Corridor(rows=2, ring=True, limit=limit, starts=2), 150, discount=0.8, decay=decay
    )[0]
    np.testing.assert_allclose(value, 1 / (1 - 0.8), rtol=0.06)


def test_the_end_of_a_walk_is_a_death():
    """The same pay without a clock: the walk of three steps is worth 1 + γ + γ², not 1/(1-γ)."""
    value = learned(Corridor(rows=3))[0]
    expected = [1 + 0.9 + 0.81, 1.9, 1.0]
    np.testing.assert_allclose(value, expected, rtol=0.05)


@pytest.mark.parametrize("rollout", ["episodes", "stream"])
@pytest.mark.parametrize("limit", [2, 3, 4])
def test_exact_values_have_no_advantage_and_are_their_own_targets(rollout, limit):
    """With V exact and one reward per step, every δ is 0 but where a death is taken for a limit."""
    env = Corridor(rows=3, ring=True, limit=limit)
    exact = jnp.full(3, 1 / (1 - DISCOUNT), jnp.float32)
    policy = policies.make("tabular", env, value=True)
    built = recipe(
        "ppo",
        rollout=rollout,
        group=4,
        prompts=4 if rollout == "stream" else 1,
        steps=7,
        minibatches=1,
        advantage=[{"gae": {"discount": DISCOUNT, "decay": 1.0}}],
        optimizer=[{"sgd": {"learning_rate": 0.0}}],
    )
    learner = PolicyGradient(env, policy)
    base = {"logits": jnp.zeros((3, 2)), "value": exact}
    world, state = start(learner, built, base=base)
    tape: list = []
    learner.update(built, world, state, jax.random.key(0), ZERO, ONE, tape)
    batch = next(entry["output"] for entry in tape if entry["slot"] == "advantage")
    assert bool(jnp.any(batch.truncated[..., :-1])) == (rollout == "stream")
    np.testing.assert_allclose(batch.advantage, 0.0, atol=1e-4)
    np.testing.assert_allclose(batch.target, 1 / (1 - DISCOUNT), rtol=1e-5)

    dying = replace(env, ring=False)  # three steps, or cut off by the clock before
    base = {"logits": jnp.zeros((3, 2)), "value": jnp.asarray([2.71, 1.9, 1.0])}
    learner = PolicyGradient(dying, policy)
    world, state = start(learner, built, base=base)
    learner.update(built, world, state, jax.random.key(0), ZERO, ONE, tape := [])
    batch = next(entry["output"] for entry in tape if entry["slot"] == "advantage")
    np.testing.assert_allclose(np.where(batch.mask, batch.advantage, 0.0), 0.0, atol=1e-4)


BANDIT = make("bandit/modes", prompts=4, arms=4, modes=1)
GRID = make("gridworld/two_goals", size=3, levels=1, horizon=6)
CHAIN = make("reasoning/modular_chain", modulus=3, vocabulary=3, length=2, prompts=4)

ADAM = [{"adam": {"learning_rate": 0.05}}]
LEARNING = [
    (BANDIT, "reinforce", {"optimizer": [{"sgd": {"learning_rate": 2.0}}]}, 600),
    (BANDIT, "rloo", {"optimizer": [{"sgd": {"learning_rate": 2.0}}]}, 600),
    (BANDIT, "grpo", {"optimizer": [{"sgd": {"learning_rate": 2.0}}]}, 150),
    (BANDIT, "ppo", {"optimizer": ADAM, "prompts": 32, "steps": 4}, 150),
    (GRID, "rloo", {"optimizer": [{"sgd": {"learning_rate": 3.0}}], "group": 32}, 200),
    (GRID, "grpo", {"optimizer": [{"sgd": {"learning_rate": 3.0}}], "group": 32}, 200),
    (CHAIN, "rloo", {"optimizer": [{"sgd": {"learning_rate": 5.0}}], "group": 16}, 200),
    (CHAIN, "grpo", {"optimizer": [{"sgd": {"learning_rate": 5.0}}], "group": 16}, 200),
]


@pytest.mark.parametrize(
    ("env", "name", "changes", "updates"),
    LEARNING,
    ids=[f"{type(env).__name__}-{name}" for env, name, _, _ in LEARNING],
)
def test_tabular_policy_gradients_reach_the_optimum(env, name, changes, updates):
    built = recipe(name, **changes)
    if name == "ppo":  # the bonus of 0.01 by itself keeps some entropy
        built = recipe(built, regularizer=[{"value_loss": {}}], minibatches=2)
    policy = policies.make("tabular", env, value="value" in built.needs)
    learner = PolicyGradient(env, policy)
    world, state = start(learner, built)
    _, fit = train(learner, built, world, state, jax.random.key(1), updates)
    returns = np.asarray(fit["return"])
    assert returns[:2].mean() < 0.8
    assert returns[-20:].mean() >= 0.99
