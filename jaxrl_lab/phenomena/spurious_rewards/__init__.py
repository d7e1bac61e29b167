"""Spurious rewards: what GRPO makes of verdicts that say nothing, or the opposite of the truth.

World: six arms, three of them right; a base policy that is right half of the time and prefers one
arm, a right one or a wrong one. The two cases mirror each other, so that under random rewards
whatever one gains in accuracy the other loses. A random verdict has expected gradient zero, which
leaves two forces of second order, both exact here by enumeration of groups. Reusing a batch pushes
*away* from the preferred arm: the importance ratio pays an action for having just been moved. The
ratio clip pushes *toward* it with its upper bound and away with its lower one.

Source: arXiv 2506.10947 (random rewards help, by clipping bias), arXiv 2512.16912 (clipping lowers
entropy and teaches nothing).
"""

from __future__ import annotations

from jaxrl_lab.phenomena.core import Phenomenon
from jaxrl_lab.phenomena.spurious_rewards.analysis import analyze
from jaxrl_lab.phenomena.spurious_rewards.claims import CLAIMS
from jaxrl_lab.phenomena.spurious_rewards.figure import figure
from jaxrl_lab.phenomena.spurious_rewards.measure import DESCRIBE, measure

EXPERIMENTS = ("clipping", "steps", "one_update", "verifier")

PHENOMENON = Phenomenon(
    name="spurious_rewards",
    claims=CLAIMS,
    measures=dict.fromkeys(EXPERIMENTS, (measure, DESCRIBE)),
    analyze=analyze,
    figure=figure,
)

__all__ = ["CLAIMS", "DESCRIBE", "PHENOMENON", "analyze", "figure", "measure"]
