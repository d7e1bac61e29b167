"""Asymmetric advantages against formulas written out in NumPy, and the identities between them."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput, make
from mechanism_cases import random_case

from jaxrl_lab import policies
from jaxrl_lab.mechanisms.sampled import SampledActions
from jaxrl_lab.recipes import parse_slot, recipe

G = 8
RIGHT = np.arange(1, G)
REWARDS = np.array([[1.0] * s + [0.0] * (G - s) for s in range(G + 1)], np.float32)
MIXED = REWARDS[1:G]
P = MIXED.mean(1, keepdims=True)
A0 = np.where(MIXED > 0, np.sqrt((1 - P) / P), -np.sqrt(P / (1 - P)))
GRPO = {"group_normalized": {"ddof": 0, "eps": 1e-9}}


def advantage(rewards, *chain):
    """Advantages ``[B, G]`` of one-token answers with these rewards."""
    case = random_case((*rewards.shape, 1), ragged=False)
    batch = replace(case.batch, reward=jnp.asarray(rewards)[..., None])
    for mech in parse_slot("advantage", list(chain)):
        batch = mech(batch, case.ctx)
    return np.asarray(batch.advantage)[..., 0]


@pytest.mark.parametrize(("positive", "negative"), [(1.0, 1.0), (0.2, 1.0), (0.0, 1.0), (0.5, 0.1)])
def test_attenuation_weighs_either_sign(positive, negative):
    weights = {"positive": positive, "negative": negative}
    got = advantage(MIXED, GRPO, {"attenuate": weights})
    expected = positive * np.maximum(A0, 0) + negative * np.minimum(A0, 0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("positive", [0.0, 0.2, 0.7, 1.0])
def test_attenuation_is_a_smaller_step_and_a_raised_baseline(positive):
    """A' = (p + positive (1 − p)) A − (1 − positive) mean max(A, 0), exactly for binary rewards."""
    weight = {"positive": positive}
    attenuated = advantage(MIXED, GRPO, {"attenuate": weight})
    scaled = advantage(MIXED, GRPO, {"matched_scale": weight})
    shifted = advantage(MIXED, GRPO, {"matched_shift": weight})
    np.testing.assert_allclose(scaled, (P + positive * (1 - P)) * A0, rtol=1e-5)
    np.testing.assert_allclose(attenuated, scaled + shifted - A0, atol=2e-6)
    # The controls: one has the mean of the attenuated advantage, the other the mean zero.
    np.testing.assert_allclose(shifted.mean(1), attenuated.mean(1), atol=1e-6)
    np.testing.assert_allclose(scaled.mean(1), 0.0, atol=1e-6)
    lost = -(1 - positive) * np.sqrt(P * (1 - P))[:, 0]
    np.testing.assert_allclose(attenuated.mean(1), lost, atol=1e-6)


def test_the_shift_is_reinforce_with_a_raised_baseline():
    got = advantage(MIXED, "group_centered", {"matched_shift": {"positive": 0.2}})
    np.testing.assert_allclose(got, MIXED - (P + 0.8 * P * (1 - P)), atol=1e-6)


def test_the_scale_is_the_best_multiple_where_rewards_are_not_binary():
    rewards = np.random.default_rng(0).normal(size=(5, G)).astype(np.float32)
    a = advantage(rewards, "group_centered")
    attenuated = np.where(a > 0, 0.3, 1.0) * a
    best = [
        np.linalg.lstsq(x[:, None], y, rcond=None)[0][0] for x, y in zip(a, attenuated, strict=True)
    ]
    got = advantage(rewards, "group_centered", {"matched_scale": {"positive": 0.3}})
    np.testing.assert_allclose(got, np.array(best)[:, None] * a, rtol=1e-4)


@pytest.mark.parametrize("name", ["attenuate", "matched_scale", "matched_shift"])
def test_weight_one_changes_no_bit(name):
    np.testing.assert_array_equal(advantage(REWARDS, GRPO, name), advantage(REWARDS, GRPO))


def test_progress_takes_the_attenuation_away():
    a = advantage(MIXED, GRPO)
    for alpha in (1.0, 0.5, 0.25):
        got = advantage(MIXED, GRPO, {"attenuate_by_progress": {"alpha": alpha}})
        positive = min(1.0, MIXED.mean() / alpha)
        np.testing.assert_allclose(got, np.where(a > 0, positive, 1.0) * a, rtol=1e-6)
    assert not advantage(REWARDS[:1], GRPO, "attenuate_by_progress").any(), "no reward at all"


def test_the_two_focuses_are_mirror_images():
    """Σ|A| is G √(1−p) for the hard focus and G √p for the easy one."""
    hard, easy = (advantage(MIXED, GRPO, {"difficulty_focus": {"hard": h}}) for h in (1.0, 0.0))
    np.testing.assert_allclose(np.abs(hard).sum(1), G * np.sqrt(1 - P[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(np.abs(easy).sum(1), G * np.sqrt(P[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(hard, -easy[::-1, ::-1], rtol=1e-4)


def test_the_released_denominator_tilts_tenfold_to_easy_prompts():
    given = {"hard": 0.0, "denominator": "released"}
    total = np.abs(advantage(MIXED, GRPO, {"difficulty_focus": given})).sum(1)
    p = P[:, 0]
    np.testing.assert_allclose(total, G * np.sqrt(p * (1 - p)) / (1 - np.sqrt(p)), rtol=1e-4)
    np.testing.assert_allclose(total[[0, -1]], [4.09, 40.97], atol=0.01)


def test_the_focus_moves_with_the_mean_reward_of_the_batch():
    m = MIXED.mean()
    hard, easy = (advantage(MIXED, GRPO, {"difficulty_focus": {"hard": h}}) for h in (1.0, 0.0))
    got = advantage(MIXED, GRPO, "difficulty_focus")
    np.testing.assert_allclose(got, (1 - m) * easy + m * hard, rtol=1e-5)


def test_dividing_by_the_variance_weighs_every_mixed_group_alike():
    """1/p and −1/(1−p): mean score of right rollouts minus mean score of wrong ones."""
    got = advantage(MIXED, {"variance_normalized": {"eps": 1e-9}})
    np.testing.assert_allclose(got, np.where(MIXED > 0, 1 / P, -1 / (1 - P)), rtol=1e-5)
    scores = np.random.default_rng(1).normal(size=MIXED.shape)
    for a, r, s in zip(got, MIXED, scores, strict=True):
        assert np.mean(a * s) == pytest.approx(s[r > 0].mean() - s[r == 0].mean(), abs=1e-5)


CHAINS = {
    "attenuate": (GRPO, {"attenuate": {"positive": 0.2}}),
    "attenuate_by_progress": (GRPO, "attenuate_by_progress"),
    "matched_shift": (GRPO, {"matched_shift": {"positive": 0.2}}),
    "matched_scale": (GRPO, {"matched_scale": {"positive": 0.2}}),
    "difficulty_focus": (GRPO, "difficulty_focus"),
    "difficulty_focus_released": (GRPO, {"difficulty_focus": {"denominator": "released"}}),
    "variance_normalized": ("variance_normalized",),
}


@pytest.mark.parametrize("name", CHAINS)
def test_unanimous_groups_have_no_advantage(name):
    chain = (
        ("group_normalized", *CHAINS[name][1:]) if name != "variance_normalized" else CHAINS[name]
    )
    assert not advantage(REWARDS[[0, -1]], *chain).any()


@pytest.mark.parametrize("name", CHAINS)
def test_unsampled_logits_are_pushed_by_the_mean_advantage_alone(name):
    """jax.grad of mean_i A_i log π(a_i): −π_a mean A for every answer nobody gave."""
    actions, logits = np.array([0, 1, 1, 2, 2, 2, 3, 0]), jnp.linspace(-1.0, 1.0, 9)
    rewards = np.isin(actions, [1, 3]).astype(np.float32)[None]
    a = advantage(rewards, *CHAINS[name])[0]

    def objective(z):
        return jnp.mean(jnp.asarray(a) * jax.nn.log_softmax(z)[actions])

    got = np.asarray(jax.grad(objective)(logits))[4:]
    expected = -np.asarray(jax.nn.softmax(logits))[4:] * a.mean()
    np.testing.assert_allclose(got, expected, atol=1e-7)
    sums_to_zero = name not in ("attenuate", "attenuate_by_progress", "matched_shift")
    assert (np.abs(expected).max() < 1e-6) == sums_to_zero


@pytest.mark.parametrize(
    ("chain", "key"),
    [
        ([{"attenuate": {"positive": -0.1}}], "recipe.advantage.attenuate.positive"),
        ([{"attenuate": {"negative": 1.5}}], "recipe.advantage.attenuate.negative"),
        (
            [{"attenuate_by_progress": {"alpha": 0.0}}],
            "recipe.advantage.attenuate_by_progress.alpha",
        ),
        ([{"difficulty_focus": {"hard": 2.0}}], "recipe.advantage.difficulty_focus.hard"),
        (["matched_shift"], "recipe.advantage"),
        (["matched_scale", "group_centered"], "recipe.advantage"),
        (["difficulty_focus"], "recipe.advantage"),
        ([{"variance_normalized": {"eps": 0.0}}], "recipe.advantage.variance_normalized.eps"),
    ],
)
def test_what_makes_no_sense_is_refused(chain, key):
    env = make("bandit/modes", prompts=4, arms=4, modes=1)
    with pytest.raises(BadInput) as caught:
        recipe("grpo", advantage=chain).check(env, policies.make("tabular", env))
    assert caught.value.key == key


def test_groups_of_one_are_refused():
    env = make("bandit/modes", prompts=4, arms=4, modes=1)
    built = recipe("grpo", advantage="variance_normalized", group=1)
    with pytest.raises(BadInput) as caught:
        built.check(env, policies.make("tabular", env))
    assert caught.value.key == "recipe.group"


def test_the_named_recipe_is_the_chain_of_the_paper():
    """The easy-to-hard mix, then right rollouts times min(1, m/alpha)."""
    got = advantage(MIXED, GRPO, *("difficulty_focus", "attenuate_by_progress"))
    m = MIXED.mean()
    mix = 0.5 * A0 * ((1 - m) / np.sqrt(1 - P) + m / np.sqrt(P))
    np.testing.assert_allclose(got, np.where(mix > 0, m, 1.0) * mix, rtol=1e-4)
    named = [type(m).__name__ for m in recipe("agrae").advantage]
    assert named == ["GroupNormalized", "DifficultyFocus", "AttenuateByProgress"]


def test_sampled_actions_counts_real_tokens():
    case = random_case((3, 5, 4), 2, invalid=True)
    memory = jnp.full((3, 4), 7.0)
    got = SampledActions().advance(memory, case.batch, {}, case.ctx)
    expected = np.zeros((3, 4))
    for b, g, t in zip(*np.nonzero(case.batch.mask), strict=True):
        expected[b, int(case.batch.action[b, g, t])] += 1
    np.testing.assert_array_equal(got, expected)
