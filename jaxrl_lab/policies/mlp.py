"""A multilayer perceptron: the policy for worlds whose observation tells everything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Literal

import jax
from flax import nnx
from jaxrl_envs import Space
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.policies.encoder import Encoder, Heads, Network, check_size, linear, orthogonal
from jaxrl_lab.types import PolicyOutput, Tree

ACTIVATIONS = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}


class _Tower(nnx.Module):
    def __init__(
        self, space: Space, hidden: tuple[int, ...], activation: str, *, rngs: nnx.Rngs
    ) -> None:
        self.activation = activation
        self.encoder = Encoder(space, hidden[0], rngs=rngs)
        gain = orthogonal(sqrt(2))
        self.layers = nnx.List(
            [linear(n, m, kernel_init=gain, rngs=rngs) for n, m in pairwise(hidden)]
        )

    def __call__(self, obs: Array) -> Float[Array, "... D"]:
        bend = ACTIVATIONS[self.activation]
        x = bend(self.encoder(obs))
        for layer in self.layers:
            x = bend(layer(x))
        return x


class _Module(nnx.Module):
    def __init__(self, spec: MLP, rngs: nnx.Rngs) -> None:
        def tower() -> _Tower:
            return _Tower(spec.space, spec.hidden, spec.activation, rngs=rngs)

        self.actor = tower()
        self.critic = tower() if spec.value and not spec.shared else None
        self.heads = Heads(spec.hidden[-1], spec.actions, spec.value, spec.features, rngs=rngs)

    def __call__(self, obs: Array) -> PolicyOutput:
        critic = None if self.critic is None else self.critic(obs)
        return self.heads(self.actor(obs), critic)


@dataclass(frozen=True)
class MLP(Network):
    """h_1 = f(encode(obs)), h_i = f(W_i h_{i-1} + b_i), logits = W h_n + b.

    Orthogonal matrices with gain sqrt(2), 0.01 for the logits and 1 for the value, as in the
    public single-file PPO. Where a value is wanted it has layers of its own unless ``shared``.
    ``features`` are the policy's last hidden layer ``[..., hidden[-1]]``.

    Attributes:
        space: observation space.
        actions: K.
        hidden: widths of the hidden layers; the first one reads the observation.
        activation: ``tanh`` or ``relu``.
        value: whether there is a value head.
        features: whether the output carries the last hidden layer.
        shared: whether the value is read from the policy's hidden layers.

    Raises:
        BadInput: no hidden layer, a width below 1, or an unknown activation.

    Reference: Schulman et al. 2017, arXiv:1707.06347.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    value: bool = False
    features: bool = False
    shared: bool = False

    memoryless = True

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = isinstance(self.hidden, tuple) and len(self.hidden) > 0
        expect(listed, "hidden", self.hidden, "a tuple with at least one width")
        for i, width in enumerate(self.hidden):
            check_size(f"hidden.{i}", width)
        known = self.activation in ACTIVATIONS
        expect(known, "activation", self.activation, " or ".join(ACTIVATIONS))

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        return _Module(self, rngs)

    def start(self, batch_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def step(
        self, params: Tree, carry: Tree, obs: Array, reset: Bool[Array, "..."]
    ) -> tuple[Tree, PolicyOutput]:
        return carry, self.bind(params)(obs)

    def unroll(
        self, params: Tree, obs: Array, resets: Bool[Array, "... T"], carry: Tree
    ) -> PolicyOutput:
        return self.bind(params)(obs)
