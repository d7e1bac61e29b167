"""Emergent exploration: its exact references, its measures, its claims and its figure."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput
from jaxrl_envs.gridworlds import search_or_safe

from jaxrl_lab import exact
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.phenomena import Report, core
from jaxrl_lab.phenomena.emergent_exploration import CLAIMS, PHENOMENON, analyze, measure
from jaxrl_lab.phenomena.emergent_exploration.analysis import (
    ABLATED,
    FULL,
    _last_crossing,
    discounts,
    exact_gap,
    exact_switch,
    places,
)

TINY = {
    "seeds": 3,
    "switch.updates": 4,
    "switch.measure_every": 2,
    "switch.recipe.prompts": 2,
    "bandit.updates": 4,
    "bandit.measure_every": 2,
    "bandit.environment.horizon": 4,
    "bandit.recipe.prompts": 4,
}


@pytest.fixture(scope="module")
def report() -> Report:
    study = core.load_study("emergent_exploration", "quick")
    for path, value in TINY.items():
        study = study.with_setting(path, value)
    kept = [FULL, "sampling 0", "greedy 0", "greedy 0.9", *ABLATED.values()]
    arms = study.experiments["switch"].arms
    small = replace(study.experiments["switch"], arms={a: arms[a] for a in arms if a in kept})
    study = replace(study, experiments=study.experiments | {"switch": small})
    return core.run_study(PHENOMENON, study)


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    assert claims_hash(CLAIMS) == "6c26e2c20f8d2179"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (3,), name
        assert np.isfinite(sample).all(), name


@pytest.mark.parametrize(
    ("experiment", "arm"),
    [("switch", "no memory"), ("switch", "greedy 0.9"), ("bandit", "imitation")],
)
def test_arms_that_claims_need_are_asked_for(report: Report, experiment: str, arm: str) -> None:
    run = report.runs[experiment]
    part = run.part({a: a for a in run.arms if a != arm})
    with pytest.raises(BadInput, match=arm):
        analyze({**report.runs, experiment: part})


def test_the_figure_renders(report: Report) -> None:
    check_panels(render(report), "3 seeds", x_labels=False)


def test_the_exact_gap_changes_sign_at_the_switch_of_backward_induction(report: Report) -> None:
    run = report.runs["switch"]
    solved = exact_switch(run)
    numbers = {"safe": 0.45, "reward": 1.0, "block": 20.0, "cells": 4, "checked": 1}
    assert places(run) == pytest.approx(numbers)
    assert solved == pytest.approx(search_or_safe.switch_discount(**numbers), abs=1e-6)
    below, at, above = exact_gap(run, [solved - 0.02, solved, solved + 0.02])
    assert below < 0 < above
    assert at == pytest.approx(0.0, abs=1e-6)


def test_four_places_are_the_dark_room_of_nine_cells_and_two_moves() -> None:
    # Two moves from the center visit two of eight cells and cannot come back to the safe one.
    room = search_or_safe.switch_discount(cells=8, checked=2, safe=0.45, block=20.0)
    four = search_or_safe.switch_discount(cells=4, checked=1, safe=0.45, block=20.0)
    assert room == pytest.approx(four, abs=1e-9)


@pytest.mark.parametrize(
    ("gap", "wanted"),
    [
        ([-1.0, -1.0, 1.0], 0.75),
        ([-1.0, 3.0, 1.0], 0.125),
        ([1.0, 1.0, 1.0], 0.0),
        ([-1.0, 1.0, -1.0], 1.0),
        ([1.0, -1.0, 3.0], 0.625),
        ([np.nan, -1.0, 1.0], np.nan),
    ],
)
def test_the_switch_is_the_last_crossing(gap: list[float], wanted: float) -> None:
    found = _last_crossing(np.array([0.0, 0.5, 1.0]), np.array(gap))
    np.testing.assert_allclose(found, wanted)


def test_sweeps_are_read_off_the_recipes(report: Report) -> None:
    swept = discounts(report.runs["switch"], "sampling")
    assert list(swept) == pytest.approx([0.0, 0.9])
    assert list(swept.values()) == ["sampling 0", FULL]


# ------------------------------------------------------------------ the measures


def score_of(rule: str, places: int = 4) -> jax.Array:
    """Scores of three policies on what every place has shown, written row by row."""
    rows = np.zeros((3**places, places + 1), np.float32)
    for row in range(3**places):
        shown = [(row // 3**k) % 3 for k in range(places)]
        if rule == "safe":
            best = 0
        elif 2 in shown:
            best = 1 + shown.index(2)
        else:
            best = 1 + (shown.index(0) if 0 in shown else 0)
        rows[row, best] = 1.0
    return jnp.asarray(rows)


def test_pay_of_a_block_is_what_simulated_blocks_pay() -> None:
    arm = core.load_study("emergent_exploration").experiments["switch"].build()[FULL]
    pay, tried = measure.greedy_block(score_of("search"), arm.env_params)
    # Places are searched in order: the reward is found in trial h and taken from then on.
    stays = 0.95 ** np.arange(4)
    assert float(pay) == pytest.approx(stays.mean(), abs=1e-4)
    assert float(tried) == pytest.approx(np.mean([1, 2, 3, 4]) / 4)
    rng = np.random.default_rng(0)
    length, hidden = rng.geometric(1 / 20, 20_000), rng.integers(0, 4, 20_000)
    simulated = np.maximum(length - hidden, 0).sum() / length.sum()
    assert float(pay) == pytest.approx(simulated, abs=0.005)  # about four standard errors
    pay, tried = measure.greedy_block(score_of("safe"), arm.env_params)
    assert (float(pay), float(tried)) == (pytest.approx(0.45, abs=1e-5), 0.0)


def test_an_agent_that_sees_nothing_cannot_profit_from_a_find() -> None:
    arm = core.load_study("emergent_exploration").experiments["switch"].build()["no memory"]
    pay, tried = measure.greedy_block(jnp.array([[0.0, 1.0, 0.0, 0.0, 0.0]]), arm.env_params)
    assert float(pay) == pytest.approx(0.25, abs=1e-5)
    assert float(tried) == pytest.approx(0.25)


def test_the_learned_optimum_is_the_exact_one(report: Report) -> None:
    # Q-iteration on the belief rows, written out, has the gap of backward induction.
    safe, d, m = 0.45, 0.95 * 0.8, 4
    value = np.zeros(3**m)
    for _ in range(200):
        new = np.zeros_like(value)
        for row in range(3**m):
            shown = [(row // 3**k) % 3 for k in range(m)]
            unknown = [k for k in range(m) if shown[k] == 0]
            q = [safe + d * value[row]]
            for k in range(m):
                if shown[k] == 2:
                    q.append(1.0 + d * value[row])
                elif shown[k] == 1 or 2 in shown:
                    q.append(d * value[row])
                else:
                    p = 1 / len(unknown)
                    hit, miss = value[row + 2 * 3**k], value[row + 3**k]
                    q.append(p * (1.0 + d * hit) + (1 - p) * d * miss)
            new[row] = max(q)
            if row == 0:
                gap = max(q[1:]) - q[0]
        value = new
    assert exact_gap(report.runs["switch"], [0.8])[0] == pytest.approx(gap, abs=1e-5)


def test_the_bandit_is_measured_at_its_greedy_policy(report: Report) -> None:
    run = report.runs["bandit"]
    params = run.params["no credit"]["u"]
    known = exact.beliefs(2, 4)
    for seed in range(3):
        played = exact.play_counts(exact.argmax_table(params[seed]), known)
        ends = [run.curve(n, "no credit")[seed, -1] for n in measure.BANDIT]
        np.testing.assert_allclose(ends, played, rtol=1e-4, atol=1e-5)
