"""The checks: each takes a case and raises :class:`AssertionError` where a promise is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_envs.core import Box, Discrete, Environment, MultiDiscrete
from jaxrl_envs.errors import BadInput
from jaxrl_envs.testing.case import Case, bank, ids_of, kinds, leaves, same
from jaxrl_envs.vector import stream_reset, stream_step

i32, f32 = jnp.int32, jnp.float32


def protocol(case: Case) -> None:
    """The members are there, and two worlds of one structure are one world."""
    env = case.make()
    assert isinstance(env, Environment)
    assert case.make() == env, "worlds of the same structure must be equal"
    assert hash(case.make()) == hash(env)
    assert env.horizon >= 1


def table_equals_step(case: Case) -> None:
    """P, reward, terminal and row of ``tabular`` against every state, action and noise."""
    env = case.make()
    params = case.params(env)
    noise = () if case.noise is None else case.noise(env)

    @jax.jit
    def build(level_id: Any) -> Any:
        level = env.make_level(params, level_id)
        return level, env.tabular(params, level)

    @jax.jit
    def table(states: Any, level: Any) -> Any:
        def outcome(state: Any, action: Any, noise: Any) -> Any:
            after = env.step(params, level, state, action, noise)
            ends = after.terminated, after.truncated
            return case.number(env, level, after.state), after.reward["true"], ends

        actions = jnp.arange(env.action_space.n)
        size = len(jax.tree.leaves(noise)[0]) if jax.tree.leaves(noise) else 1
        over_noise = jax.vmap(outcome, (None, None, 0), axis_size=size)
        over_actions = jax.vmap(over_noise, (None, 0, None))
        if not jax.tree.leaves(states):  # one packed state
            return jax.tree.map(lambda x: x[None], over_actions(states, actions, noise))
        return jax.vmap(over_actions, (0, None, None))(states, actions, noise)

    for level_id in ids_of(env)[:4]:
        level, mdp = build(i32(level_id))
        states = case.states(env, level)
        after, reward, (terminated, truncated) = table(states, level)
        S = after.shape[0]
        terminal = np.asarray(mdp.terminal)
        running = ~terminal[:S]
        if mdp.P is None:
            assert np.all(np.asarray(after == mdp.next[:S, :, None])[running])
        else:
            P = np.mean(np.asarray(after)[..., None] == np.arange(mdp.num_states), axis=2)
            np.testing.assert_allclose(P[running], mdp.P[:S][running], atol=1e-6)
        np.testing.assert_allclose(np.mean(reward, axis=2), mdp.reward[:S], atol=1e-6)
        index = partial(env.state_index, params, level)
        numbers = jax.vmap(index, axis_size=S)(states)
        assert np.array_equal(np.asarray(numbers)[running], np.arange(S)[running])
        assert np.all(terminal[S:]), "a state without a packed form must be terminal"
        over = terminal[np.asarray(after)[running]]
        assert np.all(over[np.asarray(terminated)[running]]), "what terminates must be terminal"
        ended = np.asarray(terminated | truncated)[running]
        assert np.all(ended[over]), "what is terminal must have ended"
        assert np.all(np.asarray(reward)[~running] == 0.0), "the end must pay nothing"
        if isinstance(env.observation_space, Discrete):
            see = partial(env.observe, params, level)
            single = not jax.tree.leaves(states)
            observed = see(())[None] if single else jax.vmap(see)(states)
            seen = np.asarray(mdp.row)[:S]
            assert np.array_equal(seen[running], np.asarray(observed)[running])
        assert mdp.horizon == env.horizon


def first_states_have_their_probabilities(case: Case) -> None:
    """``tabular``'s start distribution against ``reset`` over all its noise."""
    env = case.make()
    params = case.params(env)
    for level_id in ids_of(env)[:4]:
        level = env.make_level(params, i32(level_id))
        start = np.asarray(env.tabular(params, level).start)
        if case.starts is None:
            here = [env.state_index(params, level, env.reset(params, level, ()))]
        else:
            first = jax.vmap(partial(env.reset, params, level))(case.starts(env))
            here = jax.vmap(partial(env.state_index, params, level))(first)
        counted = np.bincount(np.asarray(here), minlength=len(start)) / len(here)
        np.testing.assert_allclose(counted, start, atol=1e-6)


def observations_stay_in_their_space(case: Case) -> None:
    """One million random steps, restarts included, over one split."""
    env = case.make()
    params = case.params(env)
    make_level = bank(env, params)
    split = "test" if len(env.level_ids("test")) else "train"
    key, n, space = jax.random.key(1), 10_000, env.observation_space

    def body(stream: Any, t: Any) -> Any:
        now = jax.random.fold_in(key, t)
        levels = make_level(stream.level_id)
        obs = jax.vmap(env.observe, (None, 0, 0))(params, levels, stream.state)
        assert obs.shape == (n, *space.shape)
        assert obs.dtype in _dtypes(space)
        action = jax.random.randint(jax.random.fold_in(now, 9), (n,), 0, env.action_space.n)
        nxt, after = stream_step(env, params, make_level, split, stream, action, now)
        final = jax.vmap(env.observe, (None, 0, 0))(params, levels, after.state)
        inside = jax.vmap(space.contains)(obs) & jax.vmap(space.contains)(final)
        return nxt, (jnp.all(inside), jnp.sum(after.terminated | after.truncated))

    @jax.jit
    def roll(first: Any) -> Any:
        return jax.lax.scan(body, first, jnp.arange(100))

    first = stream_reset(env, params, make_level, split, key, n)
    last, (inside, ended) = roll(first)
    assert bool(jnp.all(inside)), "an observation left its space"
    # Nothing outlasts the horizon, so restarts are at least this many.
    assert int(jnp.sum(ended)) >= n * (100 // env.horizon)
    assert set(np.unique(last.level_id)) <= set(env.level_ids(split))


def _dtypes(space: Any) -> tuple[Any, ...]:
    """Types an observation may have."""
    if isinstance(space, Box):
        return (f32,)
    small = isinstance(space, MultiDiscrete) and max(space.nvec) <= 256
    return (i32, jnp.uint8) if small else (i32,)


def state_is_packed_and_keeps_its_types(case: Case) -> None:
    """Dtypes, bytes, and that a step changes neither dtype nor shape nor weak type."""
    env = case.make()
    params = env.default_params
    level = env.make_level(params, i32(0))
    state = case.reset(env, params, level)
    assert tuple(x.dtype for x in jax.tree.leaves(state)) == tuple(map(jnp.dtype, case.state))
    assert sum(x.nbytes for x in jax.tree.leaves(state)) <= case.most
    after = env.step(params, level, state, i32(0), env.draw(jax.random.key(0), ()))
    assert kinds(after.state) == kinds(state)
    assert {x.dtype for x in after.reward.values()} == {jnp.dtype(f32)}
    assert "true" in after.reward
    assert after.terminated.dtype == after.truncated.dtype == bool
    assert after.info["correct"].dtype == bool


def finished_episodes_stand_still(case: Case) -> None:
    """After the end by the rules, further steps change nothing but the clock and pay nothing."""
    env = case.make()
    params = case.params(env)
    for level_id in ids_of(env)[:3]:
        level = env.make_level(params, i32(level_id))
        state = case.reset(env, params, level)
        key = jax.random.key(int(level_id))
        ended = False
        for t in range(min(4 * env.horizon, 60)):
            action = jax.random.randint(jax.random.fold_in(key, t), (), 0, env.action_space.n)
            after = env.step(params, level, state, action, env.draw(key, ()))
            if ended and jax.tree.leaves(state):
                assert bool(after.terminated), "an ended episode must stay ended"
                assert all(float(r) == 0.0 for r in after.reward.values())
                if hasattr(env, "tabular"):
                    here, there = (case.number(env, level, s) for s in (state, after.state))
                    assert int(here) == int(there)
            ended, state = ended or bool(after.terminated), after.state


def actions_outside_the_space_are_clamped(case: Case) -> None:
    """Too low is the first action, too high the last."""
    env = case.make()
    params = case.params(env)
    level = env.make_level(params, i32(0))
    state, noise = case.reset(env, params, level), env.draw(jax.random.key(0), ())
    step = lambda a: env.step(params, level, state, i32(a), noise)  # noqa: E731
    top = env.action_space.n - 1
    assert same(step(-1), step(0))
    assert same(step(top + 5), step(top))


def vmapped_equals_looped_and_jit_equals_plain(case: Case) -> None:
    """One compiled batch against one eager call per instance, bit for bit."""
    env = case.make()
    params = case.params(env)
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
        level = env.make_level(params, ids[i])
        alone = env.step(params, level, take(states), actions[i], take(noise))
        assert same(alone, take(together))


def params_can_be_stacked(case: Case) -> None:
    """A sweep over params is a vmap: each member equals the world run with its own numbers."""
    env = case.make()
    members = [env.default_params, case.params(env)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    noise = env.draw(jax.random.key(2), ())

    def facts(params: Any) -> Any:
        level = env.make_level(params, i32(0))
        state = case.reset(env, params, level)
        every = jax.vmap(lambda a: env.step(params, level, state, a, noise).reward)
        known: list[Any] = [every(jnp.arange(env.action_space.n))]
        if hasattr(env, "tabular"):
            mdp = env.tabular(params, level)
            known.append(mdp.reward if mdp.P is None else (mdp.reward, mdp.P))
        known += [
            getattr(env, name)(params, level)
            for name in ("optimal_value", "pass_rate")
            if hasattr(env, name)
        ]
        return known

    together = jax.jit(jax.vmap(facts))(stacked)
    separate = [jax.jit(facts)(p) for p in members]
    for i, alone in enumerate(separate):
        for x, y in zip(leaves(alone), leaves(together), strict=True):
            np.testing.assert_allclose(x, y[i], rtol=1e-6, atol=1e-7)
    a, b = (leaves(x) for x in separate)
    acts = any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert acts != case.inert, "whether the params of this case change anything"


def draws_are_prefix_stable(case: Case) -> None:
    """Noise is addressed by instance: a larger batch begins with the smaller one."""
    env, key = case.make(), jax.random.key(5)
    for draw in (env.draw, env.draw_reset):
        few, many = draw(key, (8,)), draw(key, (16,))
        assert same(few, jax.tree.map(lambda x: x[:8], many))
    for draw, outcomes in ((env.draw, case.noise), (env.draw_reset, case.starts)):
        assert bool(jax.tree.leaves(draw(key, (8,)))) == (outcomes is not None)
        for leaf in jax.tree.leaves(draw(key, (8, 3))):
            assert leaf.shape[:2] == (8, 3)


def splits_are_disjoint_and_levels_differ(case: Case) -> None:
    """No prompt is in both splits, and no two prompts are the same but for their number."""
    env = case.make()
    train, test = env.level_ids("train"), env.level_ids("test")
    assert not set(train) & set(test)
    ids = ids_of(env)
    levels = jax.vmap(partial(env.make_level, env.default_params))(jnp.asarray(ids))
    nameless = leaves(replace(levels, id=jnp.zeros_like(levels.id)))
    rows = np.stack([np.concatenate([x[i].ravel() for x in nameless]) for i in range(len(ids))])
    assert len(np.unique(rows, axis=0)) == len(train) + len(test)
    refused = False
    try:
        env.level_ids("validation")
    except BadInput as error:
        refused = "split" in str(error)
    assert refused, "an unknown split must be refused"


def pass_rates_are_spread(case: Case) -> None:
    """Prescribed pass rates lie in their range, with even log-odds in any subset of prompts."""
    env = case.make()
    params = env.default_params
    levels = jax.vmap(partial(env.make_level, params))(jnp.asarray(ids_of(env)))
    rates = np.sort(jax.vmap(partial(env.pass_rate, params))(levels))
    low, high = float(params.hardest), float(params.easiest)
    assert rates[0] > low - 1e-6
    assert rates[-1] < high + 1e-6
    logit = np.log(rates / (1 - rates))
    width = logit.max() - logit.min()
    assert np.max(np.diff(logit)) < 0.6 * width, "no gap wider than the golden ratio leaves"
    middle = (np.log(low / (1 - low)) + np.log(high / (1 - high))) / 2
    assert abs(np.mean(logit) - middle) < 3.0 / len(rates)


def renders_as_text(case: Case) -> None:
    """The first state and the one after it print as different, bounded text."""
    env = case.make()
    params = case.params(env)
    level = env.make_level(params, i32(ids_of(env)[0]))
    text = env.render(params, level, case.reset(env, params, level))
    assert isinstance(text, str)
    assert text.strip()
    assert max(len(line) for line in text.splitlines()) <= 160


CHECKS: dict[str, Callable[[Case], None]] = {
    f.__name__: f
    for f in (
        protocol,
        table_equals_step,
        first_states_have_their_probabilities,
        observations_stay_in_their_space,
        state_is_packed_and_keeps_its_types,
        finished_episodes_stand_still,
        actions_outside_the_space_are_clamped,
        vmapped_equals_looped_and_jit_equals_plain,
        params_can_be_stacked,
        draws_are_prefix_stable,
        splits_are_disjoint_and_levels_differ,
        pass_rates_are_spread,
        renders_as_text,
    )
}
"""All checks by name."""

NEEDS = {
    "table_equals_step": "tabular",
    "first_states_have_their_probabilities": "tabular",
    "pass_rates_are_spread": "pass_rate",
}
"""The optional member a check is about."""
