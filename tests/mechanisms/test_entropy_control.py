"""EPO and SAFE: controllers against loops over made-up histories, penalties written out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import entropy_bandit
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput
from mechanism_cases import build, first_memory, random_case

from jaxrl_lab.mechanisms.entropy_control import phase_weight
from jaxrl_lab.recipes import recipe

BASE = random_case((3, 5, 4), invalid=True)
MASK = np.asarray(BASE.batch.mask)
TURNS = MASK.shape[-1]
HISTORY = {"total": jnp.asarray([5.0, 3.2, 2.0, 0.4]), "updates": jnp.float32(4.0)}
BAND = {"coefficient": 0.3, "smoothing": 0.7, "height": 2.0, "low": 0.8, "high": 1.2}


def penalty(name, given, memory, logits=None, case=BASE):
    ctx = replace(case.ctx, memory=memory)
    return build("regularizer", name, given)(case.out(logits), case.batch, {}, ctx)


def gradient(name, given, memory):
    return jax.grad(lambda z: jnp.sum(penalty(name, given, memory, z)))(BASE.logits)


def entropy_of(z):
    logp = jax.nn.log_softmax(z)
    return -jnp.sum(jnp.exp(logp) * logp, -1)


# ------------------------------------------------------------------ EPO


def test_the_history_is_the_mean_over_updates_of_the_mean_over_a_turn():
    mech, total = build("regularizer", "epo", {}), np.zeros(TURNS)
    memory = first_memory(mech, BASE)
    for seed in range(4):
        case = random_case((3, 5, 4), seed, invalid=True)
        memory = mech.advance(memory, case.batch, {}, case.ctx)
        H = np.asarray(entropy_of(case.ctx.passes["old"].dist.logp_all))
        mask = np.asarray(case.batch.mask)
        for t in range(TURNS):
            seen = H[..., t][mask[..., t]]
            total[t] += seen.mean() if len(seen) else 0.0  # a turn nobody reached counts as 0
    np.testing.assert_allclose(memory["total"], total, rtol=1e-5)
    assert float(memory["updates"]) == 4


def test_the_phase_weight_falls_in_two_halves_with_a_step_between():
    x = jnp.asarray([0.0, 0.25, 0.499999, 0.5, 0.75, 1.0])
    expected = [1.0, 1 - 0.2 * (1 - np.exp(-1)), 1 - 0.2 * (1 - np.exp(-2)), 0.8]
    expected += [0.8 * np.exp(-1.5), 0.8 * np.exp(-3)]
    np.testing.assert_allclose(phase_weight(x), expected, rtol=1e-4)
    assert expected[2] == pytest.approx(0.827, abs=1e-3)


@pytest.mark.parametrize("form", ["literal", "hinge"])
def test_epo_written_out(form):
    H, mean = np.asarray(entropy_of(BASE.logits)), np.array([5.0, 3.2, 2.0, 0.4]) / 4
    off = np.maximum(0.8 * mean - H, 0) + np.maximum(H - 1.2 * mean, 0)
    P = 2.0 * ((off > 0) if form == "literal" else off / mean)
    weight = 0.7 * (1 - 0.2 * (1 - np.exp(-1.0)))  # the context says a quarter of the training
    expected = -0.3 * (H - weight * P)
    np.testing.assert_allclose(penalty("epo", BAND | {"form": form}, HISTORY), expected, atol=1e-5)
    assert 0.1 < (off > 0)[MASK].mean() < 1


def test_the_gradient_of_the_hinge_is_that_of_the_written_out_penalty():
    mean = HISTORY["total"] / 4

    def written_out(z):
        H = entropy_of(z)
        off = jnp.maximum(0.8 * mean - H, 0.0) + jnp.maximum(H - 1.2 * mean, 0.0)
        return jnp.sum(-0.3 * (H - 0.7 * phase_weight(BASE.ctx.progress) * 2.0 * off / mean))

    mean = jnp.broadcast_to(mean, MASK.shape)
    expected = jax.grad(written_out)(BASE.logits)
    np.testing.assert_allclose(gradient("epo", BAND, HISTORY), expected, atol=1e-5)


BONUS = {"entropy_bonus": {"coefficient": 0.3}}


def test_the_published_penalty_has_no_gradient():
    """So the literal form trains like the bonus alone, whatever its band and its history."""
    plain = jax.grad(lambda z: jnp.sum(penalty("entropy_bonus", BONUS["entropy_bonus"], (), z)))
    found = gradient("epo", BAND | {"form": "literal"}, HISTORY)
    np.testing.assert_allclose(found, plain(BASE.logits), atol=1e-7)
    assert np.abs(gradient("epo", BAND, HISTORY) - found).max() > 1e-2


@pytest.mark.parametrize(
    ("given", "memory"),
    [
        ({"low": 0.0, "high": 1e9}, HISTORY),
        ({"smoothing": 0.0}, HISTORY),
        ({"height": 0.0}, HISTORY),
        ({}, first_memory(build("regularizer", "epo", {}), BASE)),
    ],
    ids=["no band", "no smoothing", "no height", "no history"],
)
def test_without_a_band_or_a_history_epo_is_the_plain_bonus(given, memory):
    found = penalty("epo", BAND | given, memory)
    np.testing.assert_allclose(found, -0.3 * entropy_of(BASE.logits), rtol=1e-6)


def test_batches_of_short_episodes_are_not_smoothed():
    short = jnp.broadcast_to(jnp.arange(TURNS) < 2, MASK.shape)
    case = replace(BASE, batch=replace(BASE.batch, mask=BASE.batch.mask & short))
    found = penalty("epo", BAND, HISTORY, case=case)
    np.testing.assert_allclose(found, -0.3 * entropy_of(BASE.logits), rtol=1e-6)
    longer = replace(BASE, batch=replace(BASE.batch, mask=BASE.batch.mask.at[0, 0, 2].set(True)))
    assert np.any(penalty("epo", BAND, HISTORY, case=longer) != found)


# ------------------------------------------------------------------ SAFE


def outcome(paid, distance, seed=0):
    """A batch whose mean return is ``paid``, with log π_ref - log π_old everywhere the same."""
    case = random_case((2, 3, 1), seed, ragged=False)
    reward = jnp.full(case.batch.reward.shape, paid, jnp.float32)
    logp = case.ctx.passes["reference"].dist.logp(case.batch.action) - distance
    return replace(case.batch, reward=reward, logp_old=logp), case.ctx


def following(mech, memory, paid, distance=0.5):
    batch, ctx = outcome(paid, distance)
    return mech.advance(memory, batch, {}, ctx)


def history(kind, n=40):
    t = np.arange(n)
    return {
        "climbing": 0.2 + 0.02 * t,
        "converged": np.full(n, 0.9),
        "plateau": np.full(n, 0.4) + 0.004 * np.sin(t),
        "wild": 0.5 + 0.5 * np.sin(3.0 * t),
    }[kind]


def controller(rewards, kls, window, gains=(0.3, 0.01, 0.05), base=0.3, low=0.1, high=0.6):
    """The published rules as a loop; the threshold that is known after every update."""
    k, ema, before, errors, thresholds, phases = 0.0, None, 0.0, [], [], []
    for i, (r, kl) in enumerate(zip(rewards, kls, strict=True)):
        k = 0.9 * k + 0.1 * kl
        last = ema if ema is not None else r
        ema = 0.95 * last + 0.05 * r
        errors.append((ema - last) - 0.001)
        change, before = errors[-1] - before, errors[-1]
        u = gains[0] * errors[-1] + gains[1] * np.clip(sum(errors), -1, 1) + gains[2] * change
        recent = rewards[max(0, i + 1 - window) : i + 1]
        past = rewards[max(0, i + 1 - 2 * window) : max(0, i + 1 - window)]
        if i + 1 < window:
            phase = 1.5
        elif len(past) and np.mean(recent) - np.mean(past) > 0.01:
            phase = 1.2
        elif np.std(recent) < 0.02 and np.mean(recent) > 0.7:
            phase = 1.0
        else:
            phase = 0.8
        phases.append(phase)
        thresholds.append(np.clip((base + u) * phase, low, high))
    return k, thresholds, phases


@pytest.mark.parametrize("kind", ["climbing", "converged", "plateau", "wild"])
@pytest.mark.parametrize("gains", [(0.3, 0.01, 0.05), (5.0, 0.4, 2.0)], ids=["published", "large"])
def test_the_controller_is_a_loop_over_the_history(kind, gains):
    names = ("proportional", "integral", "derivative")
    given = {"window": 8, "low": 0.01, "high": 3.0} | dict(zip(names, gains, strict=True))
    mech = build("regularizer", "safe", given)
    memory, rewards = mech.init(None), history(kind)
    distances = 0.5 + 0.3 * np.cos(np.arange(len(rewards)))
    kls = np.exp(distances) - distances - 1
    _, thresholds, phases = controller(rewards, kls, 8, gains, low=0.01, high=3.0)
    for i, (r, d) in enumerate(zip(rewards, distances, strict=True)):
        memory = following(mech, memory, r, d)
        assert float(mech.threshold_now(memory)) == pytest.approx(thresholds[i], abs=2e-4), i
    assert float(memory["kl"]) == pytest.approx(controller(rewards, kls, 8)[0], rel=1e-4)
    ends = {"climbing": 1.2, "converged": 1.0, "plateau": 0.8}
    assert phases[-1] == ends.get(kind, phases[-1])
    assert phases[0] == 1.5


def test_the_published_pid_hardly_moves_the_threshold():
    """Its errors are changes of an average of rewards in [0, 1]: at most 0.05 each."""
    mech = build("regularizer", "safe", {"window": 8})
    memory = mech.init(None)
    for r in history("climbing"):
        memory = following(mech, memory, r)
    moved = float(mech.threshold_now(memory)) - 0.3 * 1.2
    assert 0 < abs(moved) < 0.02


def known(kl):
    """A converged run at a distance: the threshold is the base."""
    mech = build("regularizer", "safe", {"window": 2})
    memory = mech.init(None)
    for _ in range(4):
        memory = following(mech, memory, 0.9)
    return memory | {"kl": jnp.float32(kl)}


GIVEN = {"window": 2, "proportional": 0.0, "integral": 0.0, "derivative": 0.0}


def gate(H, floor=2.0):
    return max(0.5, floor / (H + 0.1))


def test_the_gate_falls_with_entropy_and_never_below_a_half():
    gates = [gate(H) for H in (0.0, 0.5, 2.0, 3.9, 10.0)]
    assert gates == sorted(gates, reverse=True)
    for scale in (0.0, 1.0, 50.0):  # uniform to nearly deterministic
        z = scale * BASE.logits
        H = float(np.asarray(entropy_of(z))[MASK].mean())
        found = penalty("safe", GIVEN | {"form": "literal"}, known(1.3), z)
        assert float(found) == pytest.approx(0.1 * 1.0**2 * gate(H), rel=1e-4)
        assert float(found) >= 0.1 * 0.5


def test_below_the_threshold_nothing_is_paid():
    for form in ("literal", "differentiable"):
        assert not np.any(penalty("safe", GIVEN | {"form": form}, known(0.29)))


def test_the_released_penalty_has_no_gradient():
    memory = known(1.3)
    assert float(penalty("safe", GIVEN | {"form": "literal"}, memory)) > 0.05
    assert not np.any(gradient("safe", GIVEN | {"form": "literal"}, memory))


def test_the_differentiable_form_has_the_derivative_of_the_penalty_as_its_coefficient():
    H = float(np.asarray(entropy_of(BASE.logits))[MASK].mean())
    reference = BASE.reference

    def written_out(z):
        logp = jax.nn.log_softmax(z)
        return 0.2 * (1.3 - 0.3) * gate(H) * jnp.sum(jnp.exp(logp) * (logp - reference))

    found = gradient("safe", GIVEN, known(1.3))
    np.testing.assert_allclose(found, jax.grad(written_out)(BASE.logits), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "key"),
    [
        ("epo", {"low": 3.0}, "low"),
        ("safe", {"low": 3.0}, "low"),
        ("safe", {"window": 0}, "window"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(name, given, key):
    spec = SimpleNamespace(recipe=SimpleNamespace(rollout="episodes"))
    with pytest.raises(BadInput) as caught:
        build("regularizer", name, given).check(spec)
    assert caught.value.key == key


# ------------------------------------------------------------------ what they do


@pytest.fixture(scope="module")
def bandit():
    fields = {"coefficient": 0.2, "height": 5.0, "low": 0.8, "high": 1.2, "form": "literal"}
    arms = {
        "grpo": recipe("grpo"),
        "bonus": recipe("grpo", regularizer=[{"entropy_bonus": {"coefficient": 0.2}}]),
        "epo": recipe("epo"),
        "epo literal": recipe("grpo", regularizer=[{"epo": fields}]),
        "safe": recipe("grpo", regularizer=[{"safe": {}}]),
        "safe literal": recipe("grpo", regularizer=[{"safe": {"form": "literal"}}]),
    }
    return entropy_bandit.train(arms)


def test_the_history_keeps_more_solutions_than_the_bonus_it_comes_with(bandit):
    epo, bonus = (entropy_bandit.at(bandit, 0.8, "solutions", arm) for arm in ("epo", "bonus"))
    assert entropy_bandit.clearly_above(epo - bonus, 0.05)


def test_entropy_varies_less_with_a_history(bandit):
    """The paper's claim: over the updates up to equal accuracy the entropy moves less."""
    H = {arm: bandit.curve("entropy", arm) for arm in ("epo", "bonus")}
    assert entropy_bandit.clearly_above(H["bonus"].var(axis=1) - H["epo"].var(axis=1))


@pytest.mark.parametrize(("literal", "plain"), [("epo literal", "bonus"), ("safe literal", "grpo")])
def test_released_forms_train_like_what_they_are_added_to(bandit, literal, plain):
    for name in ("accuracy", "entropy"):
        np.testing.assert_allclose(
            bandit.curve(name, literal), bandit.curve(name, plain), atol=1e-4
        )


def test_the_controller_holds_the_policy_nearer_to_its_reference(bandit):
    last = {arm: bandit.curve("kl", arm)[:, -1] for arm in ("grpo", "safe")}
    assert entropy_bandit.clearly_above(last["grpo"] - last["safe"], 0.3)
