"""The claims about stagnation, fixed before the run. Gaps are compared as doublings (log2)."""

from __future__ import annotations

from jaxrl_lab.experiments.claims import Claim

GRID = (
    "gridworld/open 5×5, slip 0.2, KL in the reward, tabular PPO, Adam, T = 4, 4 epochs, "
    "minibatches of 128 transitions"
)
BANDIT = "bandit/modes, 8 prompts, 8 arms, noise 1, tabular PPO with an entropy bonus, SGD"
END = "mean gap over the last eighth of the transitions"
UNIT = "doublings"

CLAIMS = (
    Claim(
        id="stalls",
        text="PPO with 32 environments stalls: over the second half of the training its gap falls "
        "by less than a fifth of a doubling, although the optimum can be represented.",
        metric="log2 of the gap before the middle over that of the last eighth",
        direction="less",
        effect=0.2,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="drop_recovers",
        text="A learning rate divided by five in mid-run halves the gap of the stalled run.",
        metric=f"log2 of the {END}, constant rate over dropped rate",
        direction="greater",
        effect=1.0,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="coscale_lifts",
        text="At equal numbers of transitions and of gradient steps 16 times the environments, "
        "with 16 times the minibatches, end with a gap smaller by half a doubling.",
        metric=f"log2 of the {END}, N = 32 over N = 512",
        direction="greater",
        effect=0.5,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="monotone",
        text="Both steps of four times the environments lower the gap.",
        metric=f"log2 of the {END}: the smaller of N = 32 over 128 and 128 over 512",
        direction="greater",
        effect=0.1,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="coscale_beats_decay",
        text="Co-scaling does more than a learning rate that decays to 0 does with 32 "
        "environments.",
        metric=f"log2 of the {END}, N = 32 with decay over N = 512 without",
        direction="greater",
        effect=0.1,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="sqrt_rate_fails",
        text="16 times the environments in minibatches 16 times as large, with a learning rate "
        "scaled by the square root, end with a gap larger than co-scaling's by half a doubling.",
        metric=f"log2 of the {END}, square-root rule over co-scaling, N = 512",
        direction="greater",
        effect=0.5,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="minibatches_beat_rates",
        text="With each at the best of three learning rates, co-scaling still ends with a gap "
        "smaller by half a doubling than one large minibatch does.",
        metric=f"log2 of the {END}, one minibatch over 16, N = 512, best rate of the other seeds",
        direction="greater",
        effect=0.5,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="older_anchor_lowers",
        text="With 32 environments and the same learning rate, an anchor of the trust region that "
        "is 64 gradient steps old lowers the gap by half a doubling.",
        metric=f"log2 of the {END}, PPO over PPO-EWMA with center of mass 64",
        direction="greater",
        effect=0.5,
        unit=UNIT,
        region=GRID,
    ),
    Claim(
        id="clip_makes_scale_pay",
        text="64 times the transitions per update gain half a doubling more with the clip than "
        "without it.",
        metric=f"log2 of the {END}, 64 over 4096 transitions: with the clip minus without",
        direction="greater",
        effect=0.5,
        unit=UNIT,
        region=BANDIT,
    ),
    Claim(
        id="coscale_beats_one_epoch",
        text="Co-scaling to 64 times the transitions per update does more than using every "
        "transition once does without it.",
        metric=f"log2 of the {END}, one epoch at 64 transitions over four epochs at 4096",
        direction="greater",
        effect=0.1,
        unit=UNIT,
        region=BANDIT,
    ),
)
