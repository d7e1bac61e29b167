"""What every world promises, checked over one table; and that the checks can fail."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import pytest
from cases_two_goals import states
from jaxrl_envs.gridworlds.two_goals import TwoGoals
from jaxrl_envs.testing import CHECKS, applicable
from world_cases import World, collect, midpoints

WORLDS = collect()


MILLIONS = {"observations_stay_in_their_space", "first_states_have_their_probabilities"}
"""Checks that take seconds because they take a million samples."""


def marks(name: str, i: int) -> list[pytest.MarkDecorator]:
    """The first configuration of a world stands for the others where time is short."""
    first = WORLDS[i].id not in {w.id for w in WORLDS[:i]}
    return [] if first else [pytest.mark.slow if name in MILLIONS else pytest.mark.thorough]


ROWS = [
    pytest.param(name, world, id=f"{name}-{world}", marks=marks(name, i))
    for i, world in enumerate(WORLDS)
    if world.id in je.registered()  # else the last test of the table says so
    for name in applicable(world)
]


@pytest.mark.parametrize(("name", "world"), ROWS)
def test_world(name: str, world: World) -> None:
    CHECKS[name](world)


def test_every_registered_world_is_in_the_table() -> None:
    assert {w.id for w in WORLDS} == set(je.registered())


# ---------------------------------------------------------------- a check that cannot fail is none


def _step(change):
    real = TwoGoals.step

    def step(self, params, level, state, action, noise):
        return change(self, real(self, params, level, state, action, noise), state, action)

    return step


def _pay_after_the_end(env, after, state, action):
    return replace(after, reward={"true": after.reward["true"] + 1.0})


def _stay_at_the_wall(env, after, state, action):
    wrong = replace(after.state, cell=jnp.where(state.cell == 0, jnp.uint8(1), after.state.cell))
    return replace(after, state=wrong)


def _wide_state(env, after, state, action):
    return replace(after, state=replace(after.state, cell=after.state.cell.astype(jnp.int32)))


def _unclamped(env, after, state, action):
    extra = jnp.where((action < 0) | (action > 3), 1.0, 0.0)
    return replace(after, reward={"true": after.reward["true"] + extra})


def _one_level(self, params, level_id):
    return replace(GOOD_LEVEL(self, params, jnp.zeros_like(level_id)), id=jnp.int32(level_id))


GOOD_LEVEL = TwoGoals.make_level
BROKEN = {
    "finished_episodes_stand_still": ("step", _step(_pay_after_the_end)),
    "table_equals_step": ("step", _step(_stay_at_the_wall)),
    "state_is_packed_and_keeps_its_types": ("step", _step(_wide_state)),
    "actions_outside_the_space_are_clamped": ("step", _step(_unclamped)),
    "observations_stay_in_their_space": ("observe", lambda self, p, level, s: jnp.int32(10**6)),
    "splits_are_disjoint_and_levels_differ": ("make_level", _one_level),
    "draws_are_prefix_stable": (
        "draw",
        lambda self, key, shape: jax.random.uniform(key, shape)[::-1] if shape else jnp.float32(0),
    ),
    "renders_as_text": ("render", lambda self, params, level, state: ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_checks_find_a_broken_world(name: str, monkeypatch) -> None:
    static = {"size": 5, "levels": 4, "slippery": name == "draws_are_prefix_stable"}
    case = World(
        "gridworld/two_goals",
        static,
        (jnp.uint8, jnp.uint8),
        other={"step_cost": 0.25},
        states=states,
        noise=midpoints if static["slippery"] else None,
    )
    CHECKS[name](case)
    member, wrong = BROKEN[name]
    monkeypatch.setattr(TwoGoals, member, wrong)
    with pytest.raises((AssertionError, TypeError)):
        CHECKS[name](case)
