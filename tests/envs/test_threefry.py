"""Our draws are jax's own, bit for bit; the published test vector of the hash holds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import threefry
from jaxrl_envs.counter import counter_prng

OPTION = "jax_threefry_partitionable"
SHAPES = [(), (1,), (7,), (1000,), (3, 5), (2, 3, 4), (0,)]
DRAWS = {
    "bits": (threefry.bits, lambda k, s: jax.random.bits(k, s, jnp.uint32)),
    "uniform": (threefry.uniform, jax.random.uniform),
    "normal": (threefry.normal, jax.random.normal),
}
KEYS = {
    "default": lambda seed: jax.random.key(seed),
    "raw": lambda seed: jax.random.PRNGKey(seed),
    "counter": lambda seed: jax.random.key(seed, impl=counter_prng()),
    "rbg": lambda seed: jax.random.key(seed, impl="rbg"),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_draws_are_those_of_jax(name, kind, shape):
    ours, theirs = DRAWS[name]
    for seed in (0, 1, 2**32 - 1):
        key = KEYS[kind](seed)
        got, expected = ours(key, shape), theirs(key, shape)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", DRAWS)
def test_under_jit_and_vmap_too(name):
    ours, theirs = DRAWS[name]
    keys = jax.random.split(jax.random.key(3), 5)
    got = jax.jit(jax.vmap(lambda k: ours(jax.random.fold_in(k, 7), (9, 2))))(keys)
    expected = jax.vmap(lambda k: theirs(jax.random.fold_in(k, 7), (9, 2)))(keys)
    if name == "normal":  # the quantile function of a fused program may round differently
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("count", [1, 3, 50])
def test_keys_are_split_as_jax_splits_them(kind, count):
    key = KEYS[kind](7)
    for ours, theirs in (
        (threefry.split(key, count), jax.random.split(key, count)),
        (jax.jit(threefry.split, static_argnums=1)(key, count), jax.random.split(key, count)),
    ):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        got, expected = (np.asarray(jax.random.key_data(k)) for k in (ours, theirs))
        np.testing.assert_array_equal(got, expected)


def test_the_published_vectors():
    """Known answers of threefry2x32 with 20 rounds (Random123's ``kat_vectors``)."""
    vectors = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]
    for key, counter, expected in vectors:
        words = [jnp.uint32(w) for w in (*key, *counter)]
        assert tuple(int(w) for w in threefry.hash_words(*words)) == expected


@pytest.mark.skipif(not hasattr(jax.config, OPTION), reason="this jax has one layout")
def test_a_jax_with_the_old_layout_is_left_alone():
    old = getattr(jax.config, OPTION)
    try:
        jax.config.update(OPTION, False)
        key = jax.random.key(5)
        got, expected = threefry.bits(key, (6,)), jax.random.bits(key, (6,), jnp.uint32)
        np.testing.assert_array_equal(got, expected)
    finally:
        jax.config.update(OPTION, old)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("data", [0, 1, 2**31 - 1, 2**32 - 1])
def test_numbers_are_folded_in_as_jax_folds_them(kind, data):
    key = KEYS[kind](7)
    ours, theirs = threefry.fold_in(key, data), jax.random.fold_in(key, data)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(
        jax.random.key_data(ours) if ours.ndim == 0 else ours,
        jax.random.key_data(theirs) if theirs.ndim == 0 else theirs,
    )


def test_traced_numbers_are_folded_in_under_vmap():
    keys = jax.random.split(jax.random.key(3), 5)
    numbers = jnp.arange(-2, 3, dtype=jnp.int32)
    got = jax.jit(jax.vmap(threefry.fold_in))(keys, numbers)
    expected = jax.vmap(jax.random.fold_in)(keys, numbers)
    np.testing.assert_array_equal(jax.random.key_data(got), jax.random.key_data(expected))


@pytest.mark.parametrize("draw", [threefry.uniform, threefry.normal, threefry.bits])
def test_a_draw_apart_has_the_same_bits_and_its_own_computation(draw):
    def several(key):
        x = threefry.once(draw, key, (7,))
        return [x, x * 2, jnp.sum(x)]

    key = jax.random.key(3)
    compiled = jax.jit(several).lower(key).compile()
    np.testing.assert_array_equal(compiled(key)[0], draw(key, (7,)))
    np.testing.assert_array_equal(threefry.once(draw, key, (7,)), draw(key, (7,)))
    if jax.default_backend() == "cpu":  # inlined, each of its readers would repeat it
        assert " call(" in compiled.as_text()
    keys = jax.random.split(key, 3)
    together = jax.vmap(lambda k: threefry.once(draw, k, (7,)))(keys)
    np.testing.assert_array_equal(together[2], draw(keys[2], (7,)))
