"""The claims about the capability boundary, fixed before the run."""

from __future__ import annotations

from jaxrl_lab.experiments.claims import Claim

WORLD = "bandit/modes, 32 prompts, 16 arms, 4 right, base pass@1 from 0.001 to 0.9, G = 8, SGD"
TABLE = f"{WORLD}, tabular softmax, 240 updates"
SHARED = f"{WORLD}, pretrained MLP of width 32 on prompt features, 64 held-out prompts, 240 updates"
TWO_POINTS = 0.02
"""Two points of pass@k: about what a benchmark of 500 questions resolves."""

METHODS = {
    "dr_grpo": "GRPO without division by the group's standard deviation",
    "negative": "GRPO that learns from wrong answers only",
    "rl_plus": "RL-PLUS",
}

CLAIMS = (
    Claim(
        id="independent_prompts_never_fall",
        text="Negative control: with a row of parameters per prompt GRPO does not lower pass@256.",
        metric="smallest pass@256 of the whole training minus that of the base policy, mean over "
        "prompts",
        direction="greater",
        effect=-0.01,
        unit="probability",
        region=TABLE,
    ),
    Claim(
        id="train_boundary_shrinks",
        text="With parameters shared between prompts GRPO lowers pass@256 of the prompts it "
        "trains on.",
        metric="pass@256 of train prompts, end minus base policy",
        direction="less",
        effect=-TWO_POINTS,
        unit="probability",
        region=SHARED,
    ),
    Claim(
        id="test_boundary_shrinks",
        text="It lowers pass@256 of held-out prompts.",
        metric="pass@256 of held-out prompts, end minus base policy",
        direction="less",
        effect=-TWO_POINTS,
        unit="probability",
        region=SHARED,
    ),
    Claim(
        id="coverage_shrinks",
        text="It lowers the share of the solutions of the train prompts that 256 tries find.",
        metric="coverage@256 of train prompts, end minus base policy",
        direction="less",
        effect=-0.1,
        unit="share",
        region=SHARED,
    ),
    Claim(
        id="solutions_shrink",
        text="It lowers the effective number of solutions of the train prompts.",
        metric="exp entropy among right arms, train prompts, end minus base policy",
        direction="less",
        effect=-0.5,
        unit="solutions",
        region=SHARED,
    ),
    Claim(
        id="interference_undoes_gains",
        text="The other prompts' expected updates undo more than a tenth of what a prompt's own "
        "expected update adds to log p.",
        metric="Σ max(−cross, 0) / Σ own of d log p, over train prompts and measured updates of "
        "GRPO",
        direction="greater",
        effect=0.1,
        unit="share",
        region=SHARED,
    ),
    *(
        Claim(
            id=f"{arm}_keeps_boundary",
            text=f"{name} keeps a higher pass@256 of held-out prompts than GRPO at the same "
            "train pass@1.",
            metric=f"pass@256 of held-out prompts at train pass@1 0.6, {arm} minus grpo, same "
            "seeds",
            direction="greater",
            effect=TWO_POINTS,
            unit="probability",
            region=SHARED,
        )
        for arm, name in METHODS.items()
    ),
    Claim(
        id="normalization_drives_stage_two",
        text="Where a known good answer hides a better one, dividing by the group's standard "
        "deviation is what moves the policy on to the better one.",
        metric="share of prompts on which the best arm is the likeliest at the end, grpo minus "
        "dr_grpo, same seeds",
        direction="greater",
        effect=0.5,
        unit="share",
        region="bandit/modes, 3 arms that pay 0.8, 1 and 0, base policy 0.475, 0.05, 0.475, G = 8, "
        "tabular softmax, SGD 0.1 per prompt, 2000 updates",
    ),
)
