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
# # Common random numbers
#
# **The question.** Two variants of an algorithm, 32 seeds each: is one better? Most of the spread
# between seeds is luck that both variants could share: the same initial policy, the same prompts,
# the same uniforms behind the actions. How many seeds is sharing it worth, and when does it stop
# being worth anything?
#
# **A prediction first.** With the correlation $\rho$ of two arms of equal spread over the seeds,
# the variance of their paired difference is $1 - \rho$ times that of independent arms. So arms that
# hardly differ should gain a lot, and arms that part ways early should gain little. Write down what
# you expect for a learning rate 5 % larger, for another clip, and for another algorithm.

# %%
# # %pip install jaxrl-lab
import matplotlib.pyplot as plt
import numpy as np

import jaxrl_lab as lab
from jaxrl_lab.experiments.spec import parse_experiment
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)

# %% [markdown]
# ## The experiment
#
# A bandit of 16 prompts with 16 arms, GRPO, and three changes of it. The world and the policy know
# nothing of seeds: all noise comes from keys, and keys have an address (seed, update, time, prompt,
# rollout). An action is read off one uniform number by the inverse of the cumulative distribution,
# so that two policies that are nearly equal take nearly always the same action.

# %%
experiment = parse_experiment(
    {
        "environment": {"id": "bandit/modes", "prompts": 16, "arms": 16, "modes": 4},
        "policy": {"id": "tabular", "scale": 1.5},
        "recipe": {"group": 8, "epochs": 4, "optimizer": [{"sgd": {"learning_rate": 6.4}}]},
        "updates": 60,
        "measure_every": 4,
        "seeds": 32,
        "arms": {
            "grpo": {"recipe": "grpo"},
            "rate × 1.05": {"recipe": "grpo", "recipe.optimizer.learning_rate": 6.72},
            "clip higher": {"recipe": "clip_higher"},
            "rloo": {"recipe": "rloo"},
        },
    }
)


def run(common_noise):
    sizes = experiment.sizes | {"common_noise": common_noise}
    return lab.run_arms(
        experiment.build(), **sizes, measure=one_step.measure, describe=one_step.DESCRIBE
    )


shared, own = run(common_noise=True), run(common_noise=False)

# %% [markdown]
# ## Paired beside unpaired
#
# `result.difference` gives both intervals of one difference. The last number is the ratio of their
# variances: so many times as many seeds would be needed without the pairing.

# %%
changes = [arm for arm in shared.names if arm != "grpo"]
for update in (20, 60):
    print(f"accuracy after {update} updates, minus that of grpo")
    for arm in changes:
        print(f"  {arm:<12}", shared.difference("accuracy", arm, "grpo", update))

# %% [markdown]
# With noise of their own the arms have nothing in common, and the pairing is worth nothing:

# %%
for arm in changes:
    print(f"  {arm:<12}", own.difference("accuracy", arm, "grpo", 60))

# %% [markdown]
# ## What it is worth over time
#
# Paths that began alike drift apart: every action that differs changes what both learn from. So the
# saving is large early, and larger where the change is smaller. It may rise again at the end, where
# both arms of a seed have settled on the same answers, prompt by prompt.

# %%
note = f"{len(shared.seeds)} seeds; bars are 95 % intervals of the difference"
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
updates = [int(u) for u in shared.update if u > 0]
for i, arm in enumerate(changes):
    worth = [shared.difference("accuracy", arm, "grpo", u).seeds_saved for u in updates]
    left.plot(updates, worth, label=arm, **panels.look(i))
left.axhline(1.0, color="black", linewidth=0.8)
left.set_yscale("log")
panels.finish(left, "Worth so many times the seeds", "updates (batches)", "variance ratio")
for i, (label, result) in enumerate((("shared noise", shared), ("own noise", own))):
    found = [result.difference("accuracy", arm, "grpo").paired for arm in changes]
    mean = np.array([interval.mean for interval in found])
    half = np.array([interval.high - interval.mean for interval in found])
    place = np.arange(len(changes)) + 0.15 * (2 * i - 1)
    right.errorbar(place, mean, half, fmt="os"[i], capsize=3, label=label, color=panels.COLORS[i])
right.axhline(0.0, color="black", linewidth=0.8)
right.set_xticks(range(len(changes)), changes)
panels.finish(right, "The same comparison", "", "accuracy minus that of grpo")
figure.supxlabel(note, fontsize=8)
plt.show()

# %% [markdown]
# ## The mechanism, opened
#
# Two policies that differ by $\varepsilon$ in total variation take different actions from the same
# uniform with a probability of the order of $\varepsilon$, and from two independent uniforms almost
# always. Coupling by the inverse distribution function is not the best possible coupling, but it
# needs no knowledge of the other arm.

# %%
rng = np.random.default_rng(0)
logits = rng.normal(size=16)
for shift in (0.0, 0.05, 0.2, 1.0):
    p, q = (np.exp(z) / np.exp(z).sum() for z in (logits, logits + shift * rng.normal(size=16)))
    u, v = rng.random((2, 100_000))
    first = np.searchsorted(p.cumsum(), u)
    agree, chance = (np.mean(first == np.searchsorted(q.cumsum(), w)) for w in (u, v))
    apart = 0.5 * np.abs(p - q).sum()
    print(f"total variation {apart:.3f}: same action {agree:.3f}, by chance {chance:.3f}")

# %% [markdown]
# ## Limits, and what to try next
#
# - Pairing narrows intervals of *differences*. The level of one arm is as uncertain as before.
# - Seeds stay the unit. Sharing noise does not make 8 seeds into 64 for a claim about one arm.
# - Where arms draw other prompts (dynamic sampling) or play longer, addresses stop meaning the same
#   thing, and what is left of the pairing is the initial policy.
# - Try: a transformer instead of a table, 200 updates instead of 60, Adam instead of SGD. Which of
#   them destroys the correlation fastest?
