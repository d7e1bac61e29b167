"""Dead groups: closed forms on counted shares, the exact limit, the controls, claims and figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput

from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.phenomena import Report, core
from jaxrl_lab.phenomena.dead_groups import (
    CLAIMS,
    DESCRIBE,
    PHENOMENON,
    analyze,
    exploration_limit,
    measure,
    tuned,
)
from jaxrl_lab.phenomena.dead_groups.analysis import NEEDED, sampled_shares, tokens_to
from jaxrl_lab.phenomena.dead_groups.measure import hardest_third, last_batch

SEEDS = 3


def study(**changes: Any) -> core.Study:
    """The study in a small world: six prompts, hints on fewer arms."""
    built = core.load_study("dead_groups")
    given = {"environment.prompts": 6, "recipe.group": 16} | changes
    for path, value in given.items():
        built = built.with_setting(path, value)
    return built


def arms(*names: str, **changes: Any) -> dict[str, Any]:
    one = study(**changes).experiments["budget"]
    return replace(one, arms={name: one.arms[name] for name in names}).build()


@pytest.fixture(scope="module")
def report() -> Report:
    """Three seeds of the arms that claims are about."""
    small = study(
        updates=24, seeds=SEEDS, **{"recipe.optimizer": [{"sgd": {"learning_rate": 8.0}}]}
    )
    one = small.experiments["budget"]
    kept = {name: one.arms[name] for name in (*NEEDED, "grpo 32")}
    small = replace(small, experiments={"budget": replace(one, arms=kept)})
    return core.run_study(PHENOMENON, small)


@pytest.fixture(scope="module")
def many() -> Result:
    """Many seeds of equal and of proportional groups, the first of them with huge steps."""
    chosen = arms("grpo", "variance")
    big = replace(chosen["grpo"].recipe, optimizer=chosen["grpo"].recipe.optimizer)
    huge = replace(big.optimizer[0], learning_rate=jnp.float32(1e5))
    limit = replace(chosen["grpo"], recipe=replace(big, optimizer=(huge,)))
    return run_arms(chosen | {"limit": limit}, updates=12, seeds=range(256), measure=measure,
                    every=1, describe=DESCRIBE)  # fmt: skip


# ------------------------------------------------------------------ claims


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    # A verdict belongs to claims stated before its run. Whoever changes a claim changes this
    # hash, and owes a new verdict run with seeds that no earlier run has seen.
    assert claims_hash(CLAIMS) == "0703c713621a4d87"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (SEEDS,), name
    for name in ("dynamic_sampling_learns", "knapsack_learns", "knapsack_beats_rescaled"):
        assert np.isfinite(samples[name]).all(), name


@pytest.mark.parametrize("arm", NEEDED)
def test_an_arm_that_a_claim_needs_must_be_there(report: Report, arm: str) -> None:
    run = report.runs["budget"]
    without = {name: one for name, one in run.arms.items() if name != arm}
    with pytest.raises(BadInput) as caught:
        analyze({"budget": replace(run, arms=without)})
    assert caught.value.key == f"experiments.budget.arms.{arm}"


def test_seeds_that_never_arrive_are_missing(report: Report) -> None:
    run = report.runs["budget"]
    accuracy = run.dataset["accuracy"].copy()
    accuracy.loc[{"seed": run.seeds[0]}] = 0.3
    lost = analyze({"budget": replace(run, dataset=run.dataset.assign(accuracy=accuracy))}).samples
    for name in ("mean_misleads", "knapsack_rollouts", "hints_saves_tokens"):
        assert np.isnan(lost[name][0]), name


# ------------------------------------------------------------------ informative groups


def test_counted_shares_are_the_closed_form(many: Result) -> None:
    """Of groups and of rollouts, equal and unequal ones; the expectation is per seed and update."""
    for arm in ("grpo", "variance"):
        for name in ("groups", "rollouts"):
            counted, exact = (many.curve(n, arm)[:, 1:] for n in (name, f"expected_{name}"))
            error = (counted - exact).std() / np.sqrt(counted.size)
            assert abs((counted - exact).mean()) < 4 * error, (arm, name)
            assert error < 0.01
    assert np.ptp(many.curve("expected_rollouts", "variance").mean(0)[1:]) > 0.05
    np.testing.assert_allclose(
        many.curve("groups", "grpo")[:, 1:], many.curve("informative_groups", "grpo")[:, 1:],
        atol=1e-6,
    )  # fmt: skip


def test_equal_groups_have_as_many_informative_rollouts_as_groups(many: Result) -> None:
    np.testing.assert_allclose(many.curve("groups", "grpo"), many.curve("rollouts", "grpo"))
    np.testing.assert_allclose(
        many.curve("expected_4", "grpo")[:, 1:], many.curve("expected_groups", "grpo")[:, 1:],
        atol=1e-6,
    )  # fmt: skip
    assert not np.allclose(many.curve("groups", "variance"), many.curve("rollouts", "variance"))


def test_shares_of_a_batch_by_hand() -> None:
    right, count = jnp.array([0.0, 1.0, 3.0, 2.0]), jnp.array([2.0, 4.0, 3.0, 7.0])
    q = jnp.array([0.5, 0.25, 1.0, 0.1])
    got = {k: float(x) for k, x in last_batch(right, count, q).items()}
    chance = [
        1 - p**n - (1 - p) ** n for p, n in zip([0.5, 0.25, 1, 0.1], [2, 4, 3, 7], strict=True)
    ]
    assert got["groups"] == pytest.approx(2 / 4)
    assert got["rollouts"] == pytest.approx(11 / 16)
    assert got["expected_groups"] == pytest.approx(np.mean(chance), abs=1e-6)
    assert got["expected_rollouts"] == pytest.approx(np.average(chance, weights=[2, 4, 3, 7]))
    assert got["largest"] == 7


def test_the_hardest_third_is_a_third() -> None:
    p = jnp.array([0.3, 0.1, 0.1, 0.1, 0.9, 0.2, 0.5])
    assert hardest_third(p).tolist() == [False, True, True, True, False, False, False]


def test_thrown_away_rollouts_count(report: Report) -> None:
    """Dynamic sampling: groups of the batch it keeps, rollouts of all that it generated."""
    run = report.runs["budget"]
    tokens = np.diff(run.curve("tokens", "dynamic_sampling"), axis=1)
    assert (tokens >= 6 * 8).all()
    assert (tokens % (6 * 8) == 0).all()
    assert tokens.max() > 6 * 8
    shares = sampled_shares(run, "dynamic_sampling", 0.45)
    assert (shares["rollouts"] < shares["groups"]).all()


# ------------------------------------------------------------------ controls


def test_leaving_dead_groups_out_is_a_larger_learning_rate() -> None:
    """One update: Δ of the masked mean times the informative share is Δ of GRPO."""
    chosen = arms("grpo", "rescaled")
    ran = run_arms(chosen, updates=1, seeds=range(8), measure=measure)
    start = np.asarray(chosen["grpo"].base["logits"])
    plain, masked = (np.asarray(ran.params[arm]["logits"]) - start for arm in chosen)
    share = ran.curve("informative_groups", "grpo")[:, 1]
    assert ((share > 0) & (share < 1)).any()
    np.testing.assert_allclose(masked * share[:, None, None], plain, atol=2e-5)
    assert np.abs(plain).max() > 0.01


def test_with_huge_steps_equal_groups_wait_for_their_first_informative_group(many: Result) -> None:
    exact = exploration_limit(many.arms["limit"], many.update)
    sampled = many.curve("accuracy", "limit")
    error = sampled.std(0, ddof=1) / np.sqrt(sampled.shape[0])
    np.testing.assert_allclose(sampled.mean(0), exact, atol=4 * error.max() + 2e-3)
    assert exact[-1] - exact[0] > 0.2
    slow = many.curve("accuracy", "grpo").mean(0)
    assert (slow[1:] < exact[1:]).all()


def test_the_limit_starts_at_the_base_policy_and_ends_at_one(many: Result) -> None:
    arm = many.arms["grpo"]
    rates = jax.vmap(lambda i: arm.env.pass_rate(arm.env_params, arm.env.make_level(
        arm.env_params, i)))(jnp.arange(6))  # fmt: skip
    limit = exploration_limit(arm, np.array([0, 10**6]))
    np.testing.assert_allclose(limit, [float(rates.mean()), 1.0], atol=1e-4)


# ------------------------------------------------------------------ tuning


def test_the_rate_is_chosen_on_the_other_half() -> None:
    slow, fast = np.array([5.0, 4.0, 5.0, 4.0]), np.array([1.0, 9.0, 1.0, 9.0])
    needed = {"a": slow, "b": fast}
    # Odd seeds do best with a, even ones with b: each half gets what the other prefers.
    found = tuned(needed, {1.0: "a", 2.0: "b"}, most=20.0)
    np.testing.assert_array_equal(found, [5.0, 9.0, 5.0, 9.0])
    lost = needed | {"b": np.array([1.0, np.nan, 1.0, np.nan])}
    assert np.isnan(tuned(lost, {1.0: "a", 2.0: "b"}, most=20.0)[[1, 3]]).all()
    assert tuned({"a": np.array([3.0])}, {1.0: "a"}, most=20.0).tolist() == [3.0]


def test_tokens_to_an_accuracy_by_hand(report: Report) -> None:
    run = report.runs["budget"]
    spent, accuracy = run.curve("tokens", "grpo 32")[0], run.curve("accuracy", "grpo 32")[0]
    target = float((accuracy[4] + accuracy[5]) / 2)
    i = int(np.argmax(accuracy >= target))
    w = (target - accuracy[i - 1]) / (accuracy[i] - accuracy[i - 1])
    expected = (1 - w) * spent[i - 1] + w * spent[i]
    assert tokens_to(run, "grpo 32", target)[0] == pytest.approx(expected)


def test_hinted_policies_are_measured_without_their_hints(report: Report) -> None:
    run = report.runs["budget"]
    assert run.curve("hinted", "hints").max() > 0
    kl = run.curve("kl_step", "hints")
    moved = run.curve("kl_step", "grpo")
    assert kl.max() < 20 * moved.max(), "a hint that came or went would be a jump"


# ------------------------------------------------------------------ figure


def test_the_figure_can_be_read_on_its_own(report: Report) -> None:
    check_panels(render(report), "3 seeds", x_labels=False)


def test_frozen_and_single_seeds_make_a_figure_too(report: Report) -> None:
    run = report.runs["budget"]
    blank = run.dataset.copy(deep=True)
    for name in blank.data_vars:
        if "update" in blank[name].dims:
            blank[name].loc[{"arm": "knapsack", "update": slice(2, None)}] = np.nan
    broken = core.conclude(PHENOMENON, report.study, {"budget": replace(run, dataset=blank)})
    assert np.isnan(broken.analysis.samples["knapsack_learns"]).all()
    render(broken)
    one = replace(run, dataset=run.dataset.isel(seed=[0]), seeds=run.seeds[:1])
    render(core.conclude(PHENOMENON, report.study, {"budget": one}))
