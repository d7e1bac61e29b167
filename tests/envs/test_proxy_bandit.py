"""``bandit/proxy``: its optima against brute force, its correlations, and the golden curve."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs import BadInput
from jaxrl_envs.bandits.proxy import Level
from scipy import optimize

f32 = jnp.float32
ENV = je.make("bandit/proxy", arms=12, hacks=2, prompts=4, members=3, fooled=2)
PARAMS = ENV.default_params


def level_of(env, params=None, number=0):
    return env.make_level(env.default_params if params is None else params, jnp.int32(number))


def test_hack_arms_look_good_to_the_fooled_only():
    level = level_of(ENV)
    hack = np.asarray(level.hack)
    assert hack.sum() == 2
    np.testing.assert_allclose(np.asarray(level.true)[hack], -2.0)
    members = np.asarray(level.members)[:, hack]
    np.testing.assert_allclose(members[:2], 3.0)
    np.testing.assert_allclose(members[2], -2.0)


def test_reference_splits_its_mass_as_prescribed():
    params = replace(PARAMS, hack_mass=f32(0.01))
    p = np.exp(ENV.reference(params, level_of(ENV)))
    hack = np.asarray(level_of(ENV).hack)
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(p[hack], 0.005, rtol=1e-5)
    np.testing.assert_allclose(p[~hack], 0.99 / 10, rtol=1e-5)


@pytest.mark.parametrize("tail", [0.0, 0.1])
@pytest.mark.parametrize("c", [0.0, 0.6, 1.0])
def test_correlations_hold_over_many_prompts(c, tail):
    """Proxy with truth c, and the errors of two members ``shared``, over prompts and arms."""
    env = je.make("bandit/proxy", arms=64, hacks=0, members=2, prompts=512)
    params = replace(
        env.default_params, correlation=f32(c), tail=f32(tail), shared=f32(0.5), hack_mass=f32(0)
    )
    levels = jax.vmap(env.make_level, (None, 0))(params, jnp.arange(512))
    true = np.asarray(levels.true).ravel()
    first, second = np.moveaxis(np.asarray(levels.members), 1, 0).reshape(2, -1)
    # Teachers are few and fixed, so that arms are far from independent: a wide tolerance.
    assert np.corrcoef(true, first)[0, 1] == pytest.approx(c, abs=0.12)
    if c < 1:
        errors = [m - c * true for m in (first, second)]
        assert np.corrcoef(*errors)[0, 1] == pytest.approx(0.5, abs=0.25)
    else:
        np.testing.assert_allclose(first, true, atol=1e-5)


@pytest.mark.parametrize("tau", [5.0, 0.5, 0.1])
def test_kl_optimum_maximizes_its_objective(tau):
    level = level_of(ENV)
    pay, reference = np.asarray(level.members[0], np.float64), ENV.reference(PARAMS, level)
    logr = np.asarray(reference, np.float64)
    weight = np.exp(logr + pay / tau - (logr + pay / tau).max())
    found = np.exp(ENV.kl_optimum(PARAMS, level, level.members[0], f32(tau)))
    np.testing.assert_allclose(found, weight / weight.sum(), atol=1e-6)

    def objective(p):
        return np.sum(p * pay) - tau * np.sum(p * (np.log(p) - logr))

    best = objective(np.maximum(found, 1e-30))
    other = np.random.default_rng(0).dirichlet(np.ones(12), 500)
    assert best > max(map(objective, np.maximum(other, 1e-30))) - 1e-6


@pytest.mark.parametrize("tau", [2.0, 0.3])
def test_chi_squared_optimum_against_a_numerical_solver(tau):
    level = level_of(ENV)
    pay = np.asarray(level.members[0], np.float64)
    reference = np.exp(np.asarray(ENV.reference(PARAMS, level), np.float64))

    def loss(p):
        return -np.sum(p * pay) + tau * np.sum((p - reference) ** 2 / reference)

    solved = optimize.minimize(
        loss,
        reference,
        bounds=[(0, 1)] * 12,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    found = np.asarray(ENV.chi2_optimum(PARAMS, level, level.members[0], f32(tau)))
    np.testing.assert_allclose(found, solved.x, atol=2e-4)
    assert loss(found) <= solved.fun + 1e-5


def golden():
    """64 arms, proxy = r* + 0.3 e, one hack arm worth -2 that the proxy likes best."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=64)
    proxy = true + 0.3 * rng.normal(size=64)
    true[0], proxy[0] = -2.0, proxy.max() + 1.0
    hack = np.arange(64) == 0
    return Level(jnp.int32(0), jnp.zeros(8), f32(true), f32(proxy)[None], jnp.asarray(hack))


def test_the_curve_has_the_golden_numbers_and_its_peak():
    env = je.make("bandit/proxy", arms=64, hacks=1)
    params, level = env.default_params, golden()
    tau = f32([5.0, 2.0, 1.0, 0.5, 0.3, 0.1])
    path = env.curve(params, level, level.members[0], tau)
    np.testing.assert_allclose(path.true, [0.16, 0.31, 0.33, -0.62, -1.69, -2.0], atol=0.006)
    np.testing.assert_allclose(path.kl, [0.02, 0.13, 0.54, 2.15, 3.67, 4.16], atol=0.006)
    assert np.all(np.diff(path.proxy) > 0), "the proxy only ever rises"
    peak = env.peak(params, level, level.members[0], tau)
    fine = env.curve(params, level, level.members[0], f32(np.geomspace(5.0, 0.1, 4000)))
    assert float(peak.true) == pytest.approx(float(np.max(fine.true)), abs=1e-4)
    assert 0.5 < float(peak.tau) < 5.0


def test_ensembles_combine():
    level = level_of(ENV)
    members = np.asarray(level.members)
    np.testing.assert_allclose(ENV.combined(level, "min"), members.min(0), rtol=1e-6)
    np.testing.assert_allclose(ENV.combined(level, "mean"), members.mean(0), rtol=1e-5)
    expected = members.mean(0) - 2.0 * members.var(0)
    np.testing.assert_allclose(ENV.combined(level, "variance", 2.0), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match="how"):
        ENV.combined(level, "median")


def test_one_solution_and_its_label():
    level = level_of(ENV)
    known = ENV.solutions(PARAMS, level)
    best = int(np.argmax(level.true))
    assert float(known.count) == 1.0
    labels = [int(known.label((), jnp.array([a]), jnp.int32(1))) for a in range(12)]
    assert [a for a, code in enumerate(labels) if code >= 0] == [best]
    assert float(ENV.optimal_value(PARAMS, level)) == pytest.approx(float(np.max(level.true)))


@pytest.mark.parametrize(
    ("static", "named"),
    [
        ({"arms": 1}, "arms"),
        ({"arms": 4, "hacks": 4}, "hacks"),
        ({"members": 0}, "members"),
        ({"members": 2, "fooled": 3}, "fooled"),
        ({"prompts": 0}, "prompts"),
        ({"features": 0}, "features"),
    ],
    ids=str,
)
def test_impossible_structures_are_refused(static, named):
    with pytest.raises(BadInput, match=named):
        je.make("bandit/proxy", **static)


@pytest.mark.parametrize(
    ("name", "wrong"), [("correlation", 1.5), ("tail", -0.1), ("shared", 2.0), ("hack_mass", 1.5)]
)
def test_params_out_of_range_are_refused(name, wrong):
    with pytest.raises(BadInput, match=name):
        ENV.check_params(replace(PARAMS, **{name: f32(wrong)}))
