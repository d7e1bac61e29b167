"""Normalization against flax's, and its derivative against that of the written-out formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array

from jaxrl_lab.policies.normalization import normalize


def inputs(rows: int, width: int) -> tuple[Array, Array, Array]:
    """Rows with a mean far from 0, and a gain and bias that are not 1 and 0."""
    keys = jax.random.split(jax.random.key(rows), 3)
    shapes = (rows, width), (width,), (width,)
    x, scale, bias = map(jax.random.normal, keys, shapes)
    return 3.0 + 2.0 * x, 1.0 + 0.3 * scale, bias


def written_out(x: Array, scale: Array, bias: Array) -> Array:
    mean = jnp.mean(x, axis=1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-6) * scale[None] + bias[None]


@pytest.mark.parametrize(("rows", "width"), [(1, 2), (5, 64), (300, 7)])
def test_equals_flax(rows: int, width: int) -> None:
    x, scale, bias = inputs(rows, width)
    norm = nnx.LayerNorm(width, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = scale, bias
    with jax.numpy_rank_promotion("allow"):
        wanted = norm(x)
    np.testing.assert_allclose(normalize(x, scale, bias), wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("rows", "width"), [(1, 3), (5, 64), (300, 7)])
def test_derivatives_are_those_of_the_formula(rows: int, width: int) -> None:
    at = inputs(rows, width)
    weight = jax.random.normal(jax.random.key(9), (rows, width))

    def gradients(f):
        return jax.grad(lambda *at: jnp.sum(weight * f(*at) ** 2), argnums=(0, 1, 2))(*at)

    for got, wanted in zip(gradients(normalize), gradients(written_out), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-4 * float(jnp.abs(wanted).max()))


def test_many_sets_of_parameters_at_once() -> None:
    x, scale, bias = inputs(6, 8)
    scales, biases = jnp.stack([scale, 2 * scale]), jnp.stack([bias, bias - 1])
    together = jax.vmap(normalize, (None, 0, 0))(x, scales, biases)
    for i in range(2):
        np.testing.assert_allclose(together[i], normalize(x, scales[i], biases[i]), atol=1e-6)


def test_half_precision_has_its_statistics_in_float32() -> None:
    """The mean of 1 000 in bfloat16 would be off by up to 4."""
    x, scale, bias = inputs(20, 64)
    x = (1000.0 + 100.0 * x).astype(jnp.bfloat16)
    got, (dx, ds, db) = jax.value_and_grad(
        lambda *a: jnp.sum(normalize(*a).astype(jnp.float32)), argnums=(0, 1, 2)
    )(x, scale.astype(jnp.bfloat16), bias.astype(jnp.bfloat16))
    assert [y.dtype for y in (dx, ds, db)] == [jnp.bfloat16] * 3
    exact = written_out(x.astype(jnp.float32), scale, bias)
    half = normalize(x, scale.astype(jnp.bfloat16), bias.astype(jnp.bfloat16))
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.05)
    assert np.isfinite(float(got))
