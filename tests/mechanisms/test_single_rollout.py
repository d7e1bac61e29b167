"""The history of a prompt as its baseline: Beta counts against loops over made-up outcomes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput
from mechanism_cases import WORLD, build, first_memory, random_case

from jaxrl_lab.mechanisms.core import Spec
from jaxrl_lab.recipes import recipe

BASE = random_case((4, 1, 1), ragged=False)
PROMPTS = len(WORLD.level_ids("train"))


def outcome(prompts, rewards, distance=0.0):
    """A batch of one rollout per prompt; ``distance`` is log π_ref - log π_old everywhere."""
    shape = (len(prompts), 1, 1)
    case = random_case(shape, ragged=False)
    batch = replace(
        case.batch,
        level_id=jnp.asarray(prompts, jnp.int32)[:, None, None],
        reward=jnp.asarray(rewards, jnp.float32)[:, None, None],
    )
    logp = case.ctx.passes["reference"].dist.logp(batch.action) - distance
    return replace(batch, logp_old=logp), case.ctx


def mech_of(**given):
    return build("advantage", "beta_baseline", given)


def advance(mech, memory, batch, ctx):
    return mech.advance(memory, batch, {}, ctx)


def baseline(mech, memory):
    """V̂ of every prompt, read off the advantage of a reward of 0."""
    batch, ctx = outcome(range(PROMPTS), [0.0] * PROMPTS)
    return -np.asarray(mech(batch, replace(ctx, memory=memory)).advantage)[:, 0, 0]


def test_before_any_rollout_the_baseline_is_the_prior():
    mech = mech_of(start=0.3)
    memory = first_memory(mech, BASE)
    np.testing.assert_allclose(baseline(mech, memory), 0.3, rtol=1e-6)
    np.testing.assert_allclose(memory["won"] + memory["lost"], 8.0, rtol=1e-6)  # 1/(1 - 0.875)


def test_without_forgetting_it_is_the_posterior_mean_of_a_coin():
    """Prior Beta(N v, N (1 - v)); the KL stays just below the target, where ϱ is near 1."""
    kl = np.exp(0.4) - 1.4
    mech = mech_of(forget_high=1.0, start=0.3, target=1.0001 * kl)
    rng = np.random.default_rng(0)
    memory, won, lost = first_memory(mech, BASE), np.full(PROMPTS, 2.4), np.full(PROMPTS, 5.6)
    for _ in range(30):
        prompts = rng.permutation(PROMPTS)[:3]
        rewards = rng.integers(0, 2, 3)
        memory = advance(mech, memory, *outcome(prompts, rewards, 0.4))
        won[prompts] += rewards
        lost[prompts] += 1 - rewards
    np.testing.assert_allclose(baseline(mech, memory), won / (won + lost), rtol=1e-3)
    assert np.ptp(won / (won + lost)) > 0.1


def test_the_counts_are_a_loop_over_the_history():
    """ϱ from the windowed mean of the KL, visited prompts only, several rollouts of a prompt."""
    mech = mech_of(window=3, target=0.2)
    memory, rng = first_memory(mech, BASE), np.random.default_rng(1)
    won, lost, kls = np.full(PROMPTS, 4.0), np.full(PROMPTS, 4.0), []
    for i in range(12):
        prompts = rng.integers(0, PROMPTS, 5)  # with repetitions
        rewards = rng.random(5)
        d = [0.1, 0.8, -0.3, 1.2][i % 4]
        memory = advance(mech, memory, *outcome(prompts, rewards, d))
        kls.append(np.exp(d) - d - 1)
        k = np.mean(kls[-3:])
        keep = 0.875 if k > 0.2 else 0.875 + k / 0.2 * (0.96 - 0.875)
        for p in set(prompts):
            won[p] = keep * won[p] + rewards[prompts == p].sum()
            lost[p] = keep * lost[p] + (1 - rewards)[prompts == p].sum()
    np.testing.assert_allclose(memory["won"], won, rtol=1e-4)
    np.testing.assert_allclose(memory["lost"], lost, rtol=1e-4)
    np.testing.assert_allclose(baseline(mech, memory), won / (won + lost), rtol=1e-4)


def test_the_memory_is_bounded_where_one_rollout_comes_per_update():
    mech = mech_of(target=0.1)
    memory = first_memory(mech, BASE)
    for _ in range(200):
        memory = advance(mech, memory, *outcome([0], [1.0], 0.43))
    total = float(memory["won"][0] + memory["lost"][0])
    assert total <= 1 / (1 - 0.96) + 8
    assert total == pytest.approx(8.0, abs=0.2)  # beyond the target: 1/(1 - forget_low)


def test_the_published_rule_forgets_most_at_zero_and_beyond_the_target():
    mech = mech_of(target=0.4)
    kls = jnp.asarray([0.0, 0.2, 0.4, 0.41, 5.0], jnp.float32)
    factors = [float(mech.memory_factor(k)) for k in kls]
    np.testing.assert_allclose(factors, [0.875, 0.9175, 0.96, 0.875, 0.875], rtol=1e-5)


def test_the_advantage_is_taken_before_the_counts_move():
    mech = mech_of()
    memory = first_memory(mech, BASE)
    batch, ctx = outcome([2, 5], [1.0, 0.0])
    found = np.asarray(mech(batch, replace(ctx, memory=memory)).advantage)[:, 0, 0]
    np.testing.assert_allclose(found, [0.5, -0.5])
    moved = advance(mech, memory, batch, ctx)
    assert float(moved["won"][2]) > float(memory["won"][2]) * 0.96
    untouched = np.delete(np.arange(PROMPTS), [2, 5])
    np.testing.assert_array_equal(moved["won"][untouched], memory["won"][untouched])
    assert baseline(mech, moved)[2] > 0.5 > baseline(mech, moved)[5]


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"forget_low": 1.0}, "forget_low"),
        ({"forget_low": 0.99}, "forget_high"),
        ({"forget_high": 1.1}, "forget_high"),
        ({"target": 0.0}, "target"),
        ({"start": 1.5}, "start"),
        ({"window": 0}, "window"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(given, key):
    with pytest.raises(BadInput) as caught:
        mech_of(**given).check(Spec(WORLD, None, recipe(), 4, 1, 1))
    assert caught.value.key == key


def test_too_many_prompts_are_refused():
    env = SimpleNamespace(level_ids=lambda split: range(2**21))
    with pytest.raises(BadInput, match="train prompts"):
        mech_of().check(Spec(env, None, recipe(), 4, 1, 1))
