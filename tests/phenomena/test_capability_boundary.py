"""Capability boundary: exact updates and interference, the negative control, claims and figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_panels, render
from jaxrl_envs import BadInput

from jaxrl_lab import exact, measures
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.phenomena import Report, core, one_step
from jaxrl_lab.phenomena.capability_boundary import CLAIMS, PHENOMENON, analyze
from jaxrl_lab.phenomena.capability_boundary.analysis import NEEDED, deepest_fall, undone_share
from jaxrl_lab.phenomena.capability_boundary.measure import (
    FAR,
    GROUP,
    capability,
    interference,
    pass_gradients,
)
from jaxrl_lab.phenomena.capability_boundary.path import (
    expected_curves,
    expected_stages,
    has_exact_path,
)
from jaxrl_lab.rollouts.world import make_world

SEEDS = 3
SMALL = {
    "shared.environment.prompts": 4,
    "shared.environment.test_prompts": 3,
    "shared.environment.arms": 6,
    "shared.environment.modes": 2,
    "shared.policy.hidden": [5],
    "shared.policy.pretrain.steps": 60,
    "shared.policy.pretrain.tolerance": 1.0,
    "tabular.environment.prompts": 4,
    "tabular.environment.arms": 6,
    "tabular.environment.modes": 2,
    "stages.environment.prompts": 4,
    "recipe.group": 4,
    "updates": 24,
    "measure_every": 1,
    "stages.measure_every": 4,
    "seeds": SEEDS,
}


@pytest.fixture(scope="module")
def study() -> core.Study:
    small = core.load_study("capability_boundary")
    for path, value in SMALL.items():
        small = small.with_setting(path, value)
    return small


@pytest.fixture(scope="module")
def report(study: core.Study) -> Report:
    """One structure per experiment, since compiling is what takes time: other arms are GRPO's."""
    few = dict(study.experiments)
    for name, arms in (("shared", ("dr_grpo", "rl_plus")), ("stages", ("dr_grpo",))):
        one = few[name]
        few[name] = replace(one, arms=one.arms | dict.fromkeys(arms, one.arms["grpo"]))
    return core.run_study(PHENOMENON, replace(study, experiments=few))


@pytest.fixture(scope="module")
def network(report: Report) -> Arm:
    return report.runs["shared"].arms["grpo"]


def rate_of(arm: Arm, params: Any) -> jax.Array:
    world = make_world(arm.env, arm.env_params)
    correct = one_step.right_arms(arm.env, world)
    return measures.accuracy(one_step.log_policy(arm.env, arm.policy, world, params), correct)


# ------------------------------------------------------------------ claims


def test_claims_are_those_that_the_verdict_run_was_started_with() -> None:
    # A verdict belongs to claims stated before its run. Whoever changes a claim changes this
    # hash, and owes a new verdict run with seeds that no earlier run has seen.
    assert claims_hash(CLAIMS) == "168244761082bc03"


def test_every_claim_has_one_number_per_seed(report: Report) -> None:
    samples = report.analysis.samples
    assert set(samples) == {claim.id for claim in CLAIMS}
    for name, sample in samples.items():
        assert sample.shape == (SEEDS,), name
    run = report.runs["shared"]
    curve = run.curve(f"pass_{FAR}_test", "grpo")
    np.testing.assert_array_equal(samples["test_boundary_shrinks"], curve[:, -1] - curve[:, 0])
    share = run.curve("undone", "grpo").sum(1) / run.curve("own", "grpo").sum(1)
    np.testing.assert_array_equal(undone_share(run, "grpo"), share)


@pytest.mark.parametrize(("name", "arm"), [(n, a) for n, arms in NEEDED.items() for a in arms])
def test_an_arm_that_a_claim_needs_must_be_there(report: Report, name: str, arm: str) -> None:
    run = report.runs[name]
    without = {other: one for other, one in run.arms.items() if other != arm}
    with pytest.raises(BadInput) as caught:
        analyze(report.runs | {name: replace(run, arms=without)})
    assert caught.value.key == f"experiments.{name}.arms.{arm}"


def test_arms_are_compared_where_they_first_reach_the_pass_rate(report: Report) -> None:
    run = report.runs["shared"]
    rate, far = run.dataset["pass_1_train"].copy(), run.dataset[f"pass_{FAR}_test"].copy()
    rate.loc[{"arm": ["grpo", "negative"]}] = np.linspace(0, 1, len(run.update))
    far.loc[{"arm": "grpo"}] = 0.5
    far.loc[{"arm": "negative"}] = np.linspace(0, 1, len(run.update))
    rate.loc[{"arm": "negative", "seed": run.seeds[1]}] = 0.55
    dataset = run.dataset.assign({"pass_1_train": rate, f"pass_{FAR}_test": far})
    found = analyze(report.runs | {"shared": replace(run, dataset=dataset)}).samples
    kept = found["negative_keeps_boundary"]
    np.testing.assert_allclose(kept[[0, 2]], 0.1, atol=1e-6)
    assert np.isnan(kept[1])


# ------------------------------------------------------------------ oracles


def test_capability_is_what_numpy_counts(network: Arm) -> None:
    world, base = make_world(network.env, network.env_params), network.base
    moved = jax.tree.map(lambda x: 1.5 * x, base)
    args = (network.env, network.policy, world)
    seen = capability(*args, base, moved, ("train", "test"))
    for split, prompts in (("train", 4), ("test", 3)):
        logp = np.asarray(one_step.log_policy(*args, moved, split), np.float64)
        start = np.asarray(one_step.log_policy(*args, base, split), np.float64)
        right = np.asarray(one_step.right_arms(network.env, world, split))
        assert right.shape == (prompts, 6)
        pi = np.exp(logp)
        p, p0 = (np.exp(x).sum(1, where=right) for x in (logp, start))
        for k in (1, 16, FAR):
            np.testing.assert_allclose(seen[f"pass_{k}_{split}"], (1 - (1 - p) ** k).mean(), 1e-4)
        found = (1 - (1 - pi) ** FAR).mean(1, where=right)
        np.testing.assert_allclose(seen[f"coverage_{split}"], found.mean(), 1e-4)
        fell = (1 - p) ** FAR > (1 - p0) ** FAR + 0.01
        np.testing.assert_allclose(seen[f"lost_{split}"], fell.mean(), 1e-6)
        kl = (pi * (logp - start)).sum(1).mean()
        np.testing.assert_allclose(seen[f"kl_{split}"], kl, 1e-4)


def test_interference_is_the_change_of_log_p_by_finite_differences(network: Arm) -> None:
    base = network.base
    world = make_world(network.env, network.env_params)
    p, gradient = pass_gradients(network.env, network.policy, world, base)
    weight = exact.difficulty_weight(p, GROUP, ddof=1)
    own, cross = (np.asarray(x) for x in exact.own_and_cross(gradient, weight, p))
    assert (own >= 0).all(), "a prompt never lowers its own pass rate"
    assert np.abs(cross).max() > 0.01
    leaves, tree = jax.tree.flatten(base)
    sizes = np.cumsum([0, *(x.size for x in leaves)])

    def along(b: int, size: float) -> np.ndarray:
        """log p of all prompts after a step along what prompt b alone asks for."""
        row = size * weight[b] * gradient[b]
        steps = [
            row[i:j].reshape(x.shape) for i, j, x in zip(sizes, sizes[1:], leaves, strict=False)
        ]
        moved = jax.tree.unflatten(tree, [x + s for x, s in zip(leaves, steps, strict=True)])
        return np.log(np.asarray(rate_of(network, moved), np.float64))

    h = 0.02
    effect = np.stack([(along(b, h) - along(b, -h)) / (2 * h) for b in range(4)])
    np.testing.assert_allclose(np.diag(effect), own, rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(effect.sum(0) - np.diag(effect), cross, rtol=0.02, atol=4e-3)
    seen = interference(network.env, network.policy, world, base)
    np.testing.assert_allclose(seen["undone"], np.maximum(-cross, 0).mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(seen["opposed"], (cross < 0).mean(), rtol=1e-6)


def test_interference_is_defined_where_pass_rates_round_to_one_and_nothing(network: Arm) -> None:
    world = make_world(network.env, network.env_params)
    sure = jax.tree.map(lambda x: 200.0 * x, network.base)
    seen = interference(network.env, network.policy, world, sure)
    assert all(np.isfinite(x) for x in seen.values())


def test_rows_of_a_table_do_not_interfere(report: Report) -> None:
    run = report.runs["tabular"]
    for arm in run.arms:
        assert run.curve("own", arm).min() > 0
        assert run.curve("helped", arm).max() < 1e-5
        assert run.curve("undone", arm).max() < 1e-5


def test_no_sampled_update_on_its_own_batch_lowers_a_pass_rate(report: Report) -> None:
    """An identity of tables, 0/1 rewards and advantages that sum to zero, whatever is sampled."""
    run = report.runs["tabular"]
    for k in (1, 16, FAR):
        assert np.diff(run.curve(f"pass_{k}_train", "grpo"), axis=1).min() > -1e-6
    assert run.curve("lost_train", "grpo").max() == 0.0
    np.testing.assert_allclose(deepest_fall(run, "grpo", "pass_1_train"), 0.0, atol=1e-6)
    for arm in ("negative", "positive"):
        assert np.diff(run.curve("pass_1_train", arm), axis=1).min() < -1e-4


def test_expected_update_of_the_network_is_the_mean_of_many_sampled_ones(study: core.Study) -> None:
    """One update, 4096 seeds: the mean pass rates lie within four standard errors of the path."""
    one = study.experiments["shared"]
    arms = {a: one.arms[a] for a in ("grpo", "negative")}
    short = replace(one, arms=arms, updates=1, measure_every=1, seeds=4096)
    short = short.with_setting("recipe.optimizer", [{"sgd": {"learning_rate": 0.5}}])
    run = run_arms(short.build(), **short.sizes, measure=PHENOMENON.measures["shared"][0])
    for arm in arms:
        path = expected_curves(run, arm)
        for name in ("pass_1_train", "pass_1_test"):
            gain = run.curve(name, arm)[:, 1] - run.curve(name, arm)[:, 0]
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            expected = path[name][1] - path[name][0]
            # The mean of pass rates is not the pass rate of the mean: second order in the step.
            curvature = 0.02 * abs(expected) + 2e-5
            assert abs(gain.mean() - expected) < 4 * error + curvature, (arm, name)
        assert abs(path["pass_1_train"][1] - path["pass_1_train"][0]) > 10 * error


def test_expected_stages_are_those_of_all_groups(report: Report) -> None:
    """One step of the path against the enumeration of all 3^4 ordered groups in NumPy."""
    run = report.runs["stages"]
    arm = run.arms["grpo"]
    assert arm.base is not None
    z = np.asarray(arm.base["logits"][0], np.float64)
    level = arm.env.make_level(arm.env_params, jnp.int32(0))
    reward = np.asarray(level.reward, np.float64)
    np.testing.assert_allclose(sorted(reward), [0.0, 0.8, 1.0], rtol=1e-6)
    step = one_step.step_per_prompt(arm)
    best, known = int(reward.argmax()), int(np.argsort(reward)[1])
    seen = []
    for _ in range(9):
        pi = np.exp(z) / np.exp(z).sum()
        seen.append((pi[best], pi[known]))
        mean = np.zeros(3)
        for group in np.ndindex(3, 3, 3, 3):
            r = reward[list(group)]
            a = (r - r.mean()) / (r.std(ddof=1) + 1e-6)
            hot = np.eye(3)[list(group)]
            mean += np.prod(pi[list(group)]) * (a[:, None] * (hot - pi)).mean(0)
        z = z + step * mean
    path = expected_stages(run, "grpo")
    np.testing.assert_allclose(path["best"][:3], [s[0] for s in seen[::4]], rtol=1e-4)
    np.testing.assert_allclose(path["known"][:3], [s[1] for s in seen[::4]], rtol=1e-4)


def test_only_plain_arms_have_an_exact_path(study: core.Study, report: Report) -> None:
    arms = study.experiments["shared"].build()
    assert [a for a, arm in arms.items() if not has_exact_path(arm)] == ["rl_plus"]
    run = report.runs["shared"]
    guided = replace(run, arms=run.arms | {"rl_plus": arms["rl_plus"]})
    assert expected_curves(guided, "rl_plus") == {}
    inner = replace(arms["grpo"], recipe=replace(arms["grpo"].recipe, epochs=2))
    assert not has_exact_path(inner)


# ------------------------------------------------------------------ figure


def test_the_figure_can_be_read_on_its_own(report: Report) -> None:
    figure = render(report)
    check_panels(figure, f"{SEEDS} seeds ({SEEDS} with a row per prompt")
    exact_curves = [
        line for ax in figure.axes for line in ax.get_lines() if line.get_linewidth() == 4
    ]
    assert len(exact_curves) == 3 + 4 + 3


def test_frozen_members_are_missing_and_kill_nothing(report: Report) -> None:
    run = report.runs["shared"]
    blank = run.dataset.copy(deep=True)
    for name in blank.data_vars:
        if "update" in blank[name].dims:
            blank[name].loc[{"arm": "grpo", "update": slice(4, None)}] = np.nan
    broken = core.conclude(
        PHENOMENON, report.study, report.runs | {"shared": replace(run, dataset=blank)}
    )
    assert np.isnan(broken.analysis.samples["train_boundary_shrinks"]).all()
    render(broken)
