"""Mode collapse: its exact references, its metrics, its claims and its figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput

from jaxrl_lab import exact, measures
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.phenomena import Report, core, one_step
from jaxrl_lab.phenomena.mode_collapse import (
    CLAIMS,
    PHENOMENON,
    analyze,
    noise_law,
    path_without_noise,
)
from jaxrl_lab.phenomena.mode_collapse.analysis import EVEN, NEEDED, RATE, at_the_end, kept
from jaxrl_lab.phenomena.mode_collapse.claims import CHOSEN, SHAPERS, WEAK
from jaxrl_lab.recipes import recipe

SEEDS = 3


def shrunk(experiment: str, **more: Any) -> Any:
    """An experiment of the study in a small world."""
    study = core.load_study("mode_collapse")
    changes: dict[str, Any] = {
        "environment.prompts": 2,
        "environment.arms": 6,
        "environment.modes": 3,
        "measure_every": 4,
        "updates": 40,
        "seeds": SEEDS,
    }
    one = study.experiments[experiment]
    for path, value in (changes | more).items():
        one = one.with_setting(path, value)
    return one


@pytest.fixture(scope="module")
def starts() -> dict[str, Arm]:
    """The GRPO arm of the noise experiment from either start; base policies take long to make."""
    one = shrunk("noise")
    return replace(one, arms={name: one.arms[name] for name in NEEDED["noise"]}).build()


@pytest.fixture(scope="module")
def report(starts: dict[str, Arm]) -> Report:
    """Three seeds of the arms that claims need. All methods are GRPO here: one program."""
    study = core.load_study("mode_collapse")
    methods = [a + end for a in ("grpo", WEAK, *CHOSEN.values()) for end in ("", EVEN)]
    runs = {}
    for name, arms in (("noise", NEEDED["noise"]), ("methods", methods)):
        built = {arm: starts[RATE + EVEN * arm.endswith(EVEN)] for arm in arms}
        runs[name] = run_arms(
            built, **shrunk(name).sizes, measure=one_step.measure, describe=one_step.DESCRIBE
        )
    return core.conclude(PHENOMENON, study, runs)


def with_curves(report: Report, experiment: str, **curves: tuple[str, Any]) -> dict[str, Result]:
    """The runs with some curves of some arms replaced."""
    run = report.runs[experiment]
    data = run.dataset.copy(deep=True)
    for name, (arm, values) in curves.items():
        data[name].loc[{"arm": arm}] = values
    return report.runs | {experiment: replace(run, dataset=data)}


def world_of(arm: Arm) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of the start, rewards, and which arms are right."""
    assert arm.base is not None
    levels = jax.vmap(arm.env.make_level, in_axes=(None, 0))(arm.env_params, jnp.arange(2))
    return arm.base["logits"], levels.reward, levels.mode >= 0


modes_of = jax.jit(lambda logp, right: measures.effective_solutions(logp, right))
accuracy_of = jax.jit(lambda logp, right: measures.accuracy(logp, right))


# ------------------------------------------------------------------ claims


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    # A verdict belongs to claims stated before its run. Whoever changes a claim changes this
    # hash, and owes a new verdict run with seeds that no earlier run has seen.
    assert claims_hash(CLAIMS) == "cb3da4e72b633781"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (SEEDS,), name
    assert [v.claim for v in report.verdicts] == [c.id for c in CLAIMS]


@pytest.mark.parametrize(("experiment", "arm"), [("noise", RATE), ("methods", CHOSEN["dmpo"])])
def test_an_arm_that_a_claim_needs_must_be_there(report: Report, experiment: str, arm: str) -> None:
    run = report.runs[experiment]
    without = replace(run, arms={k: v for k, v in run.arms.items() if k != arm})
    with pytest.raises(BadInput) as caught:
        analyze(report.runs | {experiment: without})
    assert caught.value.key == f"experiments.{experiment}.arms.{arm}"


def test_every_arm_of_a_claim_is_in_the_configuration_and_so_are_three_values() -> None:
    arms = core.load_study("mode_collapse").experiments["methods"].arms
    for name, chosen in CHOSEN.items():
        values = [a for a in arms if a.split()[0] == name and not a.endswith(EVEN)]
        assert len(values) == (1 if name == "gardo" else 3), name
        assert chosen in values
        assert chosen + EVEN in arms


def test_metrics_are_what_the_claims_say(report: Report) -> None:
    """From curves made by hand: crossings, ends, and seeds that never arrive."""
    main = report.runs["methods"]
    points = len(main.update)
    rise = np.linspace(0.0, 0.99, points)
    better = np.where(np.arange(SEEDS)[:, None] == 1, 0.5, 1.0) * rise  # seed 1 never arrives
    arm = CHOSEN["xrpo"]
    runs = with_curves(report, "methods", accuracy=(arm, better), solutions=(arm, 3.0 * rise))
    runs = with_curves(
        replace(report, runs=runs), "methods", accuracy=("grpo", rise), solutions=("grpo", rise)
    )
    gain = analyze(runs).samples["xrpo_keeps_modes"]
    np.testing.assert_allclose(gain[[0, 2]], 2.0 * 0.95, rtol=1e-6)
    assert np.isnan(gain[1])
    ends = at_the_end(runs["methods"], arm)
    np.testing.assert_allclose(ends[[0, 2]], 3.0 * 0.99)
    assert np.isnan(ends[1])


def test_the_share_that_is_kept_runs_from_one_mode_to_the_reference() -> None:
    found = kept(np.array([1.0, 2.5, 1.75]), np.array([2.5, 2.5, 2.5]))
    np.testing.assert_allclose(found, [0.0, 1.0, 0.5])


# ------------------------------------------------------------------ exact references


def test_geometry_conserves_and_the_leader_takes_all(starts: dict[str, Arm]) -> None:
    """Decades of exact flow: e^(−z) differences stay, the natural gradient keeps all shares."""
    z, reward, right = world_of(starts[RATE])
    times = jnp.array([0.0, 10.0, 1e3, 1e5])
    flow = exact.softmax_flow(z, reward, times)
    constant = [exact.flow_invariants(x, reward)[1] for x in flow]
    for later in constant[1:]:
        np.testing.assert_allclose(later, constant[0], rtol=2e-3, atol=2e-3)
    assert np.abs(constant[0]).max() > 1.0
    modes = np.array([modes_of(jax.nn.log_softmax(x), right) for x in flow])
    assert (np.diff(modes, axis=0) < 0).all()
    assert (modes[0] > 1.7).all()
    assert (modes[-1] < 1.01).all()
    wrong = np.array([1.0 - accuracy_of(jax.nn.log_softmax(x), right) for x in flow])
    np.testing.assert_allclose(wrong[2] / wrong[3], 100.0, rtol=0.1)  # 1/t: time is logarithmic
    natural = exact.replicator_flow(z, reward, times[:2] / 3)
    spread = np.array([modes_of(x, right) for x in natural])
    np.testing.assert_allclose(spread, np.broadcast_to(modes[0], spread.shape), rtol=1e-4)


def test_path_without_noise_is_the_flow_at_another_speed(starts: dict[str, Arm]) -> None:
    """Modes as a function of pass@1 are the same, since only the speed differs."""
    arm = starts[RATE]
    z, reward, right = world_of(arm)
    single = replace(
        arm,
        env=replace(cast(Any, arm.env), prompts=1),
        base={"logits": z[:1]},
        recipe=recipe(arm.recipe, optimizer={"sgd": {"learning_rate": 0.05}}, group=4),
    )
    bare = Result(_points(40), {RATE: single}, 600, (0,), one_step.measure)
    path = path_without_noise(bare, RATE)
    logp = jax.nn.log_softmax(exact.softmax_flow(z[0], reward[0], jnp.linspace(0.0, 60.0, 200)))
    among = jnp.broadcast_to(right[:1], logp.shape)
    accuracy, modes = accuracy_of(logp, among), modes_of(logp, among)
    assert path["accuracy"][-1] < accuracy[-1]
    np.testing.assert_allclose(
        path["modes"], np.interp(path["accuracy"], accuracy, modes), atol=0.01
    )
    assert path["modes"][0] - path["modes"][-1] > 0.5


def _points(every: int) -> Any:
    import xarray as xr

    return xr.Dataset(coords={"update": np.array([0, every])})


def test_many_runs_scatter_around_the_path_as_the_law_says(starts: dict[str, Arm]) -> None:
    """From an even start: nothing is lost on the path, and what runs lose is linear noise."""
    arm = starts[RATE + EVEN]
    slow = recipe(arm.recipe, optimizer={"sgd": {"learning_rate": 0.2}})
    ran = run_arms(
        {RATE: replace(arm, recipe=slow)},
        updates=60,
        every=20,
        seeds=range(512),
        measure=one_step.measure,
    )
    path, law = path_without_noise(ran, RATE), noise_law(ran, RATE)
    np.testing.assert_allclose(path["modes"], 3.0, atol=1e-4)
    for name, curve in (("accuracy", law["accuracy"]), ("deficit", law["deficit"])):
        sampled = ran.curve(name, RATE)
        error = sampled.std(0, ddof=1) / np.sqrt(512)
        np.testing.assert_allclose(sampled.mean(0), curve, atol=6e-4 + 4 * error.max())
        assert abs(curve[-1] - curve[0]) > 8 * error.max(), "a test without a signal"
    np.testing.assert_allclose(law["accuracy"], path["accuracy"][::20], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"adam": {"learning_rate": 0.1}}},
        {"optimizer": {"sgd": {"learning_rate": 0.1, "momentum": 0.9}}},
        {"epochs": 2},
        {"prompts": 1},
        {"regularizer": {"entropy_bonus": {"coefficient": 0.1}}},
        {"advantage": "leave_one_out"},
    ],
)
def test_there_is_no_path_where_it_would_not_be_the_expected_update(
    starts: dict[str, Arm], change: dict[str, Any]
) -> None:
    arm = starts[RATE]
    other = replace(arm, recipe=recipe(arm.recipe, **change))
    bare = Result(_points(4), {RATE: other}, 4, (0,), one_step.measure)
    assert path_without_noise(bare, RATE) == {}
    assert noise_law(bare, RATE) == {}


# ------------------------------------------------------------------ figure


def test_the_figure_can_be_read_on_its_own(report: Report) -> None:
    check_panels(render(report), "3 seeds")


def test_frozen_members_are_missing_and_kill_nothing(report: Report) -> None:
    """Whole arms and single seeds blank from some update on: still tables and a figure."""
    runs = report.runs
    for name, arm in (("noise", RATE + EVEN), ("methods", "grpo")):
        data = runs[name].dataset.copy(deep=True)
        for variable in data.data_vars:
            if "update" in data[variable].dims:
                data[variable].loc[{"arm": arm, "update": slice(4, None)}] = np.nan
        runs = runs | {name: replace(runs[name], dataset=data)}
    broken = core.conclude(PHENOMENON, report.study, runs)
    for name in ("noise_alone_collapses", *(f"{m}_keeps_modes" for m in SHAPERS)):
        assert np.isnan(broken.analysis.samples[name]).all(), name
    render(broken)
    assert "never (0/3)" in str(broken)


def test_one_seed_makes_a_figure_too(report: Report) -> None:
    runs = {
        name: replace(run, dataset=run.dataset.isel(seed=[0]), seeds=run.seeds[:1])
        for name, run in report.runs.items()
    }
    single = core.conclude(PHENOMENON, report.study, runs)
    assert {v.outcome for v in single.verdicts} == {"inconclusive"}
    render(single)
