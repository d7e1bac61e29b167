"""Experiments as data: read without loss, settled in a fixed order, refused by name."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from experiment_cases import experiment
from experiment_cases import light as light
from jaxrl_envs import BadInput

from jaxrl_lab import config
from jaxrl_lab.experiments import spec, store
from jaxrl_lab.experiments.spec import Experiment, Study, grid, parse_experiment
from jaxrl_lab.phenomena import core

TIERS = ("quick", "default", "verdict")
NAMES = [p.stem for p in sorted(config.folder().glob("*.yaml"))]

BASE: dict[str, Any] = {
    "environment": {"id": "bandit/modes", "prompts": 4, "arms": 8, "modes": 2},
    "policy": {"id": "tabular", "scale": 1.0},
    "recipe": {"group": 4, "epochs": 2},
    "updates": 4,
    "measure_every": 2,
    "seeds": 2,
    "arms": {"grpo": {"recipe": "grpo"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The base with one entry replaced; ``/`` separates levels."""
    data = copy.deepcopy(BASE)
    *inner, last = path.split("/")
    place = data
    for name in inner:
        place = place[name]
    place[last] = value
    return data


# ------------------------------------------------------------------ reading and writing


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", TIERS)
def test_every_study_loads_builds_and_survives_its_file(name: str, tier: str) -> None:
    study = core.load_study(name, tier)
    data = {"experiments": {n: e.to_mapping() for n, e in study.experiments.items()}}
    again = store.parse_study(config.parse_yaml(config.dump_yaml(data), "text"))
    assert again.experiments == study.experiments
    for inner in study.experiments.values():
        assert set(inner.build()) == set(inner.arms)
    expected = set(study.experiments["interventions"].arms) if "entropy" in name else set()
    assert not expected or "grpo" in expected


def test_tiers_change_what_they_name_and_nothing_else() -> None:
    quick, default, verdict = (core.load_study("entropy_collapse", t) for t in TIERS)
    for name, inner in default.experiments.items():
        assert quick.experiments[name].arms == inner.arms == verdict.experiments[name].arms
        assert quick.experiments[name].settings == inner.settings
        assert verdict.experiments[name].seeds == 256
        assert verdict.experiments[name].updates == inner.updates
    assert (quick.tier, default.tier, verdict.tier) == TIERS


def test_settings_written_flat_and_nested_are_the_same() -> None:
    nested = parse_experiment(BASE)
    flat = {
        "settings": {f"{r}.{k}": v for r in spec.ROOTS for k, v in BASE[r].items()},
        **{k: v for k, v in BASE.items() if k not in spec.ROOTS},
    }
    assert parse_experiment(flat) == nested
    assert parse_experiment(nested.to_mapping()) == nested


def test_numbers_written_as_text_are_numbers() -> None:
    data = changed("recipe/optimizer", [{"sgd": {"learning_rate": "1e-3"}}])
    data["environment"]["params"] = {"decoy_reward": "5e-1"}
    data["updates"] = "4"
    built = parse_experiment(data).build()["grpo"]
    assert float(built.recipe.optimizer[0].learning_rate) == np.float32(1e-3)
    assert float(built.env_params.decoy_reward) == 0.5


# ------------------------------------------------------------------ precedence


def test_the_arm_comes_after_what_is_common() -> None:
    arms = {
        "plain": {},
        "own": {"recipe.group": 5, "recipe.surrogate.high": 0.4, "policy.scale": 2.0},
        "other": {"recipe": "rloo"},
        "slot": {"recipe.surrogate": ["importance_weighted"]},
    }
    built = experiment(arms, actions=8).build()
    groups = {name: a.recipe.group for name, a in built.items()}
    assert groups == {"plain": 4, "own": 5, "other": 4, "slot": 4}
    assert float(built["own"].recipe.surrogate[0].high) == np.float32(0.4)
    assert built["own"].policy.scale == 2.0  # type: ignore[attr-defined]
    assert built["plain"].policy.scale == 1.0  # type: ignore[attr-defined]
    assert built["other"].recipe.name == "rloo"
    assert not built["other"].recipe.surrogate


def test_another_policy_or_world_leaves_the_options_of_the_first_behind() -> None:
    arms = {
        "net": {"policy.id": "mlp", "policy.hidden": [4], "environment.observation": "features"},
        "grid": {"environment.id": "gridworld/two_goals"},
        "same": {"policy.id": "tabular", "environment.id": "bandit/modes"},
    }
    built = experiment(arms, actions=8).build()
    assert built["net"].policy.hidden == (4,)  # type: ignore[attr-defined]
    assert built["net"].env.arms == 8  # type: ignore[attr-defined]
    assert type(built["grid"].env).__name__ == "TwoGoals"
    assert built["same"].policy.scale == 1.0  # type: ignore[attr-defined]


def test_a_study_changes_one_experiment_or_all_and_an_arm_where_it_is() -> None:
    one = experiment({"a 0.1": {}, "a 0.1.b": {}, "c": {}}, actions=8)
    study = Study("s", "?", {"x": one, "y": experiment({"c": {}}, actions=8)})
    all_ = study.with_setting("recipe.group", 6)
    assert [e.settings["recipe.group"] for e in all_.experiments.values()] == [6, 6]
    only = study.with_setting("x.seeds", 9)
    assert [e.seeds for e in only.experiments.values()] == [9, 2]
    dotted = study.with_setting("arms.a 0.1.recipe.group", 7)
    assert dotted.experiments["x"].arms["a 0.1"] == {"recipe.group": 7}
    assert dotted.experiments["y"] == study.experiments["y"]
    longer = study.with_setting("x.arms.a 0.1.b.recipe", {"group": 8})
    assert longer.experiments["x"].arms["a 0.1.b"] == {"recipe.group": 8}
    assert longer.experiments["x"].arms["a 0.1"] == {}


# ------------------------------------------------------------------ grids


def test_a_grid_is_a_product_named_after_its_values() -> None:
    one = experiment(actions=8)
    axes = {"recipe.surrogate.high": [0.2, 0.4], "recipe.group": [4, 8]}
    assert list(grid(one, axes).arms) == [
        "high=0.2, group=4",
        "high=0.2, group=8",
        "high=0.4, group=4",
        "high=0.4, group=8",
    ]
    crossed = grid(experiment({"a": {"recipe.group": 2}, "b": {}}), {"recipe.epochs": [1, 2]})
    assert list(crossed.arms) == ["a: epochs=1", "a: epochs=2", "b: epochs=1", "b: epochs=2"]
    assert crossed.arms["a: epochs=2"] == {"recipe.group": 2, "recipe.epochs": 2}
    whole = grid(one, {"recipe": ["grpo", "rloo"]})
    assert [a.recipe.name for a in whole.build().values()] == ["grpo", "rloo"]


@pytest.mark.parametrize(
    ("axes", "key"),
    [
        ({}, "axes"),
        ({"recipe.group": []}, "recipe.group"),
        ({"recipe.group": 4}, "recipe.group"),
        ({"recipe.surrogate.high": "0.2"}, "recipe.surrogate.high"),
        ({"updates": [1, 2]}, "updates"),
        ({"recpie.surrogate.high": [0.2, 0.4]}, "recpie.surrogate.high"),
        ({"environment": ["bandit/modes"]}, "arms.environment=bandit/modes.environment"),
    ],
)
def test_grids_that_sweep_nothing_are_refused(axes: Any, key: str) -> None:
    with pytest.raises(BadInput) as caught:
        grid(experiment(actions=8), axes).build()
    assert caught.value.key == key


# ------------------------------------------------------------------ refusals

A = "arms/grpo"
ADAM = [{"adam": {"learning_rate": {"linaer": {"start": 1, "end": 0}}}}]

# entry changed, value, key of the complaint, a part of what is expected, nearest name
BAD: list[tuple[str, Any, str, str, str | None]] = [
    ("updtes", 4, "updtes", "one of the keys", "updates"),
    ("updates", "ten", "updates", "valid integer", None),
    ("updates", 10.5, "updates", "valid integer", None),
    ("updates", True, "updates", "a number", None),
    ("updates", None, "updates", "valid integer", None),
    ("updates", 0, "updates", "at least 1", None),
    ("updates", 2**31, "updates", "2^31", None),
    ("seeds", -1, "seeds", "at least 1", None),
    ("first_seed", -1, "first_seed", "0 to", None),
    ("first_seed", 2**32, "first_seed", "0 to", None),
    ("measure_every", 3, "measure_every", "divisor of updates = 4", None),
    ("measure_every", 0, "measure_every", "at least 1", None),
    ("arms", {}, "arms", "at least one arm", None),
    ("arms", 5, "arms", "a mapping", None),
    ("arms/grpo", 5, "arms.grpo", "a mapping", None),
    (A, {"recpie": "grpo"}, "arms.grpo.recpie", "one of the keys", "recipe"),
    (A, {"updates": 5}, "arms.grpo.updates", "one of the keys", None),
    (A, {"recipe": "grop"}, "arms.grpo.recipe", "a named recipe", "grpo"),
    (A, {"recipe": ["grpo"]}, "arms.grpo.recipe", "name of a recipe", None),
    (A, {"recipe": 5}, "arms.grpo.recipe", "name of a recipe", None),
    (A, {"recipe": "grpo", "recipe.grop": 3}, "arms.grpo.recipe.grop", "keys", "group"),
    ("settings", 5, "settings", "a mapping", None),
    ("settings", {"polcy.id": "mlp"}, "settings.polcy.id", "one of the keys", None),
    ("policy", "mlp", "policy", "a mapping with an id", None),
    ("environment", "bandit/modes", "environment", "a mapping with an id", None),
    ("environment", None, "environment", "a mapping with an id", None),
    ("environment/id", "bandit/mods", "environment.id", "registered", "bandit/modes"),
    ("environment/id", 3, "environment.id", "string", None),
    ("environment/id", ["bandit/modes"], "environment.id", "string", None),
    ("environment/arns", 8, "environment.arns", "one of the keys", "arms"),
    ("environment/arms", 8.5, "environment.arms", "valid integer", None),
    ("environment/arms", -1, "environment.arms", "2 to 65536", None),
    ("environment/modes", 9, "environment.modes", "1 to 8", None),
    ("environment/params", 5, "environment.params", "one of the keys", None),
    ("environment/params", {"decoy": 1}, "environment.params.decoy", "keys", "decoy_reward"),
    ("environment/params", {"hardest": 1.5}, "environment.params.hardest", "between 0", None),
    ("environment/params", {"hardest": True}, "environment.params.hardest", "number", None),
    ("environment/observation", "features", "policy.id", "a network policy", None),
    ("environment/observation", "feature", "environment.observation", "'features'", None),
    ("policy/id", "tabula", "policy.id", "a policy", "tabular"),
    ("policy/id", ["mlp"], "policy.id", "string", None),
    ("policy/scal", 1, "policy.scal", "one of the keys", "scale"),
    ("policy/scale", -1, "policy.scale", "0 or a positive", None),
    ("policy/actions", 4, "policy.actions", "one of the keys", None),
    ("recipe/grop", 3, "recipe.grop", "one of the keys", "group"),
    ("recipe/group", 0, "recipe.group", "at least 1", None),
    ("recipe/group", 1, "recipe.group", "at least 2 rollouts", None),
    ("recipe/group", True, "recipe.group", "a number", None),
    ("recipe/minibatches", 3, "recipe.minibatches", "divisor of the 4 prompts", None),
    ("recipe/prompts", -2, "recipe.prompts", "0 (all) or more", None),
    ("recipe/rollout", "streams", "recipe.rollout", "'stream'", None),
    ("recipe/surrogate", ["clop"], "recipe.surrogate", "slot surrogate", "clip"),
    ("recipe/surrogate", [{"clip": {"hihg": 1}}], "recipe.surrogate.clip.hihg", "keys", "high"),
    ("recipe/surrogate", [{"clip": 5}], "recipe.surrogate.clip", "a mapping of fields", None),
    ("recipe/surrogate.hihg", 1, "recipe.surrogate.hihg", "one of the keys", "high"),
    ("recipe/advantage", ["clip"], "recipe.advantage", "slot advantage", None),
    ("recipe/optimizer", [{"sgd": {}}], "recipe.optimizer.sgd.learning_rate", "a value", None),
    ("recipe/optimizer", ADAM, "recipe.optimizer.adam.learning_rate", "linear, cosine", None),
    ("recipe/aggregate", ["token_mean"] * 2, "recipe.aggregate", "one mechanism", None),
]


@pytest.mark.parametrize(("path", "value", "key", "expected", "nearest"), BAD)
def test_what_cannot_be_meant_is_refused(
    path: str, value: Any, key: str, expected: str, nearest: str | None
) -> None:
    with pytest.raises(BadInput) as caught:
        parse_experiment(changed(path, value)).build()
    error = caught.value
    assert error.key == key
    assert expected in error.expected
    if nearest is not None:
        assert error.nearest == nearest
    assert "\n" not in str(error)
    assert str(error).startswith(f"{key} = ")


def test_off_is_not_a_number() -> None:
    text = "arms: {a: {recipe: grpo, recipe.optimizer: [sgd: {learning_rate: off}]}}\n"
    data = {k: v for k, v in BASE.items() if k != "arms"} | config.parse_yaml(text, "text")
    with pytest.raises(BadInput, match="learning_rate = False: expected a number") as caught:
        parse_experiment(data).build()
    assert caught.value.key.startswith("arms.a.recipe.optimizer")


@pytest.mark.parametrize("recipe", ["ppo", "reinforce"])
def test_a_recipe_that_needs_a_value_head_says_so(recipe: str) -> None:
    one = experiment({"a": {"recipe": recipe, "recipe.group": 2}}, actions=8)
    if recipe == "ppo":
        with pytest.raises(BadInput, match=r"policy\.value = False: expected true, because gae"):
            one.build()
        one = one.with_setting("policy.value", True)
    one.build()


@pytest.mark.parametrize(
    ("path", "key", "nearest"),
    [
        ("updats", "updats", "updates"),
        ("arms.grop.recipe", "arms.grop.recipe", "grpo"),
        ("x.updats", "updats", "updates"),
        ("interventins.updates", "interventins.updates", None),
        ("", "", None),
        (".", ".", None),
    ],
)
def test_settings_without_a_place_are_refused(path: str, key: str, nearest: str | None) -> None:
    study = Study("s", "?", {"x": Experiment({}, {"grpo": {}})})
    with pytest.raises(BadInput) as caught:
        study.with_setting(path, 3)
    assert caught.value.key == key
    if nearest:
        assert caught.value.nearest == nearest
