"""Running from Python: ``train`` and ``sweep``, what they return and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest
import xarray as xr
from experiment_cases import BreakAt, arm, experiment
from experiment_cases import light as light
from jaxrl_envs import BadInput

import jaxrl_lab as lab
from jaxrl_lab.experiments.run import no_measure, run_arms
from jaxrl_lab.mechanisms.optimizer import SGD

SMALL = jaxrl_envs.make("bandit/modes", prompts=4, arms=6, modes=2)


@pytest.fixture(scope="module")
def trained() -> lab.Result:
    return lab.train(SMALL, "tabular", "grpo", updates=4, seeds=[5, 2], every=2)


def test_training_returns_labelled_curves(trained: lab.Result) -> None:
    assert dict(trained.dataset.sizes) == {"arm": 1, "seed": 2, "update": 3}
    assert trained.dataset["seed"].values.tolist() == [5, 2]
    assert list(trained.arms) == ["grpo"]
    assert trained.params["grpo"]["logits"].shape == (2, 4, 6)
    assert trained.curve("tokens", "grpo").tolist() == [[0, 64, 128]] * 2
    assert np.isnan(trained.curve("return", "grpo")[:, 0]).all()
    returns = trained.curve("return", "grpo")[:, 1:]
    assert ((returns >= 0) & (returns <= 1)).all()
    assert trained.frozen() == []
    assert "arm: 1" in str(trained)
    (seconds,) = trained.seconds.values()
    assert all(s >= 0 for s in seconds.values())


@pytest.mark.parametrize(
    ("name", "arm_name", "key"),
    [("retrun", "grpo", "variable"), ("return", "grop", "arm"), ("seed", "grpo", "variable")],
)
def test_curves_that_are_not_there(trained: lab.Result, name: str, arm_name: str, key: str) -> None:
    with pytest.raises(BadInput) as caught:
        trained.curve(name, arm_name)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"updates": 0}, "updates"),
        ({"every": 3}, "measure_every"),
        ({"every": 0}, "measure_every"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [2**32]}, "seeds"),
        ({"recipe": "grop"}, "recipe"),
        ({"recipe": 3}, "recipe"),
        ({"policy": "tabula"}, "policy.id"),
        ({"env": "bandit/mode"}, "environment.id"),
        ({"policy": "mlp", "env": "bandit/modes", "recipe": "ppo"}, "policy.value"),
    ],
)
def test_trainings_that_cannot_be_meant(change: dict[str, Any], key: str) -> None:
    given = {"env": SMALL, "policy": "tabular", "recipe": "grpo", "updates": 2} | change
    with pytest.raises(BadInput) as caught:
        lab.train(given.pop("env"), given.pop("policy"), given.pop("recipe"), **given)
    assert caught.value.key == key


def test_sizes_of_a_sweep_come_from_the_experiment_unless_given() -> None:
    what = experiment(actions=6, updates=4, measure_every=2, seeds=2, first_seed=30)
    axes = {"recipe.surrogate.high": [0.2]}
    assert lab.sweep(what, axes).dataset["seed"].values.tolist() == [30, 31]
    for bad in ({"updates": 0}, {"every": 0}):
        with pytest.raises(BadInput):
            lab.sweep(what, axes, **bad)


def test_the_recipe_of_an_arm_is_swept_and_nothing_else() -> None:
    own = arm(actions=6)
    result = lab.sweep(own, {"recipe.surrogate.high": [0.1, 0.3]}, updates=1)
    highs = [float(a.recipe.surrogate[0].high) for a in result.arms.values()]
    np.testing.assert_allclose(highs, [0.1, 0.3])
    for path in ("policy.scale", "recipe", "environment.arms", "updates"):
        with pytest.raises(BadInput) as caught:
            lab.sweep(own, {path: [1.0]}, updates=1)
        assert caught.value.key == path


def test_plain_numbers_and_arrays_share_a_program() -> None:
    own = arm(actions=6)
    plain = replace(own.recipe, optimizer=(SGD(learning_rate=1.0),))
    exact = replace(own.recipe, optimizer=(SGD(learning_rate=jnp.float32(1.0)),))
    before = lab.traces()
    first, second = (
        run_arms({"a": replace(own, recipe=r)}, updates=1, seeds=[0]) for r in (plain, exact)
    )
    assert lab.traces() - before == 1
    np.testing.assert_array_equal(first.params["a"]["logits"], second.params["a"]["logits"])


def test_a_measure_is_taken_at_its_cadence_before_and_after() -> None:
    def drift(
        env: Any, policy: Any, world: Any, first: Any, before: Any, after: Any
    ) -> dict[str, Any]:
        def distance(a: Any, b: Any) -> Any:
            return jnp.sqrt(jnp.sum((a["logits"] - b["logits"]) ** 2))

        return {
            "moved": distance(after.params, first),
            "last": distance(after.params, before.params),
        }

    own = arm(actions=6)
    each = run_arms({"a": own}, updates=4, seeds=[0, 1], measure=drift)
    some = run_arms({"a": own}, updates=4, seeds=[0, 1], measure=drift, every=2)
    assert (each.curve("moved", "a")[:, 0] == 0).all()
    np.testing.assert_allclose(each.curve("moved", "a")[:, 1], each.curve("last", "a")[:, 1])
    for name in ("moved", "last", "tokens"):
        np.testing.assert_allclose(
            some.curve(name, "a"), each.curve(name, "a")[:, ::2], rtol=1e-6, atol=1e-7
        )
    pairs = each.curve("objective", "a")[:, 1:].reshape(2, 2, 2).mean(2)
    np.testing.assert_allclose(some.curve("objective", "a")[:, 1:], pairs, rtol=1e-5, atol=1e-7)


def test_no_measure_measures_nothing() -> None:
    assert no_measure(None, None, None, None, None, None) == {}  # type: ignore[arg-type]


def test_a_mechanism_of_your_own_goes_where_the_others_go() -> None:
    own = arm(**{"recipe.regularizer": [BreakAt(at=9.0), BreakAt(at=1.0)]})
    assert run_arms({"a": own}, updates=2, seeds=[0]).frozen() == [
        "a, seed 0: not finite at update 1"
    ]
    with pytest.raises(BadInput, match="several mechanisms"):
        lab.sweep(own, {"recipe.regularizer.at": [1.0]}, updates=1)


def test_more_programs_than_wait_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compiled when there is room for it and given up after its run; nothing changes."""
    from jaxrl_lab import programs
    from jaxrl_lab.experiments import running

    alone = arm()
    groups = {
        f"G {g}": replace(alone, recipe=lab.recipe(alone.recipe, group=g)) for g in (2, 3, 4, 5)
    }
    plain = run_arms(groups, updates=2, seeds=[1])
    waiting: list[int] = []
    train = running.Running._train

    def watched(self: Any, compiled: Any, *rest: Any) -> Any:
        waiting.append(len(self._jobs))
        return train(self, compiled, *rest)

    monkeypatch.setattr(running.Running, "_train", watched)
    monkeypatch.setattr(running, "AHEAD", 2)
    monkeypatch.setattr(programs, "MOST_MAPS", 0)
    frugal = run_arms(groups, updates=2, seeds=[1])
    assert waiting == [1, 1, 1, 0]
    assert list(frugal.arms) == list(groups)
    for name in groups:
        for variable in plain.dataset.data_vars:
            got, wanted = (r.dataset[variable].sel(arm=name).values for r in (frugal, plain))
            np.testing.assert_array_equal(got, wanted)


def test_blocks_of_seeds_are_the_whole_population() -> None:
    arms = {"one": arm(), "two": arm(recipe="rloo")}
    whole = run_arms(arms, updates=4, seeds=range(4), every=2)
    with lab.resources(block=2):
        parts = run_arms(arms, updates=4, seeds=range(4), every=2)
    xr.testing.assert_allclose(whole.dataset, parts.dataset, rtol=1e-5)
    for name, params in whole.params.items():
        np.testing.assert_allclose(params["logits"], parts.params[name]["logits"], rtol=1e-5)


def test_blocks_that_do_not_fit_are_refused() -> None:
    with lab.resources(block=3), pytest.raises(BadInput, match="a divisor of the number of seeds"):
        run_arms({"one": arm()}, updates=2, seeds=range(4))
