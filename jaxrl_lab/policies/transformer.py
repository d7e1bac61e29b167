"""A causal transformer over the observations of the current episode, with a KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp
from flax import nnx
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.policies.encoder import Encoder, Heads, Network, check_size, linear
from jaxrl_lab.policies.normalization import normalize
from jaxrl_lab.types import PolicyOutput, Tree

BASE = 10_000.0
"""Longest wavelength of the rotations, in units of 2π steps."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """What the last ``C`` observations of an episode left behind: a ring, one slot per residue.

    The observation with number p of its episode lies in slot p mod C, so ``index`` alone says
    which slots are filled and with what: slot s holds the largest p < index with p ≡ s (mod C),
    and nothing if that p is negative.

    Attributes:
        index: number, within its episode, of the observation to come ``[...]``.
        keys: already rotated, one array per layer ``[..., heads, C, width / heads]``.
        values: the same shape.
    """

    index: Int[Array, "..."]
    keys: tuple[Float[Array, "... H C d"], ...]
    values: tuple[Float[Array, "... H C d"], ...]


Turn = tuple[Float[Array, "... 1 T d/2"], Float[Array, "... 1 T d/2"]]


def turns(position: Int[Array, "... T"], size: int, dtype: jnp.dtype) -> Turn:
    """Cosine and sine of position · BASE^(-2i/d), the angle of pair i (arXiv:2104.09864)."""
    half = size // 2
    rate = BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.multiply.outer(position.astype(jnp.float32), rate)[..., None, :, :]
    return jnp.cos(angle).astype(dtype), jnp.sin(angle).astype(dtype)


def rotate(x: Float[Array, "... H T d"], turn: Turn) -> Float[Array, "... H T d"]:
    """Every pair of every vector, halves apart, turned by its angle.

    Scores of rotated queries and keys depend on the difference of their positions only.
    """
    (cos, sin), half = turn, x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def timeline(
    resets: Bool[Array, "... T"], index: Int[Array, "..."], context: int
) -> tuple[Int[Array, "... T"], Bool[Array, "... T C+T"]]:
    """Number of each observation within its episode, and what each may attend to.

    An observation sees itself and the ``context - 1`` before it, in its own episode only. The
    first ``C`` columns are the slots of the cache, the others the sequence itself.
    """
    now = jax.lax.broadcasted_iota(jnp.int32, resets.shape, resets.ndim - 1)
    # The time of the last reset names the episode; -1 is the one that the cache remembers.
    episode = jax.lax.cummax(jnp.where(resets, now, -1), axis=resets.ndim - 1)
    position = jnp.where(episode >= 0, now - episode, now + index[..., None])
    slot = jax.lax.broadcasted_iota(jnp.int32, (*index.shape, context), index.ndim)
    newest = index[..., None] - 1
    held = newest - (newest - slot) % context
    key_position = jnp.concatenate([held, position], axis=-1)
    key_episode = jnp.concatenate([jnp.where(held >= 0, -1, -2), episode], axis=-1)
    lag = position[..., :, None] - key_position[..., None, :]
    same = episode[..., :, None] == key_episode[..., None, :]
    return position, same & (lag >= 0) & (lag < context)


def attend(
    query: Float[Array, "... H T d"],
    keys: tuple[Array, ...],
    values: tuple[Array, ...],
    visible: Bool[Array, "... T S"],
) -> Float[Array, "... H T d"]:
    """softmax(Q Kᵀ / √d) V over keys in two pieces, which joined would copy the cache."""
    scores = [jnp.einsum("...td,...sd->...ts", query, k) for k in keys]
    joined = jnp.concatenate(scores, axis=-1).astype(jnp.float32) / sqrt(query.shape[-1])
    weights = jax.nn.softmax(jnp.where(visible[..., None, :, :], joined, -jnp.inf), axis=-1)
    pieces = jnp.split(weights.astype(query.dtype), [scores[0].shape[-1]], axis=-1)
    old, new = (jnp.einsum("...ts,...sd->...td", w, v) for w, v in zip(pieces, values, strict=True))
    return old + new


def _normalized(norm: nnx.LayerNorm, x: Float[Array, "R D"]) -> Float[Array, "R D"]:
    assert norm.scale is not None
    assert norm.bias is not None
    return normalize(x, norm.scale[...], norm.bias[...])


class _Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, spec: Transformer, rngs: nnx.Rngs) -> None:
        width, self.heads = spec.width, spec.heads
        # 2 · layers additions to the residual stream keep its variance near that of the input.
        gain = nnx.initializers.variance_scaling(1 / (2 * spec.layers), "fan_in", "normal")
        self.before = nnx.LayerNorm(width, rngs=rngs)
        self.project = linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.mix = linear(width, width, kernel_init=gain, rngs=rngs)
        self.between = nnx.LayerNorm(width, rngs=rngs)
        self.widen = linear(width, 4 * width, rngs=rngs)
        self.narrow = linear(4 * width, width, kernel_init=gain, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "R D"],
        old: tuple[Array, ...],
        turn: Turn,
        visible: Bool[Array, "... T S"],
    ) -> tuple[Array, Array, Array]:
        split = (*visible.shape[:-1], self.heads, -1)
        query, key, value = (
            jnp.swapaxes(part.reshape(split), -3, -2)
            for part in jnp.split(self.project(_normalized(self.before, x)), 3, axis=-1)
        )
        query, key = rotate(query, turn), rotate(key, turn)
        read = attend(query, (old[0], key), (old[1], value), visible)
        x = x + self.mix(jnp.swapaxes(read, -3, -2).reshape(x.shape))
        x = x + self.narrow(jax.nn.gelu(self.widen(_normalized(self.between, x))))
        return x, key, value


class _Module(nnx.Module):
    def __init__(self, spec: Transformer, rngs: nnx.Rngs) -> None:
        self.context, self.remat = spec.context, spec.remat
        self.encoder = Encoder(spec.space, spec.width, rngs=rngs)
        self.layers = nnx.List([_Block(spec, rngs) for _ in range(spec.layers)])
        self.last = nnx.LayerNorm(spec.width, rngs=rngs)
        self.heads = Heads(spec.width, spec.actions, spec.value, spec.features, rngs=rngs)

    def __call__(
        self, obs: Array, resets: Bool[Array, "... T"], cache: Cache
    ) -> tuple[PolicyOutput, Int[Array, "... T"], list[Array], list[Array]]:
        """The output, and for the cache: positions, and each layer's keys and values."""
        position, visible = timeline(resets, cache.index, self.context)
        seen, keys, values = self.encoder(obs), [], []
        turn = turns(position, cache.keys[0].shape[-1], seen.dtype)
        x = seen.reshape(-1, seen.shape[-1])  # rows: XLA's kernels for many axes are slower
        for layer, *old in zip(self.layers, cache.keys, cache.values, strict=True):
            run = nnx.remat(_Block.__call__) if self.remat else _Block.__call__
            x, key, value = run(layer, x, tuple(old), turn, visible)
            keys.append(key)
            values.append(value)
        return self.heads(_normalized(self.last, x).reshape(seen.shape)), position, keys, values


def _write(
    ring: Float[Array, "... H C d"], slot: Int[Array, "..."], new: Float[Array, "... H 1 d"]
) -> Float[Array, "... H C d"]:
    here = jax.nn.one_hot(slot, ring.shape[-2], dtype=jnp.bool_)[..., None, :, None]
    return jnp.where(here, new, ring)


@dataclass(frozen=True)
class Transformer(Network):
    """x ← x + attention(norm(x)); x ← x + W_2 gelu(W_1 norm(x)); logits = W norm(x) + b.

    Each observation of an episode is one token. Attention is causal and local: it reaches the
    current observation and the ``context - 1`` before it, never across a reset. With several
    layers the *receptive field* is longer, ``layers · (context - 1) + 1``. Positions are rotary
    and therefore relative. ``step`` costs O(context); ``unroll`` is parallel over time and costs
    O(T · (context + T)). ``features`` are the normalized last hidden vectors ``[..., width]``.

    Attributes:
        space: observation space.
        actions: K.
        layers: number of blocks.
        width: size of the residual stream.
        heads: number of attention heads.
        context: how many observations attention reaches, the current one included.
        value: whether there is a value head; it reads the same hidden vectors.
        features: whether the output carries the last hidden vectors.
        remat: compute every block again on the way back instead of keeping what it computed:
            less memory for a third more time.

    Raises:
        BadInput: a size below 1, a width that the heads do not divide, or an odd head size
            (rotations act on pairs).

    Reference: Vaswani et al. 2017, arXiv:1706.03762; normalization first: arXiv:2002.04745;
    rotary positions: arXiv:2104.09864.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    context: int = 32
    value: bool = False
    features: bool = False
    remat: bool = False

    memoryless = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "width", "heads", "context"):
            check_size(name, getattr(self, name))
        fits = self.width % (2 * self.heads) == 0
        expected = f"a multiple of 2 · heads = {2 * self.heads} (rotations act on pairs)"
        expect(fits, "width", self.width, expected)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        return _Module(self, rngs)

    def start(self, batch_shape: tuple[int, ...]) -> Cache:
        shape = (*batch_shape, self.heads, self.context, self.width // self.heads)
        keys, values = (
            tuple(jnp.zeros(shape, self.dtype) for _ in range(self.layers)) for _ in range(2)
        )
        return Cache(jnp.zeros(batch_shape, jnp.int32), keys, values)

    def step(
        self, params: Tree, carry: Cache, obs: Array, reset: Bool[Array, "..."]
    ) -> tuple[Cache, PolicyOutput]:
        # A sequence of length one: the two entrances share every line but the write.
        time = reset.ndim
        out, position, keys, values = self.bind(params)(
            jnp.expand_dims(obs, time), reset[..., None], carry
        )
        out = jax.tree.map(lambda x: jnp.squeeze(x, time), out)
        slot = position[..., 0] % self.context
        rings = zip((*carry.keys, *carry.values), (*keys, *values), strict=True)
        written = tuple(_write(ring, slot, new) for ring, new in rings)
        return Cache(position[..., 0] + 1, written[: self.layers], written[self.layers :]), out

    def unroll(
        self, params: Tree, obs: Array, resets: Bool[Array, "... T"], carry: Cache
    ) -> PolicyOutput:
        return self.bind(params)(obs, resets, carry)[0]
