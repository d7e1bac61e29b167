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
# # The capability boundary
#
# **The question.** A policy is trained with 0/1 rewards and becomes right more often. If we let it
# try 256 times, can it still solve everything it could solve before? Some papers say that training
# shrinks this boundary, some that it expands it, some that it does the first and then the second.
#
# Here pass@k is not estimated but computed, for every prompt, those included that the policy was
# never trained on. And what one prompt's update does to another is computed too.

# %%
# # %pip install jaxrl-lab
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import matplotlib.pyplot as plt
import numpy as np

import jaxrl_lab as lab
from jaxrl_lab.phenomena.capability_boundary.measure import (
    ATTEMPTS,
    GROUP,
    measure,
    pass_gradients,
    train_only,
)
from jaxrl_lab.plots import panels
from jaxrl_lab.rollouts.world import make_world

# %matplotlib inline
plt.rcParams.update(panels.STYLE)
SEEDS, UPDATES, EVERY = 16, 120, 6

# %% [markdown]
# ## Two policies with the same abilities
#
# There are 32 prompts of 16 arms, four of them right. Which four is a hidden rule of the prompt's
# features, so that a network can carry what it learns to the 64 held-out prompts. Base policies
# are pretrained to pass rates between 0.001 and 0.9: a table with a row per prompt, and a small
# network that all prompts share.

# %%
sizes = {"prompts": 32, "test_prompts": 64, "arms": 16, "modes": 4}
features = jaxrl_envs.make("bandit/modes", observation="features", **sizes)
numbers = jaxrl_envs.make("bandit/modes", **sizes)
hard = replace(features.default_params, hardest=jnp.float32(0.001))
network = lab.policies.make("mlp", features, hidden=(32,))
table = lab.policies.make("tabular", numbers)
base = {
    "network": lab.pretrain(network, features, hard, steps=1000, batch=64, learning_rate=1e-2),
    "table": lab.pretrain(table, numbers, hard),
}

# %% [markdown]
# ## Write down what you expect
#
# We train both with GRPO, one inner step per batch. Does pass@256 of the train prompts rise or fall
# (a) with the table, (b) with the network? And (c) that of the held-out prompts?
#
# For (a) there is an argument. The advantages of a group sum to zero, so arms that nobody sampled
# keep their logits. Sampled right arms go up, sampled wrong ones go down. So no pass rate can fall,
# whatever is drawn, and pass@k = 1 − (1 − p)^k rises with p. If anything shrinks in (b) or (c), it
# is not GRPO alone: it is what prompts do to each other.

# %%
expected = {"table": "up", "network, train": "?", "network, held out": "?"}

# %% [markdown]
# ## The smallest experiment that answers it

# %%
weights = {"positive": 1.0, "negative": 1.0}  # 1 changes nothing; other numbers come later


def arm(kind, rate, **changes):
    chain = ["group_normalized", {"attenuate": weights | changes}]
    optimizer = {"sgd": {"learning_rate": rate}}
    recipe = lab.recipe("grpo", epochs=1, advantage=chain, optimizer=optimizer)
    if kind == "table":
        return lab.Arm(numbers, hard, table, recipe, base["table"])
    return lab.Arm(features, hard, network, recipe, base["network"])


METHODS = {
    "GRPO": arm("network", 4.0),
    "wrong answers only": arm("network", 4.0, positive=0.0),
    "right answers only": arm("network", 4.0, negative=0.0),
}
run = {"updates": UPDATES, "every": EVERY, "seeds": range(SEEDS)}
shared = lab.run_arms(METHODS, measure=measure, **run)
apart = lab.run_arms({"GRPO": arm("table", 16.0)}, measure=train_only, **run)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
for i, (result, split, label) in enumerate(
    [
        (apart, "train", "a row per prompt"),
        (shared, "train", "network, train"),
        (shared, "test", "network, held out"),
    ]
):
    after = [result.curve(f"pass_{k}_{split}", "GRPO")[:, -1] for k in ATTEMPTS]
    before = [result.curve(f"pass_{k}_{split}", "GRPO")[0, 0] for k in ATTEMPTS]
    panels.dots(left, ATTEMPTS, after, f"GRPO, {label}", i)
    if i:
        left.plot(ATTEMPTS, before, color=panels.COLORS[i], linestyle=":", label="base, " + label)
    panels.band(right, result.update, result.curve(f"pass_256_{split}", "GRPO"), label, i)
left.set_xscale("log", base=2)
panels.finish(left, f"pass@k, {SEEDS} seeds, 95 % t intervals", "tries k", "pass@k")
panels.finish(right, "The boundary", "updates (batches)", "pass@256")

# %% [markdown]
# With a row per prompt the boundary rises, as it must. With the network it rises on the prompts
# that are trained on and falls on those that are not: the trained policy is far better at k = 1
# and worse at k = 256. Whether "training shrinks the boundary" depends on which prompts one asks
# about.
#
# Note the base policy: on held-out prompts it is right 17 % of the time and yet solves nearly all
# of them in 256 tries. It has little to win at large k and much to lose.

# %% [markdown]
# ## The mechanism, opened with the oracle
#
# The expected update is $\theta \leftarrow \theta + \eta\,\mathrm{mean}_b\, w(p_b)\nabla p_b$. So
# the effect on $\log p_b$ is $w_b|\nabla p_b|^2/p_b \ge 0$ from the prompt itself, and $\sum_{c
# \ne b} w_c \langle\nabla p_c, \nabla p_b\rangle/p_b$ from the others. All gradients fit on one
# page.

# %%
world = make_world(features, hard)
middle = jax.tree.map(lambda x: x[0], shared.params["GRPO"])  # of the first seed, at the end
fig, axes = plt.subplots(1, 2, figsize=(9.0, 3.8), layout="constrained")
for ax, (title, params) in zip(
    axes, {"Before training": base["network"], "At the end": middle}.items(), strict=True
):
    p, gradient = pass_gradients(features, network, world, params)
    order = np.argsort(np.asarray(p))
    length = jnp.linalg.norm(gradient, axis=1, keepdims=True)
    unit = gradient / jnp.maximum(length, 1e-30)
    cosine = np.asarray(unit @ unit.T)[order][:, order]
    shown = ax.imshow(cosine, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.grid(visible=False)
    panels.finish(ax, title, "prompt c, hardest first", "prompt b, hardest first")
    own, cross = lab.exact.own_and_cross(gradient, lab.exact.difficulty_weight(p, GROUP, ddof=1), p)
    undone = float(jnp.sum(jnp.maximum(-cross, 0.0)) / jnp.sum(own))
    helped = float(jnp.sum(jnp.maximum(cross, 0.0)) / jnp.sum(own))
    print(f"{title}: other prompts add {helped:.2f} and undo {undone:.2f} of the own effect")
fig.colorbar(shown, ax=axes, label="cosine of ∇p_b and ∇p_c")

# %% [markdown]
# Before training hardly any two gradients oppose each other, and other prompts add more to what a
# prompt gains than it does itself. At the end reds and blues are as frequent, and little is added
# or undone any more. The diagonal is always 1: a prompt never works against itself.

# %% [markdown]
# ## Do wrong answers keep the boundary?
#
# It has been claimed that learning from wrong answers only keeps diversity and the boundary. We
# compare at equal pass@1 of the train prompts, since a method that merely learns less always keeps
# more.

# %%
LEVELS = (0.4, 0.5, 0.6)
fig, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
for i, name in enumerate(METHODS):
    reached = lab.statistics.at_matched(
        shared.curve("pass_1_train", name), shared.curve("pass_256_test", name), LEVELS
    )
    panels.dots(ax, np.array(LEVELS) + 0.01 * (i - 1), list(reached.T), name, i)
title = f"At equal pass@1, {SEEDS} seeds, 95 % t intervals"
panels.finish(ax, title, "pass@1 of train prompts", "pass@256, held out")

# %% [markdown]
# At first yes, then no: pushing down what was sampled moves probability to whatever the network
# finds similar. The mirror image, right answers only, is the one that keeps the boundary here.
#
# ## Limits
#
# One small network, one rule, held-out prompts from the same distribution. A bandit has no
# reasoning in which a new chain of steps could be found. Wrong answers only does keep all four
# solutions where prompts share nothing; which of the two cases a large model is closer to is not
# decided here.
#
# ## What to try next
#
# * A wider network, `hidden=(128,)`, or 128 prompts: does the held-out boundary still fall?
# * A quarter of the step and four times the updates: how much of the fall is sampling noise?
# * `lab.run("capability_boundary")` has more methods, the exact paths, and the two stages of a
#   policy whose known good answer hides a better one.
