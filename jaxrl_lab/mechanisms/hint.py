"""Slot ``update``: hints on prompts that nobody solves. ``(state, candidate, fit, ctx)``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.mechanisms.budget import advanced, empty_record
from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.policies.tabular import Tabular
from jaxrl_lab.types import Batch, Context, LearnerState, Tree

Memory = dict[str, Any]
"""``record`` of the last visits (see ``budget``), which prompts are ``shown`` a hint ``[P]``, and
what it adds to their logits, the ``offset`` ``[P, K]``."""


@mechanism
class HintHardPrompts:
    """A prompt with a share of right rollouts of at most ``low`` is shown a hint, until ``high``.

    The hint rules out the ``arms`` worst-scored wrong arms: a visible context that lowers their
    logits by ``strength``. All rollouts of the prompt see it and the loss is conditioned on it.
    In a table of logits a context that adds to them can be kept *in* the table: training with
    the hint is training from shifted logits, and :func:`without_hints` takes it out again, which
    is how a hinted policy has to be evaluated. A group's outcome moves its hint at the end of the
    next update.

    Source: the rule, with these two thresholds, is that of the released scripts of SAGE (its
    light form), arXiv 2602.03143.
    """

    arms: int = 8
    strength: float = 4.0
    low: float = 0.1
    high: float = 0.35
    channel: str = "true"

    formula: ClassVar[str] = (
        "z −= {strength} on the {arms} worst arms while p̂ ≤ {low}, until p̂ > {high}"
    )

    def check(self, spec: Spec) -> None:
        env: Any = spec.env
        is_table = isinstance(spec.policy, Tabular)
        kind = type(spec.policy).__name__
        expect(is_table, "policy.id", kind, "tabular, whose logits can hold a hint")
        gives_hints = hasattr(env, "hinted_policy")
        expect(gives_hints, "environment.id", type(env).__name__, "a world with hints")
        most = env.arms - env.modes
        expect(0 <= self.arms <= most, "arms", self.arms, f"0 to {most} wrong arms")
        expect(highest(self.low) <= lowest(self.high), "low", highest(self.low), "at most high")

    def init(self, spec: Spec) -> Memory:
        env: Any = spec.env
        ids = jnp.asarray(env.level_ids("train"), jnp.int32)
        hinting = replace(env, hinted=True)
        params = replace(hinting.default_params, hints=jnp.float32(self.arms))
        out = jax.vmap(lambda i: hinting.make_level(params, i).ruled_out)(ids)
        offset = -self.strength * out.astype(jnp.float32)
        return {"record": empty_record(spec), "shown": jnp.zeros(len(ids), bool), "offset": offset}

    def __call__(
        self, state: LearnerState, candidate: LearnerState, fit: dict[str, Array], ctx: Context
    ) -> LearnerState:
        shown, wanted = ctx.memory["shown"], self._wanted(ctx.memory)
        change = wanted.astype(jnp.float32) - shown.astype(jnp.float32)
        shift = change[:, None] * ctx.memory["offset"]
        return replace(candidate, params=_shifted(candidate.params, shift))

    def advance(self, memory: Memory, batch: Batch, fit: dict[str, Array], ctx: Context) -> Memory:
        record = advanced(memory["record"], batch, jnp.float32(0.0), self.channel)
        return memory | {"record": record, "shown": self._wanted(memory)}

    def _wanted(self, memory: Memory) -> Bool[Array, "P"]:
        """Who shall see a hint: the hard ones, and those who did and are not yet easy."""
        right, count = memory["record"]["visit_right"], memory["record"]["visit_count"]
        share = right / jnp.maximum(count, 1.0)
        hard, easy = share <= self.low, share > self.high
        return (count > 0) & (hard | (memory["shown"] & ~easy))


def without_hints(memory: Memory, params: Tree) -> Tree:
    """The policy as it acts when nobody is shown a hint."""
    shown = memory["shown"].astype(jnp.float32)[:, None]
    return _shifted(params, -shown * memory["offset"])


def _shifted(params: Tree, shift: Float[Array, "P K"]) -> Tree:
    """Logits of the train prompts moved; test prompts, which come after them, are not."""

    def moved(x: Array) -> Array:
        if x.ndim != 2 or x.shape[1] != shift.shape[1]:
            return x  # a table of values
        return x.at[: shift.shape[0]].add(shift)

    return jax.tree.map(moved, params)
