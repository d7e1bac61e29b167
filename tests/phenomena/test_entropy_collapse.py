"""Entropy collapse: its metrics, its exact references, its claims and its figure."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput

import jaxrl_lab as lab
from jaxrl_lab import exact, measures
from jaxrl_lab.exact import difficulty_weight
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.keys import named
from jaxrl_lab.phenomena import Report, core
from jaxrl_lab.phenomena.entropy_collapse import (
    CLAIMS,
    DESCRIBE,
    PHENOMENON,
    analyze,
    exact_flow,
    measure,
    prediction_error,
)

SEEDS = 3


def small(
    rate: float, group: int = 8, epochs: int = 1, prompts: int = 2, **more: Any
) -> dict[str, Arm]:
    """The GRPO arm of the study in a small world."""
    study = core.load_study("entropy_collapse")
    changes: dict[str, Any] = {
        "environment.prompts": prompts,
        "environment.arms": 5,
        "environment.modes": 2,
        "recipe.group": group,
        "recipe.epochs": epochs,
        "recipe.optimizer": [{"sgd": {"learning_rate": rate}}],
    }
    one = study.experiments["interventions"]
    for path, value in (changes | more).items():
        one = one.with_setting(path, value)
    return {"grpo": replace(one, arms={"grpo": one.arms["grpo"]}).build()["grpo"]}


def logits(arm: Arm, seed: int) -> jax.Array:
    return arm.policy.init(named(jax.random.key(seed), "init"))["logits"]


def rewards(arm: Arm) -> jax.Array:
    ids = jnp.arange(len(arm.env.level_ids("train")), dtype=jnp.int32)
    return jax.vmap(lambda i: arm.env.make_level(arm.env_params, i).reward)(ids)


# ------------------------------------------------------------------ claims


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    # A verdict belongs to claims stated before its run. Whoever changes a claim changes this
    # hash, and owes a new verdict run with seeds that no earlier run has seen.
    assert claims_hash(CLAIMS) == "32cc5cb7ce331c70"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (SEEDS,), name
    assert [v.claim for v in report.verdicts] == [c.id for c in CLAIMS]
    for name in ("first_order_breaks_sgd", "exponential_law_predicts"):
        assert np.isfinite(samples[name]).all()


def test_seeds_that_never_arrive_are_missing_and_counted(report: Report) -> None:
    main = report.runs["interventions"]
    accuracy = main.dataset["accuracy"].copy()
    accuracy.loc[{"arm": "grpo", "seed": main.seeds[0]}] = 0.3
    sample = analyze(_with(report, main.dataset.assign(accuracy=accuracy))).samples
    verdicts = core.conclude(PHENOMENON, report.study, _with(report, main.dataset)).verdicts
    assert [v.outcome for v in verdicts] == [v.outcome for v in report.verdicts]
    for name in ("excess_collapse", "clip_higher_keeps_solutions"):
        assert np.isnan(sample[name][0])
        before = report.analysis.samples[name]
        np.testing.assert_array_equal(sample[name][1:], before[1:])


def _with(report: Report, dataset: Any) -> dict[str, Result]:
    return report.runs | {"interventions": replace(report.runs["interventions"], dataset=dataset)}


def test_an_arm_that_a_claim_needs_must_be_there(report: Report) -> None:
    main = report.runs["interventions"]
    without = {name: arm for name, arm in main.arms.items() if name != "kl_cov"}
    with pytest.raises(BadInput) as caught:
        analyze(report.runs | {"interventions": replace(main, arms=without)})
    assert caught.value.key == "experiments.interventions.arms.kl_cov"


def test_frozen_members_are_missing_and_kill_nothing(report: Report) -> None:
    """Whole arms and single seeds blank from some update on: still tables and a figure."""
    main = report.runs["interventions"]
    blank = main.dataset.copy(deep=True)
    for name in blank.data_vars:
        if "update" in blank[name].dims:
            blank[name].loc[{"arm": "grpo", "update": slice(4, None)}] = np.nan
            blank[name].loc[{"arm": "kl_cov", "seed": main.seeds[1], "update": slice(2, None)}] = (
                np.nan
            )
    broken = core.conclude(PHENOMENON, report.study, _with(report, blank))
    assert np.isnan(broken.analysis.samples["excess_collapse"]).all()
    outcome = {v.claim: v for v in broken.verdicts}["excess_collapse"]
    assert (outcome.outcome, outcome.missing) == ("inconclusive", SEEDS)
    render(broken)
    assert "never (0/3)" in str(broken)


# ------------------------------------------------------------------ first order


def test_first_order_is_exact_in_the_limit_of_small_steps() -> None:
    errors = []
    for rate in (0.5, 0.05):  # the first update of either meets the same luck
        ran = run_arms(small(rate), updates=1, seeds=range(4), measure=measure)
        errors.append(prediction_error(ran, "grpo"))
    assert (errors[0] > 1e-3).all()
    assert (errors[1] < 0.04).all()
    # The miss is of second order: ten times smaller at a tenth of the step.
    np.testing.assert_allclose(errors[1] / errors[0], 0.1, atol=0.04)


def test_no_step_is_no_miss() -> None:
    ran = run_arms(small(0.0), updates=2, seeds=[0, 1], measure=measure)
    assert prediction_error(ran, "grpo").tolist() == [0.0, 0.0]
    for name in ("kl", "kl_step", "entropy_change", "absolute_change"):
        assert (ran.curve(name, "grpo") == 0).all(), name


# ------------------------------------------------------------------ exact references


def test_the_flow_starts_along_the_expected_gradient() -> None:
    """One step of it is the difficulty-weighted gradient of the expected reward, by jax.grad."""
    rate, group = 0.05, 4
    arms = small(rate, group=group)
    ran = run_arms(arms, updates=1, seeds=[3, 8], measure=measure)
    flow = exact_flow(ran, "grpo")
    assert set(flow) == {"accuracy", "solutions"}
    assert flow["accuracy"].shape == (2, 2)
    reward = rewards(arms["grpo"])

    def accuracy(z: jax.Array) -> jax.Array:
        return jnp.sum(jax.nn.softmax(z) * reward, -1)

    for i, seed in enumerate(ran.seeds):
        z = logits(arms["grpo"], seed)
        weight = difficulty_weight(accuracy(z), group, ddof=1)[:, None]
        gradient = jax.grad(lambda z: jnp.sum(accuracy(z)))(z)
        after = z + rate / 2 * weight * gradient
        expected = [float(jnp.mean(accuracy(x))) for x in (z, after)]
        np.testing.assert_allclose(flow["accuracy"][i], expected, atol=2e-7)
        assert ran.curve("accuracy", "grpo")[i, 0] == pytest.approx(expected[0], abs=1e-6)


def test_the_flow_is_what_many_rollouts_average_to() -> None:
    """Groups of 8 drawn for 512 seeds from one start follow the exact expectation."""
    arms = small(0.4, epochs=2)
    start = {"logits": logits(arms["grpo"], 7)}
    arms["grpo"] = replace(arms["grpo"], base=start)
    ran = run_arms(arms, updates=6, seeds=range(512), measure=measure, every=3)
    flow = exact_flow(replace(ran, seeds=(0,)), "grpo")
    for name in ("accuracy", "solutions"):
        sampled, curve = ran.curve(name, "grpo"), flow[name][0, ::3]
        assert np.ptp(sampled[:, 0]) < 1e-6
        error = sampled.std(0, ddof=1) / np.sqrt(512)
        np.testing.assert_allclose(sampled.mean(0), curve, atol=1e-4 + 4 * error.max())
        assert abs(curve[-1] - curve[0]) > 10 * error.max(), "a test without a signal"


def test_there_is_no_flow_where_it_would_not_be_the_expected_update() -> None:
    changes: list[dict[str, Any]] = [
        {"recipe.optimizer": [{"adam": {"learning_rate": 0.1}}]},
        {"recipe.optimizer": [{"sgd": {"learning_rate": 0.1, "momentum": 0.9}}]},
        {"recipe.optimizer.learning_rate": {"linear": {"start": 1.0, "end": 0.0}}},
        {"recipe.advantage": ["leave_one_out"]},
        {"recipe.prompts": 1},
        {"recipe.minibatches": 2},
        {"policy": {"id": "mlp", "hidden": [4]}, "environment.observation": "features"},
    ]
    for change in changes:
        bare = Result(_no_data(), small(0.1, **change), 1, (0,), measure)
        assert exact_flow(bare, "grpo") == {}, change


def _no_data() -> Any:
    import xarray as xr

    return xr.Dataset()


def test_natural_gradient_never_changes_the_shares_of_right_answers() -> None:
    arm = small(0.1, prompts=4)["grpo"]
    z, reward = logits(arm, 0), rewards(arm)
    right = reward > 0
    path = exact.replicator_flow(z, reward, jnp.array([0.0, 1.0, 3.0, 9.0]))
    accuracy = jax.vmap(lambda logp: measures.accuracy(logp, right))(path)
    deficit = jax.vmap(lambda logp: measures.solution_deficit(logp, right))(path)
    assert (jnp.diff(accuracy, axis=0) > 0).all()
    np.testing.assert_allclose(deficit, jnp.broadcast_to(deficit[0], deficit.shape), atol=2e-5)


def test_measures_at_the_start_are_those_of_the_initial_policy(report: Report) -> None:
    main = report.runs["interventions"]
    for i, seed in enumerate(main.seeds):
        arm = main.arms["grpo"]
        logp = jax.nn.log_softmax(logits(arm, seed))
        right = rewards(arm) > 0
        for name, value in (
            ("accuracy", measures.accuracy(logp, right)),
            ("deficit", measures.solution_deficit(logp, right)),
            ("entropy", measures.token_entropy(logp)),
        ):
            found = main.curve(name, "grpo")[i, 0]
            assert found == pytest.approx(float(jnp.mean(value)), abs=1e-5), name
    for name in ("kl", "kl_step", "absolute_change"):
        assert (main.dataset[name].isel(update=0) == 0).all()
    assert set(DESCRIBE) <= set(main.dataset.data_vars)


def test_a_world_without_exact_answers_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        lab.train("gridworld/two_goals", "tabular", "grpo", updates=1, measure=measure)
    assert caught.value.key == "environment.id"


# ------------------------------------------------------------------ further remedies


def test_further_remedies_are_shown_and_claimed_of_none(report: Report) -> None:
    assert "further" not in report.runs, "the verdict tier only"
    runs = report.runs | {"further": report.runs["interventions"]}
    analysis = analyze(runs)
    assert set(analysis.samples) == {claim.id for claim in CLAIMS}
    assert any("Further remedies, without a claim" in text for text in analysis.tables)
    axes = replace(report, runs=runs, analysis=analysis).figure().axes
    assert len(axes) == 9
    shown = {t.get_text() for t in axes[4].get_legend().get_texts()}
    assert shown == set(runs["further"].arms)


def test_all_arms_generate_as_many_tokens() -> None:
    study = core.load_study("entropy_collapse", "verdict")
    for arm in study.experiments["further"].build().values():
        prompts = arm.recipe.prompts or len(arm.env.level_ids("train"))
        assert prompts * arm.recipe.group == 512


def test_the_box_trains_what_no_claim_is_about_only_once() -> None:
    study = core.load_study("entropy_collapse", "verdict")
    assert study.box is not None
    cells = [reduce(lambda s, c: s.with_setting(*c), c.items(), study) for c in study.box.cells()]
    assert len(cells) == 81
    assert len({str(cell.experiments["further"]) for cell in cells}) == 1
    assert len({str(cell.experiments["interventions"]) for cell in cells}) == 81
    assert len({str(cell.experiments["breakdown"]) for cell in cells}) == 27


# ------------------------------------------------------------------ figure


def test_the_figure_can_be_read_on_its_own(report: Report) -> None:
    figure = report.figure()
    check_panels(figure, "3 seeds")
    axes = figure.axes
    labels = " ".join(ax.get_ylabel() for ax in axes)
    assert "(nats)" in labels
    assert "effective solutions (of 2)" in labels
    assert "(batches)" in axes[0].get_xlabel()
    (legend,) = [axes[0].get_legend()]
    shown = {text.get_text() for text in legend.get_texts()}
    assert shown == set(report.runs["interventions"].arms)
    curves = [line for line in axes[0].get_lines() if line.get_label() in shown]
    looks = {(line.get_color(), str(line.get_linestyle())) for line in curves}
    assert len(looks) == len(shown), "every arm has its own look"
    render(report)


def test_a_run_too_short_for_any_law_makes_a_figure_too(report: Report) -> None:
    main = report.runs["interventions"].dataset
    short = core.conclude(PHENOMENON, report.study, _with(report, main.isel(update=slice(0, 3))))
    assert np.isnan(short.analysis.samples["exponential_law_predicts"]).all()
    render(short)


def test_one_seed_makes_a_figure_too(report: Report) -> None:
    runs = {
        name: replace(run, dataset=run.dataset.isel(seed=[0]), seeds=run.seeds[:1])
        for name, run in report.runs.items()
    }
    single = core.conclude(PHENOMENON, report.study, runs)
    assert {v.outcome for v in single.verdicts} == {"inconclusive"}
    render(single)
    assert single.figure().get_supxlabel().startswith("1 seed")
