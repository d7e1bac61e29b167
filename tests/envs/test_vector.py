"""Streams that restart by themselves: every strategy against a loop written out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs import vector
from jaxrl_envs.counter import counter_prng


@dataclass(frozen=True)
class Countdown:
    """A probe: starts at a drawn number, counts down, terminates at 0; action 1 cuts it.

    What ends when is known beforehand, and the reset is random: both matter here and nowhere
    else. The first state names its level and its draw.
    """

    prompts: int = 3
    horizon = 10
    truncates = True
    default_params = ()
    observation_space = je.Discrete(100)
    action_space = je.Discrete(2)

    def level_ids(self, split: str) -> range:
        return range(self.prompts) if split == "train" else range(7, 7)

    def make_level(self, params: Any, level_id: Any) -> Any:
        return level_id

    def draw_reset(self, key: Any, shape: Any) -> Any:
        return jax.random.randint(key, shape, 1, 5, jnp.int32)

    def draw(self, key: Any, shape: Any) -> Any:
        return jax.random.uniform(key, shape)

    def reset(self, params: Any, level: Any, noise: Any) -> Any:
        return {"left": noise.astype(jnp.uint8), "pair": jnp.stack([level, noise])}

    def step(self, params: Any, level: Any, state: Any, action: Any, noise: Any) -> je.Transition:
        left = jnp.where(state["left"] > 0, state["left"] - 1, state["left"])
        return je.Transition(
            state={"left": left, "pair": state["pair"]},
            reward={"true": noise},
            terminated=left == 0,
            truncated=action == 1,
            info={"level": level},
        )

    def observe(self, params: Any, level: Any, state: Any) -> Any:
        return state["left"].astype(jnp.int32)

    def render(self, params: Any, level: Any, state: Any) -> str:
        return str(state)


N, T = 12, 40
KEY = jax.random.key(7)
PROBE = Countdown()


def roll(env: Any, split: str = "train", n: int = N, steps: int = T, **how: Any) -> Any:
    """``steps`` steps under random actions: streams before each step, and transitions."""
    params = env.default_params
    make_level = jax.vmap(partial(env.make_level, params))

    def body(stream: Any, t: Any) -> Any:
        now = jax.random.fold_in(KEY, t)
        action = jax.random.randint(jax.random.fold_in(now, 9), (n,), 0, env.action_space.n)
        nxt, after = je.stream_step(env, params, make_level, split, stream, action, now, **how)
        return nxt, (stream, after)

    first = je.stream_reset(env, params, make_level, split, KEY, n)
    return jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(steps)))(first)[1]


def test_every_step_against_a_loop() -> None:
    streams, after = jax.tree.map(np.asarray, roll(PROBE))
    assert np.all(streams.started[0])
    for t in range(T - 1):
        now = jax.random.fold_in(KEY, t)
        noise = PROBE.draw(vector.step_keys(now)[vector.STEP], (N,))
        ids = vector.uniform_ints(vector.step_keys(now)[vector.LEVEL], N, 3)
        starts = PROBE.draw_reset(vector.step_keys(now)[vector.RESET], (N,))
        assert np.array_equal(after.reward["true"][t], noise)
        ended = after.terminated[t] | after.truncated[t]
        assert np.array_equal(streams.started[t + 1], ended)
        for i in range(N):
            nxt = (int(streams.level_id[t + 1, i]), streams.state["pair"][t + 1, i].tolist())
            if ended[i]:
                assert nxt == (int(ids[i]), [int(ids[i]), int(starts[i])])
                assert int(streams.state["left"][t + 1, i]) == int(starts[i])
            else:
                assert nxt == (int(streams.level_id[t, i]), streams.state["pair"][t, i].tolist())
                assert streams.state["left"][t + 1, i] == after.state["left"][t, i]


def test_the_final_state_is_returned_before_the_reset() -> None:
    streams, after = jax.tree.map(np.asarray, roll(PROBE))
    ended = after.terminated | after.truncated
    assert np.array_equal(after.terminated, after.state["left"] == 0)
    assert np.array_equal(after.state["left"], streams.state["left"] - 1)
    assert np.array_equal(after.state["pair"], streams.state["pair"])
    assert np.array_equal(after.info["level"], streams.level_id)
    kinds = [after.terminated & ~after.truncated, after.truncated & ~after.terminated]
    kinds += [after.terminated & after.truncated]
    assert all(kind.any() for kind in kinds), "each way to end occurs, both at once included"
    assert np.all(streams.state["left"] > 0), "a stream never shows a finished episode"
    assert 0.2 < ended.mean() < 0.9


@pytest.mark.parametrize("pool", [1, 2, 5, N])
def test_pooled_hands_out_entries_in_order(pool: int) -> None:
    streams, after = jax.tree.map(np.asarray, roll(PROBE, strategy="pooled", pool=pool))
    recycled = 0
    for t in range(T - 1):
        now = jax.random.fold_in(KEY, t)
        ids = vector.uniform_ints(vector.step_keys(now)[vector.LEVEL], pool, 3)
        starts = PROBE.draw_reset(vector.step_keys(now)[vector.RESET], (pool,))
        (ended,) = np.nonzero(after.terminated[t] | after.truncated[t])
        for rank, i in enumerate(ended):
            entry = [int(ids[rank % pool]), int(starts[rank % pool])]
            assert streams.state["pair"][t + 1, i].tolist() == entry
            assert streams.level_id[t + 1, i] == entry[0]
        recycled += max(len(ended) - pool, 0)
        going = np.setdiff1d(np.arange(N), ended)
        assert np.array_equal(streams.state["left"][t + 1, going], after.state["left"][t, going])
    assert (recycled > 0) == (pool < N)


def test_pooled_equals_every_step_where_resets_are_deterministic() -> None:
    env = je.make("gridworld/two_goals", size=3)
    every = roll(env, n=64)
    most = int(np.max(np.sum(np.asarray(every[1].terminated | every[1].truncated), axis=1)))
    assert 1 < most < 64
    pooled = roll(env, n=64, strategy="pooled", pool=most)
    jax.tree.map(np.testing.assert_array_equal, every, pooled)


def test_never_leaves_ended_episodes_alone() -> None:
    env = je.make("gridworld/two_goals", size=3, levels=4)
    streams, after = jax.tree.map(np.asarray, roll(env, strategy="never"))
    assert np.all(streams.level_id == streams.level_id[0])
    assert not np.any(streams.started[1:])
    assert np.array_equal(after.terminated, np.maximum.accumulate(after.terminated, axis=0))
    assert np.all(after.reward["true"].sum(axis=0) == after.terminated[-1])
    assert after.terminated[-1].any()


def test_prompts_are_uniform_over_the_split() -> None:
    env = je.make("gridworld/two_goals", levels=3, test_levels=5)
    for split, ids in (("train", range(3)), ("test", range(3, 8))):
        streams, _ = roll(env, split, n=5000, steps=20)
        seen = np.asarray(streams.level_id)[np.asarray(streams.started)]
        share = np.array([np.mean(seen == i) for i in ids])
        assert share.sum() == 1.0
        sd = np.sqrt(1 / len(ids) / len(seen))
        assert np.all(np.abs(share - 1 / len(ids)) < 5 * sd)


def test_one_batched_draw_each() -> None:
    """The work for randomness does not grow with N: no key is split per environment."""
    env = je.make("gridworld/two_goals", slippery=True, levels=4)
    params = env.default_params
    make_level = jax.vmap(partial(env.make_level, params))

    def shapes(n: int) -> tuple[list[Any], list[Any], list[Any]]:
        stream = je.stream_reset(env, params, make_level, "train", KEY, n)
        step = partial(je.stream_step, env, params, make_level, "train")
        names = ("random_fold_in", "random_split", "random_bits", "iota")
        found: dict[str, list[Any]] = {name: [] for name in names}
        program = jax.make_jaxpr(step)(stream, jnp.zeros(n, jnp.int32), KEY)
        for eqn in walk_jaxpr(program.jaxpr):
            found.get(eqn.primitive.name, []).append(eqn.outvars[0].aval.shape)
        keys = found["random_fold_in"] + found["random_split"]
        return keys, found["random_bits"], found["iota"]

    for n in (5, 300):
        keys, hashes, positions = shapes(n)
        assert keys == [], "but for one split into three"
        assert hashes == [(n,)], "of the prompts"
        assert sorted(positions) == [(3,), (n,)], "of the keys, and of the uniform of the step"


def test_the_upper_half_of_a_product_is_exact() -> None:
    """Scaling a word to ``count`` without 64-bit integers, against Python's own."""
    for count in (2, 3, 1000, 65535, 65536, 65537, 1 << 20, (1 << 31) - 1):
        seed = jax.random.wrap_key_data(jax.random.key_data(KEY)[:2], impl=counter_prng())
        words = np.asarray(jax.random.bits(seed, (500,), jnp.uint32))
        expected = [int(w) * count >> 32 for w in words]
        assert np.asarray(vector.uniform_ints(KEY, 500, count)).tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 1 << 16, 1 << 20])
def test_drawn_numbers_are_uniform_below_the_count(count: int) -> None:
    n = 1 << 18
    drawn = np.asarray(vector.uniform_ints(KEY, n, count))
    assert drawn.min() >= 0
    assert drawn.max() < count
    boxes = min(count, 64)
    expected = np.bincount(np.arange(count) * boxes // count) * n / count
    seen = np.bincount(drawn.astype(np.int64) * boxes // count, minlength=boxes)
    assert np.sum((seen - expected) ** 2 / expected) < boxes + 6 * np.sqrt(2 * boxes)


def walk_jaxpr(jaxpr: Any) -> Any:
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from walk_jaxpr(inner)


def test_a_widened_state_is_an_error() -> None:
    class Widening(Countdown):
        def step(self, *args: Any) -> je.Transition:
            after = super().step(*args)
            wide = after.state | {"left": after.state["left"].astype(jnp.int32)}
            return je.Transition(wide, after.reward, after.terminated, after.truncated)

    with pytest.raises(TypeError, match="reset gives uint8 where step gives int32"):
        roll(Widening(), steps=1)


@pytest.mark.parametrize(
    ("key", "how"),
    [
        ("strategy", {"strategy": "pool"}),
        ("pool", {"strategy": "pooled"}),
        ("pool", {"strategy": "pooled", "pool": N + 1}),
        ("split", {"split": "test"}),
        ("n", {"n": 0}),
    ],
)
def test_bad_requests_are_refused(key: str, how: dict[str, Any]) -> None:
    with pytest.raises(je.BadInput) as caught:
        roll(PROBE, **how)
    assert caught.value.key == key
    if key == "strategy":
        assert caught.value.nearest == "pooled"
