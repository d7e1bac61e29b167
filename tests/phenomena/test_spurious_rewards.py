"""Spurious rewards: sampled updates against exact ones, claims, analysis and figure."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput

from jaxrl_lab.exact import noise_factor, noisy_clipped_change
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.mechanisms.surrogate import Clip, ImportanceWeighted
from jaxrl_lab.phenomena import Report, core
from jaxrl_lab.phenomena.one_step import step_per_prompt
from jaxrl_lab.phenomena.spurious_rewards import CLAIMS, PHENOMENON, analyze
from jaxrl_lab.phenomena.spurious_rewards.analysis import NEEDED, against_none
from jaxrl_lab.phenomena.spurious_rewards.measure import pull

SEEDS = 3
KEPT = {
    "clipping": NEEDED,
    "steps": ("random none 1.6", "random symmetric 1.6", "random upper 1.6"),
    "one_update": ("none 1.6", "symmetric 1.6", "upper 0.8", "lower 0.8"),
    "verifier": ("group_normalized 0.0", "group_normalized 0.4", "group_normalized 1.0"),
}
"""Few arms, and one structure per experiment: compiling is what takes time."""


@pytest.fixture(scope="module")
def report() -> Report:
    study = core.load_study("spurious_rewards")
    for path, value in {
        "environment.prompts": 4,
        "recipe.group": 4,
        "clipping.updates": 24,
        "steps.updates": 50,
        "seeds": SEEDS,
        "one_update.seeds": 512,
        "verifier.seeds": 96,
    }.items():
        study = study.with_setting(path, value)
    few = {
        name: replace(one, arms={arm: one.arms[arm] for arm in KEPT[name]})
        for name, one in study.experiments.items()
    }
    return core.run_study(PHENOMENON, replace(study, experiments=few))


# ------------------------------------------------------------------ claims


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    # A verdict belongs to claims stated before its run. Whoever changes a claim changes this
    # hash, and owes a new verdict run with seeds that no earlier run has seen.
    assert claims_hash(CLAIMS) == "a81f67e86baa01bb"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (SEEDS,), name
    main = report.runs["clipping"]
    accuracy = main.curve("accuracy", "flipped symmetric correct")
    np.testing.assert_array_equal(
        samples["flipped_gains_with_right_prior"], accuracy[:, -1] - accuracy[:, 0]
    )
    gap = [main.curve("entropy", f"fast {clip} correct")[:, -1] for clip in ("symmetric", "none")]
    np.testing.assert_array_equal(samples["clipping_widens_at_large_steps"], gap[0] - gap[1])


def _with(report: Report, dataset: Any) -> dict[str, Result]:
    return report.runs | {"clipping": replace(report.runs["clipping"], dataset=dataset)}


def test_seeds_that_never_move_far_enough_are_missing(report: Report) -> None:
    main = report.runs["clipping"]
    kl = main.dataset["kl"].copy()
    prior = main.dataset["prior"].copy()
    kl.loc[{"arm": "random none correct"}] = np.linspace(0, 1, len(main.update))
    kl.loc[{"arm": "random upper correct"}] = np.linspace(0, 1, len(main.update))
    prior.loc[{"arm": "random none correct"}] = 0.2
    prior.loc[{"arm": "random upper correct"}] = np.linspace(0.4, 0.6, len(main.update))
    kl.loc[{"arm": "random upper correct", "seed": main.seeds[1]}] = 0.3
    samples = analyze(_with(report, main.dataset.assign(kl=kl, prior=prior))).samples
    found = samples["upper_clip_favors_prior"]
    np.testing.assert_allclose(found[[0, 2]], 0.3, atol=1e-6)
    assert np.isnan(found[1])


@pytest.mark.parametrize("arm", NEEDED)
def test_an_arm_that_a_claim_needs_must_be_there(report: Report, arm: str) -> None:
    main = report.runs["clipping"]
    without = {name: one for name, one in main.arms.items() if name != arm}
    with pytest.raises(BadInput) as caught:
        analyze(report.runs | {"clipping": replace(main, arms=without)})
    assert caught.value.key == f"experiments.clipping.arms.{arm}"


def test_frozen_members_are_missing_and_kill_nothing(report: Report) -> None:
    blank = report.runs["clipping"].dataset.copy(deep=True)
    for name in blank.data_vars:
        if "update" in blank[name].dims:
            blank[name].loc[{"arm": "random none correct", "update": slice(4, None)}] = np.nan
    broken = core.conclude(PHENOMENON, report.study, _with(report, blank))
    assert np.isnan(broken.analysis.samples["no_gain_without_clipping"]).all()
    render(broken)


# ------------------------------------------------------------------ oracles


def test_sampled_updates_average_to_the_enumerated_one(report: Report) -> None:
    """512 seeds of 4 prompts: within four standard errors, and far from the other clips."""
    run = report.runs["one_update"]
    exact = {}
    for name, arm in run.arms.items():
        assert arm.base is not None
        logits, surrogate = arm.base["logits"][0], arm.recipe.surrogate[0]
        change = noisy_clipped_change(
            logits, jnp.full(6, 0.5), 4, 4, step_per_prompt(arm), surrogate.low, surrogate.high
        )
        exact[name] = (float(change.policy[jnp.argmax(logits)]), float(change.entropy))
        for variable, expected in zip(("prior", "entropy"), exact[name], strict=True):
            curve = run.curve(variable, name)
            sample = curve[:, 1] - curve[:, 0]
            error = sample.std(ddof=1) / np.sqrt(len(sample))
            assert abs(sample.mean() - expected) < 4 * error, (name, variable)
            assert variable == "prior" or abs(expected) > 10 * error, "a test without a signal"
    assert exact["none 1.6"][0] < exact["symmetric 1.6"][0] - 0.01


def test_a_noisy_verifier_scales_the_gradient_as_the_closed_form_says(report: Report) -> None:
    run, factor = report.runs["verifier"], report.analysis.series["factor"]
    for arm, fp in (("0.0", 0.0), ("0.4", 0.4), ("1.0", 1.0)):
        sample = factor[f"group_normalized {arm}"]
        expected = float(noise_factor(jnp.float32(0.2), fp, 0.2, normalized=True, G=4))
        error = sample.std(ddof=1) / np.sqrt(len(sample))
        assert error < 0.03
        assert abs(sample.mean() - expected) < 4 * error + 0.002
    assert float(run.curve("kl", "group_normalized 0.0")[:, -1].max()) < 1e-2, "it stayed put"


def test_a_wide_open_clip_is_none(report: Report) -> None:
    """What the arms call "none" is the importance-weighted surrogate, bit for bit."""
    some = report.runs["one_update"].arms["none 1.6"].recipe.surrogate[0]
    ratio = np.geomspace(1e-8, 1e8, 33, dtype=np.float32).reshape(1, -1, 1)
    for sign in (1.0, -1.0):
        batch: Any = SimpleNamespace(
            logp_old=jnp.zeros(ratio.shape),
            advantage=jnp.full(ratio.shape, sign),
            mask=jnp.ones(ratio.shape, bool),
        )
        out: Any = SimpleNamespace(logp=jnp.log(ratio))
        ctx: Any = None
        open_, aux = Clip(low=some.low, high=some.high)(out, batch, ctx)
        plain, _ = ImportanceWeighted()(out, batch, ctx)
        np.testing.assert_array_equal(open_, plain)
        assert not np.asarray(aux["clipped"]).any()


def test_right_and_wrong_priors_mirror_each_other(report: Report) -> None:
    """Under random rewards the expected gain of accuracy of one is the loss of the other."""
    arms = report.runs["clipping"].arms
    gains = []
    for prior in ("correct", "incorrect"):
        arm = arms[f"random symmetric {prior}"]
        levels = arm.env.make_level(arm.env_params, jnp.int32(0))
        right = arm.env.correct(levels)  # type: ignore[attr-defined]
        assert arm.base is not None
        logits = arm.base["logits"][0]
        paid = jnp.full(6, 0.5)
        change = noisy_clipped_change(logits, paid, 4, 4, 0.8, 0.2, 0.2).policy
        pi = jnp.exp(logits - jnp.max(logits)) / jnp.sum(jnp.exp(logits - jnp.max(logits)))
        assert float(jnp.sum(jnp.where(right, pi, 0.0))) == pytest.approx(0.5, abs=1e-5)
        assert bool(right[jnp.argmax(logits)]) == (prior == "correct")
        gains.append(float(jnp.sum(jnp.where(right, change, 0.0))))
    assert gains[0] == pytest.approx(-gains[1], abs=1e-6)
    assert abs(gains[0]) > 1e-3


def test_pull_is_one_along_the_gradient_and_zero_across() -> None:
    logp = jnp.log(jnp.array([[0.5, 0.2, 0.3]]))
    correct = jnp.array([[True, False, False]])
    gradient = jnp.exp(logp) * (correct.astype(jnp.float32) - 0.5)
    across = jnp.cross(gradient[0], jnp.ones(3))[None]
    shift = 0.7  # log-probabilities do not show a constant
    for size in (1.0, -0.25):
        found = pull(logp, size * gradient + across + shift, correct)
        np.testing.assert_allclose(found, [size], atol=1e-5)


def test_steps_are_compared_with_the_same_step_without_a_clip(report: Report) -> None:
    run = report.runs["steps"]
    found = against_none(run, "prior")
    assert set(found) == {"random symmetric 1.6", "random upper 1.6"}
    ends = [run.curve("prior", f"random {clip} 1.6")[:, -1] for clip in ("upper", "none")]
    np.testing.assert_array_equal(found["random upper 1.6"], ends[0] - ends[1])


# ------------------------------------------------------------------ figure


def test_the_figure_can_be_read_on_its_own(report: Report) -> None:
    figure = render(report)
    check_panels(figure, f"{SEEDS} seeds (96 in the first panel")
    first, second = figure.axes[:2]
    exact = [line for ax in (first, second) for line in ax.get_lines() if line.get_linewidth() == 4]
    assert len(exact) == 2 + 4, "an exact curve under every sampled one"


def test_one_seed_makes_a_figure_and_tables_too(report: Report) -> None:
    runs = {
        name: replace(run, dataset=run.dataset.isel(seed=[0]), seeds=run.seeds[:1])
        for name, run in report.runs.items()
    }
    single = core.conclude(PHENOMENON, report.study, runs)
    assert {v.outcome for v in single.verdicts} == {"inconclusive"}
    assert "Clip minus no clip" in str(single)
    render(single)
