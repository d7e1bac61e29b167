"""Slot ``optimizer``: ``.tx() -> optax.GradientTransformation``, chained left to right.

Built inside the trace, so that learning rates are leaves like every other number.
"""

from __future__ import annotations

from typing import ClassVar

import optax
from jaxrl_envs.errors import expect

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest


def _check_rate(rate: float) -> None:
    expect(lowest(rate) >= 0, "learning_rate", lowest(rate), "0 or more")


@mechanism
class SGD:
    """params += learning_rate · gradient, with optional heavy-ball momentum."""

    learning_rate: float
    momentum: float | None = None

    formula: ClassVar[str] = "sgd({learning_rate})"

    def check(self, spec: Spec) -> None:
        _check_rate(self.learning_rate)

    def tx(self) -> optax.GradientTransformation:
        return optax.sgd(self.learning_rate, momentum=self.momentum)


@mechanism
class Adam:
    """Adam (arXiv 1412.6980), with decoupled weight decay where given."""

    learning_rate: float
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float | None = None

    formula: ClassVar[str] = "adam({learning_rate})"

    def check(self, spec: Spec) -> None:
        _check_rate(self.learning_rate)

    def tx(self) -> optax.GradientTransformation:
        scale = optax.scale_by_adam(self.b1, self.b2, self.eps)
        decay = [] if self.weight_decay is None else [optax.add_decayed_weights(self.weight_decay)]
        return optax.chain(scale, *decay, optax.scale_by_learning_rate(self.learning_rate))


@mechanism
class ClipByGlobalNorm:
    """Scale the whole gradient down to ``max_norm`` where it is longer."""

    max_norm: float = 0.5

    formula: ClassVar[str] = "clip‖g‖≤{max_norm}"

    def check(self, spec: Spec) -> None:
        expect(lowest(self.max_norm) > 0, "max_norm", lowest(self.max_norm), "a positive length")
        steps = [hasattr(m, "learning_rate") for m in spec.recipe.optimizer]
        # Clipping alone has no sign: it would walk down the objective.
        expect(any(steps), "recipe.optimizer", "clip_by_global_norm", "also a sgd or an adam")

    def tx(self) -> optax.GradientTransformation:
        return optax.clip_by_global_norm(self.max_norm)
