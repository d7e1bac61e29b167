"""``reasoning/modular_chain`` against enumeration written independently in NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jaxrl_envs.reasoning.modular_chain import ModularChain, operator

AFFINE = [lambda x: x + 1, lambda x: x + 3, lambda x: 2 * x, lambda x: 3 * x]
AFFINE += [lambda x: x + 4, lambda x: 4 * x, lambda x: x + 5, lambda x: 5 * x]


def sequences(vocabulary: int, length: int) -> np.ndarray:
    """All V^L token sequences, in the order of their base-V code."""
    return np.stack(np.unravel_index(np.arange(vocabulary**length), (vocabulary,) * length), -1)


def residues(env: ModularChain, first: int, tokens: np.ndarray) -> np.ndarray:
    """Residue after each token, ``[..., L]``."""
    x, path = np.full(tokens.shape[:-1], first), []
    for t in range(tokens.shape[-1]):
        v = tokens[..., t]
        options = [x + k if env.operators == "add" else AFFINE[k](x) for k in range(env.vocabulary)]
        x = np.choose(v, options) % env.modulus
        path.append(x)
    return np.stack(path, -1)


def all_levels(env: ModularChain) -> Any:
    ids = jnp.arange(env.prompts + env.test_prompts)
    return jax.vmap(partial(env.make_level, env.default_params))(ids)


GOLDEN = {3: [9, 12, 8, 7, 8, 11, 9], 6: [583, 581, 574, 572, 588, 608, 590]}


@pytest.mark.parametrize("length", [3, 6])
def test_golden_counts(length: int) -> None:
    """Residues mod 7, operators +1 +3 ×2 ×3, x0 = 1: counts per target, computed elsewhere."""
    env = ModularChain(
        modulus=7, vocabulary=4, length=length, operators="affine", prompts=49 if length > 3 else 40
    )
    levels = all_levels(env)
    count = jax.vmap(lambda level: env.solutions(env.default_params, level).count)(levels)
    found = {
        int(y): float(c)
        for x, y, c in zip(levels.first, levels.target, count, strict=True)
        if x == 1
    }
    assert found
    assert all(GOLDEN[length][y] == c for y, c in found.items())
    if length > 3:
        assert len(found) == 7


def test_operators() -> None:
    assert [operator("add", v) for v in range(3)] == [(1, 0), (1, 1), (1, 2)]
    for v, expected in enumerate(AFFINE):
        mul, add = operator("affine", v)
        assert all(mul * x + add == expected(x) for x in range(20))


STRUCTURES = [
    {"modulus": 7, "vocabulary": 4, "length": 4, "operators": "affine", "prompts": 20},
    {"modulus": 5, "vocabulary": 5, "length": 3, "operators": "add", "prompts": 25},
    {"modulus": 6, "vocabulary": 8, "length": 2, "operators": "affine", "prompts": 12},
    {"modulus": 9, "vocabulary": 2, "length": 5, "operators": "add", "prompts": 54},
]


@pytest.mark.parametrize("static", STRUCTURES, ids=str)
def test_solutions_and_labels_against_enumeration(static: Any) -> None:
    env = ModularChain(**static)
    params, tokens = env.default_params, sequences(env.vocabulary, env.length)
    padded = jnp.asarray(np.pad(tokens, ((0, 0), (0, 2))), jnp.int32)
    for i in list(env.level_ids("train"))[:5]:
        level = env.make_level(params, jnp.int32(i))
        solutions = env.solutions(params, level)
        right = residues(env, int(level.first), tokens)[:, -1] == int(level.target)
        assert float(solutions.count) == right.sum() > 0
        label = jax.vmap(lambda a, n, f=solutions.label: f((), a, n), (0, None))
        codes = np.asarray(label(padded, jnp.int32(env.length)))
        assert np.array_equal(codes, np.where(right, np.arange(len(tokens)), -1))
        assert np.all(np.asarray(label(padded, jnp.int32(env.length - 1))) == -1)
        assert int(solutions.label((), padded[0, : env.length - 1], jnp.int32(1))) == -1


@pytest.mark.parametrize("static", STRUCTURES, ids=str)
def test_rollouts_of_all_sequences(static: Any) -> None:
    """Reward, endings, `correct` and `alive` of every trajectory of a few prompts."""
    env = ModularChain(**static)
    params, tokens = env.default_params, sequences(env.vocabulary, env.length)
    level = env.make_level(params, jnp.int32(3))

    def roll(actions: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            after = env.step(params, level, state, action, ())
            return after.state, after

        return jax.lax.scan(body, env.reset(params, level, ()), actions)[1]

    after = jax.jit(jax.vmap(roll))(jnp.asarray(tokens, jnp.int32))
    path = residues(env, int(level.first), tokens)
    right = path[:, -1] == int(level.target)
    last = np.arange(env.length) == env.length - 1
    assert np.array_equal(after.state.residue, path)
    assert np.array_equal(after.reward["true"], right[:, None] & last)
    assert np.array_equal(after.info["correct"], right[:, None] & last)
    assert np.array_equal(after.terminated, np.broadcast_to(last, path.shape))
    assert not np.any(after.truncated)
    # A prefix is alive iff one of the sequences that share it is right.
    shape = (env.vocabulary,) * env.length
    for t in range(env.length):
        some = right.reshape(shape).any(axis=tuple(range(t + 1, env.length)))
        possible = some.reshape(some.shape + (1,) * (env.length - t - 1))
        expected = np.broadcast_to(possible, shape).ravel()
        assert np.array_equal(np.asarray(after.info["alive"])[:, t], expected)


def test_some_prefixes_are_dead() -> None:
    """The structure of the test above in which `alive` says something before the end."""
    env = ModularChain(**STRUCTURES[3])
    params = env.default_params
    levels = all_levels(env)
    states = jax.vmap(partial(env.reset, params), (0, None))(levels, ())
    step = jax.vmap(partial(env.step, params), (0, 0, None, None))
    alive = np.stack([step(levels, states, jnp.int32(v), ()).info["alive"] for v in range(2)])
    assert np.all(alive.any(axis=0))
    assert not np.all(alive)


def test_tokens_show_the_history_and_hide_the_residue() -> None:
    env = ModularChain(observation="tokens", prompts=5)
    params = env.default_params
    level = env.make_level(params, jnp.int32(2))
    state = env.reset(params, level, ())
    fixed = [int(level.target), int(level.first)]
    assert env.observe(params, level, state).tolist() == [0, *fixed, 0]
    for t, token in enumerate([3, 0, 7, 5], start=1):
        state = env.step(params, level, state, jnp.int32(token), ()).state
        assert env.observe(params, level, state).tolist() == [t, *fixed, token + 1]
    over = env.step(params, level, state, jnp.int32(1), ()).state
    assert env.observe(params, level, over).tolist() == [4, *fixed, 6]


def test_memoryless_rule_solves_the_residue_form() -> None:
    """With all additions at hand, 'add what is missing' at the last token is always right."""
    env = ModularChain(observation="residue", prompts=64)
    params = env.default_params
    levels = all_levels(env)
    states = jax.vmap(partial(env.reset, params), (0, None))(levels, ())
    for _ in range(env.length):
        obs = jax.vmap(partial(env.observe, params))(levels, states)
        after = jax.vmap(partial(env.step, params), (0, 0, 0, None))(
            levels, states, (obs[:, 1] - obs[:, 2]) % 8, ()
        )
        states = after.state
    assert np.all(after.info["correct"])


@given(
    modulus=st.integers(2, 12),
    vocabulary=st.integers(2, 8),
    length=st.integers(1, 7),
    operators=st.sampled_from(["add", "affine"]),
    share=st.floats(0.0, 1.0),
)
@settings(max_examples=8, deadline=None)
def test_any_structure(modulus, vocabulary, length, operators, share) -> None:  # type: ignore[no-untyped-def]
    """Every prompt can be solved, and a uniform policy succeeds with probability count / V^L."""
    assume(vocabulary**length <= 40_000)
    static = {"modulus": modulus, "vocabulary": vocabulary, "length": length}
    static |= {"operators": operators, "prompts": 1}
    most = len(ModularChain(**static)._tables.pairs)
    prompts = 1 + int(share * (most - 1))
    env = ModularChain(**(static | {"prompts": prompts, "test_prompts": most - prompts}))
    with pytest.raises(je.BadInput, match="test_prompts"):
        ModularChain(**(static | {"prompts": prompts, "test_prompts": most - prompts + 1}))

    @jax.jit
    def facts() -> Any:
        params = env.default_params
        counts = jax.vmap(lambda level: env.solutions(params, level).count)(all_levels(env))
        level = env.make_level(params, jnp.int32(most - 1))
        return counts, level, env.tabular(params, level)

    count, level, mdp = facts()
    assert np.all(np.asarray(count) >= 1)
    path = residues(env, int(level.first), sequences(vocabulary, length))
    assert int(count[-1]) == np.sum(path[:, -1] == int(level.target))
    mass, won = np.asarray(mdp.start, float), 0.0
    for _ in range(mdp.horizon):
        won += mass @ np.asarray(mdp.reward).mean(axis=1)
        spread = np.zeros_like(mass)
        np.add.at(spread, np.asarray(mdp.next), mass[:, None] / vocabulary)
        mass = spread
    assert won == pytest.approx(float(count[-1]) / vocabulary**length, rel=1e-6)
    assert float(mass[np.asarray(mdp.terminal)].sum()) == pytest.approx(1.0)


def test_render() -> None:
    env = ModularChain(modulus=7, vocabulary=4, operators="affine", prompts=3)
    level = env.make_level(env.default_params, jnp.int32(1))
    text = env.render(env.default_params, level, env.reset(env.default_params, level, ()))
    first, target = int(level.first), int(level.target)
    expected = f"prompt 1  {first} → {target} (mod 7)  step 0/4  residue {first}"
    assert text == f"{expected}  tokens +1 +3 ×2 ×3"
