"""Budgets, the weight of prompts, replay and hints: closed forms, limits, and their memories."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest
from jaxrl_envs import BadInput
from mechanism_cases import build, random_case, whole_objective

import jaxrl_lab as lab
from jaxrl_lab.mechanisms.budget import (
    advanced,
    allocate,
    empty_record,
    estimate,
    marginal_gain,
    progress_value,
)
from jaxrl_lab.mechanisms.core import Spec
from jaxrl_lab.mechanisms.hint import without_hints
from jaxrl_lab.recipes import recipe
from jaxrl_lab.types import LearnerState, Plan

WORLD = jaxrl_envs.make("bandit/modes", prompts=5, arms=6, modes=2)
RATES = jnp.array([0.0, 0.01, 0.2, 1 / 3, 0.7, 1.0], jnp.float32)


def spec(group: int = 8) -> Spec:
    policy = lab.policies.make("tabular", WORLD)
    return Spec(WORLD, policy, recipe(group=group), 5, group, 1)


def plan(mech, memory, update: int = 0, group: int = 8) -> np.ndarray:
    """Rollouts per prompt that a budget gives to all prompts."""
    whole = Plan(jnp.arange(5), jnp.ones((5, group), bool), jnp.zeros((5, group), jnp.int8))
    ctx = replace(random_case((2, 2, 1)).ctx, memory=memory, update=jnp.int32(update))
    given = mech(whole, ctx)
    assert bool(jnp.all(given.valid[:, :-1] >= given.valid[:, 1:])), "the first ones are valid"
    return np.asarray(given.valid.sum(1))


def known(right, count) -> dict:
    """A record that holds these counts."""
    counts = {"right": jnp.asarray(right, jnp.float32), "count": jnp.asarray(count, jnp.float32)}
    return empty_record(spec()) | counts


# ------------------------------------------------------------------ value and allocation


def test_marginal_gains_are_the_steps_of_the_value_and_never_rise():
    gain = np.asarray(marginal_gain(RATES, 12))
    n = jnp.arange(1, 13, dtype=jnp.float32)
    value = np.asarray(jax.vmap(lambda p: progress_value(n, p))(RATES), np.float64)
    np.testing.assert_allclose(np.diff(value, axis=1), gain[:, 1:], atol=1e-7)
    assert np.all(np.diff(gain, axis=1) <= 1e-9)
    assert np.all(gain[[0, -1]] == 0.0), "nothing to learn at p of 0 and 1"
    np.testing.assert_allclose(value[:, 1], 2 * np.square(RATES * (1 - RATES)) * (1 - RATES),
                               atol=1e-7)  # fmt: skip
    fine = jnp.linspace(0.0, 1.0, 301)
    factor = progress_value(jnp.full(301, 1e6), fine)
    assert float(fine[jnp.argmax(factor)]) == pytest.approx(1 / 3, abs=0.01)


def test_taking_the_largest_gains_first_is_the_best_of_all_splits():
    p, fewest, most, total = RATES[1:5], 1, 6, 12
    sizes = np.asarray(allocate(marginal_gain(p, most), jnp.int32(total), fewest))

    def worth(split) -> float:
        return float(np.sum(progress_value(jnp.asarray(split, jnp.float32), p)))

    splits = [s for s in product(range(fewest, most + 1), repeat=4) if sum(s) == total]
    assert sum(sizes) == total
    assert worth(sizes) == pytest.approx(max(worth(s) for s in splits), rel=1e-5)
    assert len(set(sizes.tolist())) > 1, "a test in which all splits are equal says nothing"


def test_a_budget_is_spent_to_the_last_rollout_within_its_bounds():
    record = known([0, 1, 4, 7, 8], [8, 8, 8, 8, 8])
    for name, given in (("knapsack", {}), ("proportional_budget", {"exponent": 1.0})):
        sizes = plan(build("task", name, given | {"budget": 5}), record)
        assert sizes.sum() == 25
        assert sizes.min() >= 2
        assert sizes.max() <= 8
        assert sizes[2] > sizes[4]
    proportional = plan(build("task", "proportional_budget", {"budget": 5}), record)
    assert abs(proportional[1] - proportional[3]) <= 1, "the variance is symmetric"
    knapsack = plan(build("task", "knapsack", {"budget": 4}), record)
    assert knapsack[1] > knapsack[3] + 1, "progress is not"


def test_zero_budget_is_a_quarter_of_the_width():
    assert plan(build("task", "proportional_budget", {"exponent": 0.0}), known(*[[0] * 5] * 2), 0,
                16).tolist() == [4] * 5  # fmt: skip


def test_webster_shares_follow_the_weights():
    mech = build("task", "proportional_budget", {"prior": 0.0, "budget": 20})
    record = known([5, 2, 5, 2, 5], [10, 10, 10, 10, 10])  # variances 0.25 and 0.16
    sizes = plan(mech, record, group=64)
    weights = np.array([0.25, 0.16, 0.25, 0.16, 0.25])
    np.testing.assert_allclose(sizes, 100 * weights / weights.sum(), atol=0.7)


def test_equal_prompts_share_equally_and_ties_take_turns():
    mech = build("task", "knapsack", {"budget": 3})
    record = known([2] * 5, [8] * 5)
    assert plan(mech, record).tolist() == [3] * 5
    mech = build("task", "proportional_budget", {"prior": 0.0, "budget": 3})
    first = known([0, 0, 0, 0, 4], [8] * 5)  # four dead prompts share what is left over
    turns = np.stack([plan(mech, first, update, group=4) for update in range(5)])
    assert turns[:, 4].tolist() == [4] * 5
    assert (turns.sum(1) == 15).all()
    assert len({tuple(row) for row in turns.tolist()}) > 1


def test_a_tiny_power_without_prior_skips_the_unanimous():
    mech = build("task", "proportional_budget", {"exponent": 1e-3, "prior": 0.0, "budget": 4})
    assert plan(mech, known([0, 8, 1, 4, 7], [8] * 5)).tolist()[:2] == [2, 2]
    assert plan(mech, known([0] * 5, [0] * 5)).tolist() == [4] * 5, "nothing is known yet"


def test_an_exponent_of_zero_is_grpo():
    world = {"updates": 3, "seeds": 2}
    task = {"proportional_budget": {"exponent": 0.0, "budget": 4}}
    ran = [
        lab.train(WORLD, "tabular", lab.recipe("grpo", group=4, task=t), **world).params
        for t in ((), task)
    ]
    plain, budgeted = (next(iter(params.values()))["logits"] for params in ran)
    np.testing.assert_allclose(plain, budgeted, atol=1e-6)
    assert float(jnp.abs(plain).max()) > 0


def test_budgets_refuse_what_cannot_be():
    for name in ("knapsack", "proportional_budget"):
        for given, key in (
            ({"budget": 9}, "budget"),
            ({"budget": 4, "fewest": 5}, "fewest"),
            ({"budget": 4, "fewest": 1}, "fewest"),
            ({"budget": 4, "decay": 1.5}, "decay"),
            ({"budget": 4, "prior": -1.0}, "prior"),
        ):
            with pytest.raises(BadInput) as caught:
                build("task", name, given).check(spec())
            assert caught.value.key == key
    with pytest.raises(BadInput):
        build("task", "knapsack", {"budget": 4, "prior": 0.0}).check(spec())


# ------------------------------------------------------------------ the record


def visited(right, valid=None, ids=(0, 1, 2)):
    """A batch of one-step rollouts with these rewards."""
    reward = jnp.asarray(right, jnp.float32)[..., None]
    case = random_case(reward.shape, ragged=False)
    valid = jnp.ones(reward.shape[:2], bool) if valid is None else jnp.asarray(valid, bool)
    return replace(
        case.batch,
        reward=reward,
        channels={"true": reward},
        valid=valid,
        mask=valid[..., None],
        level_id=jnp.asarray(ids, jnp.int32)[:, None, None],
    )


def test_the_record_counts_fades_and_forgets_nobody():
    batch = visited([[1, 0, 0], [1, 1, 1], [0, 0, 1]], [[1, 1, 1], [1, 1, 0], [1, 1, 0]])
    record = advanced(empty_record(spec()), batch, jnp.float32(0.5), "true")
    assert record["right"].tolist() == [1, 2, 0, 0, 0]
    assert record["count"].tolist() == [3, 2, 2, 0, 0]
    again = visited([[1, 1], [0, 0]], ids=(0, 0))  # one prompt twice, as dynamic sampling does
    record = advanced(record, again, jnp.float32(0.5), "true")
    assert record["right"].tolist() == [2.5, 2, 0, 0, 0]
    assert record["count"].tolist() == [5.5, 2, 2, 0, 0]
    assert record["visit_count"].tolist() == [4, 2, 2, 0, 0]
    p = estimate(record, jnp.arange(5), jnp.float32(0.5))
    np.testing.assert_allclose(p, [3 / 6.5, 2.5 / 3, 0.5 / 3, 0.5, 0.5], rtol=1e-6)


def test_the_record_does_not_see_what_credit_masked():
    batch = visited([[1, 1, 1], [0, 0, 0], [0, 1, 0]])
    hidden = replace(batch, mask=jnp.zeros_like(batch.mask))
    for one in (batch, hidden):
        record = advanced(empty_record(spec()), one, jnp.float32(0.0), "true")
        assert record["right"].tolist() == [3, 0, 1, 0, 0]


# ------------------------------------------------------------------ the weight of prompts


def test_with_equal_prompts_an_uneven_split_is_unbiased():
    """E over all groups of sizes 2 and 3 is the gradient of the mean pass rate, by jax.grad."""
    case = random_case((2, 3, 1), ragged=False)
    valid = jnp.array([[True, True, False], [True, True, True]])
    logits = jnp.array([[0.3, -0.5, 0.1, 0.0], [1.0, 0.2, -0.7, 0.4]], jnp.float32)
    right = jnp.array([[1, 0, 0, 0], [0, 1, 0, 1]], jnp.float32)
    groups = jnp.asarray(list(product(range(4), repeat=5)), jnp.int32)
    logp = jax.nn.log_softmax(logits)
    slots = {"advantage": "leave_one_out", "surrogate": "score_function"}

    def mean_gradient(credit) -> jax.Array:
        def one(five):
            action = jnp.stack([jnp.append(five[:2], 0), five[2:]])
            row = jnp.arange(2)[:, None]
            reward = right[row, action][..., None]
            batch = replace(case.batch, action=action[..., None], reward=reward, valid=valid,
                            mask=valid[..., None])  # fmt: skip
            chance = jnp.exp(jnp.sum(jnp.where(valid, logp[row, action], 0.0)))

            def objective(z):
                wide = jnp.broadcast_to(z[:, None, None, :], (2, 3, 1, 4))
                given = {**slots, "credit": credit, "aggregate": "sequence_mean"}
                return whole_objective(given, replace(case, batch=batch), wide, case.value)

            return chance * jax.grad(objective)(logits)

        return jnp.sum(jax.jit(jax.vmap(one))(groups), axis=0)

    exact = jax.grad(lambda z: jnp.sum(jax.nn.softmax(z) * right) / 2)(logits)
    np.testing.assert_allclose(mean_gradient("equal_prompts"), exact, atol=1e-6)
    weighed = np.asarray(exact) * np.array([[4 / 5], [6 / 5]])
    np.testing.assert_allclose(mean_gradient(()), weighed, atol=1e-6)


def test_equal_groups_are_left_as_they_are():
    batch = random_case((3, 4, 2)).batch
    out = build("credit", "equal_prompts", {})(batch, random_case((3, 4, 2)).ctx)
    np.testing.assert_allclose(out.advantage, batch.advantage, rtol=1e-6)


# ------------------------------------------------------------------ replay


def replayed(ratio: str):
    """A store with a right and a wrong rollout of prompt 0 and a right one of prompt 1."""
    mech = build("reward", "opposite_replay", {"ratio": ratio})
    case = random_case((3, 3, 1), ragged=False)
    memory, none = mech.init(spec()), {}
    for right, ids in (([[0, 1, 1]], (0,)), ([[1, 1, 1]], (1,))):
        old = visited(right, ids=ids)
        old = replace(old, source=jnp.zeros((1, 3), jnp.int8))
        memory = mech.advance(memory, old, none, case.ctx)
    return mech, case, memory


@pytest.mark.parametrize("ratio", ["stored", "current"])
def test_unanimous_groups_get_the_opposite_and_nothing_else_changes(ratio):
    mech, case, memory = replayed(ratio)
    batch = visited([[0, 0, 0], [1, 1, 1], [0, 1, 0]])
    out = mech(batch, replace(case.ctx, memory=memory))
    # Prompt 0 has a right one; of prompt 1 only right ones are stored; prompt 2 is informative.
    assert out.reward[..., 0].tolist() == [[0, 0, 1], [1, 1, 1], [0, 1, 0]]
    assert out.source.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    put = (0, 2, 0)
    assert int(out.action[put]) == int(memory["action"][0, 1])
    assert float(out.logp_behavior[put]) == float(memory["logp"][0, 1])
    now = float(case.ctx.passes["old"].dist.logp(out.action)[put])
    expected = float(memory["logp"][0, 1]) if ratio == "stored" else now
    assert float(out.logp_old[put]) == pytest.approx(expected)
    others = np.ones(batch.action.shape, bool)
    others[put] = False
    for name in ("action", "logp_old", "logp_behavior", "reward"):
        np.testing.assert_array_equal(getattr(out, name)[others], getattr(batch, name)[others])


def test_an_empty_store_replays_nothing_and_replays_are_not_stored_again():
    mech, case, memory = replayed("current")
    batch = visited([[0, 0, 0], [1, 1, 1], [0, 1, 0]])
    empty = mech.init(spec())
    same = mech(batch, replace(case.ctx, memory=empty))
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(batch), strict=True):
        np.testing.assert_array_equal(a, b)
    out = mech(batch, replace(case.ctx, memory=memory))
    after = mech.advance(memory, out, {}, case.ctx)
    assert after["full"][:3].tolist() == [[True, True], [False, True], [True, True]]
    assert float(after["logp"][0, 1]) == float(memory["logp"][0, 1]), "kept: the copy is not new"
    assert float(after["logp"][0, 0]) == float(batch.logp_behavior[0, 0, 0]), "newest wrong one"


def test_a_replayed_right_answer_turns_the_wrong_ones_down():
    mech, case, memory = replayed("current")
    out = mech(visited([[0, 0, 0]], ids=(0,)), replace(case.ctx, memory=memory))
    advantage = build("advantage", "group_normalized", {"ddof": 0})(out, case.ctx).advantage
    np.testing.assert_allclose(advantage[0, :, 0], [-(0.5**0.5)] * 2 + [2**0.5], rtol=1e-4)


# ------------------------------------------------------------------ hints


def hint(shares, shown, low=0.1, high=0.35):
    """Parameters before and after, and the memory after, of one update with these shares."""
    mech = build("update", "hint_hard_prompts", {"arms": 3, "low": low, "high": high})
    memory = mech.init(spec())
    record = memory["record"] | {"visit_right": 8.0 * jnp.asarray(shares, jnp.float32)}
    record["visit_count"] = jnp.where(jnp.isnan(record["visit_right"]), 0.0, 8.0)
    memory |= {"record": record, "shown": jnp.asarray(shown)}
    params = {"logits": jnp.arange(30, dtype=jnp.float32).reshape(5, 6)}
    state = LearnerState(params, (), {}, {}, (), jnp.bool_(True), jnp.int32(-1))
    ctx = replace(random_case((5, 8, 1)).ctx, memory=memory)
    after = mech(state, state, {}, ctx).params["logits"]
    return mech, memory, params["logits"], after


def test_hints_come_to_the_unsolved_and_go_from_the_solved():
    shares = [0.0, 0.25, 0.25, 0.5, float("nan")]
    shown = [False, False, True, True, False]
    mech, memory, before, after = hint(shares, shown)
    rows = np.asarray(jnp.any(after != before, axis=1))
    assert rows.tolist() == [True, False, False, True, False]
    np.testing.assert_allclose((after - before)[0], memory["offset"][0])
    np.testing.assert_allclose((after - before)[3], -memory["offset"][3])
    batch = visited([[0] * 8] * 5, ids=range(5))
    later = mech.advance(memory, batch, {}, random_case((5, 8, 1)).ctx)
    assert later["shown"].tolist() == [True, False, True, False, False]


def test_a_hint_rules_out_wrong_arms_and_can_be_taken_back():
    _, memory, _, _ = hint([0.0] * 5, [False] * 5)
    ids = jnp.arange(5)
    levels = jax.vmap(WORLD.make_level, (None, 0))(WORLD.default_params, ids)
    ruled_out = np.asarray(memory["offset"]) == -4.0
    assert ruled_out.sum(1).tolist() == [3] * 5
    assert not (ruled_out & (np.asarray(levels.mode) >= 0)).any()
    shown = memory | {"shown": jnp.ones(5, bool)}
    params = {"logits": jnp.zeros((5, 6)) + memory["offset"], "value": jnp.zeros(5)}
    bare = without_hints(shown, params)
    np.testing.assert_array_equal(bare["logits"], 0.0)
    np.testing.assert_array_equal(without_hints(memory, params)["logits"], params["logits"])


def test_a_strong_hint_is_the_worlds_own():
    """π restricted to the arms that are left: p becomes p / (1 − w)."""
    mech = build("update", "hint_hard_prompts", {"arms": 3, "strength": 30.0})
    offset = mech.init(spec())["offset"]
    hinted = replace(WORLD, hinted=True)
    params = replace(hinted.default_params, hints=jnp.float32(3.0))
    z = jax.random.normal(jax.random.key(0), (5, 6))
    for i in range(5):
        level = hinted.make_level(params, jnp.int32(i))
        expected = hinted.hinted_policy(level, jax.nn.softmax(z[i]))
        np.testing.assert_allclose(jax.nn.softmax(z[i] + offset[i]), expected, atol=1e-6)


def test_hints_refuse_networks_worlds_without_them_and_too_many_arms():
    mech = build("update", "hint_hard_prompts", {"arms": 3})
    features = jaxrl_envs.make("bandit/modes", observation="features")
    network = lab.policies.make("mlp", features, hidden=[4])
    with pytest.raises(BadInput) as caught:
        mech.check(replace(spec(), policy=network))
    assert caught.value.key == "policy.id"
    with pytest.raises(BadInput) as caught:
        build("update", "hint_hard_prompts", {"arms": 5}).check(spec())
    assert caught.value.key == "arms"
