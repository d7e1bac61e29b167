"""Recipes: named ones round-trip, and whatever is not meant is refused by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs import BadInput, make

from jaxrl_lab import config, policies, recipes
from jaxrl_lab.mechanisms import SLOTS, Linear
from jaxrl_lab.mechanisms.core import each, mechanism, name_of, numbers_of
from jaxrl_lab.mechanisms.regularizer import EntropyBonus
from jaxrl_lab.mechanisms.surrogate import Clip
from jaxrl_lab.recipes import from_mapping, recipe, to_mapping, with_value

ENV = make("bandit/modes", prompts=4, arms=4, modes=1)
POLICY = policies.make("tabular", ENV, value=True)
every_recipe = pytest.mark.parametrize("name", recipes.names())


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(bool(x == y) for x, y in leaves)


def through_yaml(built):
    return from_mapping(config.parse_yaml(config.dump_yaml(to_mapping(built)), "x"))


@every_recipe
def test_named_recipes_survive_a_round_trip_through_text(name):
    built = recipe(name)
    assert built.name == name
    assert same(from_mapping(to_mapping(built)), built)
    assert same(through_yaml(built), built)
    recipe(built, prompts=4).check(ENV, POLICY)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 2.0**60, width=32), st.floats(0, 1, width=32))
def test_numbers_survive_a_round_trip_bit_for_bit(high, rate):
    built = with_value(recipe("grpo"), "surrogate.high", high)
    built = with_value(built, "optimizer.learning_rate", Linear(start=rate, end=0.0))
    assert same(through_yaml(built), built)


@every_recipe
def test_the_equation_shows_every_number(name):
    built = recipe(name)
    text = str(built)
    for _, _, mech in each(built):
        for number in numbers_of(mech).values():
            if isinstance(number, float):
                assert f"{number:g}" in text
    for size in ("epochs", "minibatches", "group" if built.rollout == "episodes" else "steps"):
        assert str(getattr(built, size)) in text


def test_the_equation_changes_with_every_slot():
    texts = {slot: str(recipe("reinforce")) for slot in ("none",)}
    changes = {
        "task": "dynamic_sampling",
        "reward": "channel",
        "advantage": "gae",
        "credit": "filter_groups",
        "surrogate": "clip",
        "weight": {"random_drop": {"fraction": 0.5}},
        "regularizer": "kl_cov",
        "aggregate": "token_mean",
        "optimizer": {"adam": {"learning_rate": 0.1}},
        "update": "refresh_reference",
    }
    assert set(changes) == set(SLOTS)
    texts |= {slot: str(recipe("reinforce", **{slot: m})) for slot, m in changes.items()}
    assert len(set(texts.values())) == len(SLOTS) + 1
    optimizers = ["clip_by_global_norm", {"sgd": {"learning_rate": 1.0}}]
    assert "sgd(1) ∘ clip‖g‖≤0.5 ∇J" in str(recipe(optimizer=optimizers))
    assert "sgd(1) ∇J" in str(recipe())


UNKNOWN = [
    ({"base": "grpoo"}, "recipe", "'grpoo'", "grpo"),
    ({"surogate": "clip"}, "recipe.surogate", "'clip'", "surrogate"),
    ({"grup": 4}, "recipe.grup", "4", "group"),
    ({"group.x": 4}, "recipe.group.x", "4", None),
    ({"surrogate": "clipp"}, "recipe.surrogate", "'clipp'", "clip"),
    ({"surrogate": {"clip": {"hihg": 0.1}}}, "recipe.surrogate.clip.hihg", "0.1", "high"),
    ({"base": "grpo", "surrogate.hihg": 0.1}, "recipe.surrogate.hihg", "0.1", "high"),
    ({"base": "grpo", "surrogate.": 0.1}, "recipe.surrogate.", "0.1", None),
    ({"base": "grpo", "surrogate.clap.high": 0.1}, "recipe.surrogate.clap.high", "0.1", "high"),
    ({"base": ["grpo"]}, "base", "['grpo']", None),
    ({"group": "many"}, "recipe.group", "'many'", None),
    ({"group": 2.5}, "recipe.group", "2.5", None),
    ({"group": True}, "recipe.group", "True", None),
    ({"rollout": "streams"}, "recipe.rollout", "'streams'", None),
    ({"surrogate": 5}, "recipe.surrogate", "5", None),
    ({"surrogate": [["clip"]]}, "recipe.surrogate", "['clip']", None),
    ({"surrogate": {"clip": 0.2}}, "recipe.surrogate.clip", "0.2", None),
    ({"surrogate": {"clip": {}, "score_function": {}}}, "recipe.surrogate", "clip", None),
    ({"surrogate": {"clip": {"high": "wide"}}}, "recipe.surrogate.clip.high", "'wide'", None),
    ({"surrogate": {"clip": {"high": False}}}, "recipe.surrogate.clip.high", "False", None),
    ({"surrogate": {"clip": {"dual": True}}}, "recipe.surrogate.clip.dual", "True", None),
    ({"surrogate": {"clip": {"high": "nan"}}}, "recipe.surrogate.clip.high", "nan", None),
    ({"surrogate": {"clip": {"high": {"line": {}}}}}, "recipe.surrogate.clip.high", "line", None),
    (
        {"surrogate": {"clip": {"high": {"linear": 3}}}},
        "recipe.surrogate.clip.high.linear",
        "3",
        None,
    ),
    (
        {"regularizer": "entropy_bonus"},
        "recipe.regularizer.entropy_bonus.coefficient",
        "None",
        None,
    ),
    ({"advantage": {"whiten": {"over": "token"}}}, "recipe.advantage.whiten.over", "'token'", None),
]


@pytest.mark.parametrize(
    ("data", "key", "value", "nearest"), UNKNOWN, ids=[str(u[0]) for u in UNKNOWN]
)
def test_what_is_not_meant_is_refused_by_key_value_and_nearest_name(data, key, value, nearest):
    with pytest.raises(BadInput) as caught:
        from_mapping(data)
    assert caught.value.key == key
    assert value in str(caught.value)
    if nearest is not None:
        assert str(caught.value).endswith(f"nearest valid name: {nearest}")


CHECKED = [
    ({"group": 0}, "recipe.group"),
    ({"epochs": 0}, "recipe.epochs"),
    ({"minibatches": 0}, "recipe.minibatches"),
    ({"minibatches": 3}, "recipe.minibatches"),
    ({"prompts": -1}, "recipe.prompts"),
    ({"steps": -1}, "recipe.steps"),
    ({"aggregate": ["token_mean", "sequence_mean"]}, "recipe.aggregate"),
    (
        {"aggregate": [{"constant_length": {"length": 0}}]},
        "recipe.aggregate.constant_length.length",
    ),
    ({"surrogate.low": -0.1}, "recipe.surrogate.clip.low"),
    ({"surrogate.dual": 1.0}, "recipe.surrogate.clip.dual"),
    ({"surrogate": [{"truncated_weight": {"high": -1}}]}, "recipe.surrogate.truncated_weight.high"),
    ({"weight": [{"clip_cov": {"fraction": 1.5}}]}, "recipe.weight.clip_cov.fraction"),
    ({"weight": [{"clip_cov": {"low": 6}}]}, "recipe.weight.clip_cov.low"),
    ({"weight": [{"random_drop": {"fraction": -0.5}}]}, "recipe.weight.random_drop.fraction"),
    ({"regularizer": [{"kl_cov": {"fraction": 2}}]}, "recipe.regularizer.kl_cov.fraction"),
    ({"optimizer.learning_rate": -1}, "recipe.optimizer.sgd.learning_rate"),
    ({"update": [{"refresh_reference": {"every": 0}}]}, "recipe.update.refresh_reference.every"),
    ({"task": [{"dynamic_sampling": {"rounds": 0}}]}, "recipe.task.dynamic_sampling.rounds"),
    ({"reward": [{"overlong": {"limit": 1, "cache": 0}}]}, "recipe.reward.overlong.cache"),
    ({"advantage": [{"group_normalized": {"ddof": 2}}]}, "recipe.advantage.group_normalized.ddof"),
    ({"rollout": "stream", "advantage": [], "task": ["dynamic_sampling"]}, "recipe.task"),
]


@pytest.mark.parametrize(("changes", "key"), CHECKED, ids=[key for _, key in CHECKED])
def test_numbers_that_make_no_sense_are_refused_before_tracing(changes, key):
    built = recipe("grpo")
    for path, value in changes.items():
        built = with_value(built, path, value)
    with pytest.raises(BadInput) as caught:
        built.check(ENV, POLICY)
    assert caught.value.key == key


def test_a_value_head_is_asked_for_where_one_is_needed():
    with pytest.raises(BadInput, match=r"policy\.value.*gae, value_loss"):
        recipe("ppo").check(ENV, policies.make("tabular", ENV))


def test_several_mechanisms_with_one_field_must_be_told_apart():
    built = recipe("grpo", regularizer=["kl_cov", {"entropy_bonus": {"coefficient": 0.1}}])
    with pytest.raises(BadInput, match=r"regularizer\.kl_cov\.coefficient"):
        with_value(built, "regularizer.coefficient", 0.5)
    changed = with_value(built, "regularizer.entropy_bonus.coefficient", "5e-1")
    assert float(changed.regularizer[1].coefficient) == 0.5
    assert same(changed.regularizer[0], built.regularizer[0])


def test_objects_are_taken_as_they_are_unless_they_cannot_be_meant():
    built = recipe("grpo", regularizer=EntropyBonus(coefficient=0.25))
    (bonus,) = built.regularizer
    assert bonus.coefficient.dtype == jnp.float32
    assert recipe(built, regularizer=None).regularizer == ()

    @mechanism
    class Mine:
        strength: float = 0.5

        def __call__(self, out, batch, aux, ctx):
            return self.strength * out.logp

    assert name_of(recipe(weight=Mine()).weight[0]) == "mine"

    @dataclass(frozen=True)
    class NotATree:
        strength: float = 0.5

    for wrong in (EntropyBonus, Clip(), 5, NotATree(), lambda *a: 0.0):
        with pytest.raises(BadInput, match=r"^recipe\.regularizer = "):
            recipe(regularizer=wrong)


def test_a_change_touches_nothing_else():
    before = recipe("ppo")
    after = with_value(before, "advantage.discount", 0.5)
    assert float(after.advantage[0].discount) == 0.5
    assert float(before.advantage[0].discount) == pytest.approx(0.99)
    assert same(dataclasses.replace(after, advantage=before.advantage), before)
