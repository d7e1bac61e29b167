"""Advantage symmetry: its measures against exact updates, its metrics, claims and figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput

from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.phenomena import Report, core
from jaxrl_lab.phenomena.advantage_symmetry import (
    CLAIMS,
    PHENOMENON,
    analyze,
    expected_path,
    measure,
    with_equal_steps,
)
from jaxrl_lab.phenomena.advantage_symmetry.analysis import by_difficulty, exact_by_difficulty

SEEDS = 3
TINY = {
    "push.environment.prompts": 4,
    "push.updates": 3,
    "difficulty.environment.prompts": 8,
    "difficulty.updates": 2,
    "flat.environment.prompts": 2,
    "flat.environment.arms": 8,
    "flat.environment.params.hardest": 0.5,
    "flat.environment.params.easiest": 0.5,
    "flat.updates": 60,
    "preference.environment.prompts": 2,
    "preference.environment.arms": 8,
    "preference.updates": 30,
    "focus.environment.prompts": 6,
    "focus.environment.arms": 4,
    "focus.policy.hidden": [8],
    "focus.policy.pretrain.steps": 20,
    "focus.policy.pretrain.tolerance": 1.0,
    "focus.updates": 4,
}


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        yield


@pytest.fixture(scope="module")
def report(light: None) -> Report:
    """Three seeds of everything but the two arms that no claim is about and nobody shares with."""
    study = core.load_study("advantage_symmetry").with_setting("seeds", SEEDS)
    for path, value in TINY.items():
        study = study.with_setting(path, value)
    alone = {"flat": "agrae", "difficulty": "disco"}
    experiments = {
        name: replace(one, arms={a: x for a, x in one.arms.items() if a != alone.get(name)})
        for name, one in study.experiments.items()
    }
    return core.run_study(PHENOMENON, replace(study, experiments=experiments))


def arms_of(experiment: str, names: tuple[str, ...], **changes: Any) -> dict[str, Arm]:
    """Some arms of the study with other settings."""
    one = core.load_study("advantage_symmetry").experiments[experiment]
    for path, value in changes.items():
        one = one.with_setting(path.replace("__", "."), value)
    return replace(one, arms={name: one.arms[name] for name in names}).build()


# ------------------------------------------------------------------ claims


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    # Whoever changes a claim changes this hash, and owes a new verdict run with fresh seeds.
    assert claims_hash(CLAIMS) == "e7fb973bfa5d2fd5"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (SEEDS,), name
    assert [v.claim for v in report.verdicts] == [c.id for c in CLAIMS]
    for name in ("adam_pushes_unsampled", "easy_to_hard_beats_static_focus"):
        assert np.isfinite(samples[name]).all()


@pytest.mark.parametrize(
    ("experiment", "arm"),
    [("push", "adam"), ("flat", "shifted"), ("preference", "attenuated"), ("focus", "hard")],
)
def test_an_arm_that_a_claim_needs_must_be_there(report: Report, experiment: str, arm: str) -> None:
    run = report.runs[experiment]
    without = replace(run, arms={name: a for name, a in run.arms.items() if name != arm})
    with pytest.raises(BadInput) as caught:
        analyze(report.runs | {experiment: without})
    assert caught.value.key == f"experiments.{experiment}.arms.{arm}"


def test_seeds_that_never_arrive_are_missing_and_counted(report: Report) -> None:
    flat = report.runs["flat"]
    accuracy = flat.dataset["accuracy"].copy()
    accuracy.loc[{"arm": "grpo", "seed": flat.seeds[0]}] = 0.3
    short = replace(flat, dataset=flat.dataset.assign(accuracy=accuracy))
    samples = analyze(report.runs | {"flat": short}).samples
    for name in ("attenuation_keeps_solutions", "push_alone_keeps_solutions"):
        assert np.isnan(samples[name][0])
        np.testing.assert_array_equal(samples[name][1:], report.analysis.samples[name][1:])


def test_a_frozen_arm_leaves_tables_and_a_figure(report: Report) -> None:
    focus = report.runs["focus"]
    blank = focus.dataset.copy(deep=True)
    for name in blank.data_vars:
        if "update" in blank[name].dims:
            blank[name].loc[{"arm": list(focus.arms), "update": slice(2, None)}] = np.nan
    runs = report.runs | {"focus": replace(focus, dataset=blank)}
    broken = core.conclude(PHENOMENON, report.study, runs)
    outcome = {v.claim: v for v in broken.verdicts}["easy_to_hard_beats_static_focus"]
    assert (outcome.outcome, outcome.missing) == ("inconclusive", SEEDS)
    assert "never (0/3)" in str(broken)
    render(broken)


# ------------------------------------------------------------------ who is pushed


def test_plain_sgd_leaves_unsampled_arms_alone(report: Report) -> None:
    pushed = report.analysis.series["pushed"]
    assert (pushed["sgd"] < 1e-5).all()
    for arm in ("attenuated", "inner_steps", "adam", "shared_parameters"):
        assert (pushed[arm] > 1e-3).all(), arm


def test_the_push_is_what_the_mean_advantage_says() -> None:
    """One update: Δz = −η/B π mean A on every arm that was not sampled, nothing else."""
    changes = {"environment__prompts": 2, "environment__arms": 12}
    seen: dict[str, Any] = {}

    def keep(env: Any, policy: Any, world: Any, first: Any, before: Any, after: Any) -> Any:
        return {
            f"{name}_{i}": x
            for name, tree in (
                ("old", before.params["logits"]),
                ("new", after.params["logits"]),
                ("count", after.memory["update.0"]),
            )
            for i, x in enumerate(tree.reshape(-1))
        }

    arms = arms_of("push", ("sgd", "attenuated"), **changes)
    ran = run_arms(arms, updates=1, seeds=range(4), measure=keep)
    for arm in arms:
        for name in ("old", "new", "count"):
            flat = [ran.curve(f"{name}_{i}", arm)[:, -1] for i in range(24)]
            seen[name] = np.stack(flat, -1).reshape(4, 2, 12)
        pi = np.asarray(jax.nn.softmax(jnp.asarray(seen["old"], jnp.float32)))
        assert (seen["count"].sum(-1) == 8).all()
        reward = _rewards(arms[arm])[None] > 0
        p = np.where(reward, seen["count"], 0).sum(-1, keepdims=True) / 8
        # With the sample deviation, mean max(A, 0) is √(p(1−p)) √(7/8).
        lost = 0.8 if arm == "attenuated" else 0.0
        push = 3.2 * pi * lost * np.sqrt(p * (1 - p) * 7 / 8)
        where = seen["count"] == 0
        moved = seen["new"] - seen["old"]
        np.testing.assert_allclose(moved[where], push[where], atol=2e-6)
        assert np.abs(moved[~where]).max() > 0.1


def _rewards(arm: Arm) -> np.ndarray:
    ids = jnp.arange(len(arm.env.level_ids("train")), dtype=jnp.int32)
    env: Any = arm.env
    return np.asarray(jax.vmap(lambda i: env.make_level(arm.env_params, i).reward)(ids))


# ------------------------------------------------------------------ exact beside sampled


def test_measured_weight_and_luck_lie_on_the_exact_curves() -> None:
    """1024 seeds of one small update: every class of difficulty within 5 standard errors."""
    arms = arms_of("difficulty", ("grpo", "attenuated", "shifted"), environment__prompts=8)
    ran = run_arms(arms, updates=1, seeds=range(1024), measure=measure.by_difficulty)
    for arm in arms:
        measured, exact = by_difficulty(ran, arm), exact_by_difficulty(arms[arm])
        rates = measured["rate"].mean(0)
        assert (np.diff(rates) > 0).all()
        np.testing.assert_allclose(rates[[0, -1]], [0.03, 0.93], atol=0.03)
        for name in ("weight", "luck"):
            sample = measured[name]
            error = sample.std(0, ddof=1) / np.sqrt(1024)
            expected = np.interp(rates, exact["rate"], exact[name])
            gap = np.abs(sample.mean(0) - expected)
            assert (gap < 5 * error + 0.01 * expected).all(), (arm, name)
            assert (error < 0.3 * expected).all(), "a test without a signal"


def test_the_path_is_what_many_rollouts_average_to() -> None:
    """From one answer ahead, 256 seeds follow the expected update at a small step."""
    arms = arms_of(
        "preference",
        ("grpo",),
        environment__prompts=2,
        environment__arms=8,
        recipe__optimizer__learning_rate=0.4,
    )
    ran = run_arms(arms, updates=12, seeds=range(256), measure=PHENOMENON.measures["flat"][0])
    path = expected_path(ran)
    for name in ("accuracy", "solutions"):
        sampled = ran.curve(name, "grpo")
        error = sampled[:, -1].std(ddof=1) / np.sqrt(256)
        np.testing.assert_allclose(sampled.mean(0), path[name], atol=2e-3 + 4 * error)
        assert abs(path[name][-1] - path[name][0]) > 10 * error, "a test without a signal"


def test_from_a_uniform_start_the_expected_update_keeps_every_solution(report: Report) -> None:
    path = expected_path(report.runs["flat"])
    np.testing.assert_allclose(path["solutions"], 4.0, atol=1e-3)
    assert path["accuracy"][-1] > path["accuracy"][0] + 0.2


def test_only_wrong_rollouts_leave_no_luck_between_equals(report: Report) -> None:
    solutions = report.runs["flat"].curve("solutions", "attenuated to 0")
    np.testing.assert_allclose(solutions, 4.0, atol=1e-3)
    assert report.runs["flat"].curve("solutions", "grpo")[:, -1].max() < 3.9


# ------------------------------------------------------------------ metrics


def test_the_equal_step_is_interpolated_in_the_logarithm_of_updates() -> None:
    others = {
        "slow": {"updates": np.array([400.0, 400.0]), "solutions": np.array([3.0, 3.0])},
        "fast": {"updates": np.array([100.0, 100.0]), "solutions": np.array([1.0, 1.0])},
        "lost": {"updates": np.array([np.nan, 200.0]), "solutions": np.array([np.nan, 1.5])},
    }
    for at, expected in ((200.0, (2.0, 1.5)), (100.0, (1.0, 1.0)), (400.0, (3.0, 3.0))):
        found = with_equal_steps({"updates": np.array([at, at])}, others)
        np.testing.assert_allclose(found, expected)
    beyond = with_equal_steps({"updates": np.array([401.0, np.nan])}, others)
    assert np.isnan(beyond).all()
    nobody = {"lost": {n: x[:1] for n, x in others["lost"].items()}}
    assert np.isnan(with_equal_steps({"updates": np.array([200.0])}, nobody)).all()


def test_thirds_are_those_of_the_initial_policy(report: Report) -> None:
    run: Result = report.runs["focus"]
    hard, middle, easy = (run.curve(f"accuracy_{t}", "grpo") for t in ("hard", "middle", "easy"))
    assert (hard[:, 0] <= middle[:, 0]).all()
    assert (middle[:, 0] <= easy[:, 0]).all()
    np.testing.assert_allclose((hard + middle + easy) / 3, run.curve("accuracy", "grpo"), atol=1e-6)


# ------------------------------------------------------------------ figure


def test_the_figure_can_be_read_on_its_own(report: Report) -> None:
    check_panels(render(report), "3 seeds")
