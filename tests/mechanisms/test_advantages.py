"""Slots reward, advantage and credit against formulas written out in NumPy."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs import BadInput, make
from mechanism_cases import build, random_case

from jaxrl_lab import policies
from jaxrl_lab.recipes import recipe

GROUP_RELATIVE = ("leave_one_out", "group_centered", "group_normalized")


def returns_of(batch):
    return np.sum(np.where(batch.mask, np.asarray(batch.reward, np.float64), 0.0), -1)


def advantage_of(name, batch, **fields):
    case = random_case((3, 4, 5))
    return np.asarray(build("advantage", name, fields)(batch, case.ctx).advantage)


def spread(batch, per_rollout):
    return np.where(batch.mask, per_rollout[..., None], 0.0)


def with_returns(returns):
    """One-token responses with the given returns ``[B, G]``."""
    returns = np.asarray(returns, np.float32)
    batch = random_case((*returns.shape, 1), ragged=False).batch
    return replace(batch, reward=jnp.asarray(returns)[..., None])


def one_by_one(batch, formula):
    """``formula(R_i, all valid R of the group)`` for every valid rollout."""
    returns, valid = returns_of(batch), np.asarray(batch.valid)
    out = np.zeros(returns.shape)
    for b, i in zip(*np.nonzero(valid), strict=True):
        out[b, i] = formula(returns[b, i], returns[b, valid[b]])
    return spread(batch, out)


FORMULAS = {
    "leave_one_out": lambda r, group: r - (group.sum() - r) / (len(group) - 1),
    "group_centered": lambda r, group: r - group.mean(),
    "group_normalized": lambda r, group: (r - group.mean()) / (group.std(ddof=1) + 1e-6),
}


@pytest.mark.parametrize("name", GROUP_RELATIVE)
@pytest.mark.parametrize("invalid", [False, True])
def test_group_relative_advantages_equal_their_formulas(name, invalid):
    batch = random_case((3, 5, 4), invalid=invalid).batch
    expected = one_by_one(batch, FORMULAS[name])
    np.testing.assert_allclose(advantage_of(name, batch), expected, atol=2e-5)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("G", [2, 3, 8])
def test_normalized_binary_rewards_have_the_golden_form(G, ddof):
    """A is sqrt((1-p)/p) and -sqrt(p/(1-p)), times sqrt((G-1)/G) with the sample deviation."""
    rewards = np.array([[1.0] * k + [0.0] * (G - k) for k in range(1, G)])
    p = rewards.mean(1, keepdims=True)
    c = np.sqrt((G - 1) / G) if ddof else 1.0
    expected = c * np.where(rewards > 0, np.sqrt((1 - p) / p), -np.sqrt(p / (1 - p)))
    got = advantage_of("group_normalized", with_returns(rewards), ddof=ddof)[..., 0]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_batch_baseline_subtracts_the_mean_over_valid_rollouts():
    batch = random_case((3, 5, 4), invalid=True).batch
    returns, valid = returns_of(batch), np.asarray(batch.valid)
    expected = spread(batch, np.where(valid, returns - returns[valid].mean(), 0.0))
    np.testing.assert_allclose(advantage_of("batch_baseline", batch), expected, atol=1e-5)


rewards = st.lists(st.integers(-40, 40).map(lambda i: i / 8), min_size=4, max_size=4)


@settings(max_examples=30, deadline=None)
@given(st.lists(rewards, min_size=2, max_size=2), st.integers(-8, 8), st.sampled_from([2.0, 8.0]))
def test_identities_of_group_relative_advantages(values, constant, scale):
    """Constants per group fall out, sums vanish, RLOO = G/(G-1) Dr.GRPO, GRPO has no unit."""
    shift = np.array([[constant], [0.5]])
    for name in GROUP_RELATIVE:
        a = advantage_of(name, with_returns(values))
        b = advantage_of(name, with_returns(np.asarray(values) + shift))
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_allclose(a.sum(1), 0.0, atol=1e-5)
    rloo, centered, grpo = (advantage_of(n, with_returns(values)) for n in GROUP_RELATIVE)
    np.testing.assert_allclose(rloo, centered * 4 / 3, rtol=1e-6)
    scaled = with_returns(np.asarray(values) * scale)
    np.testing.assert_allclose(advantage_of("group_normalized", scaled), grpo, atol=1e-4)
    np.testing.assert_allclose(advantage_of("group_centered", scaled), scale * centered, rtol=1e-5)


@pytest.mark.parametrize("name", GROUP_RELATIVE)
@pytest.mark.parametrize("G", [2, 3, 5, 6, 7, 11])
def test_unanimous_groups_have_exactly_no_advantage(name, G):
    """Also where the mean of equal rewards is not that reward, as with 0.1 in float32."""
    unanimous = np.tile([[0.1], [0.7], [1e-3], [-3.3], [1.0], [0.0]], (1, G))
    assert not np.any(advantage_of(name, with_returns(unanimous)))
    assert np.all(advantage_of(name, with_returns([[0.1] * (G - 1) + [0.2]])) != 0.0)


@pytest.mark.parametrize("name", [*GROUP_RELATIVE, "filter_groups", "dynamic_sampling"])
def test_a_group_of_one_is_refused(name):
    env = make("bandit/modes", prompts=2, arms=4, modes=1)
    slot = {"filter_groups": "credit", "dynamic_sampling": "task"}.get(name, "advantage")
    built = recipe("reinforce", group=1, **{slot: name})
    with pytest.raises(BadInput, match=r"recipe\.group = 1"):
        built.check(env, policies.make("tabular", env))
    recipe(built, group=2).check(env, policies.make("tabular", env))


def ends_of(batch):
    return np.asarray(batch.terminated), np.asarray(batch.truncated)


def stream_case(seed=0, n=5, t=12):
    """A stream: no masks, and episodes that end by rule or by clock anywhere."""
    rng = np.random.default_rng(seed)
    batch = random_case((n, 1, t), seed, ragged=False).batch
    over, late = rng.random((2, n, 1, t)) < 0.2
    assert np.any(over & late)  # both flags may be true
    return replace(batch, terminated=jnp.asarray(over), truncated=jnp.asarray(late))


STREAMS_AND_EPISODES = {
    "stream": stream_case(),
    "episodes": random_case((3, 4, 6)).batch,
    "invalid": random_case((3, 5, 4), invalid=True).batch,
}
every_layout = pytest.mark.parametrize(
    "batch", STREAMS_AND_EPISODES.values(), ids=list(STREAMS_AND_EPISODES)
)


@every_layout
def test_reward_to_go_stops_at_the_end_of_an_episode(batch):
    reward, mask = np.asarray(batch.reward, np.float64), np.asarray(batch.mask)
    over = np.logical_or(*ends_of(batch))
    expected = np.zeros(reward.shape)
    for b, g, t in zip(*np.nonzero(mask), strict=True):
        for s in range(t, reward.shape[-1]):
            if not mask[b, g, s]:
                break
            expected[b, g, t] += 0.9 ** (s - t) * reward[b, g, s]
            if over[b, g, s]:
                break
    got = advantage_of("reward_to_go", batch, discount=0.9)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@every_layout
@pytest.mark.parametrize(("discount", "decay"), [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_gae_equals_a_double_loop_over_residuals(batch, discount, decay):
    """A_t = Σ_k (γλ)^k δ_(t+k) up to the end; a clock bootstraps and a rule does not."""
    reward, mask = np.asarray(batch.reward, np.float64), np.asarray(batch.mask)
    value, ahead = np.asarray(batch.value), np.asarray(batch.next_value)
    over, late = ends_of(batch)
    expected = np.zeros(reward.shape)
    for at in zip(*np.nonzero(mask), strict=True):
        *row, t = at
        for s in range(t, reward.shape[-1]):
            now = (*row, s)
            if not mask[now]:
                break
            bootstrap = 0.0 if over[now] else discount * ahead[now]
            expected[at] += (discount * decay) ** (s - t) * (reward[now] + bootstrap - value[now])
            if over[now] or late[now]:
                break
    done = build("advantage", "gae", {"discount": discount, "decay": decay})(
        batch, random_case((3, 4, 5)).ctx
    )
    np.testing.assert_allclose(done.advantage, expected, atol=2e-5)
    target = np.where(mask, expected + value, 0.0)
    np.testing.assert_allclose(np.where(mask, done.target, 0.0), target, atol=2e-5)


def test_whitening_over_tokens_and_over_responses():
    batch = random_case((3, 5, 4), invalid=True).batch
    a, mask = np.asarray(batch.advantage, np.float64), np.asarray(batch.mask)
    tokens = a[mask]
    expected = np.where(mask, (a - tokens.mean()) / np.sqrt(tokens.var() + 1e-8), 0.0)
    np.testing.assert_allclose(advantage_of("whiten", batch), expected, atol=1e-5)

    responses = np.array(
        [
            row[m].mean()
            for row, m in zip(a.reshape(-1, 4), mask.reshape(-1, 4), strict=True)
            if m.any()
        ]
    )
    expected = np.where(mask, (a - responses.mean()) / np.sqrt(responses.var() + 1e-8), 0.0)
    got = advantage_of("whiten", batch, over="responses")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert not np.allclose(got, advantage_of("whiten", batch))


def reward_after(mechanism, batch, ctx=None, **fields):
    ctx = random_case((3, 4, 5)).ctx if ctx is None else ctx
    return np.asarray(build("reward", mechanism, fields)(batch, ctx).reward)


@pytest.mark.parametrize(("limit", "cache"), [(6.0, 3.0), (4.0, 4.0), (9.0, 2.0), (2.0, 1.0)])
def test_overlong_is_the_papers_three_pieces_on_the_last_token(limit, cache):
    batch = random_case((3, 4, 6), 2).batch
    length = np.sum(np.asarray(batch.mask), -1)
    piece = np.select(
        [length <= limit - cache, length <= limit],
        [0.0, ((limit - cache) - length) / cache],
        -1.0,
    )
    extra = reward_after("overlong", batch, limit=limit, cache=cache, penalty=0.5) - np.asarray(
        batch.reward
    )
    np.testing.assert_allclose(extra.sum(-1), 0.5 * piece, atol=1e-6)
    last = np.arange(6) == length[..., None] - 1
    assert not np.any(np.where(last, 0.0, extra))


def test_channel_replaces_what_is_trained_on_and_refuses_an_unknown_name():
    batch = random_case((3, 4, 5)).batch
    got = reward_after("channel", batch, name="proxy")
    np.testing.assert_array_equal(got, batch.channels["proxy"])
    with pytest.raises(BadInput, match=r"proxi.*nearest valid name: proxy"):
        reward_after("channel", batch, name="proxi")


def test_kl_in_reward_pays_the_log_ratio_to_the_reference():
    case = random_case((3, 4, 5))
    batch, reference = case.batch, np.asarray(case.reference)
    at_action = np.take_along_axis(reference, np.asarray(batch.action)[..., None], -1)[..., 0]
    expected = np.asarray(batch.reward) - 0.3 * (np.asarray(batch.logp_old) - at_action)
    got = reward_after("kl_in_reward", batch, case.ctx, coefficient=0.3)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_filter_groups_masks_unanimous_groups_only():
    batch = random_case((3, 4, 5), ragged=False).batch
    pay = np.zeros((3, 4, 5), np.float32)
    pay[0, :, 0], pay[1, 2, 1] = 0.1, 1.0  # all alike, mixed, all zero
    batch = replace(batch, reward=jnp.asarray(pay))
    kept = build("credit", "filter_groups", {})(batch, random_case((3, 4, 5)).ctx).mask
    np.testing.assert_array_equal(
        kept, np.asarray(batch.mask) & np.array([0, 1, 0], bool)[:, None, None]
    )
