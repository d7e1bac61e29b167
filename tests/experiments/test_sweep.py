"""Sweeps as data: every point is the study with its settings, and nothing is trained twice."""

from __future__ import annotations

from functools import reduce
from itertools import product
from typing import Any

import jax
import numpy as np
import pytest
from experiment_cases import light as light
from jaxrl_envs import BadInput

from jaxrl_lab import config
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.labels import short_paths, value_label
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.spec import Study, effective, parse_experiment
from jaxrl_lab.experiments.sweep import FIRST_SEED, differences, expand, is_sweep, with_grid
from jaxrl_lab.recipes import recipe

SMALL: dict[str, Any] = {
    "environment": {"id": "bandit/modes", "prompts": 4, "arms": 8, "modes": 2},
    "policy": {"id": "tabular", "scale": 1.0},
    "recipe": {"group": 4, "optimizer": [{"sgd": {"learning_rate": 1.0}}]},
    "updates": 4,
    "arms": {
        "plain": {"recipe": "grpo"},
        "own slot": {"recipe": "grpo", "recipe.surrogate": [{"clip": {"low": 0.1, "high": 0.3}}]},
        "net": {"recipe": "rloo", "policy": {"id": "mlp", "hidden": [4]}},
        "other world": {"recipe": "grpo", "environment": {"id": "gridworld/two_goals"}},
    },
}
OTHER: dict[str, Any] = SMALL | {"arms": {"only": {"recipe": "grpo"}}}

AXES: list[dict[str, list[Any]]] = [
    {"recipe.group": [2, 4, 8]},
    {"arms.plain.recipe.surrogate.high": [0.2, 0.4], "recipe.epochs": [1, 2]},
    {"a.recipe.group": [2, 4], "policy.scale": [0.5, 1.0]},
    {"recipe.optimizer": [[{"sgd": {"learning_rate": 1}}], [{"adam": {"learning_rate": 0.1}}]]},
    {"a.updates": [4, 8], "b.recipe.group": [2, 4]},
    {"arms.net.policy.hidden": [[4], [4, 4]], "recipe.group": [2, 4]},
]


def study() -> Study:
    """Two experiments, with arms that replace what is common in every way there is."""
    return Study("", "?", {"a": parse_experiment(SMALL), "b": parse_experiment(OTHER)})


def same(one: Arm, other: Arm) -> bool:
    """Built from the same parts with the same numbers."""
    static = (one.env, one.policy) == (other.env, other.policy)
    trees = [jax.tree.flatten((x.recipe, x.env_params)) for x in (one, other)]
    (leaves, form), (others, other_form) = trees
    return bool(
        static
        and form == other_form
        and all(np.array_equal(x, y) for x, y in zip(leaves, others, strict=True))
    )


@pytest.mark.parametrize("axes", AXES, ids=[" ".join(a) for a in AXES])
def test_every_point_is_the_study_with_its_settings(axes: dict[str, list[Any]]) -> None:
    found = expand(with_grid(study(), axes, seeds=5))
    built = {name: e.build() for name, e in found.study.experiments.items()}
    points = list(product(*axes.values()))
    assert len(found.points) == len(set(found.points)) == len(points)
    used = set()
    for values, members in zip(points, found.members, strict=True):
        alone = reduce(lambda s, c: s.with_setting(*c), zip(axes, values, strict=True), study())
        for name, inner in alone.experiments.items():
            place, arms = members[name]
            assert list(arms.values()) == list(inner.arms)
            sizes = found.study.experiments[place].sizes
            assert sizes["updates"] == inner.updates
            assert sizes["seeds"] == range(FIRST_SEED, FIRST_SEED + 5)
            for there, arm in arms.items():
                assert same(built[place][there], inner.build()[arm]), (values, arm)
                used.add((place, there))
    assert used == {(place, arm) for place, arms in built.items() for arm in arms}


def test_the_name_of_a_recipe_in_a_slot_is_what_that_recipe_has_there() -> None:
    named = ["grpo", "dr_grpo", "reinforce"]
    built = (
        expand(with_grid(study(), {"b.recipe.advantage": named}, 2)).study.experiments["b"].build()
    )
    for name in named:
        slot = recipe(name).advantage
        mine = built[f"advantage={name}"].recipe
        assert str(mine.advantage) == str(slot)
        assert mine.surrogate == built["advantage=grpo"].recipe.surrogate


def test_an_arm_that_an_axis_does_not_reach_is_trained_once() -> None:
    axes = {"recipe.surrogate": ["clip", "importance_weighted"], "a.recipe.group": [2, 4]}
    found = expand(with_grid(study(), axes, seeds=2)).study
    names = list(found.experiments["a"].arms)
    assert sum(name.startswith("own slot: ") for name in names) == 2, "its own slot, two groups"
    assert sum(name.startswith("plain: ") for name in names) == 4
    assert list(found.experiments["b"].arms) == ["surrogate=clip", "surrogate=importance_weighted"]
    moot = {"recipe.surrogate.high": [0.2, 0.4]}
    assert "own slot" in expand(with_grid(study(), moot, seeds=2)).study.experiments["a"].arms


def test_a_sweep_survives_its_file() -> None:
    swept = with_grid(study(), AXES[1] | {"recipe": ["grpo", "rloo"]}, seeds=3)
    again = store.parse_study(config.parse_yaml(store.study_text(swept), "text"))
    assert is_sweep(again)
    assert again == swept
    assert not is_sweep(study())


@pytest.mark.parametrize(
    ("axes", "key"),
    [
        ({}, "sweep"),
        ({"recipe.group": []}, "recipe.group"),
        ({"recipe.group": 4}, "recipe.group"),
        ({"recipe.group": [4, 4]}, "recipe.group"),
        ({"a.seeds": [1, 2]}, "a.seeds"),
        ({"recipe.group": list(range(101)), "recipe.epochs": list(range(100))}, "sweep"),
    ],
)
def test_grids_that_cannot_be_meant_are_refused(axes: Any, key: str) -> None:
    with pytest.raises(BadInput) as caught:
        with_grid(study(), axes, seeds=2)
    assert caught.value.key == key


def test_a_sweep_is_not_swept() -> None:
    with pytest.raises(BadInput, match="not a sweep already"):
        with_grid(with_grid(study(), AXES[0], 2), AXES[0], 2)


def test_differences_are_the_settings_that_lead_from_one_to_the_other() -> None:
    changed = reduce(
        lambda s, c: s.with_setting(*c),
        {"a.updates": 9, "b.recipe.group": 2, "arms.plain.recipe.epochs": 3}.items(),
        study(),
    )
    found = differences(changed, study())
    assert set(found) == {"a.updates", "b.recipe.group", "a.arms.plain"}
    assert found["b.recipe.group"] == 2
    back = reduce(lambda s, c: s.with_setting(*c), found.items(), study())
    assert back.experiments == changed.experiments
    assert differences(study(), study()) == {}


# ------------------------------------------------------------------ names


def test_short_names_are_the_shortest_that_are_unique() -> None:
    paths = ["recipe.regularizer.kl.coefficient", "recipe.regularizer.entropy.coefficient"]
    assert list(short_paths(paths).values()) == ["kl.coefficient", "entropy.coefficient"]
    assert short_paths(["a.b", "b"]) == {"a.b": "a.b", "b": "b"}
    assert short_paths(["updates", "recipe.group"]) == {
        "updates": "updates",
        "recipe.group": "group",
    }


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.2, "0.2"),
        ("grpo", "grpo"),
        ([32, 32], "32+32"),
        ([], "none"),
        ([{"adam": {"learning_rate": 0.1}}], "adam(learning_rate=0.1)"),
        ({"clip": {"low": 0.1, "high": {"linear": {"start": 0, "end": 1}}}},
         "clip(low=0.1, high(linear(start=0, end=1)))"),
    ],
)  # fmt: skip
def test_values_as_names(value: Any, label: str) -> None:
    assert value_label(value) == label


def test_what_is_common_below_a_replaced_entry_is_moot() -> None:
    common = {"recipe": "grpo", "recipe.surrogate.high": 0.4, "recipe.group": 4, "policy.scale": 1}
    own = {"recipe": "kl_cov", "recipe.surrogate": ["clip"], "policy.id": "mlp"}
    assert effective(common, own) == {"recipe.group": 4} | own
