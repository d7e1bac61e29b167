"""The claims about entropy collapse, fixed before the run."""

from __future__ import annotations

from jaxrl_lab.experiments.claims import Claim

INTERVENTIONS = ("clip_higher", "entropy_bonus", "clip_cov", "kl_cov")
REGION = "bandit/modes, 64 prompts, 32 arms, 4 solutions, G = 8, tabular softmax, SGD"

CLAIMS = (
    Claim(
        id="excess_collapse",
        text="At accuracy 0.9 GRPO is further from using all right answers than natural policy "
        "gradient started from the same policy.",
        metric="log M − H(π | right), GRPO minus natural gradient, mean over prompts",
        direction="greater",
        effect=0.2,
        unit="nats",
        region=REGION,
    ),
    Claim(
        id="first_order_breaks_sgd",
        text="At the reference step the first-order prediction −Cov(log π, Δz) misses the "
        "entropy change of an update of four inner steps by more than a tenth.",
        metric="Σ|ΔH − predicted| / Σ|ΔH| over prompts and the first 20 updates, SGD 6.4",
        direction="greater",
        effect=0.1,
        unit="share",
        region=REGION,
    ),
    Claim(
        id="first_order_breaks_adam",
        text="The same with Adam.",
        metric="Σ|ΔH − predicted| / Σ|ΔH| over prompts and the first 20 updates, Adam 0.1",
        direction="greater",
        effect=0.1,
        unit="share",
        region=REGION.replace("SGD", "Adam"),
    ),
    Claim(
        id="first_order_breaks_shared",
        text="The same with parameters shared between prompts.",
        metric="Σ|ΔH − predicted| / Σ|ΔH| over prompts and the first 20 updates, MLP, Adam 0.01",
        direction="greater",
        effect=0.1,
        unit="share",
        region="bandit/modes, 64 prompts, 32 arms, 4 solutions, G = 8, MLP on prompt features",
    ),
    Claim(
        id="exponential_law_predicts",
        text="R = −a·exp(H) + b, fitted on the first fifth of the training, predicts the rest "
        "better than a line in H and than a logistic curve in time.",
        metric="smaller of the rivals' RMSE minus the law's RMSE on the last four fifths",
        direction="greater",
        effect=0.01,
        unit="accuracy",
        region=REGION,
    ),
    *(
        Claim(
            id=f"{arm}_keeps_solutions",
            text=f"At accuracy 0.9 {arm} uses more of the right answers than GRPO.",
            metric=f"effective solutions at accuracy 0.9, {arm} minus GRPO, same seeds",
            direction="greater",
            effect=0.1,
            unit="solutions",
            region=REGION,
        )
        for arm in INTERVENTIONS
    ),
)
