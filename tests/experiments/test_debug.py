"""A replay shows every mechanism of one update, and it is the update that was run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from experiment_cases import GROUP, PROMPTS, BreakAt, experiment
from experiment_cases import light as light
from jaxrl_envs import BadInput

import jaxrl_lab as lab
from jaxrl_lab.keys import named
from jaxrl_lab.mechanisms import name_of
from jaxrl_lab.mechanisms.core import each

EPOCHS = 2
SLOTS = {
    "recipe.task": [{"dynamic_sampling": {"rounds": 2}}],
    "recipe.reward": [{"overlong": {"limit": 16.0, "cache": 4.0}}],
    "recipe.credit": ["filter_groups"],
    "recipe.weight": [{"random_drop": {"fraction": 0.2}}],
    "recipe.regularizer": [
        {"kl_to_reference": {"coefficient": 0.1}},
        {"entropy_bonus": {"coefficient": 0.1}},
    ],
    "recipe.minibatches": 2,
}


@pytest.fixture(scope="module")
def result() -> lab.Result:
    return lab.sweep(experiment({"full": SLOTS}), {"recipe.group": [GROUP]}, updates=2, every=1)


@pytest.fixture(scope="module")
def tape(result: lab.Result) -> list[dict[str, Any]]:
    (name,) = result.arms
    return lab.debug(result, arm=name, seed=1, update=1)


def test_every_slot_is_on_the_tape(result: lab.Result, tape: list[dict[str, Any]]) -> None:
    (own,) = result.arms.values()
    steps = EPOCHS * 2
    seen = Counter((entry["slot"], entry["mechanism"]) for entry in tape)
    for slot, _, mech in each(own.recipe):
        inner = slot in ("surrogate", "weight", "regularizer", "aggregate", "optimizer")
        many = seen[slot, name_of(mech)]
        assert many == steps if inner else many >= 1, slot
    for entry in tape:
        assert set(entry) == {"slot", "mechanism", "input", "output"}
        assert entry["input"] is not None
        assert entry["output"] is not None
        leaves = jax.tree.leaves((entry["input"], entry["output"]))
        assert not any(isinstance(x, jax.core.Tracer) for x in leaves)


def test_shapes_on_the_tape_are_those_of_the_batch(tape: list[dict[str, Any]]) -> None:
    by_slot = {entry["slot"]: entry for entry in tape}
    assert by_slot["advantage"]["output"].advantage.shape == (PROMPTS, GROUP, 1)
    objective, aux = by_slot["surrogate"]["output"]
    assert objective.shape == (PROMPTS // 2, GROUP, 1)
    assert "clipped" in aux
    assert by_slot["aggregate"]["output"].shape == ()


def test_the_replay_is_the_update_that_ran() -> None:
    """One SGD step on the whole batch, rebuilt by hand from what the tape shows."""
    rate = 0.7
    arms = {"a": {"recipe.epochs": 1, "recipe.optimizer": [{"sgd": {"learning_rate": rate}}]}}
    ran = lab.sweep(experiment(arms), {"recipe.group": [GROUP]}, updates=1, every=1)
    (name,) = ran.arms
    own = ran.arms[name]
    for i, seed in enumerate(ran.seeds):
        tape = lab.debug(ran, arm=name, seed=seed, update=0)
        batch = next(e["output"] for e in tape if e["slot"] == "advantage")
        start = jax.jit(own.policy.init)(named(jax.random.key(seed), "init"))["logits"]
        table = np.asarray(jax.nn.log_softmax(start))
        pi = np.exp(table)
        expected, logp = np.array(start, np.float64), np.asarray(batch.logp_old)
        for b in range(PROMPTS):
            for g in range(GROUP):
                action = int(batch.action[b, g, 0])
                assert logp[b, g, 0] == pytest.approx(table[b, action], abs=1e-6)
                step = rate * float(batch.advantage[b, g, 0]) / (PROMPTS * GROUP)
                expected[b] -= step * pi[b]
                expected[b, action] += step
        np.testing.assert_allclose(ran.params[name]["logits"][i], expected, atol=2e-6)
        true = float(np.mean(batch.channels["true"]))
        assert ran.curve("return", name)[i, 1] == pytest.approx(true, abs=1e-6)
        objective = next(e["output"] for e in tape if e["slot"] == "aggregate")
        assert ran.curve("objective", name)[i, 1] == pytest.approx(float(objective), abs=1e-6)


def test_a_later_update_is_replayed_from_where_the_run_was(
    result: lab.Result, tape: list[dict[str, Any]]
) -> None:
    (name,) = result.arms
    inner = [float(e["output"]) for e in tape if e["slot"] == "aggregate"]
    assert len(inner) == EPOCHS * 2
    assert result.curve("objective", name)[1, 2] == pytest.approx(np.mean(inner), abs=1e-6)


def test_a_mechanism_of_your_own_is_replayed_by_name() -> None:
    own = {"a": {"recipe.regularizer": [BreakAt(at=1.0)]}}
    ran = lab.sweep(experiment(own), {"recipe.epochs": [1]}, updates=2)
    (name,) = ran.arms
    tape = lab.debug(ran, arm=name, seed=0, update=1)
    (entry,) = [e for e in tape if e["slot"] == "regularizer"]
    assert entry["mechanism"] == "break_at"
    assert np.isnan(entry["output"])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"arm": "fulll"}, "arm"),
        ({"seed": 2}, "seed"),
        ({"seed": -1}, "seed"),
        ({"update": 2}, "update"),
        ({"update": -1}, "update"),
    ],
)
def test_moments_outside_the_run_are_refused(
    result: lab.Result, change: dict[str, Any], key: str
) -> None:
    (name,) = result.arms
    with pytest.raises(BadInput) as caught:
        lab.debug(result, **({"arm": name, "seed": 0, "update": 0} | change))
    assert caught.value.key == key
    assert caught.value.value == change[key]


def test_the_mechanism_that_broke_a_member_is_named() -> None:
    breaking = lab.recipe("grpo", group=GROUP, regularizer=BreakAt(at=1.0))
    (base,) = experiment().build().values()
    broken = lab.run_arms(
        {"sound": base, "broken": replace(base, recipe=breaking)}, updates=3, seeds=[4, 6]
    )
    assert broken.frozen_members() == [("broken", 4), ("broken", 6)]
    assert broken.frozen() == [f"broken, seed {s}: not finite at update 1" for s in (4, 6)]
    said = lab.blame(broken, arm="broken", seed=6)
    assert said.startswith("broken, seed 6, update 1: regularizer: break_at returned")
    with pytest.raises(BadInput, match="became non-finite"):
        lab.blame(broken, arm="sound", seed=4)
