"""Dead groups: rollouts that are all right or all wrong have no advantage and teach nothing.

World: prompts whose base pass@1 runs from 0.002 to 0.98. A group of G rollouts is informative with
probability 1 − p^G − (1−p)^G, an identity that the measured shares are laid on. Four kinds of
remedy are compared at equal numbers of generated tokens: sample again (dynamic sampling), split
the rollouts unevenly (knapsack), replay an old rollout of the other outcome, and give hints on
unsolved prompts (evaluated without them).

All of them also enlarge the step, since dead rollouts are zeros in the mean of the loss. Two
controls take that away: GRPO that leaves dead groups out of the mean, which is GRPO with its
learning rate divided by the informative share, and every method at the best of five rates. Where
steps are no limit any more, equal groups follow an exact curve: a prompt waits for its first
informative group.

Source: arXiv 2503.14476, 2509.25849, 2601.19620, 2602.03143.
"""

from __future__ import annotations

from jaxrl_lab.phenomena.core import Phenomenon
from jaxrl_lab.phenomena.dead_groups.analysis import analyze, exploration_limit, tuned
from jaxrl_lab.phenomena.dead_groups.claims import CLAIMS
from jaxrl_lab.phenomena.dead_groups.figure import figure
from jaxrl_lab.phenomena.dead_groups.measure import DESCRIBE, measure

PHENOMENON = Phenomenon(
    name="dead_groups",
    claims=CLAIMS,
    measures={"budget": (measure, DESCRIBE)},
    analyze=analyze,
    figure=figure,
)

__all__ = [
    "CLAIMS",
    "DESCRIBE",
    "PHENOMENON",
    "analyze",
    "exploration_limit",
    "figure",
    "measure",
    "tuned",
]
