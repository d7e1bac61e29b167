"""Slot optimizer against written-out steps, and numbers that move with progress."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput, make
from mechanism_cases import build

from jaxrl_lab import policies
from jaxrl_lab.mechanisms import Cosine, Linear, Ramp
from jaxrl_lab.mechanisms.core import canonical, equation_of, resolve
from jaxrl_lab.recipes import recipe, with_value

LOSS_GRADS = [np.array([0.3, -1.0, 2.0], np.float32), np.array([-0.5, 0.1, 0.0], np.float32)]
START = np.array([1.0, -2.0, 0.5], np.float32)


def two_steps(mech):
    params = jnp.asarray(START)
    with jax.numpy_dtype_promotion("standard"):
        tx = mech.tx()
        opt = tx.init(params)
        for g in LOSS_GRADS:
            change, opt = tx.update(jnp.asarray(g), opt, params)
            params = params + change
    return np.asarray(params)


def test_sgd_descends_the_loss():
    got = two_steps(build("optimizer", "sgd", {"learning_rate": 0.1}))
    np.testing.assert_allclose(got, START - 0.1 * sum(LOSS_GRADS), rtol=1e-6)


def test_momentum_is_heavy_ball():
    got = two_steps(build("optimizer", "sgd", {"learning_rate": 0.1, "momentum": 0.9}))
    first, second = LOSS_GRADS
    expected = START - 0.1 * first - 0.1 * (second + 0.9 * first)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("decay", [None, 0.1])
def test_adam_equals_its_paper(decay):
    rate, b1, b2, eps = 0.05, 0.8, 0.95, 1e-3
    fields = {"learning_rate": rate, "b1": b1, "b2": b2, "eps": eps, "weight_decay": decay}
    got = two_steps(build("optimizer", "adam", fields))
    x, m, v = START.astype(np.float64), 0.0, 0.0
    for t, g in enumerate(LOSS_GRADS, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        x = x - rate * (step + (decay or 0.0) * x)
    np.testing.assert_allclose(got, x, rtol=1e-5)


@pytest.mark.parametrize("longest", [0.5, 100.0])
def test_clipping_shortens_the_whole_gradient(longest):
    tx = build("optimizer", "clip_by_global_norm", {"max_norm": longest}).tx()
    tree = {"a": jnp.asarray(LOSS_GRADS[0]), "b": jnp.asarray(LOSS_GRADS[1])}
    with jax.numpy_dtype_promotion("standard"):
        clipped, _ = tx.update(tree, tx.init(tree))
    norm = np.sqrt(sum(np.sum(g**2) for g in LOSS_GRADS))
    for got, g in zip(clipped.values(), LOSS_GRADS, strict=True):
        np.testing.assert_allclose(got, g * min(1.0, longest / norm), rtol=1e-6)


def test_clipping_alone_is_refused_because_it_takes_no_step():
    env = make("bandit/modes", prompts=2, arms=4, modes=1)
    built = recipe("reinforce", optimizer="clip_by_global_norm")
    with pytest.raises(BadInput, match="also a sgd or an adam"):
        built.check(env, policies.make("tabular", env))


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [
        (Linear(start=0.2, end=0.6), 0.4),
        (Cosine(start=0.2, end=0.6), 0.4),
        (Ramp(start=0.2, end=0.6), 0.4),
        (Ramp(start=0.2, end=0.6, begin=0.5, until=0.5), 0.6),
        (Ramp(start=0.2, end=0.6, begin=0.25, until=0.75), 0.4),
    ],
)
def test_schedules_run_from_start_to_end(schedule, middle):
    schedule = canonical(schedule)
    values = [float(schedule(jnp.float32(p))) for p in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(values, [0.2, middle, 0.6], atol=1e-6)


def test_cosine_starts_and_ends_slowly():
    s = canonical(Cosine(start=1.0, end=0.0))
    assert float(s(jnp.float32(0.25))) == pytest.approx((1 + np.cos(np.pi / 4)) / 2)


def test_a_ramp_stands_still_before_and_after():
    s = canonical(Ramp(start=1.0, end=0.2, begin=0.5, until=0.5))
    assert [float(s(jnp.float32(p))) for p in (0.0, 0.4999, 0.5, 1.0)] == pytest.approx(
        [1.0, 1.0, 0.2, 0.2]
    )
    s = canonical(Ramp(start=1.0, end=0.2, begin=0.2, until=0.6))
    assert float(s(jnp.float32(0.1))) == 1.0
    assert float(s(jnp.float32(0.3))) == pytest.approx(0.8)


@pytest.mark.parametrize("kind", ["linear", "cosine", "ramp"])
def test_a_recipe_resolves_its_schedules_and_checks_both_ends(kind):
    env = make("bandit/modes", prompts=2, arms=4, modes=1)
    policy = policies.make("tabular", env)
    moving = {kind: {"start": 0.4, "end": "1e-1"}}
    built = with_value(recipe("grpo"), "surrogate.high", moving)
    built = with_value(built, "optimizer.learning_rate", moving)
    built.check(env, policy)
    assert equation_of(built.optimizer[0]) != equation_of(recipe("grpo").optimizer[0])
    for progress, value in [(0.0, 0.4), (1.0, 0.1)]:
        now = jax.jit(resolve)(built, jnp.float32(progress))
        assert jax.tree.structure(now) == jax.tree.structure(recipe("grpo", name=built.name))
        assert float(now.surrogate[0].high) == pytest.approx(value)
        assert float(now.optimizer[0].learning_rate) == pytest.approx(value)
    bad = with_value(recipe("grpo"), "surrogate.high", {kind: {"start": 0.4, "end": -0.1}})
    with pytest.raises(BadInput, match=r"recipe\.surrogate\.clip\.high = -0\.(1|0999)"):
        bad.check(env, policy)
