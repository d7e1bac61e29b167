"""``bandit/modes``: noisy pay, noisy verdicts and hints, against what they should be on average."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs.bandits.modes import ModesBandit

i32, f32 = jnp.int32, jnp.float32
N = 100_000
SMALL = partial(ModesBandit, prompts=4, arms=9, modes=2, decoys=3)


def params_of(env: ModesBandit, **given: float) -> Any:
    return replace(env.default_params, **{k: f32(v) for k, v in given.items()})


def level_of(env: ModesBandit, params: Any, index: int = 0) -> Any:
    return env.make_level(params, i32(index))


def rewards(env: ModesBandit, params: Any, level: Any) -> dict[str, np.ndarray]:
    """Channels ``[K, N]``, every arm under the same N draws."""
    noise = env.draw(jax.random.key(0), (N,))
    over_noise = jax.vmap(lambda a, u: env.step(params, level, (), a, u).reward, (None, 0))
    table = jax.jit(jax.vmap(over_noise, (0, None)))(jnp.arange(env.arms), noise)
    return {k: np.asarray(v, np.float64) for k, v in table.items()}


def close(sample: np.ndarray, mean: np.ndarray) -> None:
    """Means over the last axis, within five standard errors."""
    error = 5 * sample.std(axis=-1) / np.sqrt(N) + 1e-6
    assert np.all(np.abs(sample.mean(axis=-1) - mean) <= error)


def test_nothing_is_drawn_where_nothing_is_noisy() -> None:
    env = SMALL()
    level = level_of(env, env.default_params)
    assert env.draw(jax.random.key(0), (3,)) == ()
    after = env.step(env.default_params, level, (), i32(0), ())
    assert set(after.reward) == {"true"}


@pytest.mark.parametrize(
    ("noise", "given", "variance"),
    [
        ("bernoulli", {"decoy_reward": 0.3}, lambda r: r * (1 - r)),
        ("gaussian", {"decoy_reward": 0.3, "sigma": 0.7}, lambda r: 0.49 + 0 * r),
        ("two_point", {"decoy_reward": 0.3, "chance": 0.02}, lambda r: r**2 * (1 / 0.02 - 1)),
    ],
)
def test_pay_has_its_mean_and_variance(noise: Any, given: Any, variance: Any) -> None:
    env = SMALL(noise=noise)
    params = params_of(env, **given)
    env.check_params(params)
    level = level_of(env, params)
    mean = np.asarray(level.reward, np.float64)
    assert sorted(set(mean.round(6))) == [0.0, 0.3, 1.0]
    pay = rewards(env, params, level)["true"]
    close(pay, mean)
    close((pay - mean[:, None]) ** 2, variance(mean))
    if noise == "two_point":
        values = {round(v, 4) for v in np.unique(pay)}
        assert values == {0.0, 15.0, 50.0}
    assert float(env.optimal_value(params, level)) == 1.0


@pytest.mark.parametrize("flips", [(0.0, 0.0), (0.3, 0.1), (0.25, 0.75), (1.0, 1.0)])
def test_verdicts_are_flipped_at_their_rates(flips: tuple[float, float]) -> None:
    env = SMALL(verifier=True)
    params = params_of(env, false_positive=flips[0], false_negative=flips[1])
    env.check_params(params)
    level = level_of(env, params, 2)
    table = rewards(env, params, level)
    assert np.all(np.isin(table["verified"], [0.0, 1.0]))
    right = np.asarray(level.mode) >= 0
    expected = np.where(right, 1 - flips[1], flips[0])
    np.testing.assert_allclose(env.verified_rate(params, level), expected, atol=1e-6)
    close(table["verified"], expected)
    true = np.asarray(level.reward, np.float64)
    np.testing.assert_array_equal(table["true"], np.broadcast_to(true[:, None], (9, N)))


def test_gradient_through_a_noisy_verifier() -> None:
    """grad E[verified] = (1 - f+ - f-) grad p, and 0 where the rates add up to 1."""
    env = SMALL(verifier=True)
    theta = f32(np.random.RandomState(0).randn(9))
    for fp, fn in ((0.3, 0.1), (0.4, 0.6)):
        params = params_of(env, false_positive=fp, false_negative=fn)
        level = level_of(env, params)
        expected = lambda x, r: jnp.sum(jax.nn.softmax(x) * r)  # noqa: E731
        noisy = jax.grad(expected)(theta, env.verified_rate(params, level))
        clean = jax.grad(expected)(theta, env.correct(level).astype(f32))
        np.testing.assert_allclose(noisy, (1 - fp - fn) * np.asarray(clean), atol=1e-6)
        assert np.abs(clean).max() > 0.01


def test_pay_and_verdict_are_independent() -> None:
    env = SMALL(noise="bernoulli", verifier=True)
    params = params_of(env, decoy_reward=0.5, false_positive=0.5)
    level = level_of(env, params)
    table = rewards(env, params, level)
    decoys = np.flatnonzero(np.asarray(level.reward) == 0.5)
    for arm in decoys:
        both = np.corrcoef(table["true"][arm], table["verified"][arm])[0, 1]
        assert abs(both) < 5 / np.sqrt(N)


@pytest.mark.parametrize("hints", [0, 1, 4, 7])
def test_hints_rule_out_wrong_arms(hints: int) -> None:
    env = SMALL(hinted=True, observation="features")
    params = params_of(env, hints=hints)
    env.check_params(params)
    for index in range(4):
        level = level_of(env, params, index)
        out, right = np.asarray(level.ruled_out), np.asarray(level.mode) >= 0
        assert out.sum() == hints
        assert not np.any(out & right)
        if hints <= 4:  # the decoys are the last to go
            assert np.all(np.asarray(level.reward)[out] == 0.0)
        obs = np.asarray(env.observe(params, level, ()))
        np.testing.assert_array_equal(obs, [*np.asarray(level.features), *out.astype(float)])
        policy = np.random.RandomState(index).dirichlet(np.ones(9))
        hinted = np.asarray(env.hinted_policy(level, f32(policy)))
        expected = policy[right].sum() / (1 - policy[out].sum())
        assert hinted[right].sum() == pytest.approx(expected, rel=1e-5)
        assert np.all(hinted[out] == 0.0)
        assert env.render(params, level, ()).split()[3].count("x") == hints
    plain = SMALL()
    with pytest.raises(je.BadInput, match="hinted"):
        plain.hinted_policy(level_of(plain, plain.default_params), f32(policy))


BAD_PARAMS = [
    ({}, "sigma", 0.1), ({"noise": "gaussian"}, "sigma", -1.0), ({}, "chance", 0.5),
    ({"noise": "two_point"}, "chance", 0.0), ({}, "false_positive", 0.1),
    ({"verifier": True}, "false_negative", 1.5), ({}, "hints", 1.0),
    ({"hinted": True}, "hints", 8.0), ({"noise": "bernoulli"}, "decoy_reward", -0.5),
]  # fmt: skip


@pytest.mark.parametrize(("static", "key", "value"), BAD_PARAMS, ids=str)
def test_bad_params_are_refused_by_name(static: Any, key: str, value: float) -> None:
    env = SMALL(**static)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **{key: value}))
    assert caught.value.key == key


def test_unknown_noise_is_refused() -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("bandit/modes", noise="cauchy")
    assert caught.value.key == "noise"
