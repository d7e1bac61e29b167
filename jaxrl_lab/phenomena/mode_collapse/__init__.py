"""Mode collapse: of several equally right answers one is left, by geometry or by luck.

Exact softmax policy gradient conserves e^(−z_a) − e^(−z_b) between equally right answers while all
of these shrink, so the answer that leads at the start takes the mass of the others, in time that
grows like the logarithm of what is left; natural gradient keeps their shares. From an even start
the conserved quantities are 0 and the exact flow keeps every mode: what GRPO loses then is lost by
sampling noise, whose mean and covariance per update are known exactly. Two starts therefore
separate the two causes, and the published remedies are tried on both.

World: 8 prompts, 12 arms, 4 of them right, base policies of one prescribed pass@1 per prompt that
are even or skewed among the right arms.

Sources: arXiv 2605.19461, 2509.07430, 2512.24138, 2510.06672, 2602.05281, 2604.18578; the flow,
arXiv 2005.06392.
"""

from __future__ import annotations

from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena.core import Phenomenon
from jaxrl_lab.phenomena.mode_collapse.analysis import analyze, noise_law, path_without_noise
from jaxrl_lab.phenomena.mode_collapse.claims import CLAIMS
from jaxrl_lab.phenomena.mode_collapse.figure import figure

PHENOMENON = Phenomenon(
    name="mode_collapse",
    claims=CLAIMS,
    measures={
        "noise": (one_step.measure, one_step.DESCRIBE),
        "methods": (one_step.measure, one_step.DESCRIBE),
    },
    analyze=analyze,
    figure=figure,
)

__all__ = ["CLAIMS", "PHENOMENON", "analyze", "figure", "noise_law", "path_without_noise"]
