"""Further budgets against rollout-by-rollout loops in NumPy, and the weight of what is replayed."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest
import scipy.stats
from jaxrl_envs import BadInput
from mechanism_cases import build, random_case

import jaxrl_lab as lab
from jaxrl_lab.mechanisms.allocation import half_width
from jaxrl_lab.mechanisms.budget import empty_record
from jaxrl_lab.mechanisms.core import Spec
from jaxrl_lab.recipes import recipe
from jaxrl_lab.types import Plan

PROMPTS = 6
WORLD = jaxrl_envs.make("bandit/modes", prompts=PROMPTS, arms=6, modes=2)


def spec(group: int = 16) -> Spec:
    policy = lab.policies.make("tabular", WORLD)
    return Spec(WORLD, policy, recipe(group=group), PROMPTS, group, 1)


def plan(mech, right, count, update: int = 0, group: int = 16) -> list[int]:
    """Rollouts per prompt, where ``right`` of ``count`` were right before."""
    counts = {"right": jnp.asarray(right, jnp.float32), "count": jnp.asarray(count, jnp.float32)}
    shape = (PROMPTS, group)
    whole = Plan(jnp.arange(PROMPTS), jnp.ones(shape, bool), jnp.zeros(shape, jnp.int8))
    ctx = random_case((2, 2, 1)).ctx
    ctx = replace(ctx, memory=empty_record(spec()) | counts, update=jnp.int32(update))
    given = mech(whole, ctx)
    assert bool(jnp.all(given.valid[:, :-1] >= given.valid[:, 1:])), "the first ones are valid"
    return np.asarray(given.valid.sum(1)).tolist()


# ------------------------------------------------------------------ the interval


@pytest.mark.parametrize("confidence", [50, 95, 99])
def test_half_widths_are_students(confidence):
    n = np.concatenate([np.arange(2, 200), np.linspace(2.0, 40.0, 77)])
    expected = scipy.stats.t.ppf(0.5 + confidence / 200, n - 1) / np.sqrt(n)
    got = half_width(jnp.asarray(n, jnp.float32), confidence)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    normal = scipy.stats.norm.ppf(0.5 + confidence / 200)
    np.testing.assert_allclose(half_width(jnp.float32(1e6), confidence), normal / 1e3, rtol=1e-4)


def rollout_by_rollout(right, count, budget, fewest, most, bonus, update):
    """Give the next rollout to whom it helps most, one at a time."""
    right, count = np.asarray(right, float), np.asarray(count, float)
    p = np.divide(right, count, out=np.full(len(count), 0.5), where=count > 0)
    before = np.maximum(count, 2.0)
    s = np.sqrt(p * (1 - p) * before / (before - 1))
    sizes = np.full(len(count), fewest)

    def h(n):
        return scipy.stats.t.ppf(0.975, n - 1) * s / np.sqrt(n)

    while sizes.sum() < budget * len(count):
        n = before + sizes
        worth = h(n) - h(n + 1) + bonus * np.sqrt(np.log(2 + update) / n)
        sizes[np.argmax(np.where(sizes < most, worth, -np.inf))] += 1
    return sizes.tolist()


@pytest.mark.parametrize("bonus", [0.0, 0.05, 1.0])
def test_intervals_get_what_they_get_one_rollout_at_a_time(bonus):
    right, count = [0, 0.4, 1.1, 3.1, 5.6, 9.3], [7.3, 4.2, 2.3, 6.4, 9.7, 9.3]
    mech = build("task", "interval_budget", {"bonus": bonus, "budget": 7})
    expected = rollout_by_rollout(right, count, 7, 2, 16, bonus, 30)
    assert plan(mech, right, count, update=30) == expected
    assert len(set(expected)) > 2


def test_without_a_bonus_the_unanimous_get_the_fewest():
    mech = build("task", "interval_budget", {"bonus": 0.0, "budget": 6})
    sizes = plan(mech, [0, 8, 4, 4, 3, 5], [8] * 6)
    assert sizes[:2] == [2, 2]
    assert sum(sizes) == 36
    assert min(sizes[2:]) >= 7


def test_a_large_bonus_evens_out_the_counts():
    mech = build("task", "interval_budget", {"bonus": 1e4, "budget": 6})
    count = [2, 4, 6, 8, 10, 12]
    after = np.add(plan(mech, [1, 2, 3, 4, 5, 6], count), count)
    assert sum(after) == 36 + 42
    assert after.tolist() == [13, 13, 13, 13, 12, 14]


@pytest.mark.parametrize("name", ["interval_budget", "value_budget"])
def test_before_the_first_visit_all_are_equal(name):
    assert plan(build("task", name, {}), [0] * 6, [0] * 6) == [4] * 6


# ------------------------------------------------------------------ the value


def test_rollouts_of_the_unanimous_go_by_value():
    right, count = np.array([0, 8, 2, 4, 6, 7]), np.full(6, 8)
    sizes = plan(build("task", "value_budget", {"budget": 5}), right, count, group=32)
    assert sizes[:2] == [2, 2]
    p = right / count
    value = ((1 - p) * np.sqrt(p * (1 - p)))[2:]
    extra = np.zeros(4, int)
    for _ in range(6):  # what the two dead ones leave
        extra[np.argmax(value / (extra + 0.5))] += 1
    assert sizes[2:] == (5 + extra).tolist()
    assert np.argmax(sizes) == 2, "the value peaks at 1/4"


def test_without_a_unanimous_group_the_values_change_nothing():
    mech = build("task", "value_budget", {"budget": 5})
    assert plan(mech, [1, 2, 3, 4, 6, 7], [8] * 6) == [5] * 6
    assert plan(mech, [0, 8, 0, 8, 0, 0], [8] * 6) == [5] * 6, "nor with nothing else"


def test_both_budgets_train():
    world = {"updates": 4, "seeds": 1}
    for name in ("interval_budget", "value_budget"):
        ran = lab.train(WORLD, "tabular", lab.recipe("grpo", group=16, task=name), **world)
        tokens = np.asarray(ran.dataset["tokens"])
        assert (np.diff(tokens) == 4 * PROMPTS).all()


def test_budgets_refuse_what_cannot_be():
    both = ("interval_budget", "value_budget")
    rows = [(name, given, key) for name in both for given, key in (
        ({"budget": 17}, "budget"), ({"fewest": 5}, "fewest"), ({"decay": 1.5}, "decay"),
    )]  # fmt: skip
    rows += [(both[0], {"bonus": -1.0}, "bonus"), (both[0], {"confidence": 100}, "confidence")]
    for name, given, key in rows:
        with pytest.raises(BadInput) as caught:
            build("task", name, given).check(spec())
        assert caught.value.key == key


# ------------------------------------------------------------------ what is replayed


def test_a_replayed_right_answer_of_weight_zero_still_turns_the_wrong_ones_down():
    case = random_case((2, 4, 1), ragged=False)
    reward = jnp.array([[0, 0, 0, 1], [1, 0, 0, 1]], jnp.float32)[..., None]
    source = jnp.array([[0, 0, 0, 1], [0, 0, 0, 0]], jnp.int8)
    batch = replace(case.batch, reward=reward, source=source)
    batch = build("advantage", "group_normalized", {"ddof": 0})(batch, case.ctx)
    plain = np.asarray(batch.advantage)
    for weight in (0.0, 0.5, 1.0):
        got = build("credit", "replayed_weight", {"weight": weight})(batch, case.ctx).advantage
        expected = plain * np.array([[1, 1, 1, weight], [1, 1, 1, 1]])[..., None]
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert (plain[0, :3] < 0).all()
    with pytest.raises(BadInput):
        build("credit", "replayed_weight", {"weight": -0.1}).check(spec())


def test_a_random_outcome_is_the_opposite_half_of_the_time():
    mech = build("reward", "opposite_replay", {"outcome": "random"})
    case = random_case((1, 3, 1), ragged=False)
    one, no = jnp.ones((1, 3), jnp.int8), jnp.zeros((1, 3, 1), jnp.float32)
    batch = replace(case.batch, reward=no, channels={"true": no}, source=0 * one)
    memory = mech.init(spec())
    full = {"full": jnp.ones_like(memory["full"]), "action": jnp.full((PROMPTS, 2), 3, jnp.int32)}

    def replayed(key):
        out = mech(batch, replace(case.ctx, key=key, memory=memory | full))
        return out.source[0, 2] == 1, out.reward[0, 2, 0] > 0

    put, right = jax.vmap(replayed)(jax.random.split(jax.random.key(0), 400))
    assert bool(put.all()), "replays as often as before"
    assert abs(float(right.mean()) - 0.5) < 0.1
