"""What every world promises, checked over one list of configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs.gridworlds import two_goals
from jaxrl_envs.reasoning import modular_chain

u8, u16, i32, f32 = jnp.uint8, jnp.uint16, jnp.int32, jnp.float32


def grid_states(env: Any, level: Any) -> Any:
    cells = jnp.arange(env.size**2, dtype=u8)
    clock = env.reset(env.default_params, level, ()).clock
    return two_goals.State(cells, jnp.zeros(env.size**2, clock.dtype))


def chain_states(env: Any, level: Any) -> Any:
    clock, residue = np.divmod(np.arange((env.length + 1) * env.modulus), env.modulus)
    last = jnp.zeros(clock.size, u8) if env.observation == "tokens" else None
    return modular_chain.State(jnp.asarray(residue, u8), jnp.asarray(clock, u8), last)


@dataclass(frozen=True)
class World:
    """One row of the table; a new world gets every test below by being added to it."""

    id: str
    static: dict[str, Any] = field(default_factory=dict)
    state: tuple[Any, ...] = ()  # dtypes of the packed state
    # All tabular states of a level, and the number of a state.
    states: Callable[[Any, Any], Any] = lambda env, level: ()
    number: Callable[[Any, Any], Any] = lambda env, state: jnp.int32(1)
    other: dict[str, float] = field(default_factory=dict)  # params that differ from the default

    def make(self) -> Any:
        return je.make(self.id, **self.static)

    def params(self, env: Any) -> Any:
        return replace(env.default_params, **{k: f32(v) for k, v in self.other.items()})

    def __str__(self) -> str:
        return ",".join([self.id, *(f"{k}={v}" for k, v in self.static.items())])


grid = partial(
    World,
    "gridworld/two_goals",
    states=grid_states,
    number=lambda env, state: env.state_index(None, None, state),
)
chain = partial(
    World,
    "reasoning/modular_chain",
    states=chain_states,
    number=lambda env, state: env.state_index(None, None, state),
    other={"hardest": 0.1},
)
WORLDS = [
    World("bandit/modes", {"prompts": 6, "test_prompts": 2}, other={"decoy_reward": 0.5}),
    World(
        "bandit/modes",
        {"prompts": 5, "arms": 9, "modes": 2, "decoys": 3, "observation": "features"},
        other={"decoy_reward": 0.5},
    ),
    grid({"levels": 5, "test_levels": 3}, (u8, u8), other={"second_reward": 0.5}),
    grid({"size": 3, "levels": 8, "horizon": 2}, (u8, u8), other={"step_cost": 0.25}),
    grid(
        {"size": 3, "slippery": True, "levels": 3, "observation": "coordinates"},
        (u8, u8),
        other={"slip": 0.5, "step_cost": 0.125},
    ),
    grid({"size": 15, "horizon": 300, "levels": 9}, (u8, u16), other={"second_reward": 2.0}),
    chain({}, (u8, u8)),
    chain(
        {"modulus": 7, "vocabulary": 4, "length": 3, "operators": "affine", "prompts": 30}
        | {"test_prompts": 10, "observation": "residue"},
        (u8, u8),
    ),
    chain(
        {"modulus": 5, "vocabulary": 6, "operators": "affine", "prompts": 8}
        | {"observation": "tokens"},
        (u8, u8, u8),
    ),
]
every_world = pytest.mark.parametrize("world", WORLDS, ids=str)


def ids_of(env: Any) -> np.ndarray:
    return np.array([*env.level_ids("train"), *env.level_ids("test")], np.int32)


def bank(env: Any, params: Any) -> Callable[[Any], Any]:
    """All levels, built once and looked up by id."""
    levels = jax.vmap(partial(env.make_level, params))(jnp.asarray(ids_of(env)))
    return lambda ids: jax.tree.map(lambda x: x[ids], levels)


def noisy(env: Any) -> bool:
    return bool(jax.tree.leaves(env.draw(jax.random.key(0), (1,))))


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def same(a: Any, b: Any) -> bool:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(
        x.dtype == y.dtype and np.array_equal(x, y)
        for x, y in zip(leaves(a), leaves(b), strict=True)
    )


def test_every_registered_world_is_in_the_table() -> None:
    assert {w.id for w in WORLDS} == set(je.registered())


@every_world
def test_protocol_and_hash(world: World) -> None:
    env = world.make()
    assert isinstance(env, je.Environment)
    assert world.make() == env
    assert hash(world.make()) == hash(env)
    assert env.horizon >= 1


@every_world
def test_table_equals_step(world: World) -> None:
    """P, reward, terminal, row and start of `tabular` against every state, action and noise."""
    env = world.make()
    params = world.params(env)
    # Midpoints of 16 equal parts meet the slip probability 1/2 and its half exactly.
    grid_noise = (jnp.arange(16, dtype=f32) + 0.5) / 16 if noisy(env) else None

    @jax.jit
    def build(level_id: Any) -> Any:
        level = env.make_level(params, level_id)
        return level, env.tabular(params, level)

    for level_id in ids_of(env)[:4]:
        level, mdp = build(jnp.int32(level_id))
        states, actions = world.states(env, level), jnp.arange(env.action_space.n)

        def outcome(state: Any, action: Any, noise: Any, level: Any = level) -> Any:
            after = env.step(params, level, state, action, noise)
            return world.number(env, after.state), after.reward["true"], after.terminated

        over_noise = lambda s, a: jax.vmap(partial(outcome, s, a))(grid_noise)  # noqa: E731
        once = lambda s, a: jax.tree.map(lambda x: x[None], outcome(s, a, ()))  # noqa: E731
        pair = once if grid_noise is None else over_noise
        table = jax.vmap(pair, (None, 0))
        if states == ():
            after, reward, ended = jax.tree.map(lambda x: x[None], table((), actions))
            observed = env.observe(params, level, ())[None]
        else:
            after, reward, ended = jax.jit(jax.vmap(table, (0, None)))(states, actions)
            observed = jax.vmap(partial(env.observe, params, level))(states)
        S = after.shape[0]
        P = np.mean(np.asarray(after)[..., None] == np.arange(mdp.num_states), axis=2)
        expected = np.eye(mdp.num_states)[mdp.next] if mdp.P is None else np.asarray(mdp.P)
        np.testing.assert_allclose(P, expected[:S], atol=1e-6)
        np.testing.assert_allclose(np.mean(reward, axis=2), mdp.reward[:S], atol=1e-6)
        terminal = np.asarray(mdp.terminal)
        running = ~terminal[:S]
        index = partial(env.state_index, params, level)
        numbers = jax.vmap(index, axis_size=S)(states)
        assert np.array_equal(np.asarray(numbers)[running], np.arange(S)[running])
        assert np.array_equal(np.asarray(ended)[running], terminal[np.asarray(after)[running]])
        assert np.all(np.asarray(reward)[~running] == 0.0)
        if isinstance(env.observation_space, je.Discrete):
            assert np.array_equal(np.asarray(mdp.row)[:S], np.asarray(observed))
        first = env.reset(params, level, env.draw_reset(jax.random.key(0), ()))
        here = 0 if first == () else int(world.number(env, first))
        assert np.array_equal(np.asarray(mdp.start), np.eye(mdp.num_states)[here])
        assert mdp.horizon == env.horizon


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
    state = env.reset(params, level, ())
    assert tuple(x.dtype for x in jax.tree.leaves(state)) == tuple(map(jnp.dtype, world.state))
    assert sum(x.nbytes for x in jax.tree.leaves(state)) <= 4
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
        state = env.reset(params, level, ())
        key = jax.random.key(int(level_id))
        ended = False
        for t in range(min(4 * env.horizon, 60)):
            action = jax.random.randint(jax.random.fold_in(key, t), (), 0, env.action_space.n)
            after = env.step(params, level, state, action, env.draw(key, ()))
            if ended and state != ():
                assert bool(after.terminated)
                assert float(after.reward["true"]) == 0.0
                assert int(world.number(env, after.state)) == int(world.number(env, state))
            ended, state = ended or bool(after.terminated), after.state


@every_world
def test_actions_outside_the_space_are_clamped(world: World) -> None:
    env = world.make()
    params = world.params(env)
    level = env.make_level(params, jnp.int32(0))
    state, noise = env.reset(params, level, ()), env.draw(jax.random.key(0), ())
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
    states = jax.vmap(env.reset, (None, 0, 0), axis_size=n)(params, levels, ())
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
    noise = jnp.float32(0.1) if noisy(env) else ()

    def facts(params: Any) -> Any:
        level = env.make_level(params, jnp.int32(0))
        state = env.reset(params, level, ())
        every = jax.vmap(lambda a: env.step(params, level, state, a, noise).reward["true"])
        mdp = env.tabular(params, level)
        table = mdp.reward if mdp.P is None else (mdp.reward, mdp.P)
        rate = env.pass_rate(params, level) if hasattr(env, "pass_rate") else ()
        return every(jnp.arange(env.action_space.n)), table, env.optimal_value(params, level), rate

    together = jax.jit(jax.vmap(facts))(stacked)
    separate = [jax.jit(facts)(p) for p in members]
    for i, alone in enumerate(separate):
        for x, y in zip(leaves(alone), leaves(together), strict=True):
            np.testing.assert_allclose(x, y[i], rtol=1e-6, atol=1e-7)
    a, b = (leaves(x) for x in separate)
    acts = any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    no_decoys = world.id == "bandit/modes" and "decoys" not in world.static
    assert acts or no_decoys, "the params of this row change nothing"


@every_world
def test_draws_are_prefix_stable(world: World) -> None:
    env, key = world.make(), jax.random.key(5)
    for draw in (env.draw, env.draw_reset):
        few, many = draw(key, (8,)), draw(key, (16,))
        assert same(few, jax.tree.map(lambda x: x[:8], many))
    if getattr(env, "slippery", False):
        assert env.draw(key, (8, 3)).shape == (8, 3)
    else:
        assert env.draw(key, (8,)) == ()


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
