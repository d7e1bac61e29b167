"""The policy contract: pure functions of parameters, written for any leading batch axes."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Bool

from jaxrl_lab.types import PolicyOutput, Tree


@runtime_checkable
class Policy(Protocol):
    """A frozen, hashable object; its parameters are a pure dict of arrays kept outside.

    Leading axes of every array are batch axes. ``step`` and ``unroll`` agree to float32
    tolerance (log-probabilities within 1e-5), episode boundaries included.
    """

    @property
    def memoryless(self) -> bool:
        """Whether the output depends on the current observation only."""
        ...

    def init(self, key: Array) -> Tree:
        """Fresh parameters. Call it under jit."""
        ...

    def start(self, batch_shape: tuple[int, ...]) -> Tree:
        """Empty memory for a batch: ``()``, a hidden state or a KV cache."""
        ...

    def step(
        self, params: Tree, carry: Tree, obs: Array, reset: Bool[Array, "..."]
    ) -> tuple[Tree, PolicyOutput]:
        """Act: one observation ``[..., *obs]``; memory is cleared first where ``reset``."""
        ...

    def unroll(
        self, params: Tree, obs: Array, resets: Bool[Array, "... T"], carry: Tree
    ) -> PolicyOutput:
        """Learn: whole sequences ``[..., T, *obs]`` from the given memory.

        ``resets[t]`` says that memory is cleared before ``obs[t]`` is read.
        """
        ...
