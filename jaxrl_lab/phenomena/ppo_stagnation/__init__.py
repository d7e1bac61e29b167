"""Stagnation of PPO: a run stops improving short of the optimum, and more environments help.

Two worlds in which nothing is left to explore and the optimum is known: a noisy contextual bandit
with an entropy bonus (SGD, where a quadratic model is exact to first order), and a slippery
gridworld with a KL penalty in the reward (Adam). What is watched is the gap of the regularized
objective, which has no floor: 0 is attainable. Between arms the number of transitions is the
same, and within the co-scaling rule that of gradient steps too.

Controls: no clip, one epoch, a learning rate that drops or decays, averaged parameters, an older
anchor of the trust region (PPO-EWMA), and one large minibatch at three learning rates.

Source: arXiv 2603.06009 (stagnation, co-scaling, data-to-divergence ratio), 2110.00641 (PPO-EWMA).
"""

from __future__ import annotations

from jaxrl_lab.phenomena.core import Phenomenon
from jaxrl_lab.phenomena.ppo_stagnation.analysis import LARGER, analyze, predicted
from jaxrl_lab.phenomena.ppo_stagnation.claims import CLAIMS
from jaxrl_lab.phenomena.ppo_stagnation.figure import figure
from jaxrl_lab.phenomena.ppo_stagnation.gaps import gap_curve, optimum
from jaxrl_lab.phenomena.ppo_stagnation.measure import DESCRIBE, measure

EXPERIMENTS = (
    "bandit_64",
    "bandit_512",
    "bandit_4096",
    "grid_32",
    "grid_128",
    "grid_512",
)

PHENOMENON = Phenomenon(
    name="ppo_stagnation",
    claims=CLAIMS,
    measures=dict.fromkeys((*EXPERIMENTS, *LARGER), (measure, DESCRIBE)),
    analyze=analyze,
    figure=figure,
    optional=frozenset((*LARGER, "bandit_512")),
)

__all__ = [
    "CLAIMS",
    "DESCRIBE",
    "PHENOMENON",
    "analyze",
    "figure",
    "gap_curve",
    "measure",
    "optimum",
    "predicted",
]
