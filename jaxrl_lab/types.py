"""The data that flows: from the rollout through the slots of a recipe to the parameters.

One alphabet of axes everywhere: ``P`` population, ``B`` prompts (or environments of a stream),
``G`` rollouts per prompt (1 for a stream), ``T`` time, ``K`` actions, ``D`` features. A stream
collected as ``[T, N]`` is stored as ``[N, 1, T]``, so that mechanisms see one layout only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Tree = Any
"""A pytree of arrays."""


class Distribution(Protocol):
    """What a policy says about the next action; leading axes are batch axes."""

    @property
    def logp_all(self) -> Float[Array, "... K"]:
        """Log-probability of every action."""
        ...

    def logp(self, action: Int[Array, "..."]) -> Float[Array, "..."]:
        """Log-probability of the given actions."""
        ...

    def entropy(self) -> Float[Array, "..."]:
        """-sum_a p(a) log p(a), differentiable."""
        ...

    def sample(self, u: Float[Array, "..."]) -> Int[Array, "..."]:
        """The action at quantile ``u`` in [0, 1): inverse CDF, one uniform per choice."""
        ...

    def take(self, index: Int[Array, "b"]) -> Distribution:
        """The same distribution at some entries of the first batch axis."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PolicyOutput:
    """What ``step`` and ``unroll`` of a policy return; leading axes are batch axes.

    Attributes:
        dist: distribution over actions.
        value: predicted return ``[...]``, or None for a policy without a value head.
        features: last hidden representation ``[..., D]``, or None.
    """

    dist: Distribution
    value: Float[Array, "..."] | None = None
    features: Float[Array, "... D"] | None = None

    def take(self, index: Int[Array, "b"]) -> PolicyOutput:
        """The same output at some entries of the first batch axis."""
        return PolicyOutput(
            self.dist.take(index),
            None if self.value is None else self.value[index],
            None if self.features is None else self.features[index],
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outputs:
    """What a loss-time mechanism sees: the current policy on the batch, never its parameters.

    Attributes:
        logp: log-probability of the batch's actions under the current policy ``[B, G, T]``.
        policy: the full output (``policy.dist.entropy()``, ``policy.value``, …).
        passes: outputs under other parameter trees, by name (``reference``, …), already
            evaluated on the same batch; no gradient flows into them.
    """

    logp: Float[Array, "B G T"]
    policy: PolicyOutput
    passes: dict[str, PolicyOutput] = field(default_factory=dict)

    @property
    def dist(self) -> Distribution:
        return self.policy.dist


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """One batch of experience; see the module docstring for axes.

    Attributes:
        level_id: prompt of each entry: ``[B, 1, 1]`` for groups, ``[B, 1, T]`` for streams.
        state: packed environment states *before* each action ``[B, G, T, ...]``.
        action: ``[B, G, T]``.
        logp_behavior: what the sampler said of the actions ``[B, G, T]``.
        mask: which entries are real steps of an episode and are trained on ``[B, G, T]``.
        resets: entry is the first of an episode: a policy's memory is cleared before it.
        terminated, truncated: how the step ended ``[B, G, T]``.
        channels: named rewards; ``true`` is always present ``[B, G, T]`` each.
        reward: what is trained on; the ``true`` channel until the reward slot changes it.
        info: what the world says of each step (``correct``, ``mode_id``, …) ``[B, G, T]``.
        carry: memory of the policy before the first entry ``[B, G, ...]``.
        valid: rollouts that count in group statistics ``[B, G]``.
        source: who wrote a rollout (0 the current policy) ``[B, G]``.
        logp_old: log-probabilities from the same unroll as the loss, so that the first
            importance ratio is exactly 1; set by the learner.
        value: value predictions of the collecting policy; set by the learner where needed.
        next_value: value of the state after each step, before any reset.
        advantage: ``[B, G, T]``; the return until the advantage slot changes it.
        target: regression target of a value head, where an advantage mechanism sets one.
    """

    level_id: Int[Array, "B 1 t"]
    state: Tree
    action: Int[Array, "B G T"]
    logp_behavior: Float[Array, "B G T"]
    mask: Bool[Array, "B G T"]
    resets: Bool[Array, "B G T"]
    terminated: Bool[Array, "B G T"]
    truncated: Bool[Array, "B G T"]
    channels: dict[str, Float[Array, "B G T"]]
    reward: Float[Array, "B G T"]
    info: dict[str, Array]
    carry: Tree
    valid: Bool[Array, "B G"]
    source: Int[Array, "B G"]
    logp_old: Float[Array, "B G T"] | None = None
    value: Float[Array, "B G T"] | None = None
    next_value: Float[Array, "B G T"] | None = None
    advantage: Float[Array, "B G T"] | None = None
    target: Float[Array, "B G T"] | None = None

    @property
    def returns(self) -> Float[Array, "B G"]:
        """Undiscounted return of what is trained on: sum over real steps."""
        return jnp.sum(jnp.where(self.mask, self.reward, 0.0), axis=-1)

    @property
    def lengths(self) -> Float[Array, "B G"]:
        """Number of real steps of each rollout."""
        return jnp.sum(self.mask, axis=-1, dtype=jnp.float32)

    def take(self, index: Int[Array, "b"]) -> Batch:
        """Some of the prompts (whole groups stay together)."""
        return jax.tree.map(lambda x: x[index], self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Context:
    """What a mechanism may know besides the batch.

    Attributes:
        update: index of the outer update (int32, never batched over the population).
        progress: fraction of the training done, in [0, 1].
        key: the mechanism's own random key for this call.
        memory: the mechanism's own memory, read-only; ``()`` for mechanisms without ``init``.
        passes: outputs of the batch under further parameter trees, by name.
    """

    update: Int[Array, ""]
    progress: Float[Array, ""]
    key: Array
    memory: Tree = ()
    passes: dict[str, PolicyOutput] = field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plan:
    """Which prompts the next batch is about.

    Attributes:
        level_ids: ``[B]``. valid: rollouts that will count ``[B, G]``.
        source: who writes each rollout, 0 for the current policy ``[B, G]``.
    """

    level_ids: Int[Array, "B"]
    valid: Bool[Array, "B G"]
    source: Int[Array, "B G"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnerState:
    """Everything training carries from one update to the next; it is the checkpoint.

    Attributes:
        params: the policy's parameters. opt: the optimizer's state.
        memory: mechanism memories, by ``slot.index``.
        trees: further parameter trees by name; ``reference`` where a mechanism needs it.
        stream: environments in mid-episode, for stream rollouts; ``()`` for episodes.
        alive: False from the first update whose loss or parameters were not finite; the
            state is frozen from then on.
        stopped: index of that update, -1 while alive.
    """

    params: Tree
    opt: Tree
    memory: dict[str, Tree]
    trees: dict[str, Tree]
    stream: Tree
    alive: Bool[Array, ""]
    stopped: Int[Array, ""]


def masked_mean(x: Float[Array, "..."], mask: Bool[Array, "..."]) -> Float[Array, ""]:
    """Mean of ``x`` where ``mask``; 0 when nothing is selected."""
    total = jnp.sum(jnp.where(mask, x, 0.0))
    return total / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)


def importance_ratio(
    logp: Float[Array, "..."], logp_old: Float[Array, "..."]
) -> Float[Array, "..."]:
    """exp(logp - logp_old) with the exponent clamped to ±20, as public implementations do."""
    x = logp - logp_old
    return jnp.exp(jnp.where(jnp.abs(x) <= 20.0, x, 20.0 * jnp.sign(x)))
