"""The claims about advantage symmetry, fixed before the run."""

from __future__ import annotations

from jaxrl_lab.experiments.claims import Claim

ACCURACY = 0.95
"""Accuracy at which solutions are compared."""

KL = 2.0
"""Nats from the initial policy at which they are compared, too."""

TABLE = "bandit/modes, 16 prompts, 32 arms, 4 solutions, G = 8, tabular softmax, SGD, one step"
FLAT = f"{TABLE}, uniform start"
NETWORK = "bandit/modes, 16 prompts, 32 arms, 4 solutions, G = 8, MLP on prompt features"


def _pushed(name: str, text: str, region: str) -> Claim:
    return Claim(
        id=f"{name}_pushes_unsampled",
        text=f"{text} moves answers that nobody gave at least a tenth as far as those given.",
        metric="Σ mean|Δ log π − c| over unsampled arms / the same over sampled ones, 20 updates; "
        "c the mean of Δ log π over unsampled arms, which normalization alone explains",
        direction="greater",
        effect=0.1,
        unit="share",
        region=region,
    )


def _kept(name: str, text: str, metric: str, region: str = FLAT) -> Claim:
    return Claim(name, text, metric, "greater", 0.25, "solutions", region)


CLAIMS = (
    _pushed("inner_steps", "Taking four inner steps on a batch", TABLE.replace("one", "four")),
    _pushed("adam", "Adam in place of SGD", TABLE.replace("SGD", "Adam")),
    _pushed("shared_parameters", "Sharing parameters between prompts", f"{NETWORK}, SGD, one step"),
    _kept(
        "attenuation_keeps_solutions",
        "From a uniform start attenuating right rollouts keeps more solutions than GRPO.",
        "effective solutions at accuracy 0.95, attenuated to 0.2 minus GRPO, same seeds",
    ),
    _kept(
        "attenuation_keeps_solutions_at_equal_kl",
        "The same at equal distance from the initial policy.",
        "effective solutions at 2 nats from the start, attenuated to 0.2 minus GRPO, same seeds",
    ),
    _kept(
        "attenuation_beats_a_smaller_step",
        "It keeps more than GRPO with the step that reaches the accuracy after as many rollouts.",
        "effective solutions at accuracy 0.95, attenuated to 0.2 minus GRPO interpolated in the "
        "logarithm of its updates to accuracy 0.95 over four learning rates, same seeds",
    ),
    _kept(
        "push_alone_keeps_solutions",
        "What keeps solutions is the push on answers that nobody gave: a baseline raised to the "
        "same mean advantage, without attenuation, keeps more than GRPO.",
        "effective solutions at accuracy 0.95, shifted minus GRPO, same seeds",
    ),
    _kept(
        "attenuation_undoes_a_preference",
        "Also where one right answer starts out ahead attenuation keeps more solutions.",
        "effective solutions at accuracy 0.95, attenuated to 0.2 minus GRPO, same seeds",
        f"{TABLE}, accuracy 0.125 at the start, one right answer ahead by 1.5 in log-odds",
    ),
    Claim(
        id="easy_to_hard_beats_static_focus",
        text="Easy prompts first and hard ones later learns faster than either focus alone and "
        "than no focus.",
        metric="mean accuracy over 60 updates, easy to hard minus the best rival by mean, same "
        "seeds",
        direction="greater",
        effect=0.02,
        unit="accuracy",
        region="bandit/modes, 32 prompts of pass@1 from 0.01 to 0.8, 16 arms, 2 solutions, G = 8, "
        "MLP on prompt features, Adam",
    ),
)
