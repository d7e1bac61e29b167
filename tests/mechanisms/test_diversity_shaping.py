"""Mechanisms that keep several right answers: closed forms, limits, gradients, odd groups."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest
from jaxrl_envs import BadInput
from mechanism_cases import WORLD, build, random_case, whole_objective

from jaxrl_lab import policies
from jaxrl_lab.recipes import recipe

TABLE = policies.make("tabular", WORLD)
ODD = random_case((4, 5, 3), 2, invalid=True, binary=True)
"""Ragged lengths and rollouts that do not count."""


def bandit(reward, action, logp_old, advantage=None):
    """Groups of one-token responses with the given rewards, actions and likelihoods."""
    shape = np.shape(reward)
    case = random_case((*shape, 1), ragged=False)

    def put(x, dtype=jnp.float32):
        return jnp.asarray(x, dtype)[..., None]

    batch = replace(
        case.batch,
        reward=put(reward),
        action=put(action, jnp.int32),
        logp_old=put(logp_old),
        advantage=put(np.zeros(shape) if advantage is None else advantage),
    )
    return replace(case, batch=batch)


def jitted(mech):
    """Mechanisms hold arrays and cannot be hashed, so they are closed over."""
    return jax.jit(lambda *given: mech(*given))


def shaped(mech, case, before="group_normalized"):
    """Advantages of the rollouts before and after shaping."""
    plain = jitted(build("advantage", before, {}))(case.batch, case.ctx)
    after = jitted(mech)(plain, case.ctx)
    return np.asarray(plain.advantage[..., 0]), np.asarray(after.advantage[..., 0])


# ------------------------------------------------------------------ sharpened (XRPO)


LOGP = np.log([[0.5, 0.1, 0.3, 0.1]])
GROUP = bandit([[1.0, 1.0, 0.0, 0.0]], [[0, 1, 2, 3]], LOGP)


def test_sharpened_follows_the_written_out_formula():
    before, after = shaped(build("advantage", "sharpened", {"strength": 0.4, "cap": 0.5}), GROUP)
    novelty = np.exp(LOGP - LOGP.mean())
    bonus = np.minimum(np.maximum(0.4 * (1 - novelty), 0), 0.5 * before)
    np.testing.assert_allclose(after[0, :2], (before + bonus)[0, :2], rtol=1e-5)
    np.testing.assert_array_equal(after[0, 2:], before[0, 2:])
    assert after[0, 0] == before[0, 0], "likelier than the average: no bonus"
    assert after[0, 1] > before[0, 1] + 0.1


def test_sharpened_is_capped_and_vanishes_where_it_should():
    before, after = shaped(build("advantage", "sharpened", {"strength": 99.0, "cap": 0.5}), GROUP)
    np.testing.assert_allclose(after[0, 1], 1.5 * before[0, 1], rtol=1e-6)
    assert after.sum() > 0.1, "the sum is no longer 0"
    for off in ({"strength": 0.0}, {"cap": 0.0}):
        before, after = shaped(build("advantage", "sharpened", off), GROUP)
        np.testing.assert_array_equal(before, after)
    alike = bandit([[1.0, 1.0, 0.0, 0.0]], [[0, 1, 2, 3]], np.full((1, 4), -1.0))
    solved = bandit([[1.0, 1.0, 1.0, 1.0]], [[0, 1, 2, 3]], LOGP)
    for case in (alike, solved):
        before, after = shaped(build("advantage", "sharpened", {}), case)
        np.testing.assert_array_equal(before, after)


# ------------------------------------------------------------------ confidence (ProGRPO)


def test_confidence_lowers_what_is_likely_and_keeps_the_sum():
    mech = build("advantage", "confidence_shaped", {"strength": 0.5})
    before, after = shaped(mech, GROUP)
    pi = np.exp(LOGP)
    np.testing.assert_allclose(after, before + 0.5 * (pi.mean() - pi), atol=1e-6)
    assert after.sum() == pytest.approx(0.0, abs=1e-6)
    assert after[0, 1] > after[0, 0]
    solved = bandit([[1.0, 1.0, 1.0, 1.0]], [[0, 1, 2, 3]], LOGP)
    before, after = shaped(mech, solved)
    assert (before == 0).all()
    np.testing.assert_allclose(after, 0.5 * (pi.mean() - pi), atol=1e-6)
    failed = bandit([[0.0, 0.0, 0.0, 0.0]], [[0, 1, 2, 3]], LOGP)
    for case, strength in ((failed, 0.5), (GROUP, 0.0)):
        mech = build("advantage", "confidence_shaped", {"strength": strength})
        np.testing.assert_array_equal(*shaped(mech, case))


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_confidence_is_that_of_the_least_likely_tokens(fraction):
    mech = build("advantage", "confidence_shaped", {"strength": 1.0, "fraction": fraction})
    batch = replace(ODD.batch, advantage=jnp.zeros_like(ODD.batch.reward))
    found = np.asarray(jitted(mech)(batch, ODD.ctx).advantage)
    logp, mask, valid = (np.asarray(x) for x in (batch.logp_old, batch.mask, batch.valid))
    for b in range(4):
        confidence = np.zeros(5)
        for i in np.flatnonzero(valid[b]):
            rising = np.sort(logp[b, i][mask[b, i]])
            confidence[i] = np.exp(rising[: max(1, int(np.ceil(fraction * len(rising))))].mean())
        center = confidence[valid[b]].mean()
        solved = (np.asarray(batch.returns)[b][valid[b]] > 0).any()
        expected = np.where(valid[b], center - confidence, 0.0) * solved
        np.testing.assert_allclose(found[b], np.where(mask[b], expected[:, None], 0), atol=1e-6)
    assert np.abs(found).max() > 0.05


# ------------------------------------------------------------------ diversity (GARDO)


def test_a_duplicated_winner_gains_nothing_and_losers_are_left_alone():
    case = bandit([[1.0, 1.0, 1.0, 0.0, 0.0]], [[0, 0, 1, 2, 2]], np.zeros((1, 5)))
    before, after = shaped(build("advantage", "diversity_scaled", {}), case, "group_centered")
    np.testing.assert_allclose(before, [[0.4, 0.4, 0.4, -0.6, -0.6]], atol=1e-6)
    # D = (0, 0, 1, 0, 0), its mean 0.2.
    np.testing.assert_allclose(after, [[0.0, 0.0, 2.0, -0.6, -0.6]], atol=1e-6)


def test_diversity_without_any_distance_changes_nothing():
    twins = bandit([[1.0, 1.0, 0.0, 0.0]], [[0, 0, 1, 1]], np.zeros((1, 4)))
    distinct = bandit([[1.0, 1.0, 0.0, 0.0]], [[0, 1, 2, 3]], np.zeros((1, 4)))
    for case in (twins, distinct):
        mech = build("advantage", "diversity_scaled", {})
        np.testing.assert_allclose(*shaped(mech, case, "group_centered"), atol=1e-7)


def test_distance_is_one_minus_the_cosine_of_action_counts():
    batch = replace(ODD.batch, advantage=jnp.where(ODD.batch.mask, 1.0, 0.0))
    found = jitted(build("advantage", "diversity_scaled", {}))(batch, ODD.ctx).advantage
    action, mask, valid = (np.asarray(x) for x in (batch.action, batch.mask, batch.valid))
    for b in range(4):
        rows = np.flatnonzero(valid[b])
        counts = [np.bincount(action[b, i][mask[b, i]], minlength=4) for i in rows]
        unit = np.array([c / np.linalg.norm(c) for c in counts])
        cosine = unit @ unit.T - 9.0 * np.eye(len(rows))
        distance = np.where(cosine.max(1) > 1 - 1e-6, 0.0, 1 - np.maximum(cosine.max(1), 0.0))
        factor = distance / distance.mean() if distance.mean() > 0 else np.ones(len(rows))
        np.testing.assert_allclose(np.asarray(found)[b, rows, 0], factor, atol=2e-5)


# ------------------------------------------------------------------ bounded ratio (GBPO)


def targets(reward, low=0.3, high=0.3):
    """ρ* of a group, found where the objective of one rollout has its top."""
    mech = build("surrogate", "bounded_ratio", {"low": low, "high": high})
    n = np.size(reward)
    case = bandit([reward], [np.zeros(n)], np.zeros((1, n)), np.ones((1, n)))
    grid = np.linspace(0.5, 1.5, 101)

    @jax.jit
    @jax.vmap
    def objective(ratio):
        out = replace(case.out(), logp=jnp.full((1, n, 1), jnp.log(ratio)))
        return mech(out, case.batch, case.ctx)[0][0, :, 0]

    return grid[np.argmax(objective(jnp.asarray(grid, jnp.float32)), axis=0)]


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ([1.0, 0.0, 0.0, 0.0], [1.3, 1.0, 1.0, 1.0]),
        ([1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.7]),
        ([1.0, 1.0, 0.0, 0.0], [1.3, 1.3, 0.7, 0.7]),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        ([1.0, 0.5, 0.0], [1.3, 1.0, 0.7]),
    ],
)
def test_the_majority_decides_which_side_is_pushed(reward, expected):
    np.testing.assert_allclose(targets(reward), expected, atol=1e-9)


def test_bounded_ratio_starts_as_the_policy_gradient_of_the_minority():
    """At ρ = 1 the gradient is that of ρ A where the target is not 1, and 0 elsewhere."""
    case = random_case((6, 5, 3), 3, step=0.0, binary=True)
    normalized = jitted(build("advantage", "group_normalized", {}))
    case = replace(case, batch=normalized(case.batch, case.ctx))
    out, R = case.out(), np.asarray(case.batch.returns)

    def slope(mech):
        def total(logp):
            return jnp.sum(mech(replace(out, logp=logp), case.batch, case.ctx)[0])

        return np.asarray(jax.jit(jax.grad(total))(case.batch.logp_old))

    found = slope(build("surrogate", "bounded_ratio", {}))
    plain = slope(build("surrogate", "importance_weighted", {}))
    pushed = (np.median(R, axis=1, keepdims=True) != R)[..., None]
    agree = (
        np.sign(np.asarray(case.batch.advantage))
        == np.sign(R - np.median(R, axis=1, keepdims=True))[..., None]
    )
    np.testing.assert_allclose(found[pushed & agree], plain[pushed & agree], rtol=1e-5)
    assert (found[np.broadcast_to(~pushed, found.shape)] == 0).all()
    assert (pushed & agree).sum() > 10


def test_bounded_ratio_does_not_move_an_uninformative_group():
    case = bandit([[1.0, 1.0, 1.0]], [[0, 1, 2]], np.log([[0.5, 0.2, 0.1]]))
    slots = {"advantage": "group_normalized", "surrogate": build("surrogate", "bounded_ratio", {})}
    grad = jax.jit(jax.grad(lambda z: whole_objective(slots, case, z, case.value)))(case.logits)
    assert not np.asarray(grad).any()


# ------------------------------------------------------------------ distribution matching (DMPO)


def dmpo(score, reward, tau, lam):
    """The formula, written out for one group of valid rollouts."""
    q = np.exp(score - score.max())
    p = np.exp((reward - reward.max()) / tau)
    q, p = q / q.sum(), p / p.sum()
    slope = (2 / len(q)) * q * ((q - p) - np.sum(q * (q - p)))
    return lam * np.mean((q - p) ** 2), lam * slope


def test_distribution_matching_and_its_gradient_are_the_written_out_ones():
    mech = build("regularizer", "distribution_matching", {"coefficient": 3.0, "temperature": 0.5})
    batch = ODD.batch

    def penalty(logp):
        return mech(replace(ODD.out(), logp=logp), batch, {}, ODD.ctx)

    value, slope = jax.jit(jax.value_and_grad(penalty))(ODD.out().logp)
    logp, mask, valid = (np.asarray(x) for x in (ODD.out().logp, batch.mask, batch.valid))
    R, total, expected = np.asarray(batch.returns), 0.0, np.zeros_like(logp)
    for b in range(4):
        rows = np.flatnonzero(valid[b])
        score = np.array([logp[b, i][mask[b, i]].mean() for i in rows])
        one, per_score = dmpo(score, R[b, rows], 0.5, 3.0)
        total += one * len(rows) / valid.sum()
        for i, s in zip(rows, per_score, strict=True):
            expected[b, i] = mask[b, i] * s / mask[b, i].sum() * len(rows) / valid.sum()
    assert float(value) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    assert np.abs(expected).max() > 0.01


def test_distribution_matching_moves_a_solved_group_unless_it_is_even():
    mech = build("regularizer", "distribution_matching", {"coefficient": 1.0})
    for logp, still in (([[-1.0, -3.0, -1.0]], False), ([[-2.0, -2.0, -2.0]], True)):
        case = bandit([[1.0, 1.0, 1.0]], [[0, 1, 0]], logp)
        out = replace(case.out(), logp=case.batch.logp_old)

        @jax.jit
        @jax.grad
        def gradient(logp, case=case, out=out):
            return mech(replace(out, logp=logp), case.batch, {}, case.ctx)

        slope = gradient(out.logp)
        moved = np.asarray(slope)[0, :, 0]
        assert (np.abs(moved).max() < 1e-7) == still
        if not still:  # what is rare is raised, both copies of what is common are lowered
            assert moved[1] < 0 < moved[0]
            assert moved[0] == moved[2]


def test_distribution_matching_bounds_the_share_of_every_rollout():
    """A loss below δ leaves q_i ≥ p_i − sqrt(G δ)."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        score, reward = rng.normal(size=5) * 2, rng.integers(0, 2, 5).astype(float)
        loss, _ = dmpo(score, reward, 0.3, 1.0)
        q, p = np.exp(score) / np.exp(score).sum(), np.exp(reward / 0.3)
        assert (q >= p / p.sum() - np.sqrt(5 * loss) - 1e-12).all()


# ------------------------------------------------------------------ divergences (DPH-RL)


def generated(f, logp, reference):
    ref = np.exp(np.asarray(reference, np.float64))
    return np.sum(ref * f(np.exp(np.asarray(logp, np.float64)) / ref), axis=-1)


F = {
    "forward_kl": lambda u: u - np.log(u) - 1,
    "js": lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
}


@pytest.mark.parametrize("kind", list(F))
def test_divergence_is_the_mean_of_its_generator_under_the_reference(kind):
    given = {"coefficient": 0.5, "divergence": kind}
    mech, out = build("regularizer", "reference_divergence", given), ODD.out()
    reach = jitted(mech)
    value = reach(out, ODD.batch, {}, ODD.ctx)
    reference = out.passes["reference"].dist.logp_all
    np.testing.assert_allclose(
        value, 0.5 * generated(F[kind], out.dist.logp_all, reference), rtol=1e-4, atol=1e-6
    )
    same = reach(ODD.out(reference), ODD.batch, {}, ODD.ctx)
    np.testing.assert_allclose(same, 0.0, atol=1e-6)
    far = reach(ODD.out(reference[..., ::-1] * 40.0), ODD.batch, {}, ODD.ctx)
    assert np.isfinite(far).all()
    if kind == "js":
        assert np.max(far) <= np.log(2) + 1e-6


def test_forward_kl_pulls_with_the_difference_of_the_policies():
    mech = build("regularizer", "reference_divergence", {"coefficient": 0.5})
    total = jax.grad(lambda z: jnp.sum(mech(ODD.out(z), ODD.batch, {}, ODD.ctx)))
    slope = jax.jit(total)(ODD.logits)
    expected = 0.5 * (jax.nn.softmax(ODD.logits) - jnp.exp(ODD.reference))
    np.testing.assert_allclose(slope, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["forward_kl", "js", "reverse_kl"])
def test_what_pulls_a_lost_arm_back(kind):
    """Reverse KL pulls in proportion to π log π, JS to π log(1/π) too, forward KL at full force."""
    reference = jnp.log(jnp.array([0.5, 0.5]))

    def force(lost):
        z = jnp.log(jnp.array([1 - lost, lost]))
        case = replace(random_case((1, 1, 1)), reference=jnp.broadcast_to(reference, (1, 1, 1, 2)))
        name, given = "reference_divergence", {"divergence": kind}
        if kind == "reverse_kl":
            name, given = "kl_to_reference", {"estimator": "exact"}
        mech = build("regularizer", name, given | {"coefficient": 1.0})
        batch = replace(case.batch, action=jnp.zeros((1, 1, 1), jnp.int32))
        case = replace(case, batch=batch)

        def penalty(z):
            return jnp.sum(mech(case.out(z[None, None, None]), case.batch, {}, case.ctx))

        return jax.jit(jax.grad(penalty))(z)[1]

    weak, strong = (-float(force(lost)) for lost in (1e-6, 1e-3))
    if kind == "forward_kl":
        assert weak == pytest.approx(0.5, abs=1e-4)
        assert strong == pytest.approx(0.5, abs=2e-3)
    else:
        assert 0 < weak < 2e-5
        assert 300 < strong / weak < 1000


# ------------------------------------------------------------------ what cannot be used


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"advantage": ["sharpened"]}, "recipe.advantage"),
        (
            {"advantage": ["group_centered", {"sharpened": {"cap": -1.0}}]},
            "advantage.sharpened.cap",
        ),
        (
            {
                "advantage": [
                    "group_centered",
                    {"confidence_shaped": {"strength": 1, "fraction": 2}},
                ]
            },
            "recipe.advantage.confidence_shaped.fraction",
        ),
        ({"group": 1, "advantage": ["batch_baseline", "diversity_scaled"]}, "recipe.group"),
        ({"surrogate": [{"bounded_ratio": {"temperature": 0.0}}]}, "temperature"),
        (
            {"regularizer": [{"distribution_matching": {"coefficient": 1, "temperature": 0}}]},
            "temperature",
        ),
    ],
)
def test_settings_without_a_meaning_are_refused(changes, key):
    world = jaxrl_envs.make("bandit/modes", prompts=4, arms=4, modes=2)
    with pytest.raises(BadInput) as caught:
        recipe("grpo", **changes).check(world, policies.make("tabular", world))
    assert caught.value.key.endswith(key)
