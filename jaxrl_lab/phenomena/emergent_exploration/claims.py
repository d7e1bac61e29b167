"""The claims about emergent exploration, fixed before the run."""

from __future__ import annotations

from jaxrl_lab.experiments.claims import Claim

PLACES = "bandit/meta, 4 places and a safe pay of 0.45, blocks of 20 trials, action-value table"
COUNTS = "bandit/meta, 2 Bernoulli arms with uniform means, 10 pulls, action-value table on counts"
WITHOUT = {
    "structure": "Without tasks that recur (blocks of one trial)",
    "memory": "Without a memory of what was tried",
    "credit": "Without credit across trials (discount 0)",
}
"""The three ablations, at the discount of the arm ``sampling 0.9``."""

CLAIMS = (
    Claim(
        id="switch_is_exact",
        text="Greedy agents begin a block with a search from the discount across trials on at "
        "which the exact solution does.",
        metric="|discount at which the learned values of search and safe cross − exact one|",
        direction="less",
        effect=0.05,
        unit="discount",
        region=PLACES,
    ),
    Claim(
        id="greedy_training_suffices",
        text="The same holds of agents that are greedy while they train, too.",
        metric="|discount at which the learned values of search and safe cross − exact one|",
        direction="less",
        effect=0.05,
        unit="discount",
        region=PLACES + ", temperature 0.005",
    ),
    *(
        Claim(
            id=f"needs_{what}",
            text=f"{how} the greedy agent earns less.",
            metric="exact pay per trial of the greedy policy, full agent minus ablated one",
            direction="greater",
            effect=0.1,
            unit="pay",
            region=PLACES + ", discount 0.9",
        )
        for what, how in WITHOUT.items()
    ),
    Claim(
        id="bandit_hides_credit",
        text="In a bandit without a sacrifice, cutting credit at every pull costs next to nothing.",
        metric="exact pay per pull of the greedy policy, discount 1 minus discount 0",
        direction="less",
        effect=0.01,
        unit="pay",
        region=COUNTS,
    ),
    Claim(
        id="no_credit_beats_thompson",
        text="There an agent without credit across pulls, which cannot value what it would "
        "learn, earns more than Thompson sampling.",
        metric="exact pay per pull of the greedy policy, discount 0 minus Thompson sampling",
        direction="greater",
        effect=0.01,
        unit="pay",
        region=COUNTS,
    ),
    Claim(
        id="training_abandons",
        text="The agent trained on reward with full credit gives the best arm up for good more "
        "often than UCB.",
        metric="exact suffix failure, agent minus UCB",
        direction="greater",
        effect=0.05,
        unit="probability",
        region=COUNTS,
    ),
    Claim(
        id="imitator_is_greedier",
        text="An agent rewarded for doing what UCB does is greedier than UCB.",
        metric="exact share of greedy pulls, agent minus UCB",
        direction="greater",
        effect=0.02,
        unit="share",
        region=COUNTS,
    ),
)
