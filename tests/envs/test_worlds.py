"""What every world promises, checked over one list of configurations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from world_cases import WORLDS, World, bank, f32, ids_of, leaves, same

i32 = jnp.int32

every_world = pytest.mark.parametrize("world", WORLDS, ids=str)


def test_every_registered_world_is_in_the_table() -> None:
    assert {w.id for w in WORLDS} == set(je.registered())


@every_world
def test_protocol_and_hash(world: World) -> None:
    env = world.make()
    assert isinstance(env, je.Environment)
    assert world.make() == env
    assert hash(world.make()) == hash(env)
    assert env.horizon >= 1


tabular_worlds = pytest.mark.parametrize(
    "world", [w for w in WORLDS if hasattr(w.make(), "tabular")], ids=str
)


@tabular_worlds
def test_table_equals_step(world: World) -> None:
    """P, reward, terminal and row of `tabular` against every state, action and noise."""
    env = world.make()
    params = world.params(env)
    noise = () if world.noise is None else world.noise(env)

    @jax.jit
    def build(level_id: Any) -> Any:
        level = env.make_level(params, level_id)
        return level, env.tabular(params, level)

    @jax.jit
    def table(states: Any, level: Any) -> Any:
        def outcome(state: Any, action: Any, noise: Any) -> Any:
            after = env.step(params, level, state, action, noise)
            return world.number(env, level, after.state), after.reward["true"], after.terminated

        actions = jnp.arange(env.action_space.n)
        size = len(jax.tree.leaves(noise)[0]) if jax.tree.leaves(noise) else 1
        over_noise = jax.vmap(outcome, (None, None, 0), axis_size=size)
        over_actions = jax.vmap(over_noise, (None, 0, None))
        if not jax.tree.leaves(states):  # one packed state
            return jax.tree.map(lambda x: x[None], over_actions(states, actions, noise))
        return jax.vmap(over_actions, (0, None, None))(states, actions, noise)

    for level_id in ids_of(env)[:4]:
        level, mdp = build(i32(level_id))
        states = world.states(env, level)
        after, reward, ended = table(states, level)
        S = after.shape[0]
        P = np.mean(np.asarray(after)[..., None] == np.arange(mdp.num_states), axis=2)
        expected = np.eye(mdp.num_states)[mdp.next] if mdp.P is None else np.asarray(mdp.P)
        terminal = np.asarray(mdp.terminal)
        running = ~terminal[:S]
        np.testing.assert_allclose(P[running], expected[:S][running], atol=1e-6)
        np.testing.assert_allclose(np.mean(reward, axis=2), mdp.reward[:S], atol=1e-6)
        index = partial(env.state_index, params, level)
        numbers = jax.vmap(index, axis_size=S)(states)
        assert np.array_equal(np.asarray(numbers)[running], np.arange(S)[running])
        assert np.all(terminal[S:]), "a state without a packed form must be terminal"
        assert np.array_equal(np.asarray(ended)[running], terminal[np.asarray(after)[running]])
        assert np.all(np.asarray(reward)[~running] == 0.0)
        if isinstance(env.observation_space, je.Discrete):
            see = partial(env.observe, params, level)
            single = not jax.tree.leaves(states)
            observed = see(())[None] if single else jax.vmap(see)(states)
            seen = np.asarray(mdp.row)[:S]
            assert np.array_equal(seen[running], np.asarray(observed)[running])
        assert mdp.horizon == env.horizon


@tabular_worlds
def test_first_states_have_their_probabilities(world: World) -> None:
    env = world.make()
    params = world.params(env)
    for level_id in ids_of(env)[:4]:
        level = env.make_level(params, i32(level_id))
        start = np.asarray(env.tabular(params, level).start)
        if world.starts is None:
            here = [env.state_index(params, level, env.reset(params, level, ()))]
        else:
            noise = world.starts(env)
            first = jax.vmap(partial(env.reset, params, level))(noise)
            here = jax.vmap(partial(env.state_index, params, level))(first)
        counted = np.bincount(np.asarray(here), minlength=len(start)) / len(here)
        np.testing.assert_allclose(counted, start, atol=1e-6)


@every_world
def test_observations_stay_in_their_space(world: World) -> None:
    """One million random steps, restarts included, over both splits."""
    env = world.make()
    params = world.params(env)
    make_level = bank(env, params)
    split = "test" if len(env.level_ids("test")) else "train"
    key, n, space = jax.random.key(1), 10_000, env.observation_space

    def body(stream: Any, t: Any) -> Any:
        now = jax.random.fold_in(key, t)
        levels = make_level(stream.level_id)
        obs = jax.vmap(env.observe, (None, 0, 0))(params, levels, stream.state)
        assert obs.shape == (n, *space.shape)
        assert obs.dtype == (f32 if isinstance(space, je.Box) else i32)
        action = jax.random.randint(jax.random.fold_in(now, 9), (n,), 0, env.action_space.n)
        nxt, after = je.stream_step(env, params, make_level, split, stream, action, now)
        final = jax.vmap(env.observe, (None, 0, 0))(params, levels, after.state)
        inside = jax.vmap(space.contains)(obs) & jax.vmap(space.contains)(final)
        return nxt, (jnp.all(inside), jnp.sum(after.terminated | after.truncated))

    @jax.jit
    def roll(first: Any) -> Any:
        return jax.lax.scan(body, first, jnp.arange(100))

    first = je.stream_reset(env, params, make_level, split, key, n)
    last, (inside, ended) = roll(first)
    assert bool(jnp.all(inside))
    # Without noise or luck nothing ends early, so restarts are at least this many.
    assert int(jnp.sum(ended)) >= n * (100 // env.horizon)
    assert set(np.unique(last.level_id)) <= set(env.level_ids(split))


@every_world
def test_state_is_packed_and_keeps_its_types(world: World) -> None:
    env = world.make()
    params = env.default_params
    level = env.make_level(params, jnp.int32(0))
    state = world.reset(env, params, level)
    assert tuple(x.dtype for x in jax.tree.leaves(state)) == tuple(map(jnp.dtype, world.state))
    assert sum(x.nbytes for x in jax.tree.leaves(state)) <= world.most
    after = env.step(params, level, state, jnp.int32(0), env.draw(jax.random.key(0), ()))
    kinds = lambda tree: jax.tree.map(lambda x: (x.dtype, x.shape, x.weak_type), tree)  # noqa: E731
    assert kinds(after.state) == kinds(state)
    assert after.reward["true"].dtype == f32
    assert after.terminated.dtype == after.truncated.dtype == bool
    assert after.info["correct"].dtype == bool


@every_world
def test_finished_episodes_stand_still(world: World) -> None:
    """After the end by the rules, further steps change nothing but the clock and pay nothing."""
    env = world.make()
    params = world.params(env)
    for level_id in ids_of(env)[:3]:
        level = env.make_level(params, jnp.int32(level_id))
        state = world.reset(env, params, level)
        key = jax.random.key(int(level_id))
        ended = False
        for t in range(min(4 * env.horizon, 60)):
            action = jax.random.randint(jax.random.fold_in(key, t), (), 0, env.action_space.n)
            after = env.step(params, level, state, action, env.draw(key, ()))
            if ended and jax.tree.leaves(state):
                assert bool(after.terminated)
                assert all(float(r) == 0.0 for r in after.reward.values())
                if hasattr(env, "tabular"):
                    here, there = (world.number(env, level, s) for s in (state, after.state))
                    assert int(here) == int(there)
            ended, state = ended or bool(after.terminated), after.state


@every_world
def test_actions_outside_the_space_are_clamped(world: World) -> None:
    env = world.make()
    params = world.params(env)
    level = env.make_level(params, jnp.int32(0))
    state, noise = world.reset(env, params, level), env.draw(jax.random.key(0), ())
    step = lambda a: env.step(params, level, state, jnp.int32(a), noise)  # noqa: E731
    top = env.action_space.n - 1
    assert same(step(-1), step(0))
    assert same(step(top + 5), step(top))


@every_world
def test_vmapped_equals_looped_and_jit_equals_plain(world: World) -> None:
    env = world.make()
    params = world.params(env)
    key, n = jax.random.key(3), 5
    ids = jnp.asarray(np.resize(ids_of(env), n))
    levels = jax.vmap(partial(env.make_level, params))(ids)
    begin = env.draw_reset(key, (n,))
    states = jax.vmap(env.reset, (None, 0, 0), axis_size=n)(params, levels, begin)
    actions = jax.random.randint(key, (n,), 0, env.action_space.n)
    noise = env.draw(key, (n,))
    step = jax.jit(jax.vmap(env.step, (None, 0, 0, 0, 0)))
    together = step(params, levels, states, actions, noise)
    for i in range(n):
        take = partial(jax.tree.map, lambda x, i=i: x[i])
        alone = env.step(
            params, env.make_level(params, ids[i]), take(states), actions[i], take(noise)
        )
        assert same(alone, take(together))


@every_world
def test_params_can_be_stacked(world: World) -> None:
    """A sweep over params is a vmap: each member equals the world run with its own numbers."""
    env = world.make()
    members = [env.default_params, world.params(env)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    noise = env.draw(jax.random.key(2), ())

    def facts(params: Any) -> Any:
        level = env.make_level(params, jnp.int32(0))
        state = world.reset(env, params, level)
        every = jax.vmap(lambda a: env.step(params, level, state, a, noise).reward)
        known = [every(jnp.arange(env.action_space.n))]
        if hasattr(env, "tabular"):
            mdp = env.tabular(params, level)
            known.append(mdp.reward if mdp.P is None else (mdp.reward, mdp.P))
        for name in ("optimal_value", "pass_rate"):
            if hasattr(env, name):
                known.append(getattr(env, name)(params, level))
        return known

    together = jax.jit(jax.vmap(facts))(stacked)
    separate = [jax.jit(facts)(p) for p in members]
    for i, alone in enumerate(separate):
        for x, y in zip(leaves(alone), leaves(together), strict=True):
            np.testing.assert_allclose(x, y[i], rtol=1e-6, atol=1e-7)
    a, b = (leaves(x) for x in separate)
    acts = any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert acts != world.inert, "whether the params of this row change anything"


@every_world
def test_draws_are_prefix_stable(world: World) -> None:
    env, key = world.make(), jax.random.key(5)
    for draw in (env.draw, env.draw_reset):
        few, many = draw(key, (8,)), draw(key, (16,))
        assert same(few, jax.tree.map(lambda x: x[:8], many))
    for draw, outcomes in ((env.draw, world.noise), (env.draw_reset, world.starts)):
        assert bool(jax.tree.leaves(draw(key, (8,)))) == (outcomes is not None)
        for leaf in jax.tree.leaves(draw(key, (8, 3))):
            assert leaf.shape[:2] == (8, 3)


@every_world
def test_splits_are_disjoint_and_levels_differ(world: World) -> None:
    env = world.make()
    train, test = env.level_ids("train"), env.level_ids("test")
    assert not set(train) & set(test)
    levels = jax.vmap(partial(env.make_level, env.default_params))(jnp.asarray(ids_of(env)))
    rows = np.stack([np.concatenate([x[i].ravel() for x in leaves(replace_id(levels))])
                     for i in range(len(ids_of(env)))])  # fmt: skip
    assert len(np.unique(rows, axis=0)) == len(train) + len(test)
    with pytest.raises(je.BadInput, match="split"):
        env.level_ids("validation")


def replace_id(levels: Any) -> Any:
    """Levels without their number: prompts must differ in content."""
    return replace(levels, id=jnp.zeros_like(levels.id))


@pytest.mark.parametrize("world", [w for w in WORLDS if hasattr(w.make(), "pass_rate")], ids=str)
def test_pass_rates_are_spread(world: World) -> None:
    env = world.make()
    params = env.default_params
    levels = jax.vmap(partial(env.make_level, params))(jnp.asarray(ids_of(env)))
    rates = np.sort(jax.vmap(partial(env.pass_rate, params))(levels))
    assert rates[0] > float(params.hardest) - 1e-6
    assert rates[-1] < float(params.easiest) + 1e-6
    logit = np.log(rates / (1 - rates))
    width = logit.max() - logit.min()
    assert np.max(np.diff(logit)) < 0.6 * width, "no gap wider than the golden ratio leaves"
    middle = (np.log(0.02 / 0.98) + np.log(0.9 / 0.1)) / 2
    assert abs(np.mean(logit) - middle) < 3.0 / len(rates)
