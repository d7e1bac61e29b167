"""Every number of every named recipe acts on the update, or is listed with the reason."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_cases import ONE, ZERO, learner_of, loud, start

from jaxrl_lab import recipes
from jaxrl_lab.mechanisms.core import each, name_of
from jaxrl_lab.recipes import recipe

INERT = {
    ("group_normalized", "eps"): "1e-6 beside a standard deviation near 1 is below float32",
    ("whiten", "eps"): "1e-8 beside a variance near 1 is below float32",
    ("consistency_gated", "eps"): "1e-6 beside a deviation of prompts near 0.3 is below float32",
    ("batch_scaled", "eps"): "1e-6 beside a standard deviation near 1 is below float32",
}
"""Numbers that are there against division by zero and do nothing else."""

INERT_IN = {
    ("grpo_n", "clip", "high"): "nothing is pulled up: only wrong answers have an advantage",
}
"""Numbers without effect in one recipe only."""

ONE_STEP = ("rl_plus",)
"""Recipes for worlds of one step."""

CHANGED = {"decay": 0.3, "discount": 0.3, "limit": 5.0, "cache": 3.0, "low": 0.01, "high": 0.02}
"""Where another value than half of the default makes the difference."""

SPECIAL = {
    ("truncated_weight", "low"): 0.01,
    ("clip_cov", "low"): 0.1,
    ("clip_cov", "high"): 0.9,
    ("clip_cov", "fraction"): 0.5,
    ("random_drop", "fraction"): 0.5,
    ("sequence_clip", "high"): 0.5,
    ("sequence_clip", "low"): 0.5,
    ("kl_cov", "fraction"): 0.5,
    ("clip_by_global_norm", "max_norm"): 1e-3,
    ("adam", "eps"): 1.0,
    ("difficulty_focus", "eps"): 1.0,
    ("bounded_ratio", "temperature"): 1.0,
    ("value_loss", "clip"): 1e-3,
    ("clip", "dual"): 1.01,
    ("dcpo", "threshold"): 5.0,
    ("safe", "low"): 0.1,
    ("safe", "high"): 1e-3,
    ("attenuate", "positive"): 0.5,
    ("decoupled_clip", "cap"): 1.01,
}

ALWAYS = ("reinforce_pp", "ppo", "grpo_kl", "dapo", "clip_cov", "mssr", "safe", "rl_plus")
"""Recipes that every run of the suite looks at; the scheduled one looks at all."""

PREPARED = {
    "dcpo": {"advantage.dcpo.target": 1.0},  # between what is remembered before and after
    # Some prompts more often than others: what all share is whitened away.
    "mssr": {"group": 8, "prompts": 6},
    # Within the two updates of the test.
    "safe": {
        "regularizer.safe.threshold": 0.005,
        "regularizer.safe.low": 0.0,
        "regularizer.safe.proportional": 1.0,
        "regularizer.safe.integral": 1.0,
        "regularizer.safe.derivative": 1.0,
    },
}
"""Settings under which every number of a recipe has something to act on."""


def prepared(name):
    """A recipe sized so that its mechanisms have something to act on: ragged, off-policy, loud."""
    built = recipe(name)
    for path, value in PREPARED.get(name, {}).items():
        built = recipes.with_value(built, path, value)
    if built.rollout == "stream":
        built = recipe(built, prompts=8, steps=12, minibatches=2)
        # A large step, so that ratios, values and gradients leave their clips.
        return recipes.with_value(built, "optimizer.adam.learning_rate", 0.1)
    if name in ("dapo", "cure"):  # the published lengths belong to other horizons than 7
        built = recipe(built, reward=[{"overlong": {"limit": 6.0, "cache": 4.0}}])
    return recipes.with_value(built, "optimizer.learning_rate", 4.0)


def numbers():
    for name in recipes.names():
        for slot, i, mech in each(recipe(name)):
            for f in dataclasses.fields(mech):
                value = getattr(mech, f.name)
                key = name_of(mech), f.name
                inert = key in INERT or (name, *key) in INERT_IN
                if isinstance(value, jax.Array) and not inert:
                    marks = () if name in ALWAYS else pytest.mark.slow
                    label = f"{name}-{name_of(mech)}.{f.name}"
                    yield pytest.param(name, slot, i, f.name, id=label, marks=marks)


def update_of(name, built):
    world_id = "bandit" if name in ONE_STEP else "gridworld"
    learner = learner_of(world_id, value="value" in built.needs)
    world, state = start(learner, built)
    params = loud(state.params, jax.random.key(1))
    trees = {n: loud(params, jax.random.key(2)) for n in state.trees}
    state = replace(state, params=params, trees=trees)

    @jax.jit
    def run(built):
        fresh = learner.init(built, world, jax.random.key(0))  # memories begin with its numbers
        begin = replace(state, memory=fresh.memory)
        first, _ = learner.update(built, world, begin, jax.random.key(5), ZERO, ONE)
        # A second update: what Adam and clipping do with a history.
        after, _ = learner.update(built, world, first, jax.random.key(6), ZERO, ONE)
        return after.params

    return run


RUNS = {}


@pytest.mark.parametrize(("name", "slot", "place", "field"), list(numbers()))
def test_a_number_changes_the_update(name, slot, place, field):
    built = prepared(name)
    if name not in RUNS:
        run = update_of(name, built)
        RUNS[name] = run, run(built)
    run, before = RUNS[name]
    mechs = list(getattr(built, slot))
    mech = mechs[place]
    default = float(getattr(mech, field))
    value = SPECIAL.get((name_of(mech), field), CHANGED.get(field, 0.5 * default))
    mechs[place] = replace(mech, **{field: jnp.float32(value)})
    after = run(replace(built, **{slot: tuple(mechs)}))
    gap = max(float(jnp.max(jnp.abs(after[k] - before[k]))) for k in before)
    assert np.isfinite(gap)
    assert gap > 1e-6


def test_what_is_listed_as_inert_is_there():
    known = {
        (name_of(m), f.name)
        for name in recipes.names()
        for _, _, m in each(recipe(name))
        for f in dataclasses.fields(m)
    }
    assert set(INERT) <= known
    assert set(SPECIAL) <= known
