"""Advantage symmetry: what it means that right and wrong rollouts pull with equal weight.

Group advantages sum to zero. So an answer nobody gave gets no push at all (plain SGD, one step, a
table), and a prompt's expected update is w(p) ∇p, whatever the advantage makes of the rewards of
the group: attenuating right rollouts is a clock, not a compass. In expectation it cannot keep a
solution that GRPO loses. What it changes is the noise: two equally likely right answers are
pulled apart by luck, and attenuation turns that luck down by more than it slows learning. For
binary rewards it is exactly a smaller step and a raised baseline, which are its two controls.

Source: A-GRAE, arXiv 2602.05548.
"""

from __future__ import annotations

from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena.advantage_symmetry import measure
from jaxrl_lab.phenomena.advantage_symmetry.analysis import analyze, expected_path, with_equal_steps
from jaxrl_lab.phenomena.advantage_symmetry.claims import CLAIMS
from jaxrl_lab.phenomena.advantage_symmetry.figure import figure
from jaxrl_lab.phenomena.core import Phenomenon

PHENOMENON = Phenomenon(
    name="advantage_symmetry",
    claims=CLAIMS,
    measures={
        "push": (measure.push, measure.DESCRIBE_PUSH),
        "difficulty": (measure.by_difficulty, measure.DESCRIBE_DIFFICULTY),
        "flat": (one_step.measure, one_step.DESCRIBE),
        "preference": (one_step.measure, one_step.DESCRIBE),
        "focus": (measure.thirds, measure.DESCRIBE_THIRDS),
    },
    analyze=analyze,
    figure=figure,
)

__all__ = [
    "CLAIMS",
    "PHENOMENON",
    "analyze",
    "expected_path",
    "figure",
    "measure",
    "with_equal_steps",
]
