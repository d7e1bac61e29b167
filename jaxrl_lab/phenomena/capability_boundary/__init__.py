"""The capability boundary: does learning to be right more often cost the answers at large k?

With a row of parameters per prompt and 0/1 rewards it cannot: an update of GRPO on its own batch
raises every sampled right answer and lowers every sampled wrong one, so no prompt's pass@1, and
hence no pass@k, ever falls. That is the negative control. What can lower a pass rate in expectation
is other prompts, through shared parameters, so a small network is pretrained to prescribed pass
rates and trained on half of its prompts; the effect of every prompt on every other is computed from
the exact gradients of all pass rates. Coverage of the solutions and their effective number, which
may fall while pass@k rises, are asked about on their own.

Three arms that pay 0.8, 1 and 0 show the two stages: first the known good answer takes over and the
better one gets rarer, then, if the step survives nearly unanimous groups, it takes over in turn.

Sources: arXiv 2510.04028 (two stages, negative gradients alone), arXiv 2506.01347 (negative
reinforcement), arXiv 2508.00222 (RL-PLUS), arXiv 2503.20783 (Dr.GRPO).
"""

from __future__ import annotations

from jaxrl_lab.phenomena.capability_boundary.analysis import analyze
from jaxrl_lab.phenomena.capability_boundary.claims import CLAIMS
from jaxrl_lab.phenomena.capability_boundary.figure import figure
from jaxrl_lab.phenomena.capability_boundary.measure import (
    DESCRIBE,
    DESCRIBE_STAGES,
    DESCRIBE_TRAIN,
    measure,
    stages,
    train_only,
)
from jaxrl_lab.phenomena.core import Phenomenon

PHENOMENON = Phenomenon(
    name="capability_boundary",
    claims=CLAIMS,
    measures={
        "tabular": (train_only, DESCRIBE_TRAIN),
        "shared": (measure, DESCRIBE),
        "stages": (stages, DESCRIBE_STAGES),
    },
    analyze=analyze,
    figure=figure,
)

__all__ = ["CLAIMS", "PHENOMENON", "analyze", "figure", "measure", "stages", "train_only"]
