"""Co-scaling PPO with the number of its environments, and what is said of recipes that do not."""

from __future__ import annotations

from dataclasses import replace

import jax
import pytest
from jaxrl_envs import BadInput

import jaxrl_lab as lab
from jaxrl_lab.recipes import recipe, with_value
from jaxrl_lab.scaling import co_scale, gradient_steps, scaling_faults, transitions

PPO = recipe("ppo")  # 64 environments, 4 minibatches, 32 steps, 4 epochs


@pytest.mark.parametrize("grown", [1, 2, 8, 64, 2**14])
def test_only_environments_and_minibatches_grow(grown: int) -> None:
    scaled = co_scale(PPO, 64 * grown)
    assert (scaled.prompts, scaled.minibatches) == (64 * grown, 4 * grown)
    assert scaled == replace(PPO, prompts=64 * grown, minibatches=4 * grown)
    assert transitions(scaled) == grown * transitions(PPO)
    assert gradient_steps(scaled) == grown * gradient_steps(PPO)
    # E · M · m = E · N · T, and the steps per transition do not change.
    minibatch = transitions(scaled) // scaled.minibatches
    assert minibatch == transitions(PPO) // PPO.minibatches == 512
    assert gradient_steps(scaled) * minibatch == scaled.epochs * transitions(scaled)
    assert gradient_steps(scaled) / transitions(scaled) == gradient_steps(PPO) / transitions(PPO)
    assert scaling_faults(scaled, PPO) == ()


def test_a_million_environments_with_the_numbers_of_the_public_reference() -> None:
    """512 environments, 64 steps, 32 minibatches of 4096 transitions, 8 epochs."""
    known = recipe("ppo", prompts=2048, steps=64, minibatches=32, epochs=8)
    assert transitions(known) // known.minibatches == 4096
    huge = co_scale(known, 2**20)
    assert huge.minibatches == 2**14
    assert transitions(huge) // huge.minibatches == 4096
    assert 2**40 // transitions(huge) == 2**14, "outer updates of a trillion transitions"


def test_scaling_down_and_back_changes_nothing() -> None:
    assert co_scale(PPO, 16).minibatches == 1
    assert co_scale(co_scale(PPO, 16), 64) == PPO
    assert co_scale(co_scale(PPO, 256), 1024) == co_scale(PPO, 1024)


def test_numbers_stay_the_very_same_arrays() -> None:
    for a, b in zip(jax.tree.leaves(co_scale(PPO, 4096)), jax.tree.leaves(PPO), strict=True):
        assert a is b


@pytest.mark.parametrize("count", [0, -64, 8, 72, 100, 64.0])
def test_environments_that_minibatches_cannot_share_are_refused(count: int) -> None:
    with pytest.raises(BadInput) as caught:
        co_scale(PPO, count)
    assert caught.value.key == "num_envs"
    assert "16" in caught.value.expected


def test_what_is_no_stream_of_environments_is_refused() -> None:
    for bad, key in (
        (recipe("grpo"), "recipe.rollout"),
        (replace(PPO, prompts=0), "recipe.prompts"),
        (replace(PPO, minibatches=7), "recipe.minibatches"),
    ):
        with pytest.raises(BadInput) as caught:
            co_scale(bad, 4096)
        assert caught.value.key == key
    with pytest.raises(BadInput) as caught:
        scaling_faults(PPO, recipe("grpo"))
    assert caught.value.key == "reference.rollout"


RATE = "optimizer.adam.learning_rate"


def wrong(rate: float) -> object:
    """64 times the environments in minibatches 64 times as large, with another rate."""
    return with_value(replace(PPO, prompts=4096), RATE, rate)


@pytest.mark.parametrize(
    ("factor", "says"),
    [(1.0, "is kept"), (8.0, "by its square root"), (64.0, "in proportion"), (2.0, "power 0.17")],
)
def test_a_grown_minibatch_is_a_fault_and_its_rate_rule_is_named(factor: float, says: str) -> None:
    faults = scaling_faults(wrong(2.5e-4 * factor), PPO)  # type: ignore[arg-type]
    assert "minibatches of 32768 transitions instead of 512" in faults[0]
    assert "here 4 where 256 would keep" in faults[0]
    assert says in faults[0]
    assert len(faults) == (1 if factor == 1.0 else 2)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("epochs", 1, "1 epochs instead of 4"),
        ("steps", 64, "rollouts of 64 steps instead of 32"),
        ("surrogate.high", 0.3, "surrogate.clip.high is 0.3 instead of 0.2"),
        (RATE, 1e-3, "optimizer.adam.learning_rate is 0.001 instead of 0.00025"),
        ("surrogate", "importance_weighted", "slot surrogate has other mechanisms"),
    ],
)
def test_every_other_departure_is_named(path: str, value: object, says: str) -> None:
    faults = scaling_faults(with_value(co_scale(PPO, 4096), path, value), PPO)
    assert any(says in fault for fault in faults), faults
    # A longer rollout makes the minibatches larger as well.
    assert len(faults) == (2 if path == "steps" else 1)


def test_schedules_are_compared_number_by_number() -> None:
    falling = with_value(PPO, RATE, {"linear": {"start": 1e-3, "end": 0.0}})
    faster = with_value(PPO, RATE, {"linear": {"start": 2e-3, "end": 0.0}})
    assert scaling_faults(co_scale(falling, 1024), falling) == ()
    (fault,) = scaling_faults(faster, falling)
    assert "learning_rate" in fault
    (_, changed) = scaling_faults(replace(faster, prompts=128), falling)
    assert "learning_rate" in changed
    assert "not a constant" in scaling_faults(replace(faster, prompts=128), falling)[0]


def test_it_stands_at_the_front_door() -> None:
    assert lab.co_scale is co_scale
    assert lab.scaling_faults is scaling_faults


def test_the_study_scales_as_the_rule_says() -> None:
    """The arms that its claims call co-scaled are, and the wrong ones are not."""
    from jaxrl_lab import phenomena

    study = phenomena.load_study("ppo_stagnation", "verdict")
    arms = {n: a for e in study.experiments.values() for n, a in e.build().items()}
    families = [["ppo 128", "ppo 512"]]
    families += [[f"{f} n{n}" for n in (64, 512, 4096)] for f in ("ppo", "open")]
    for family in families:
        first = arms[family[0]].recipe
        for name in family:
            grown = arms[name].recipe
            assert scaling_faults(grown, first) == ()
            assert grown.minibatches == co_scale(first, grown.prompts).minibatches
    (fault,) = scaling_faults(arms["whole 512"].recipe, arms["ppo 128"].recipe)
    assert "is kept" in fault
    assert "square root" in scaling_faults(arms["whole 512 0.12"].recipe, arms["ppo 128"].recipe)[0]
    budgets = {
        name: {e.updates * transitions(a.recipe) for n, a in e.build().items()}
        for name, e in study.experiments.items()
    }
    grid = {t for name, ts in budgets.items() if name.startswith("grid") for t in ts}
    assert grid == {2**17}
    assert {t for n, ts in budgets.items() if "bandit" in n for t in ts} == {2**16}
