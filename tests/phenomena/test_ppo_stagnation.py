"""Stagnation of PPO: exact gaps, the quadratic on sampled plateaus, claims and figure."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput

from jaxrl_lab.exact import expected_return
from jaxrl_lab.exact.levels import tabulate
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.result import Result, assemble
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.phenomena import Report, core
from jaxrl_lab.phenomena.ppo_stagnation import (
    CLAIMS,
    DESCRIBE,
    PHENOMENON,
    analyze,
    gap_curve,
    measure,
    optimum,
    predicted,
)
from jaxrl_lab.phenomena.ppo_stagnation.analysis import (
    LARGER,
    NEEDED,
    rates,
    square_root_arm,
    tuned,
)
from jaxrl_lab.phenomena.ppo_stagnation.gaps import at_end, before_middle, ratio, temperature
from jaxrl_lab.rollouts import World
from jaxrl_lab.scaling import co_scale, scaling_faults, transitions

SEEDS, POINTS = 3, 33
SHAPE = (SEEDS, POINTS)


def arms(experiment: str) -> dict[str, Any]:
    return core.load_study("ppo_stagnation").experiments[experiment].build()


@pytest.fixture(scope="module")
def report() -> Report:
    return written("default")


def written(tier: str) -> Report:
    """Curves written by hand instead of trained: what the analysis makes of them is known."""
    study = core.load_study("ppo_stagnation", tier).with_setting("seeds", SEEDS)
    runs = {}
    for name, experiment in study.experiments.items():
        built, curves = experiment.build(), {}
        for arm, one in built.items():
            cost = np.random.default_rng(0).uniform(0.2, 0.4, SHAPE)
            value = optimum(one) - written_gap(arm) + temperature(one) * cost
            spent = np.broadcast_to(np.linspace(0, 2**17, POINTS), SHAPE)
            step = np.full(SHAPE, 1e-3)
            curves[arm] = {"value": value, "cost": cost, "kl_step": step, "tokens": spent}
        running = {arm: np.full(SEEDS, -1) for arm in built}
        every, seeds = experiment.updates // (POINTS - 1), tuple(range(SEEDS))
        dataset = assemble(curves, running, seeds, max(every, 1), DESCRIBE)
        runs[name] = Result(dataset, built, experiment.updates, seeds, measure)
    return core.conclude(PHENOMENON, study, runs)


def written_gap(arm: str) -> np.ndarray:
    """Falls to a level of its own by the middle, and is a tenth lower at the end; by seed."""
    level = 0.01 * LEVELS.get(arm, 1.0) * np.array([1.0, 1.5, 2.0])[:, None]
    late = np.arange(POINTS) > POINTS // 2
    return level * np.where(late, 0.9, 1.0) * (1.0 + 50.0 * np.exp(-np.arange(POINTS)))


LEVELS = {
    "ppo 32": 8.0,
    "ppo 128": 4.0,
    "ppo 512": 3.0,
    "ppo 512 0.015": 2.0,
    "drop 32": 1.0,
    "decay 32": 0.5,
    "ewma 32 64": 4.0,
    "ppo 512 0.06": 1.0,
    "whole 512": 1.5,
    "whole 512 0.48": 0.5,
    "whole 512 0.12": 12.0,
    "ppo n64": 8.0,
    "ppo n4096": 1.0,
    "open n64": 8.0,
    "open n4096": 4.0,
    "once n64": 2.0,
}
"""Gaps at the end, as multiples of one unit; 1 where nothing is said."""

EXPECTED = {
    "stalls": np.log2(1 / 0.9),
    "drop_recovers": 3.0,
    "coscale_lifts": np.log2(8 / 3),
    "monotone": np.log2(4 / 3),
    "coscale_beats_decay": np.log2(0.5 / 3),
    "sqrt_rate_fails": 2.0,
    "minibatches_beat_rates": -1.0,  # 0.48 is best of its three, 0.06 of the others
    "older_anchor_lowers": 1.0,
    "clip_makes_scale_pay": 2.0,
    "coscale_beats_one_epoch": 1.0,
}


# ------------------------------------------------------------------ claims


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    # A verdict belongs to claims stated before its run. Whoever changes a claim changes this
    # hash, and owes a new verdict run with seeds that no earlier run has seen.
    assert claims_hash(CLAIMS) == "c73e867452a12948"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (SEEDS,), name
        np.testing.assert_allclose(sample, EXPECTED[name], atol=2e-3, err_msg=name)


@pytest.mark.parametrize(("experiment", "arm"), [(e, a) for e, own in NEEDED.items() for a in own])
def test_an_arm_that_a_claim_needs_must_be_there(report: Report, experiment: str, arm: str) -> None:
    run = report.runs[experiment]
    without = {name: one for name, one in run.arms.items() if name != arm}
    with pytest.raises(BadInput) as caught:
        analyze(report.runs | {experiment: replace(run, arms=without)})
    assert caught.value.key == f"experiments.{experiment}.arms.{arm}"


# ------------------------------------------------------------------ exact gaps


def test_the_bandits_optimum_and_gap_are_closed_forms() -> None:
    arm = arms("bandit_64")["ppo n64"]
    r, tau = np.array([1.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]), temperature(arm)
    assert tau == 0.5
    assert optimum(arm) == pytest.approx(tau * np.log(np.mean(np.exp(r / tau))), rel=1e-5)
    # J* − J = τ KL(π ‖ π*), mean over prompts.
    logits = jax.random.normal(jax.random.key(0), (8, 8))
    levels = jax.jit(tabulate, static_argnums=0)(arm.env, arm.env_params, jnp.arange(8))
    star, logp = (np.asarray(jax.nn.log_softmax(x)) for x in (levels.reward[:, 0] / tau, logits))
    seen = measured(arm, logits)
    gap = tau * (np.exp(logp) * (logp - star)).sum(-1).mean()
    assert optimum(arm) - (seen["value"] - tau * seen["cost"]) == pytest.approx(gap, rel=1e-4)


def measured(arm: Any, logits: jax.Array) -> dict[str, float]:
    """The measure of a table, with no step taken."""
    world = World(arm.env_params, None, 0)

    @jax.jit
    def look(table: jax.Array) -> Any:
        state: Any = SimpleNamespace(trees={}, params={"logits": table})
        return measure(arm.env, arm.policy, world, {}, state, state)

    seen = {name: float(x) for name, x in look(logits).items()}
    assert set(seen) == set(DESCRIBE)
    assert seen["kl_step"] == 0.0
    return seen


def test_the_grids_gap_is_that_of_the_regularized_return() -> None:
    """Value minus τ times cost, against the reward r − τ log(π/uniform) over a long horizon."""
    arm = arms("grid_32")["ppo 32"]
    logits = 0.3 * jax.random.normal(jax.random.key(0), (25, 4))
    logp, tau = jax.nn.log_softmax(logits), temperature(arm)
    find = jax.jit(tabulate, static_argnums=0)
    level = find(replace(arm.env, horizon=4000), arm.env_params, jnp.int32(0))
    paid = replace(level, reward=level.reward - tau * (logp + jnp.log(4.0))[level.row])
    seen = measured(arm, logits)
    assert seen["value"] == pytest.approx(float(expected_return(level, logp)), rel=1e-4)
    objective = seen["value"] - tau * seen["cost"]
    assert objective == pytest.approx(float(expected_return(paid, logp)), rel=1e-4)
    assert optimum(arm) > objective


def test_the_average_is_what_is_measured_where_one_is_kept() -> None:
    chosen = arms("grid_32")
    ran = run_arms(
        {k: chosen[k] for k in ("ppo 32", "polyak 32")}, updates=16, seeds=range(2),
        measure=measure, every=8, describe=DESCRIBE,
    )  # fmt: skip
    # The average lags behind, and the training itself is the same.
    assert (gap_curve(ran, "polyak 32")[:, -1] > gap_curve(ran, "ppo 32")[:, -1]).all()
    assert (gap_curve(ran, "ppo 32") > 0).all()
    np.testing.assert_allclose(
        ran.curve("kl_step", "polyak 32"), ran.curve("kl_step", "ppo 32"), rtol=1e-4, atol=1e-9
    )


def test_a_temperature_must_be_where_the_optimum_has_it() -> None:
    bandit, grid = arms("bandit_64")["ppo n64"], arms("grid_32")["ppo 32"]
    for arm in (
        replace(bandit, recipe=replace(bandit.recipe, regularizer=())),
        replace(grid, recipe=replace(grid.recipe, reward=())),
        replace(grid, policy=replace(grid.policy, scale=1.0)),
    ):
        with pytest.raises(BadInput):
            temperature(arm)


# ------------------------------------------------------------------ the quadratic


def test_the_quadratic_foretells_sampled_plateaus() -> None:
    """Without a clip, four epochs and one; time averages over 24 seeds."""
    chosen = {name: arms("bandit_64")[name] for name in ("open n64", "once n64")}
    ran = run_arms(chosen, updates=1600, seeds=range(24), measure=measure, every=50)
    for name, arm in chosen.items():
        gap = gap_curve(ran, name)[:, 16:].mean(1)
        error = gap.std(ddof=1) / np.sqrt(gap.size)
        assert abs(gap.mean() - predicted(arm)) < 4 * error + 0.05 * predicted(arm), name
        assert error < 0.1 * predicted(arm)
    ratio_ = predicted(chosen["open n64"]) / predicted(chosen["once n64"])
    assert ratio_ == pytest.approx(4.0, rel=0.01)


def test_the_study_predicts_less_for_more_data_and_nothing_for_one_epoch() -> None:
    known = {n: predicted(a) for e in ("bandit_64", "bandit_4096") for n, a in arms(e).items()}
    assert known["open n64"] > 1.5 * known["open n4096"] > 1.5 * known["once n4096"]
    assert known["once n64"] == pytest.approx(known["once n4096"], rel=1e-3)


# ------------------------------------------------------------------ windows, rates, tuning


def test_windows_by_hand() -> None:
    curve = np.arange(33.0)[None]
    assert at_end(curve)[0] == np.mean([29, 30, 31, 32])
    assert before_middle(curve)[0] == np.mean([13, 14, 15, 16])
    assert at_end(np.arange(3.0)[None])[0] == 2.0
    assert before_middle(np.arange(3.0)[None])[0] == 1.0


def test_the_ratio_is_transitions_per_nat(report: Report) -> None:
    for name, arm, size in (("grid_32", "ppo 32", 128), ("grid_512", "ppo 512", 2048)):
        np.testing.assert_allclose(ratio(report.runs[name], arm), size / 1e-3, rtol=1e-6)


def test_the_square_root_rule_is_found_among_the_rates() -> None:
    run: Any = type("Run", (), {"arms": arms("grid_512")})()
    assert square_root_arm(run) == "whole 512 0.12"
    assert list(rates(run, "ppo 512")) == pytest.approx([0.015, 0.03, 0.06])
    assert len(rates(run, "whole 512")) == 3


def test_the_rate_is_chosen_on_the_other_half() -> None:
    a, b = np.array([5.0, 4.0, 5.0, 4.0]), np.array([1.0, 9.0, 1.0, 9.0])
    # Even seeds do best with b, odd ones with a: each half gets what the other prefers.
    np.testing.assert_array_equal(tuned({"a": a, "b": b}, {1.0: "a", 2.0: "b"}), [5, 9, 5, 9])
    lost = np.array([np.nan, 1.0, 1.0, np.nan])
    np.testing.assert_array_equal(tuned({"a": a, "b": lost}, {1.0: "a", 2.0: "b"}), a)


# ------------------------------------------------------------------ figure


def test_the_figure_can_be_read_on_its_own(report: Report) -> None:
    check_panels(render(report), "3 seeds", x_labels=False)


def test_frozen_and_single_seeds_make_a_figure_too(report: Report) -> None:
    runs = dict(report.runs)
    blank = runs["grid_512"].dataset.copy(deep=True)
    for name in blank.data_vars:
        if "update" in blank[name].dims:
            blank[name].loc[{"arm": "whole 512 0.12", "update": slice(1, None)}] = np.nan
    broken = runs | {"grid_512": replace(runs["grid_512"], dataset=blank)}
    lost = core.conclude(PHENOMENON, report.study, broken)
    assert np.isnan(lost.analysis.samples["sqrt_rate_fails"]).all()
    render(lost)
    one = {
        n: replace(r, dataset=r.dataset.isel(seed=[0]), seeds=r.seeds[:1]) for n, r in runs.items()
    }
    render(core.conclude(PHENOMENON, report.study, one))


# ------------------------------------------------------------------ up to 2^16 environments


def test_the_larger_runs_differ_in_the_length_of_an_update_and_in_nothing_else() -> None:
    study = core.load_study("ppo_stagnation", "verdict")
    reference = arms("grid_512")["ppo 512"].recipe
    for name, n in zip(LARGER, (2**8, 2**10, 2**12, 2**14, 2**16), strict=True):
        experiment = study.experiments[name]
        recipe = experiment.build()[f"ppo {n}"].recipe
        assert transitions(recipe) * experiment.updates == 2**24
        if n == 2**8:  # its rate is a ramp of equal ends, to share a program with a decaying one
            recipe = replace(recipe, optimizer=reference.optimizer)
        assert scaling_faults(recipe, reference) == ()
        assert scaling_faults(recipe, co_scale(reference, n)) == ()


def test_larger_runs_have_a_table_and_panels_and_no_claim(report: Report) -> None:
    full = written("verdict")
    panels = render(full).axes
    assert len(panels) == len(render(report).axes) + 2
    for name, sample in report.analysis.samples.items():
        np.testing.assert_array_equal(full.analysis.samples[name], sample)
    (text,) = set(full.analysis.tables) - set(report.analysis.tables)
    row = next(line for line in text.splitlines() if line.startswith("ppo 65536"))
    assert "13.5" in row, "0.9 of the mean level 15, in thousandths"
    assert f"{np.log2(1 / 0.9):.3f}" in row
    assert row.split()[0:2] == ["ppo", "65536"]
