"""One update of the learner: ratios, keys, vmaps, freezing, progress."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_cases import (
    ONE,
    ZERO,
    Ratios,
    learner_of,
    louder,
    ppo_like,
    start,
    train,
)

from jaxrl_lab.mechanisms import mechanism
from jaxrl_lab.policies import POLICIES
from jaxrl_lab.recipes import recipe, with_value

STILL = {"optimizer": [{"sgd": {"learning_rate": 0.0}}], "epochs": 1}


def close(a, b, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol)


def identical(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def probe(learner, rollout, minibatches=1):
    """Largest |ratio - 1| in updates that change nothing; sampler and unroll agree in all."""
    sizes = {"group": 4} if rollout == "episodes" else {"prompts": 4, "steps": 9}
    built = recipe("", rollout=rollout, minibatches=minibatches, surrogate=Ratios(), **sizes)
    built = recipe(built, **STILL, aggregate="token_mean", advantage="reward_to_go")
    world, state = start(learner, built)
    state, fit = train(learner, built, world, louder(state), jax.random.key(1), 3)
    assert bool(state.alive)
    assert float(np.max(fit["clipped"])) == 0.0
    return float(np.max(np.abs(fit["objective"])))


PLACES = [("gridworld", p, r) for p in POLICIES for r in ("episodes", "stream")]
PLACES += [("chain", p, "episodes") for p in ("gru", "transformer")]
PLACES += [("bandit", p, "episodes") for p in ("tabular", "mlp")]


@pytest.mark.parametrize(("world_id", "policy_id", "rollout"), PLACES)
def test_ratios_start_at_one_and_agree_with_the_sampler(world_id, policy_id, rollout):
    """Episode boundaries in mid-batch and memories carried between updates included."""
    ratio = probe(learner_of(world_id, policy_id), rollout)
    assert ratio <= (0.0 if policy_id == "tabular" else 1e-6)


@pytest.mark.parametrize(("policy_id", "rollout"), [("tabular", "episodes"), ("gru", "stream")])
def test_ratios_of_minibatches_start_at_one(policy_id, rollout):
    assert probe(learner_of("gridworld", policy_id), rollout, 2) <= 1e-6


def test_the_probe_can_fail():
    """With a step in between the second ratio is away from 1."""
    learner = learner_of("bandit")
    built = recipe("grpo", group=4, epochs=2, surrogate=["importance_weighted", Ratios()])
    world, state = start(learner, built)
    _, fit = train(learner, built, world, state, jax.random.key(0), 1)
    assert float(np.abs(fit["objective"][0])) > 1e-2


def test_the_empty_recipe_is_reinforce():
    """θ + mean over rollouts of R ∇log π(a), by hand, from the very actions that were taken."""

    learner = learner_of("bandit")
    world, state = start(learner, recipe(""))
    tape: list = []
    built = recipe("", reward="channel", group=5)
    after, _ = learner.update(built, world, state, jax.random.key(4), ZERO, ONE, tape)
    batch = next(entry["output"] for entry in tape if entry["slot"] == "reward")
    logits = np.asarray(state.params["logits"], np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    actions, rewards = (np.asarray(x)[..., 0] for x in (batch.action, batch.channels["true"]))
    assert rewards.std() > 0
    expected = logits.copy()
    for b in range(4):
        for a, r in zip(actions[b], rewards[b], strict=True):
            expected[b] += r * (np.eye(5)[a] - p[b]) / actions.size
    np.testing.assert_allclose(after.params["logits"], expected, atol=1e-6)


def test_a_reward_mechanism_reaches_plain_reinforce():
    """The return that an empty advantage slot passes on is that of the shaped reward."""

    @mechanism
    class Negated:
        def __call__(self, batch, ctx):
            return replace(batch, reward=-batch.reward)

    learner = learner_of("bandit")
    changes = []
    for reward in ((), Negated()):
        built = recipe("reinforce", reward=reward)
        world, state = start(learner, built)
        after, _ = train(learner, built, world, state, jax.random.key(0), 1)
        changes.append(after.params["logits"] - state.params["logits"])
    assert np.any(changes[0])
    np.testing.assert_allclose(changes[1], -changes[0], atol=1e-7)


SOME = {
    "grpo": recipe("grpo", group=4),
    "ppo": ppo_like(),
    "dapo": recipe("dapo", group=4),
    "clip_cov": recipe("clip_cov", group=4),
    "grpo_kl": recipe("grpo_kl", group=4),
}


def some_recipes(*names):
    return pytest.mark.parametrize("built", [SOME[n] for n in names], ids=names)


@some_recipes("grpo_kl", "ppo", "dapo")
def test_a_key_decides_everything_and_seeds_stack(built):
    """Same key, same bits; vmapped seeds are the separate ones; another key is another run."""
    learner = learner_of("gridworld", value="value" in built.needs)
    world, state = start(learner, built)
    keys = jax.random.split(jax.random.key(5), 3)

    def once(state, key):
        return learner.update(built, world, state, key, ZERO, ONE)

    alone = [jax.jit(once)(state, key) for key in keys]
    assert identical(alone[0], jax.jit(once)(state, keys[0]))
    assert not identical(alone[0][0].params, alone[1][0].params)
    together = jax.jit(jax.vmap(once, (None, 0)))(state, keys)
    for i, single in enumerate(alone):
        close(jax.tree.map(lambda x, i=i: x[i], together), single)


@some_recipes("grpo", "ppo", "clip_cov")
def test_stacked_arms_are_the_arms_alone(built):
    learner = learner_of("gridworld", value="value" in built.needs)
    arms = [with_value(built, "optimizer.learning_rate", rate) for rate in (0.1, 0.5)]
    if built.rollout == "episodes" and built.surrogate:
        arms.append(with_value(built, "surrogate.high", 0.01))
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *arms)
    world, state = start(learner, built)

    def once(arm):
        return learner.update(arm, world, state, jax.random.key(3), ZERO, ONE)

    together = jax.jit(jax.vmap(once))(stacked)
    run, params = jax.jit(once), []
    for i, arm in enumerate(arms):
        close(jax.tree.map(lambda x, i=i: x[i], together), run(arm))
        params.append(np.asarray(together[0].params["logits"][i]))
    assert not np.allclose(params[0], params[1])


@pytest.mark.parametrize("poison", [np.inf, 3e38])
def test_a_diverging_member_is_frozen_and_the_others_go_on(poison):
    learner = learner_of("gridworld", value=True)
    built = ppo_like(optimizer=[{"sgd": {"learning_rate": 0.1}}])
    world, state = start(learner, built)
    rates = jnp.asarray([0.1, poison, 0.2], jnp.float32)

    def member(rate):
        sgd = replace(built.optimizer[0], learning_rate=rate)
        return train(learner, replace(built, optimizer=(sgd,)), world, state, jax.random.key(0), 4)

    after, _ = jax.vmap(member)(rates)
    np.testing.assert_array_equal(after.alive, [True, False, True])
    stopped = int(after.stopped[1])
    assert 0 <= stopped < 4
    np.testing.assert_array_equal(after.stopped[jnp.array([0, 2])], [-1, -1])
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(after.params))
    if not np.isfinite(poison):  # stopped at once: nothing may have moved
        assert stopped == 0
        frozen = jax.tree.map(lambda x: x[1], after)
        assert identical(
            (frozen.params, frozen.stream, frozen.opt), (state.params, state.stream, state.opt)
        )
    healthy, _ = train(
        learner,
        with_value(built, "optimizer.learning_rate", 0.2),
        world,
        state,
        jax.random.key(0),
        4,
    )
    close(jax.tree.map(lambda x: x[2], after.params), healthy.params, atol=1e-5)


def test_a_loss_that_is_not_finite_freezes_the_member():
    @mechanism
    class Explodes:
        def __call__(self, out, batch, aux, ctx):
            return jnp.where(ctx.update >= 2, jnp.nan, 0.0) * out.logp

    learner = learner_of("bandit")
    built = recipe("grpo", group=4, regularizer=Explodes())
    world, state = start(learner, built)
    after, _ = train(learner, built, world, state, jax.random.key(0), 5)
    assert not bool(after.alive)
    assert int(after.stopped) == 2


@pytest.mark.parametrize("total", [1, 2, 7])
def test_progress_runs_from_zero_to_one(total):
    @mechanism
    class Progress:
        def __call__(self, out, batch, aux, ctx):
            return -ctx.progress

    learner = learner_of("bandit")
    built = recipe("", group=2, regularizer=Progress(), surrogate={"clip": {}})
    built = recipe(built, reward=(), advantage="group_centered")
    world, state = start(learner, built)
    _, fit = train(learner, built, world, state, jax.random.key(0), total)
    expected = np.linspace(0, 1, total) if total > 1 else [0.0]
    np.testing.assert_allclose(fit["objective"], expected, atol=1e-6)


def test_a_schedule_in_a_recipe_acts():
    """A learning rate that falls to 0 leaves the last update without effect."""
    learner = learner_of("bandit")
    falling = {"linear": {"start": 1.0, "end": 0.0}}
    built = with_value(recipe("reinforce"), "optimizer.learning_rate", falling)
    world, state = start(learner, built)
    moved = []
    for t in (0, 1, 2):
        after, _ = jax.jit(learner.update)(
            built, world, state, jax.random.key(0), jnp.int32(t), jnp.int32(3)
        )
        moved.append(np.asarray(after.params["logits"] - state.params["logits"]))
    np.testing.assert_allclose(moved[1], 0.5 * moved[0], atol=1e-6)
    assert np.any(moved[0])
    assert not np.any(moved[2])


def test_the_reference_is_refreshed_on_time():
    learner = learner_of("bandit")
    built = recipe("reinforce", update={"refresh_reference": {"every": 3}})
    world, state = start(learner, built)
    for total, fresh in [(2, False), (3, True)]:
        after, _ = train(learner, built, world, state, jax.random.key(0), total)
        expected = after.params if fresh else state.params
        assert identical(after.trees["reference"], expected)
        assert not identical(after.params, state.params)


def test_diagnostics_look_at_all_episodes_and_at_the_true_reward():
    """Neither masks of the credit slot nor shaped rewards change the reported return."""

    @mechanism
    class Shifted:
        def __call__(self, batch, ctx):
            return replace(batch, reward=batch.reward + 5.0)

    learner = learner_of("bandit")
    reports = []
    for changes in ({}, {"credit": "filter_groups"}, {"reward": Shifted()}):
        built = recipe("grpo", group=3, **changes)
        world, state = start(learner, built)
        _, fit = train(learner, built, world, state, jax.random.key(2), 1)
        reports.append([float(fit[k][0]) for k in ("return", "informative_groups", "tokens")])
    assert 0 < reports[0][1] < 1
    np.testing.assert_allclose(reports[1], reports[0])
    np.testing.assert_allclose(reports[2], reports[0])
