"""Both borders to gymnax, against gymnax's own functions."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs import compat

gymnax = compat._gymnax()


def lenient() -> Any:
    return compat._lenient()


OURS = [
    ("bandit/modes", {"observation": "features", "prompts": 5, "features": 2}),
    ("gridworld/two_goals", {"size": 3, "slippery": True, "levels": 3, "test_levels": 2}),
    ("reasoning/modular_chain", {"observation": "residue", "prompts": 9}),
]


@pytest.mark.parametrize(("env_id", "static"), OURS, ids=str)
def test_ours_roll_out_under_their_api(env_id: str, static: Any) -> None:
    """gymnax's own `reset` and `step` (auto-reset included), under jit and vmap."""
    env = je.make(env_id, **static)
    theirs = je.to_gymnax(env)
    assert isinstance(theirs, gymnax.environments.environment.Environment)
    params, n, steps = theirs.default_params, 64, 3 * env.horizon
    assert params.max_steps_in_episode == env.horizon
    space, actions = theirs.observation_space(params), theirs.action_space(params)
    assert (theirs.num_actions, actions.n) == (env.action_space.n,) * 2

    def body(carry: Any, key: Any) -> Any:
        obs, state = carry
        act, run = jax.random.split(key)
        action = jax.vmap(actions.sample)(jax.random.split(act, n))
        step = jax.vmap(theirs.step, (0, 0, 0, None))
        obs, nxt, reward, terminated, truncated, info = step(
            jax.random.split(run, n), state, action, params
        )
        inside = jnp.all(jax.vmap(space.contains)(obs))
        final = jnp.all(jax.vmap(space.contains)(info["final_observation"]))
        return (obs, nxt), (state, action, nxt, reward, terminated, truncated, info, inside & final)

    @jax.jit
    def rollout(key: Any) -> Any:
        keys = jax.random.split(key, n)
        first = jax.vmap(theirs.reset, (0, None))(keys, params)
        return jax.lax.scan(body, first, jax.random.split(key, steps))[1]

    state, action, nxt, reward, terminated, truncated, info, inside = rollout(jax.random.key(0))
    assert bool(jnp.all(inside))
    assert space.dtype == (jnp.float32 if "features" in static.values() else jnp.int32)
    assert set(np.unique(state.level_id)) == set(env.level_ids("train"))
    done = np.asarray(terminated | truncated)
    assert done.any(axis=0).all()
    assert np.all(np.asarray(nxt.time)[done] == 0), "gymnax restarted what ended"
    assert np.array_equal(reward, info["reward"]["true"])
    assert np.array_equal(info["discount"], 1.0 - np.asarray(terminated))
    assert np.asarray(nxt.time)[~done].min(initial=1) >= 1
    if env_id == "gridworld/two_goals":  # both endings occur and are kept apart
        assert np.any(terminated & ~truncated)
        clock = np.asarray(state.inner.clock) + 1
        assert np.array_equal(truncated, clock >= env.horizon)
    # Each transition is the world's own for the noise that gymnax's key gives.
    if env_id != "gridworld/two_goals":
        levels = jax.vmap(partial(env.make_level, params.world))(state.level_id.ravel())
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (state.inner, action))
        after = jax.vmap(env.step, (None, 0, 0, 0, None))(params.world, levels, *flat, ())
        assert np.array_equal(after.reward["true"], reward.ravel())
        assert np.array_equal(after.terminated, terminated.ravel())


def test_our_params_and_split_reach_their_api() -> None:
    env = je.make("gridworld/two_goals", size=3, levels=2, test_levels=3)
    world = dataclasses.replace(env.default_params, step_cost=jnp.float32(0.25))
    theirs = je.to_gymnax(env, world, split="test")
    params = theirs.default_params
    keys = jax.random.split(jax.random.key(1), 50)
    _, state = jax.vmap(theirs.reset, (0, None))(keys, params)
    assert set(np.unique(state.level_id)) == {2, 3, 4}
    one = jax.tree.map(lambda x: x[0], state)
    away = (int(env.make_level(world, one.level_id).rotation) + 2) % 4
    _, _, reward, _, _, _ = theirs.step(keys[0], one, jnp.int32(away), params)
    assert float(reward) == -0.25
    doubled = params.replace(world=dataclasses.replace(world, step_cost=jnp.float32(0.5)))
    assert float(theirs.step(keys[0], one, jnp.int32(away), doubled)[2]) == -0.5
    with pytest.raises(je.BadInput, match="split"):
        je.to_gymnax(je.make("gridworld/two_goals"), split="test")


def test_token_worlds_are_boxes_of_integers() -> None:
    env = je.make("reasoning/modular_chain", observation="tokens", prompts=3)
    space = je.to_gymnax(env).observation_space()
    assert space.dtype == jnp.int32
    assert space.high.tolist() == [4, 7, 7, 8]
    assert space.low.tolist() == [0, 0, 0, 0]


def test_cartpole_equals_their_own_step() -> None:
    """Same key, same action: state, observation, reward and both flags are gymnax's."""
    env = je.make("gymnax/CartPole-v1")
    assert env == je.from_gymnax("CartPole-v1")
    assert hash(env) == hash(je.from_gymnax("CartPole-v1"))
    assert isinstance(env, je.Environment)
    assert (env.horizon, env.action_space, env.level_ids("test")) == (500, je.Discrete(2), range(0))
    their_env, their_params = gymnax.make("CartPole-v1")
    params, n = env.default_params, 6
    level = env.make_level(params, jnp.int32(0))
    noise = env.draw_reset(jax.random.key(0), (n,))
    states = jax.vmap(env.reset, (None, None, 0))(params, level, noise)
    with lenient():
        theirs = [their_env.reset_env(k, their_params)[1] for k in noise]
    ended = np.zeros(n, bool)
    step = jax.jit(jax.vmap(env.step, (None, None, 0, 0, 0)))
    for t in range(25):
        noise = env.draw(jax.random.fold_in(jax.random.key(1), t), (n,))
        action = (jnp.arange(n, dtype=jnp.int32) + t // 3) % 2
        after = step(params, level, states, action, noise)
        obs = jax.vmap(env.observe, (None, None, 0))(params, level, after.state)
        states = after.state
        for i in range(n):
            with lenient():
                o, s, r, d, _ = their_env.step_env(noise[i], theirs[i], action[i], their_params)
            theirs[i] = s
            np.testing.assert_allclose(obs[i], o, rtol=2e-5, atol=1e-6)
            assert float(after.reward["true"][i]) == float(r)
            assert bool(after.terminated[i]) == bool(d)
            assert not bool(after.truncated[i])
            assert int(states.time[i]) == int(s.time) == t + 1
            ended[i] |= bool(d)
    assert ended.any()


def test_their_time_limit_is_a_truncation() -> None:
    """Also when the pole falls at that very step; and a time limit of a sweep is checked."""
    env = je.from_gymnax("CartPole-v1")
    params = env.default_params.replace(max_steps_in_episode=jnp.int32(3))
    level, key = jnp.int32(0), jax.random.key(0)
    state = env.reset(params, level, key)
    flags = []
    for _ in range(3):
        after = env.step(params, level, state, jnp.int32(1), key)
        state = after.state
        flags.append((bool(after.terminated), bool(after.truncated)))
    assert flags == [(False, False), (False, False), (False, True)]
    falling = state.replace(time=jnp.int32(2), theta=jnp.float32(0.2), theta_dot=jnp.float32(3.0))
    after = env.step(params, level, falling, jnp.int32(1), key)
    assert bool(after.terminated)
    assert bool(after.truncated)
    env.check_params(params)
    with pytest.raises(je.BadInput, match="max_steps_in_episode"):
        env.check_params(params.replace(max_steps_in_episode=jnp.int32(501)))


@pytest.mark.parametrize("name", ["CartPole-v1", "Catch-bsuite", "FrozenLake-misc"])
def test_theirs_run_in_our_streams(name: str) -> None:
    """Scan, auto-reset, types kept, observations inside the space, final state returned."""
    env = je.from_gymnax(name)
    params, key, n = env.default_params, jax.random.key(2), 32
    make_level = jax.vmap(partial(env.make_level, params))

    def body(stream: Any, t: Any) -> Any:
        now = jax.random.fold_in(key, t)
        action = jax.random.randint(jax.random.fold_in(now, 9), (n,), 0, env.action_space.n)
        nxt, after = je.stream_step(env, params, make_level, "train", stream, action, now)
        obs = jax.vmap(env.observe, (None, 0, 0))(params, stream.level_id, after.state)
        assert obs.shape == (n, *env.observation_space.shape)
        inside = jnp.all(jax.vmap(env.observation_space.contains)(obs))
        return nxt, (nxt.started, after.terminated, after.truncated, inside, after.state.time)

    @jax.jit
    def roll(first: Any) -> Any:
        return jax.lax.scan(body, first, jnp.arange(120))

    first = je.stream_reset(env, params, make_level, "train", key, n)
    last, (started, terminated, truncated, inside, time) = roll(first)
    assert bool(jnp.all(inside))
    assert np.array_equal(started, terminated | truncated)
    assert np.asarray(started).any(axis=0).all()
    assert np.all(np.asarray(time) >= 1), "a reset state would show time 0"
    assert np.any(np.asarray(last.state.time) < 120)
    kinds = lambda tree: [(x.dtype, x.shape, x.weak_type) for x in jax.tree.leaves(tree)]  # noqa: E731
    assert kinds(last) == kinds(first)


def test_draws_of_theirs_are_one_key_each_and_prefix_stable() -> None:
    env = je.from_gymnax("CartPole-v1")
    few, many = (env.draw(jax.random.key(0), (k,)) for k in (8, 16))
    assert few.shape == (8,)
    data = jax.random.key_data(many)
    assert np.array_equal(jax.random.key_data(few), data[:8])
    assert len(np.unique(data, axis=0)) == 16


def test_there_and_back() -> None:
    """Our adapter around their environment around our world: the same episode."""
    env = je.from_gymnax("Catch-bsuite")
    theirs = je.to_gymnax(env)
    key, params = jax.random.key(4), theirs.default_params
    obs, state = theirs.reset(key, params)
    for _ in range(20):
        expected = env.step(
            params.world, state.level_id, state.inner, jnp.int32(2), env.draw(key, ())
        )
        _, state, reward, terminated, _ = theirs.step_env(key, state, jnp.int32(2), params)
        assert float(reward) == float(expected.reward["true"])
        assert bool(terminated) == bool(expected.terminated)
    assert obs.shape == theirs.observation_space(params).shape


@pytest.mark.parametrize(
    ("name", "static", "key", "nearest"),
    [
        ("gymnax/CartPol-v1", {}, "environment.id", "gymnax/CartPole-v1"),
        ("gymnax/Pendulum-v1", {}, "environment.id", None),
        ("gymnax/Catch-bsuite", {"row": 4}, "row", "rows"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(name: str, static: Any, key: str, nearest: Any) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make(name, **static)
    assert caught.value.key == key
    assert caught.value.nearest == nearest


def test_constructor_arguments_reach_them() -> None:
    assert je.make("gymnax/Catch-bsuite", rows=7).observation_space.shape == (7, 5)


@pytest.mark.parametrize("missing", ["gymnax", "six"])
def test_a_missing_package_is_one_clear_message(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import jaxrl_envs as je\n"
        "assert 'gymnax.environments' not in sys.modules, 'the import must be lazy'\n"
        "for use in (lambda: je.make('gymnax/CartPole-v1'),\n"
        "            lambda: je.to_gymnax(je.make('bandit/modes'))):\n"
        "    try:\n"
        "        use()\n"
        "    except je.BadInput as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install gymnax six") == 2


@pytest.mark.parametrize("env_id", je.registered())
def test_every_world_steps_behind_the_adapter(env_id: str) -> None:
    theirs = je.to_gymnax(je.make(env_id))
    params, key = theirs.default_params, jax.random.key(0)
    space, n = theirs.observation_space(params), theirs.num_actions
    obs, state = theirs.reset(key, params)
    assert bool(space.contains(obs))
    obs, state, reward, terminated, truncated, info = theirs.step(key, state, n - 1, params)
    assert bool(space.contains(obs))
    assert bool(space.contains(info["final_observation"]))
    assert np.isfinite(float(reward))
    assert terminated.dtype == truncated.dtype == bool


@pytest.mark.parametrize("action", [-1, 4, np.int32(9), jnp.int32(-3)])
def test_concrete_actions_outside_the_space_are_refused(action: Any) -> None:
    theirs = je.to_gymnax(je.make("gridworld/two_goals"))
    params, key = theirs.default_params, jax.random.key(0)
    _, state = theirs.reset(key, params)
    with pytest.raises(je.BadInput, match="action"):
        theirs.step(key, state, action, params)
    jax.jit(theirs.step)(key, state, action, params)  # under jit it is clamped
