"""Entropy collapse: a policy that learns with GRPO loses more of its spread than it has to.

World: 64 prompts, 32 arms, 4 of them equally right. Three exact references share its initial
policies. Natural policy gradient multiplies probabilities by e^(t·A) and so never changes the
shares of the right arms among themselves; the optimum of an entropy-regularized objective is
uniform over them; the expected GRPO update without sampling noise is a deterministic flow. What
GRPO loses beyond natural gradient at the same accuracy is excess collapse, and what it loses
beyond its own flow is due to sampling. Further published remedies run in the same world, in the
verdict tier only, and are shown without a claim.

Source: arXiv 2505.22617.
"""

from __future__ import annotations

from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena.core import Phenomenon
from jaxrl_lab.phenomena.entropy_collapse.analysis import analyze, exact_flow, prediction_error
from jaxrl_lab.phenomena.entropy_collapse.claims import CLAIMS
from jaxrl_lab.phenomena.entropy_collapse.figure import figure
from jaxrl_lab.phenomena.entropy_collapse.measure import DESCRIBE, measure

PHENOMENON = Phenomenon(
    name="entropy_collapse",
    claims=CLAIMS,
    measures={
        "interventions": (measure, DESCRIBE),
        "further": (one_step.measure, one_step.DESCRIBE),
        "breakdown": (measure, DESCRIBE),
    },
    analyze=analyze,
    figure=figure,
    optional=frozenset({"further"}),
)

__all__ = [
    "CLAIMS",
    "DESCRIBE",
    "PHENOMENON",
    "analyze",
    "exact_flow",
    "figure",
    "measure",
    "prediction_error",
]
