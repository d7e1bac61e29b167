"""Emergent exploration: an agent that only exploits explores where finding out pays later.

World of the switch: four places, one of which hides a lasting reward until the block of trials
ends, and a safe pay that any search gives up. An agent that acts greedily on its values should
begin a block with a search exactly where its discount across trials passes a number that backward
induction gives, and never without tasks that recur, a memory, or credit across trials. The same
agent trains with and without randomness of its own.

Second witness: a bandit without a sacrifice. An agent whose credit is cut at every pull is greedy
for its posterior mean and yet earns more than Thompson sampling, so that reward is no evidence of
exploration. What every table of a trained agent earns, tries and abandons is computed exactly.

Sources: arXiv 2508.01287 (the three conditions), 2509.24923 (rewards that breed greed), 2403.15371
(suffix failure).
"""

from __future__ import annotations

from jaxrl_lab.phenomena.core import Phenomenon
from jaxrl_lab.phenomena.emergent_exploration import measure as measured
from jaxrl_lab.phenomena.emergent_exploration.analysis import analyze
from jaxrl_lab.phenomena.emergent_exploration.claims import CLAIMS
from jaxrl_lab.phenomena.emergent_exploration.figure import figure

PHENOMENON = Phenomenon(
    name="emergent_exploration",
    claims=CLAIMS,
    measures={
        "switch": (measured.switch, measured.SWITCH),
        "bandit": (measured.bandit, measured.BANDIT),
    },
    analyze=analyze,
    figure=figure,
)

__all__ = ["CLAIMS", "PHENOMENON", "analyze", "figure"]
