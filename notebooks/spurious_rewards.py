# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Spurious rewards
#
# **The question.** We train a policy with GRPO, but the verifier is broken: it flips a fair coin
# for every answer. The reward contains no information at all. What happens to the policy?
#
# Reports from language models disagree with the obvious answer. Some models got *better* at
# mathematics on coin flips (arXiv 2506.10947), and the explanation offered is the ratio clip of
# PPO and GRPO: it is said to make likely things likelier, so that a model with good habits gains. A
# later paper (arXiv 2512.16912) answers that the clip lowers entropy and teaches nothing. In a
# bandit we can compute what one update does, exactly, and see which part of this is true.

# %%
# # %pip install jaxrl-lab
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import matplotlib.pyplot as plt
import numpy as np

import jaxrl_lab as lab
from jaxrl_lab.experiments.statistics import mean_interval
from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)
SEEDS, PROMPTS, ARMS, RIGHT = 64, 32, 6, 3


def cell(sample):
    interval = mean_interval(sample)
    return f"{interval.mean:+.3f} ± {interval.high - interval.mean:.3f}"


# %% [markdown]
# ## The world
#
# Six arms per prompt, three of them right. The world has a second reward channel, `verified`: the
# truth, flipped with probability $f_+$ where it is false and $f_-$ where it is true. At
# $f_+ = f_- = \tfrac12$ it is a coin.
#
# The policy starts from a *base policy* that is right exactly half of the time and prefers one
# arm. We make two of them: one prefers a right arm, the other a wrong one.

# %%
env = jaxrl_envs.make("bandit/modes", prompts=PROMPTS, arms=ARMS, modes=RIGHT, verifier=True)
policy = lab.policies.make("tabular", env)
half = jnp.float32(0.5)
coin = replace(env.default_params, hardest=half, easiest=half)  # pass@1 of every prompt
coin = replace(coin, false_positive=half, false_negative=half)
levels = jax.vmap(env.make_level, in_axes=(None, 0))(coin, jnp.arange(PROMPTS))
right = jax.vmap(env.correct)(levels)  # [prompt, arm]

base = {
    prior: lab.pretrain(policy, env, coin, prior=prior, prior_strength=3.0)
    for prior in ("correct", "incorrect")
}
for prior, params in base.items():
    pi = jax.nn.softmax(params["logits"][0])
    shown = (f"{p:.3f}{'*' * bool(r)}" for p, r in zip(pi, right[0], strict=True))
    print(f"prior {prior:<9} arms of prompt 0:", *shown)
print("(* right)")

# %% [markdown]
# Look at the two rows: they are mirror images. Coins cannot tell right from wrong, so whatever
# random rewards do to the accuracy of one base policy, on average they do the opposite to the
# other. **If coin flips help a policy with good habits, they hurt one with bad habits by as much.**
#
# The recipe is GRPO with eight rollouts and four inner steps on each batch. Ratios move only
# because a batch is used more than once; with a single inner step no clip ever acts.

# %%
step = 0.4  # of one inner ascent, on the mean over the group of a prompt
grpo = lab.recipe(
    "grpo",
    reward={"channel": {"name": "verified"}},
    optimizer={"sgd": {"learning_rate": step * PROMPTS}},
)
print(grpo)

# %% [markdown]
# ## Write down what you expect
#
# Will the probability of the preferred arm, 0.455 at the start, be higher or lower after 200
# updates on coin flips, (a) with the clip and (b) without it? Two thoughts to choose from:
#
# | if you believe that … | with clip | without |
# |---|---|---|
# | no information, no change on average | 0.455 | 0.455 |
# | the clip amplifies habits | above 0.455 | 0.455 |

# %%
expected_with, expected_without = 0.6, 0.455

# %% [markdown]
# ## The smallest experiment that answers it
#
# Four clips: none, symmetric, only the upper bound, only the lower bound. "None" is the clip with
# both sides so wide that nothing ever reaches them. Bounds are numbers, so all eight arms (four
# clips, two base policies) train in one program.

# %%
OPEN, WIDE = 1.0, 1e9
CLIPS = {
    "no clip": (OPEN, WIDE),
    "symmetric": (0.2, 0.2),
    "upper only": (OPEN, 0.2),
    "lower only": (0.2, WIDE),
}


def look(env, policy, world, first, before, after):
    start, logp = (jax.nn.log_softmax(params["logits"]) for params in (first, after.params))
    liked = jnp.argmax(start, axis=-1)[:, None]
    return {
        "accuracy": lab.measures.accuracy(logp, right).mean(),
        "prior": jnp.exp(jnp.take_along_axis(logp, liked, axis=-1)).mean(),
        "entropy": lab.measures.token_entropy(logp).mean(),
    }


def arm(clip, prior="correct", **changes):
    low, high = CLIPS[clip]
    recipe = lab.recipe(grpo, surrogate={"clip": {"low": low, "high": high}}, **changes)
    return lab.Arm(env, coin, policy, recipe, base[prior])


arms = {f"{clip}, {prior}": arm(clip, prior) for clip in CLIPS for prior in base}
print("programs traced before:", lab.traces())
result = lab.run_arms(arms, updates=200, seeds=range(SEEDS), measure=look, every=4)
print("programs traced after: ", lab.traces())

# %%
note = f"{SEEDS} seeds; shades and bars are 95 % t intervals over seeds"
figure, axes = panels.new_figure(1, 3, "200 updates on coin flips", note)
ax, entropy, accuracy = axes[0]
for i, clip in enumerate(CLIPS):
    panels.band(ax, result.update, result.curve("prior", f"{clip}, correct"), clip, i)
    panels.band(entropy, result.update, result.curve("entropy", f"{clip}, correct"), clip, i)
panels.reference(ax, float(result.curve("prior", "no clip, correct")[0, 0]), "base policy")
panels.finish(ax, "The preferred arm", "updates (batches)", "probability", legend=False)
panels.finish(entropy, "Entropy falls in any case", "updates (batches)", "entropy (nats)")
for i, prior in enumerate(base):
    curves = [result.curve("accuracy", f"{clip}, {prior}") for clip in CLIPS]
    x = np.arange(len(CLIPS)) + 0.1 * (i - 0.5)
    panels.dots(accuracy, x, [c[:, -1] - c[:, 0] for c in curves], f"prior {prior}", i, join=False)
accuracy.axhline(0, color="#444444", linewidth=0.8)
accuracy.set_xticks(range(len(CLIPS)), list(CLIPS))
panels.finish(accuracy, "Accuracy", "", "end minus start")
figure

# %%
for clip in CLIPS:
    curve = result.curve("prior", f"{clip}, correct")
    print(f"preferred arm, {clip:<11} {cell(curve[:, -1] - curve[:, 0])}")
print(f"written down: {expected_with - 0.455:+.3f} with the clip, ", end="")
print(f"{expected_without - 0.455:+.3f} without")

# %% [markdown]
# Neither row of the table. Three things to explain:
#
# 1. without a clip the preferred arm does not stay where it is: it *falls*, a lot;
# 2. the symmetric clip saves part of it, so that **compared with no clip** it does favor the prior,
#    but it does not lift it above the start;
# 3. the upper bound alone holds or lifts it, the lower bound alone lets it fall furthest.
#
# And the base policy that *gains* accuracy is the one with the wrong prior.
#
# ## Opening the update: reuse pushes away from the mode
#
# Take one prompt and one batch of coin flips, without a clip. The advantages $A_i$ of a group add
# up to zero and know nothing of the actions, so the first inner step moves the logits by zero on
# average. The second does not: the ratio $\rho_i$ of an action that just went up is above one, of
# one that went down below one, so what was pushed up is pushed up again with more weight, and what
# was pushed down with less. Carried to second order (a few lines, with $v = \operatorname{Var}
# A_i$ and $E$ inner steps),
#
# $$\mathbb E[\Delta z] = -\,\eta^2\,\frac vG\,\frac{E(E-1)}2\;\nabla_z \sum_a \pi_a^2 .$$
#
# Reusing a batch of random rewards is gradient *ascent on diversity* $1 - \sum_a\pi_a^2$: away from
# whatever is likely. With $E = 1$ it vanishes. Before we believe it, we check it against an oracle
# that enumerates every group of eight (arm, verdict) pairs with its inner steps, clip included.

# %%
logits = base["correct"]["logits"][0]
logp, liked = jax.nn.log_softmax(logits), int(jnp.argmax(logits))
paid = jnp.full(ARMS, 0.5)
variance = lab.exact.advantage_variance(half, grpo.group)


def one_update(eta, clip, epochs=grpo.epochs):
    low, high = CLIPS[clip]
    return lab.exact.noisy_clipped_change(logits, paid, grpo.group, epochs, eta, low, high)


print("expected change of the preferred arm by one update, divided by η²")
print("    η    enumerated    second order    enumerated, one inner step of 4η")
for eta in (0.025, 0.05, 0.1, 0.2, 0.4):
    second = lab.exact.random_reward_change(logp, grpo.group, eta, grpo.epochs, variance)
    exact = one_update(eta, "no clip").policy[liked]
    once = one_update(4 * eta, "no clip", epochs=1).policy[liked]
    row = (x / eta**2 for x in (exact, second[liked], once))
    print(f"{eta:5.3f}" + "".join(f"{x:14.4f}" for x in row))

# %% [markdown]
# The last column takes the same total step in one piece. A part of the fall is there too: it is the
# curvature of the softmax, which makes a likely arm lose on average when its logit jitters. The
# larger part is reuse.
#
# ## Opening the clip: less likely arms reach the bounds first
#
# A less likely arm that was sampled moves far in *ratio*; the preferred arm, sampled three times of
# eight with verdicts that partly cancel, hardly moves. So the bounds act mostly on the others. The
# upper bound cuts their rises and leaves their falls, which is good for the preferred arm. The
# lower bound cuts their falls and leaves their rises, which is bad for it. How much, depends on
# the step:

# %%
etas = np.geomspace(0.1, 3.2, 12).astype(np.float32)
changes = {clip: [one_update(eta, clip) for eta in etas] for clip in CLIPS}

note = "Exact: all groups of one prompt are enumerated. Nothing is sampled, so there is no interval"
figure, axes = panels.new_figure(1, 2, "One update on coin flips", note)
for i, (clip, change) in enumerate(changes.items()):
    prior = np.array([c.policy[liked] for c in change]) / etas**2
    spread = np.array([c.entropy for c in change]) / etas**2
    axes[0, 0].plot(etas, prior, label=clip, **panels.look(i))
    axes[0, 1].plot(etas, spread, label=clip, **panels.look(i))
for ax in axes[0]:
    ax.axhline(0, color="#444444", linewidth=0.8)
    ax.set_xscale("log")
panels.finish(axes[0, 0], "Preferred arm", "inner step η", "E Δπ / η²")
panels.finish(axes[0, 1], "Entropy", "inner step η", "E ΔH / η² (nats)", legend=False)
figure

# %% [markdown]
# Left: at small steps no ratio reaches a bound and all four agree. In between, the bounds pull
# apart exactly as in the training curves. At large steps the effect of the upper bound *changes
# its sign*. Right: the entropy ordering of "no clip" and "symmetric" is not the same everywhere
# either; in the training curves above it even turns around on the way. A sentence about what
# clipping does to entropy, without a step size and a length of training, is not a sentence about
# anything.
#
# Is this what sampled training does? The preferred arm after the first update, at two step sizes:

# %%
print("change of the preferred arm by the first update, sampled and exact")
for eta in (0.4, 1.6):
    arms = {c: arm(c, optimizer={"sgd": {"learning_rate": eta * PROMPTS}}) for c in CLIPS}
    first = lab.run_arms(arms, updates=1, seeds=range(512), measure=look)
    for clip in CLIPS:
        curve = first.curve("prior", clip)
        exact = float(one_update(np.float32(eta), clip).policy[liked])
        print(f"  η = {eta}   {clip:<11} {cell(curve[:, 1] - curve[:, 0])}   exact {exact:+.4f}")

# %% [markdown]
# ## Your turn: a clip without a bias?
#
# If the upper bound favors the prior and the lower bound opposes it, there should be a pair of
# bounds at which random rewards leave the preferred arm alone, and the oracle can find it without
# training. **Write down** whether it needs a tighter upper or a tighter lower bound than (0.2,
# 0.2), then run the cell.

# %%
lows = {0.1: 0, 0.2: 1, 0.4: 2, 1.0: 3}
highs = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
eta = np.float32(step)
figure, axes = panels.new_figure(1, 1, "Which bounds are fair to the prior?", "Exact, one update")
ax = axes[0, 0]
for low, i in lows.items():
    drift = [
        lab.exact.noisy_clipped_change(logits, paid, grpo.group, 4, eta, low, high).policy[liked]
        for high in highs
    ]
    ax.plot(highs, drift, label=f"lower {low:g}", **panels.look(i))
ax.axhline(0, color="#444444", linewidth=0.8)
panels.finish(ax, f"η = {step:g}", "upper bound", "E Δπ(preferred arm)")
figure

# %% [markdown]
# With a lower bound of 0.2 the zero is at an upper bound of about 0.14: to be fair to the preferred
# arm, rises must be cut *earlier* than falls. Clip-higher (0.2, 0.28) goes the other way.
#
# ## A verifier that is merely bad
#
# Between truth and coin lies every real verifier. Its expected gradient is the true one times
# $1 - f_+ - f_-$; dividing by the group's deviation brings a second factor. Nothing else changes,
# which is why moderate noise costs time and not direction, and why flipped verdicts
# ($f_+ = f_- = 1$) simply unlearn.

# %%
p = jnp.float32(0.2)
print("pass@1 0.2, f− = 0.2     A = R − mean    with std, G = 8    with std, G → ∞")
for fp in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
    row = [lab.exact.noise_factor(p, fp, 0.2)]
    row += [lab.exact.noise_factor(p, fp, 0.2, normalized=True, G=g) for g in (8, 0)]
    print(f"  f+ = {fp:<15g}" + "".join(f"{float(x):18.3f}" for x in row))

# %% [markdown]
# ## Limits: what this cannot say about large models
#
# * **Prompts share nothing.** In a language model a habit such as "write a program" is shared by
#   all prompts; strengthening it on one strengthens it on all. The published gains are explained
#   by such habits, and there are none here.
# * **One preferred arm and a flat rest.** How strong the pushes are depends on the shape of the
#   base policy. That they exist, and which way the two bounds push, does not.
# * **Four inner steps that move ratios by tens of percent.** Large runs clip well under one
#   percent of their tokens. At small steps the curves above lie on top of each other.
# * **Coins are fair here.** A random reward that prefers, say, longer answers is not random.
#
# ## What to try next
#
# * `lab.run("spurious_rewards")` is the full experiment: claims fixed beforehand, comparison at
#   equal KL, flipped verdicts crossed with every clip, six step sizes, and verdicts.
# * Prove the mirror: show that swapping right and wrong arms maps one base policy to the other.
# * Set `epochs=1` in the recipe. Which of the three observations survive?
# * Replace the clip by `truncated_weight`. It bounds the ratio and never drops a gradient.
