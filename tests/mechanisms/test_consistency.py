"""Advantages across prompts against NumPy, their limits, and one exact expectation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput, make
from mechanism_cases import build, random_case

from jaxrl_lab import policies
from jaxrl_lab.mechanisms import consistency
from jaxrl_lab.recipes import parse_slot, recipe

GRPO = {"group_normalized": {"ddof": 1, "eps": 1e-9}}
OWN_ALONE = {"steepness": 1e4, "threshold": -1.0}
PROMPT_ALONE = {"steepness": 1e4, "threshold": 99.0}
CTX = random_case((2, 2, 1)).ctx
answer_entropy = jax.jit(consistency.answer_entropy)


def batch_of(rewards, answers=None, valid=None):
    """One-token answers with these rewards; all different unless given."""
    rewards = jnp.asarray(rewards, jnp.float32)
    case = random_case((*rewards.shape, 1), ragged=False)
    numbers = jnp.broadcast_to(jnp.arange(rewards.shape[1], dtype=jnp.int32), rewards.shape)
    answers = numbers if answers is None else jnp.asarray(answers, jnp.int32)
    valid = jnp.ones(rewards.shape, bool) if valid is None else jnp.asarray(valid, bool)
    return replace(
        case.batch,
        reward=rewards[..., None],
        action=answers[..., None],
        valid=valid,
        mask=valid[..., None],
    )


@jax.jit
def chained(chain, batch):
    for mech in chain:
        batch = mech(batch, CTX)
    return batch.advantage[..., 0]


def advantage(batch, *chain):
    return np.asarray(chained(parse_slot("advantage", list(chain)), batch))


def bits(answers) -> float:
    shares = np.array(list(Counter(answers).values())) / len(answers)
    return float(-(shares * np.log2(shares)).sum())


# ------------------------------------------------------------------ the entropy of the answers


def test_answer_entropy_counts_the_answers_of_every_group():
    groups = np.array(list(product(range(3), repeat=4)))
    got = answer_entropy(batch_of(np.zeros(groups.shape), groups))
    np.testing.assert_allclose(got[:, 0], [bits(g) for g in groups.tolist()], atol=1e-6)
    np.testing.assert_array_equal(got, np.broadcast_to(got[:, :1], got.shape))
    six = answer_entropy(batch_of(np.zeros((1, 6))))
    np.testing.assert_allclose(six, np.log2(6), rtol=1e-6)


def test_answer_entropy_sees_valid_rollouts_and_the_last_token_only():
    valid = [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    some = batch_of(np.zeros((3, 4)), [[0, 0, 1, 2]] * 3, valid)
    expected = [bits([0, 0, 1]), 0.0, 0.0]
    np.testing.assert_allclose(answer_entropy(some)[:, 0], expected, atol=1e-6)
    case = random_case((4, 5, 3))
    lengths = np.asarray(case.batch.mask.sum(-1))
    last = np.take_along_axis(np.asarray(case.batch.action), lengths[..., None] - 1, -1)[..., 0]
    expected = [bits(g) for g in last.tolist()]
    np.testing.assert_allclose(answer_entropy(case.batch)[:, 0], expected, atol=1e-6)


# ------------------------------------------------------------------ the gated advantage


@pytest.mark.parametrize(("steepness", "threshold"), [(5.0, 1.0), (20.0, 1.5), (0.0, 1.0)])
def test_the_mixture_is_the_written_out_one(steepness, threshold):
    rng = np.random.default_rng(3)
    rewards, answers = rng.integers(0, 2, (7, 5)).astype(float), rng.integers(0, 3, (7, 5))
    rewards[0], rewards[1] = 0.0, 1.0
    given = {"steepness": steepness, "threshold": threshold, "eps": 1e-9}
    got = advantage(batch_of(rewards, answers), GRPO, {"consistency_gated": given})
    spread = rewards.std(1, ddof=1, keepdims=True)
    own = (rewards - rewards.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    score = rewards.mean(1, keepdims=True)
    prompt = (score - score.mean()) / score.std(ddof=1)
    entropy = np.array([[bits(g)] for g in answers.tolist()])
    gate = 1 / (1 + np.exp(-steepness * (entropy - threshold)))
    np.testing.assert_allclose(got, gate * own + (1 - gate) * prompt, rtol=1e-4, atol=1e-5)


def test_an_open_gate_is_grpo_and_a_shut_one_the_prompts_alone():
    rewards = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]], float)
    batch = batch_of(rewards)
    plain = advantage(batch, GRPO)
    open_ = advantage(batch, GRPO, {"consistency_gated": OWN_ALONE})
    np.testing.assert_allclose(open_, plain, atol=1e-6)
    shut = advantage(batch, GRPO, {"consistency_gated": PROMPT_ALONE})
    score = rewards.mean(1)
    expected = (score - score.mean()) / score.std(ddof=1)
    np.testing.assert_allclose(shut, np.tile(expected[:, None], 4), rtol=1e-5)
    assert (plain[[1, 3]] == 0).all()
    assert (shut[1] < 0).all(), "an all-wrong group is turned away from what it said"
    assert (shut[3] > 0).all(), "an all-right one toward it"


def test_a_group_split_in_two_is_half_its_own():
    batch = batch_of([[1, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 1, 1], [0, 1, 2, 3]])
    both = [advantage(batch, GRPO, {"consistency_gated": g}) for g in (OWN_ALONE, PROMPT_ALONE)]
    got = advantage(batch, GRPO, {"consistency_gated": {}})
    np.testing.assert_allclose(got[0], (both[0] + both[1])[0] / 2, rtol=1e-5)


def test_prompts_that_are_equally_good_or_alone_do_not_differ():
    for rewards in ([[1, 0, 0]], [[1, 0, 0], [0, 1, 0]], [[1, 1, 1], [1, 1, 1]], [[0.1] * 3] * 2):
        shut = advantage(batch_of(rewards), GRPO, {"consistency_gated": PROMPT_ALONE})
        assert (shut == 0).all()


def test_prompts_without_a_valid_rollout_are_no_prompts():
    rewards = [[1, 1, 0], [0, 0, 1], [1, 1, 1]]
    with_it = batch_of(rewards, valid=[[1, 1, 1], [1, 1, 1], [0, 0, 0]])
    got = advantage(with_it, GRPO, {"consistency_gated": PROMPT_ALONE})
    without = advantage(batch_of(rewards[:2]), GRPO, {"consistency_gated": PROMPT_ALONE})
    np.testing.assert_allclose(got[:2], without, rtol=1e-6)
    assert (got[2] == 0).all()


def test_the_prompts_part_is_a_gth_of_the_policy_gradient():
    """E over all batches, by enumeration: (1 − 1/B)/G of ∇ mean_b p_b.

    A large eps takes the deviation over prompts out, which is the batch's own.
    """
    eps, prompts, group = 1e5, 2, 2
    logits = jnp.array([[0.3, -0.5, 0.9], [1.0, 0.2, -0.7]], jnp.float32)
    right = jnp.array([[1, 0, 0], [0, 1, 1]], jnp.float32)
    chain = parse_slot("advantage", [GRPO, {"consistency_gated": PROMPT_ALONE | {"eps": eps}}])
    case, row = random_case((prompts, group, 1), ragged=False), jnp.arange(prompts)[:, None]

    def one(flat):
        action = flat.reshape(prompts, group)
        batch = replace(case.batch, action=action[..., None], reward=right[row, action][..., None])
        for mech in chain:
            batch = mech(batch, case.ctx)

        def score(z):
            logp = jax.nn.log_softmax(z)[row, action]
            return jnp.mean(eps * batch.advantage[..., 0] * logp)

        chance = jnp.exp(jnp.sum(jax.nn.log_softmax(logits)[row, action]))
        return chance * jax.grad(score)(logits)

    every = jnp.asarray(list(product(range(3), repeat=prompts * group)), jnp.int32)
    got = jnp.sum(jax.jit(jax.vmap(one))(every), axis=0)
    exact = jax.grad(lambda z: jnp.mean(jnp.sum(jax.nn.softmax(z) * right, -1)))(logits)
    np.testing.assert_allclose(got, (1 - 1 / prompts) / group * exact, rtol=1e-3, atol=1e-5)


def test_the_gate_refuses_what_cannot_be():
    world = make("bandit/modes", prompts=4, arms=4, modes=1)
    policy = policies.make("tabular", world)
    for given, key in (({"steepness": -1.0}, "steepness"), ({"eps": 0.0}, "eps")):
        with pytest.raises(BadInput) as caught:
            recipe("grpo", advantage=["group_normalized", {"consistency_gated": given}]).check(
                world, policy
            )
        assert caught.value.key == f"recipe.advantage.consistency_gated.{key}"
    with pytest.raises(BadInput) as caught:
        recipe("grpo", advantage=["consistency_gated"]).check(world, policy)
    assert caught.value.key == "recipe.advantage"
    with pytest.raises(BadInput) as caught:
        recipe("copo", group=1).check(world, policy)
    assert caught.value.key == "recipe.group"


# ------------------------------------------------------------------ the deviation of the batch


def test_batch_scaling_is_the_written_out_one_and_knows_no_unanimous_group():
    rewards = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]], float)
    got = advantage(batch_of(rewards), {"batch_scaled": {"eps": 1e-9}})
    expected = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(ddof=1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert (got[[1, 3]] == 0).all()
    assert (advantage(batch_of(np.ones((2, 3))), "batch_scaled") == 0).all()
    np.testing.assert_allclose(
        advantage(batch_of(5 * rewards - 2), {"batch_scaled": {"eps": 1e-9}}), expected, rtol=1e-5
    )


def test_one_prompt_is_grpo_and_equal_spreads_are_grpo_in_direction():
    one = np.array([[1.0, 0.0, 0.0, 2.0]])
    np.testing.assert_allclose(
        advantage(batch_of(one), "batch_scaled"), advantage(batch_of(one), GRPO), rtol=1e-5
    )
    equal = np.array([[1.0, 0.0, 0.0], [5.0, 4.0, 4.0]])
    plain, scaled = advantage(batch_of(equal), GRPO), advantage(batch_of(equal), "batch_scaled")
    np.testing.assert_allclose(scaled / plain, (scaled / plain)[0, 0], rtol=1e-5)
    assert (scaled / plain)[0, 0] < 0.5, "the spread between prompts counts too"


def test_rollouts_that_are_not_valid_do_not_scale():
    rewards, valid = [[1, 0, 9], [1, 0, 0]], [[1, 1, 0], [1, 1, 1]]
    got = advantage(batch_of(rewards, valid=valid), {"batch_scaled": {"eps": 1e-9}})
    spread = np.std([1, 0, 1, 0, 0], ddof=1)
    np.testing.assert_allclose(got[0], [0.5 / spread, -0.5 / spread, 0.0], rtol=1e-5)


def test_centered_returns_have_their_own_deviation():
    """The other reading of the paper is two mechanisms that exist; here they differ by a number."""
    rewards = [[1, 1, 0, 0], [1, 0, 0, 0]]
    whiten = build("advantage", "whiten", {"over": "responses"})
    other = advantage(batch_of(rewards), "group_centered", whiten)
    got = advantage(batch_of(rewards), "batch_scaled")
    centered = np.asarray(rewards) - np.mean(rewards, axis=1, keepdims=True)
    factor = np.std(centered) / np.std(rewards, ddof=1)
    np.testing.assert_allclose(got, factor * other, rtol=1e-5)
