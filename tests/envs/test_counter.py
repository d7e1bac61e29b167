"""The counter-hash generator: what a stream of bits must not show, and the rules of keys."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs.counter import counter_prng, mix, scramble
from scipy import stats

N = 1 << 20


def key(seed=0):
    return jax.random.key(seed, impl=counter_prng())


def bits(k, n=N):
    return np.asarray(jax.random.bits(k, (n,), jnp.uint32))


STREAMS = {
    "positions": lambda: bits(key()),
    "seeds": lambda: np.asarray(
        jax.vmap(lambda s: jax.random.bits(key(s), (), jnp.uint32))(jnp.arange(N))
    ),
    "folds": lambda: np.asarray(
        jax.vmap(lambda t: jax.random.bits(jax.random.fold_in(key(3), t), (), jnp.uint32))(
            jnp.arange(N)
        )
    ),
    "splits": lambda: np.asarray(
        jax.vmap(lambda k: jax.random.bits(k, (), jnp.uint32))(jax.random.split(key(4), N))
    ),
    "twice folded": lambda: np.asarray(
        jax.vmap(
            lambda t: jax.random.bits(
                jax.random.fold_in(jax.random.fold_in(key(), t // 1024), t % 1024), (), jnp.uint32
            )
        )(jnp.arange(N))
    ),
}


LONG = [pytest.param(n, marks=pytest.mark.slow) for n in STREAMS if n not in ("positions", "folds")]


@pytest.fixture(scope="module", params=["positions", "folds", *LONG], ids=str)
def stream(request):
    return STREAMS[request.param]()


def test_bytes_are_uniform_and_neighbors_independent(stream):
    """Chi-squared over bytes, over pairs of neighboring bytes, and between a word and the next."""
    for shift in (0, 8, 16, 24):
        counts = np.bincount((stream >> shift) & 255, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-5
    pair = ((stream[:-1] >> 28) << 4) | (stream[1:] >> 28)
    assert stats.chisquare(np.bincount(pair, minlength=256)).pvalue > 1e-5
    low = ((stream[:-1] & 15) << 4) | (stream[1:] & 15)
    assert stats.chisquare(np.bincount(low, minlength=256)).pvalue > 1e-5


def test_every_bit_is_fair_and_uncorrelated_with_the_others_and_the_next(stream):
    table = ((stream[:, None] >> np.arange(32)) & 1).astype(np.float32) * 2 - 1
    limit = 6 / np.sqrt(N)
    assert np.abs(table.mean(0)).max() < limit
    together = table.T @ table / N - np.eye(32)
    assert np.abs(together).max() < limit
    lagged = table[:-1].T @ table[1:] / N
    assert np.abs(lagged).max() < limit


@pytest.mark.parametrize("name", [n for n in STREAMS if n != "positions"])
def test_words_of_different_keys_repeat_as_often_as_chance(name):
    repeats = N - len(np.unique(STREAMS[name]()))
    expected = N * (N - 1) / 2 / 2**32
    assert abs(repeats - expected) < 6 * np.sqrt(expected)


def test_words_of_one_key_never_repeat():
    """A key permutes the positions: noticeable only in draws near 2^32 words."""
    assert len(np.unique(STREAMS["positions"]())) == N


def test_mixer_flips_half_of_the_bits():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, 1 << 15, dtype=np.uint32))
    for bit in range(32):
        changed = np.asarray(mix(x) ^ mix(x ^ jnp.uint32(1 << bit)))
        share = ((changed[:, None] >> np.arange(32)) & 1).mean(0)
        assert np.abs(share - 0.5).max() < 0.04


def test_keys_follow_the_rules_of_jax_keys():
    assert np.array_equal(bits(key(), 16), bits(key(), 8).tolist() + bits(key(), 16)[8:].tolist())
    assert not np.array_equal(bits(key(0), 8), bits(key(1), 8))
    assert bits(key(2), 4).tolist() == jax.jit(lambda: jax.random.bits(key(2), (4,)))().tolist()
    children = [jax.random.fold_in(key(), i) for i in range(4)] + list(jax.random.split(key(), 4))
    assert len({tuple(bits(k, 2)) for k in children}) == 8
    grid = np.asarray(jax.random.bits(key(), (4, 6), jnp.uint8))
    flat = np.asarray(jax.random.bits(key(), (24,), jnp.uint8))
    assert np.array_equal(grid.ravel(), flat)
    u = np.asarray(jax.random.uniform(key(9), (N,)))
    assert stats.kstest(u, "uniform").pvalue > 1e-5


def test_worlds_run_on_its_keys():
    env = je.make("gridworld/two_goals", slippery=True)
    noise = env.draw(key(5), (1000,))
    assert noise.dtype == jnp.float32
    assert abs(float(noise.mean()) - 0.5) < 0.05


@pytest.mark.parametrize("bits", [1, 2, 3, 6, 7, 12, 15, 16])
def test_scramble_permutes(bits: int) -> None:
    numbers = np.arange(1 << bits, dtype=np.uint32)
    image = np.asarray(jax.jit(lambda x: scramble(x, bits))(numbers))
    assert np.array_equal(np.sort(image), numbers)
    assert not np.array_equal(image, numbers)
