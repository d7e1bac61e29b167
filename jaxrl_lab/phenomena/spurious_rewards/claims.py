"""The claims about spurious rewards, fixed before the run."""

from __future__ import annotations

from jaxrl_lab.experiments.claims import Claim

REGION = (
    "bandit/modes, 32 prompts, 6 arms, 3 right, base policy with pass@1 0.5 and one preferred arm, "
    "G = 8, 4 inner steps of 0.4, tabular softmax, SGD, clip 0.2, 200 updates"
)
TWO_POINTS = 0.02
"""Two points of accuracy or probability: about what a benchmark of 500 questions resolves."""

CLAIMS = (
    Claim(
        id="clipping_favors_prior",
        text="Under random rewards the symmetric clip leaves the preferred arm likelier than no "
        "clip does, at the same distance from the base policy.",
        metric="probability of the preferred arm at KL 0.5, symmetric minus none, same seeds",
        direction="greater",
        effect=TWO_POINTS,
        unit="probability",
        region=REGION,
    ),
    Claim(
        id="upper_clip_favors_prior",
        text="The upper bound alone does the same.",
        metric="probability of the preferred arm at KL 0.5, upper minus none, same seeds",
        direction="greater",
        effect=TWO_POINTS,
        unit="probability",
        region=REGION,
    ),
    Claim(
        id="lower_clip_opposes_prior",
        text="The lower bound alone does the opposite.",
        metric="probability of the preferred arm at KL 0.5, lower minus none, same seeds",
        direction="less",
        effect=-TWO_POINTS,
        unit="probability",
        region=REGION,
    ),
    Claim(
        id="random_gains_with_right_prior",
        text="Random rewards with the symmetric clip raise the accuracy of a policy that prefers "
        "a right arm.",
        metric="accuracy, end minus start",
        direction="greater",
        effect=TWO_POINTS,
        unit="probability",
        region=REGION,
    ),
    Claim(
        id="random_loses_with_wrong_prior",
        text="The same rewards and clip lower the accuracy of a policy that prefers a wrong arm.",
        metric="accuracy, end minus start",
        direction="less",
        effect=-TWO_POINTS,
        unit="probability",
        region=REGION,
    ),
    Claim(
        id="no_gain_without_clipping",
        text="Without clipping, random rewards do not raise the accuracy of a policy that prefers "
        "a right arm.",
        metric="accuracy, end minus start, no clip",
        direction="less",
        effect=TWO_POINTS,
        unit="probability",
        region=REGION,
    ),
    Claim(
        id="clipping_narrows_at_small_steps",
        text="At inner steps of 0.4 the symmetric clip leaves less entropy than no clip.",
        metric="entropy at the end, symmetric minus none, same seeds",
        direction="less",
        effect=-0.05,
        unit="nats",
        region=REGION,
    ),
    Claim(
        id="clipping_widens_at_large_steps",
        text="At inner steps of 1.6 the symmetric clip leaves more entropy than no clip.",
        metric="entropy at the end, symmetric minus none, same seeds",
        direction="greater",
        effect=0.05,
        unit="nats",
        region=REGION.replace("of 0.4", "of 1.6"),
    ),
    Claim(
        id="flipped_gains_with_right_prior",
        text="Flipped verdicts too raise the accuracy of a policy that prefers a right arm.",
        metric="accuracy, end minus start, symmetric clip",
        direction="greater",
        effect=TWO_POINTS,
        unit="probability",
        region=REGION,
    ),
)
