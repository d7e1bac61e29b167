"""A gated recurrent unit: the policy with a memory of fixed size."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxrl_lab.policies.encoder import Encoder, Heads, Network, check_size, linear, orthogonal
from jaxrl_lab.types import PolicyOutput, Tree


def _orthogonal_gates(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """One orthogonal square per gate; a single 3-wide matrix would tie the gates together."""
    square = (shape[0], shape[0])
    return jnp.concatenate(
        [orthogonal()(k, square, dtype) for k in jax.random.split(key, 3)], axis=1
    )


class _Module(nnx.Module):
    def __init__(self, spec: GRU, rngs: nnx.Rngs) -> None:
        width = spec.width
        self.encoder = Encoder(spec.space, width, rngs=rngs)
        self.read = linear(width, 3 * width, rngs=rngs)
        self.recall = linear(
            width, 3 * width, use_bias=False, kernel_init=_orthogonal_gates, rngs=rngs
        )
        self.heads = Heads(width, spec.actions, spec.value, spec.features, rngs=rngs)

    def gates(self, obs: Array) -> Float[Array, "... 3*D"]:
        """What the observation contributes: needs no memory, hence parallel over time."""
        return self.read(jnp.tanh(self.encoder(obs)))

    def cell(
        self,
        hidden: Float[Array, "... D"],
        gates: Float[Array, "... 3*D"],
        reset: Bool[Array, "..."],
    ) -> Float[Array, "... D"]:
        hidden = jnp.where(reset[..., None], 0.0, hidden)
        r_in, z_in, n_in = jnp.split(gates, 3, axis=-1)
        r_mem, z_mem, n_mem = jnp.split(self.recall(hidden), 3, axis=-1)
        r, z = jax.nn.sigmoid(r_in + r_mem), jax.nn.sigmoid(z_in + z_mem)
        return (1.0 - z) * jnp.tanh(n_in + r * n_mem) + z * hidden


@dataclass(frozen=True)
class GRU(Network):
    """h_t = (1 - z) ⊙ tanh(W_n x_t + b_n + r ⊙ U_n h_{t-1}) + z ⊙ h_{t-1}.

    r = σ(W_r x_t + b_r + U_r h_{t-1}) and z = σ(W_z x_t + b_z + U_z h_{t-1}), with
    x_t = tanh(encode(obs_t)); h_{t-1} is 0 where an episode begins at t. The memory is h
    ``[..., width]``, and so are the ``features``. Some texts exchange z and 1 - z.

    Attributes:
        space: observation space.
        actions: K.
        width: size of the memory and of the encoded observation.
        value: whether there is a value head; it reads the same memory.
        features: whether the output carries the hidden state.

    Raises:
        BadInput: a width below 1.

    Reference: Cho et al. 2014, arXiv:1406.1078; r applied after U_n as in common libraries.
    """

    width: int = 64
    value: bool = False
    features: bool = False

    memoryless = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("width", self.width)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        return _Module(self, rngs)

    def start(self, batch_shape: tuple[int, ...]) -> Float[Array, "... D"]:
        return jnp.zeros((*batch_shape, self.width), self.dtype)

    def step(
        self,
        params: Tree,
        carry: Float[Array, "... D"],
        obs: Array,
        reset: Bool[Array, "..."],
    ) -> tuple[Float[Array, "... D"], PolicyOutput]:
        net = self.bind(params)
        hidden = net.cell(carry, net.gates(obs), reset)
        return hidden, net.heads(hidden)

    def unroll(
        self,
        params: Tree,
        obs: Array,
        resets: Bool[Array, "... T"],
        carry: Float[Array, "... D"],
    ) -> PolicyOutput:
        net = self.bind(params)

        def advance(hidden: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            hidden = net.cell(hidden, *now)
            return hidden, hidden

        inputs = jnp.moveaxis(net.gates(obs), -2, 0), jnp.moveaxis(resets, -1, 0)
        _, hidden = jax.lax.scan(advance, carry, inputs)
        return net.heads(jnp.moveaxis(hidden, 0, -2))
