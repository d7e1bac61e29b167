"""The claims about mode collapse, fixed before the run."""

from __future__ import annotations

from jaxrl_lab.experiments.claims import Claim

ACCURACY = 0.95
"""Pass@1 at which arms are compared."""

CHOSEN = {
    "entropy": "entropy 0.32",
    "reverse_kl": "reverse_kl 0.2",
    "forward_kl": "forward_kl 0.05",
    "js": "js 0.8",
    "dmpo": "dmpo 320",
    "xrpo": "xrpo 8",
    "progrpo": "progrpo 3.2",
    "gardo": "gardo",
    "gbpo": "gbpo 0.2",
}
"""The arm of each method, from three values of its number on seeds 0 to 7.

Divergences to a reference: most modes at the end among values that end at pass@1 0.95 or more.
The others: most modes where pass@1 first reaches 0.95, from the skewed start. In at least 80 % of
the seeds either way. A band of 0.1 for GBPO is left out: steps of this size leave it, and an even
number of inner steps then cancels (the arms named overshoot).
"""

WEAK = "reverse_kl 0.05"
"""A coefficient at which reverse KL cannot make good in time what the reward has done."""

SHAPERS = {
    "dmpo": "Distribution matching (DMPO)",
    "xrpo": "Sharpening of novel right answers (XRPO)",
    "progrpo": "Confidence-shaped advantages (ProGRPO)",
    "gardo": "Diversity-scaled advantages (GARDO)",
    "gbpo": "A bounded ratio (GBPO)",
}

WORLD = "bandit/modes, 8 prompts, 12 arms, 4 modes, G = 8, tabular softmax, SGD 0.4 per prompt"
SKEWED = f"{WORLD}, 2 inner steps, start and reference with 2.5 effective modes"

CLAIMS = (
    Claim(
        id="noise_alone_collapses",
        text="From an even start, where the exact flow keeps all modes for all time, sampled GRPO "
        "has lost modes when pass@1 reaches 0.95.",
        metric="modes of the expected path minus effective modes of the run, where pass@1 first "
        "reaches 0.95, even start",
        direction="greater",
        effect=0.25,
        unit="modes",
        region=f"{WORLD}, 1 inner step, even start",
    ),
    Claim(
        id="noise_adds_to_geometry",
        text="From a skewed start, where the exact flow collapses by itself, sampling noise makes "
        "GRPO lose more modes than the flow does.",
        metric="modes of the expected path minus effective modes of the run, where pass@1 first "
        "reaches 0.95, skewed start",
        direction="greater",
        effect=0.25,
        unit="modes",
        region=f"{WORLD}, 1 inner step, start with 2.5 effective modes",
    ),
    Claim(
        id="reference_decides",
        text="At one coefficient reverse KL keeps the spread of an even reference and loses that "
        "of a skewed one.",
        metric="(modes − 1) / (modes of the reference − 1) after 2000 updates, reverse KL 0.05, "
        "even minus skewed reference",
        direction="greater",
        effect=0.25,
        unit="share",
        region=SKEWED.replace("2.5", "4 or 2.5"),
    ),
    Claim(
        id="reverse_kl_collapses",
        text="With its coefficient tuned, reverse KL to a skewed reference still ends with fewer "
        "modes than the reference has.",
        metric="modes of the reference minus effective modes after 2000 updates at pass@1 of at "
        "least 0.95, reverse KL 0.2",
        direction="greater",
        effect=0.25,
        unit="modes",
        region=SKEWED,
    ),
    Claim(
        id="mass_covering_keeps_more",
        text="A mass-covering divergence to the skewed reference (JS, DPH-RL) ends with more modes "
        "than reverse KL, both tuned and both at pass@1 of at least 0.95.",
        metric="effective modes after 2000 updates at pass@1 of at least 0.95, JS 0.8 minus "
        "reverse KL 0.2, same seeds",
        direction="greater",
        effect=0.25,
        unit="modes",
        region=SKEWED,
    ),
    *(
        Claim(
            id=f"{name}_keeps_modes",
            text=f"{method} uses more of the right answers than GRPO when pass@1 reaches 0.95.",
            metric=f"effective modes where pass@1 first reaches 0.95, {CHOSEN[name]} minus GRPO, "
            "same seeds, skewed start",
            direction="greater",
            effect=0.25,
            unit="modes",
            region=SKEWED,
        )
        for name, method in SHAPERS.items()
    ),
    Claim(
        id="gbpo_avoids_luck",
        text="From an even start, where all loss is luck, GBPO uses more of the right answers than "
        "GRPO when pass@1 reaches 0.95: once most rollouts are right it pushes wrong ones only.",
        metric="effective modes where pass@1 first reaches 0.95, gbpo 0.2 minus GRPO, same seeds, "
        "even start",
        direction="greater",
        effect=0.25,
        unit="modes",
        region=SKEWED.replace("2.5", "4"),
    ),
)
