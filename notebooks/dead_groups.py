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
# # Dead groups
#
# **The question.** GRPO compares the rollouts of one prompt with each other. If all of them are
# right, or all of them wrong, there is nothing to compare: the group is *dead*, and its tokens were
# generated for nothing. Several remedies are on offer. Which of them learn more from the same
# number of generated tokens, and which merely take a larger step?
#
# Here every probability is known exactly, and the experiment takes seconds.

# %%
# # %pip install jaxrl-lab
from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import jaxrl_envs
import matplotlib.pyplot as plt
import numpy as np

import jaxrl_lab as lab
from jaxrl_lab.exact import informative_chance
from jaxrl_lab.experiments.statistics import at_matched, mean_interval
from jaxrl_lab.mechanisms.budget import allocate, marginal_gain, progress_value
from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)
SEEDS, PROMPTS, ARMS, GROUP = 32, 24, 16, 8

# %% [markdown]
# ## How many groups are dead
#
# A prompt is solved with probability $p$. Of $G$ independent rollouts, all are right with
# probability $p^G$ and all wrong with $(1-p)^G$. What is left is the chance that the group can
# teach anything,
#
# $$u_G(p) = 1 - p^G - (1-p)^G .$$

# %%
p = jnp.linspace(0.0, 1.0, 201)
figure, axes = panels.new_figure(1, 1, "The chance that a group can teach", "exact")
ax = axes[0, 0]
for i, size in enumerate((2, 4, 8, 32)):
    ax.plot(p, informative_chance(p, jnp.float32(size)), label=f"G = {size}", **panels.look(i))
panels.finish(ax, "1 − p^G − (1−p)^G", "success probability of the prompt", "probability")
figure

# %% [markdown]
# At $p = 0.6$ and $G = 8$ nearly every group is informative. So a model that is right 60 % of the
# time hardly has a dead group?
#
# Write down your answer. Then look at a policy whose prompts differ in difficulty, from almost
# hopeless to almost certain, as those of a pretrained model do.

# %%
expected = 0.98

# %%
env = jaxrl_envs.make("bandit/modes", prompts=PROMPTS, arms=ARMS, modes=2)
policy = lab.policies.make("tabular", env)
params = replace(env.default_params, hardest=jnp.float32(0.002), easiest=jnp.float32(0.98))
base = lab.pretrain(policy, env, params)
levels = jax.vmap(env.make_level, in_axes=(None, 0))(params, jnp.arange(PROMPTS))
right = jax.vmap(env.correct)(levels)


def pass_rates(logits):
    return lab.measures.accuracy(jax.nn.log_softmax(logits), right)


start = pass_rates(base["logits"][:PROMPTS])
share = float(informative_chance(start, jnp.float32(GROUP)).mean())
alone = float(informative_chance(start.mean(), jnp.float32(GROUP)))
print(f"pass@1 from {start.min():.3f} to {start.max():.3f}, mean {start.mean():.2f}")
print(f"informative groups: {share:.2f}; at the mean pass@1 it would be {alone:.2f}")

# %% [markdown]
# The function is concave, so every spread of difficulty costs informative groups (Jensen). The
# mean accuracy of a run says nothing about how much of the batch is dead.
#
# ## Three ways out
#
# * **Give more rollouts to the prompts where they are worth most.** A *knapsack* budget values
#   $n$ rollouts at $u_n(p)\,p(1-p)^2$: the chance of an informative group times what one step on it
#   gains. It needs to know $p$ and estimates it from past groups.
# * **Leave dead groups out of the mean of the loss.** No new data; the denominator shrinks, so that
#   this is GRPO with its learning rate divided by the informative share. It is the *control*.
# * **Do nothing, with a larger learning rate.**
#
# Which of the first two is ahead after the same number of tokens, at the same learning rate? And at
# a rate that is large enough for everybody? Again: first your answer, then the run.


# %%
def look(env, policy, world, first, before, after):
    p = pass_rates(after.params["logits"][:PROMPTS])
    sampled = pass_rates(before.params["logits"][:PROMPTS])
    return {
        "accuracy": p.mean(),
        "expected": informative_chance(sampled, jnp.float32(GROUP)).mean(),
    }


METHODS = {
    "GRPO": lab.recipe("grpo", group=GROUP, epochs=1),
    "dead groups left out": lab.recipe("filter_groups", group=GROUP, epochs=1),
    "knapsack": lab.recipe("grpo", group=4 * GROUP, epochs=1, task="knapsack"),
}
SMALL, LARGE = 6.0, 384.0
runs = {}
for name, recipe in METHODS.items():
    arm = replace(lab.make_arm(env, policy, recipe), env_params=params, base=base)
    rates = {"recipe.optimizer.learning_rate": [SMALL, LARGE]}
    runs[name] = lab.sweep(arm, rates, updates=60, seeds=SEEDS, measure=look)
    print(name, list(runs[name].arms))

# %% [markdown]
# First the identity: the counted share of informative groups has to lie on the closed form with
# the current $p$ of every prompt.

# %%
note = f"{SEEDS} seeds; shades are 95 % t intervals; all arms generate 192 tokens per update"
figure, axes = panels.new_figure(1, 3, "Informative groups, and what is learned from them", note)


def curve(name, rate, variable):
    run = runs[name]
    small, large = run.arms
    return run.update, run.curve(variable, small if rate == SMALL else large)


ax = axes[0, 0]
x, counted = curve("GRPO", SMALL, "informative_groups")
_, closed = curve("GRPO", SMALL, "expected")
ax.plot(x[1:], closed[:, 1:].mean(0), color="#999999", linewidth=5, alpha=0.5, label="closed form")
panels.band(ax, x[1:], counted[:, 1:], "counted", 0)
panels.reference(ax, expected, "written down before")
ax.set_ylim(0, 1.05)
panels.finish(ax, "GRPO's groups", "updates", "informative share")
for ax, rate in zip(axes[0, 1:], (SMALL, LARGE), strict=True):
    for i, name in enumerate(METHODS):
        panels.band(ax, *curve(name, rate, "accuracy"), name, i)
    panels.finish(ax, f"Learning rate {rate:g}", "updates", "accuracy (exact pass@1)")
figure

# %% [markdown]
# At the small rate the control is ahead of everything: the remedy that makes no use of its tokens
# but takes a larger step. At the large rate the order turns. Steps are no limit any more, and what
# counts is who *finds* a right answer first; there the budget is ahead.
#
# ## The limit of equal groups
#
# Suppose that one informative group solved its prompt for good. A prompt with chance $u_b$ a batch
# is still waiting after $t$ batches with probability $(1-u_b)^t$, so accuracy is
#
# $$\frac1B \sum_b \Big[1 - (1-u_b)^t\,(1-p_b)\Big].$$
#
# No learning rate can bring equal groups beyond this.

# %%
chance = np.asarray(informative_chance(start, jnp.float32(GROUP)))
times = np.arange(61)
limit = 1 - ((1 - chance) ** times[:, None] * (1 - np.asarray(start))).mean(1)
figure, axes = panels.new_figure(1, 1, "What no step size can pass", note)
ax = axes[0, 0]
ax.plot(times, limit, color="#999999", linewidth=5, alpha=0.5, label="exact limit of equal groups")
for i, name in enumerate(METHODS):
    panels.band(ax, *curve(name, LARGE, "accuracy"), name, i)
ax.set_ylim(0.6, 1.01)
panels.finish(ax, f"Learning rate {LARGE:g}", "updates", "accuracy (exact pass@1)")
figure

# %%
for name in METHODS:
    x, accuracy = curve(name, LARGE, "accuracy")
    times_to = at_matched(accuracy, np.broadcast_to(x, accuracy.shape), [0.95])[:, 0]
    here = times_to[np.isfinite(times_to)]
    interval = mean_interval(here)
    print(f"{name:<22} updates to accuracy 0.95: {interval.mean:5.1f} "
          f"± {interval.high - interval.mean:.1f} ({len(here)}/{SEEDS} seeds)")  # fmt: skip

# %% [markdown]
# ## The mechanism opened
#
# A knapsack is a hard problem in general. This one is not: the value of a prompt is *concave* in
# its number of rollouts, each rollout is worth less than the one before,
#
# $$v(n+1) - v(n) = \big[p^n(1-p) + (1-p)^n p\big]\,p(1-p)^2 ,$$
#
# so taking the largest gains first is optimal. We check it against all splits of 12 rollouts over
# four prompts:

# %%
four = jnp.array([0.02, 0.2, 0.5, 0.95])
greedy = np.asarray(allocate(marginal_gain(four, 6), jnp.int32(12), 1))


def worth(split):
    return float(progress_value(jnp.asarray(split, jnp.float32), four).sum())


splits = [s for s in product(range(1, 7), repeat=4) if sum(s) == 12]
best = max(splits, key=worth)
print(f"greedy {greedy.tolist()} is worth {worth(greedy):.6f}")
print(f"best of {len(splits)} splits {list(best)} is worth {worth(best):.6f}")

# %% [markdown]
# And what it does with 24 prompts if it knew their $p$ exactly: hopeless and solved prompts get the
# least, hard ones most.

# %%
sizes = np.asarray(allocate(marginal_gain(start, 32), jnp.int32(GROUP * PROMPTS), 2))
order = np.argsort(np.asarray(start))
print("pass@1    rollouts")
for b in order[::3]:
    print(f"{float(start[b]):6.3f}    {'#' * int(sizes[b])} {int(sizes[b])}")
equal, split = (
    float(np.average(informative_chance(start, jnp.asarray(n, jnp.float32)), weights=n))
    for n in (np.full(PROMPTS, GROUP), sizes)
)
groups = float(np.mean(informative_chance(start, jnp.asarray(sizes, jnp.float32))))
print(f"\ninformative rollouts {equal:.2f} → {split:.2f}, groups {share:.2f} → {groups:.2f}")

# %% [markdown]
# Rollouts and groups do not move alike. A number for "the informative share" means little before
# it is said which of the two it counts.
#
# ## Limits
#
# The verifier never errs and prompts share no parameters: one success is proof, and a step can
# hardly be too large. With noisy verdicts or a network the best learning rate is smaller, and the
# exploration limit is further away. An episode is one token, so right and wrong answers cost the
# same.
#
# ## What to try next
#
# * `jaxrl-lab run dead_groups` adds dynamic sampling, replay of opposite outcomes and hints, five
#   learning rates for each, and the verdicts.
# * Estimate $p$ from the last visit alone: `task={"knapsack": {"decay": 0.0}}`. A solved prompt
#   with two rollouts then looks unsolved again.
# * Give every prompt the same weight: `credit="equal_prompts"`. How much of the gain at the small
#   learning rate is left?
