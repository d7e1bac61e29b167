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
# # Emergent exploration
#
# **The question.** Four boxes, one of which hides a reward of 1. Once you know where it is, you may
# take it in every trial until the boxes are shuffled again, after 20 trials in the mean. Opening a
# box costs the trial, and with it a safe pay of 0.45. An agent without any bonus for novelty, which
# always takes the action it values most: when does it open a box?
#
# Nothing in it wants to know anything. If it searches, then because searching *is* exploiting, seen
# from far enough.

# %%
# # %pip install jaxrl-lab
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxrl_envs.gridworlds import search_or_safe

from jaxrl_lab import exact
from jaxrl_lab.experiments.run import run_arms
from jaxrl_lab.experiments.spec import parse_experiment
from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)
SEEDS, SAFE, PLACES, BLOCK = 8, 0.45, 4, 20.0

# %% [markdown]
# ## The prediction
#
# Let $\gamma$ be the discount from one trial to the next and $d = (1 - 1/20)\,\gamma$, because the
# block may end. A reward that is known is worth $1/(1-d)$, the safe pay for ever $0.45/(1-d)$. With
# $j$ boxes opened, the next one holds the reward with probability $p_j = 1/(4-j)$, and
#
# $$S_j = p_j \frac{1}{1-d} + (1-p_j)\, d\, W_{j+1}, \qquad
#   W_j = \max\Big(S_j, \frac{0.45}{1-d}\Big).$$
#
# Searching is right at the start of a block iff $S_0 > 0.45/(1-d)$. **Before you go on:** at a
# discount of 0 the first box is worth 0.25. Where between 0 and 1 does the sign change?

# %%
world = {"cells": PLACES, "checked": 1, "safe": SAFE, "block": BLOCK}
switch = search_or_safe.switch_discount(**world)
for discount in (0.0, 0.4, 0.6, 0.9):
    solved = search_or_safe.solve(discount, **world)
    print(f"discount {discount:.1f}: search {solved.search[0]:.3f}, safe {solved.safe:.3f}")
print(f"the switch is at {switch:.4f}")

# %% [markdown]
# ## The smallest experiment
#
# The agent is a table of values with one row for each thing it may remember of a block: for every
# box, not opened, empty, or full. It learns by regression,
#
# $$Q(s_t, a_t) \leftarrow r_t + \gamma_t \max_a Q(s_{t+1}, a),$$
#
# with $\gamma_t = \gamma$ from trial to trial and 0 where the block ends. We train it at five
# discounts, and look at the sign of $\max_k Q(\text{box } k) - Q(\text{safe})$ in the first row.

# %%
DISCOUNTS = (0.0, 0.3, 0.5, 0.7, 0.9)
study = parse_experiment(
    {
        "environment": {
            "id": "bandit/meta", "arms": PLACES + 1, "horizon": 20, "prior": "gap",
            "safe_arm": True, "blocks": "geometric", "observation": "outcomes",
            "prompts": 1_000_000,
            "params": {"location": 0.0, "scale": 1.0, "safe": SAFE, "block": BLOCK},
        },
        "policy": {"id": "q_table", "value": True, "scale": 0.1, "temperature": 0.5},
        "recipe": {
            "prompts": 16, "group": 1, "surrogate": [{"q_regression": {"temperature": 0.5}}],
            "aggregate": ["token_mean"],
            "optimizer": [{"adam": {"learning_rate": {"cosine": {"start": 0.1, "end": 0.0}}}}],
        },
        "arms": {f"{g:g}": {"recipe.surrogate.episode": g} for g in DISCOUNTS},
    }
)  # fmt: skip


def look(env, policy, world, first, before, after):
    u = after.params["u"][0]
    return {"gap": jnp.max(u[1:]) - u[0]}


run = run_arms(study.build(), updates=300, seeds=range(SEEDS), measure=look, every=20)


# %%
def exact_gap(discount):
    solved = search_or_safe.solve(discount, **world)
    d = (1 - 1 / BLOCK) * discount
    return solved.search[0] - SAFE - d * max(solved.search[0], solved.safe)


note = f"{SEEDS} seeds; bars are 95 % t intervals over seeds; gray: exact"
figure, axes = panels.new_figure(1, 2, "A search is worth more, the further one sees", note)
fine = np.linspace(0, 0.9, 91)
axes[0, 0].plot(fine, [exact_gap(g) for g in fine], label="exact", **panels.EXACT)
gaps = [run.curve("gap", arm)[:, -1] for arm in run.arms]
panels.dots(axes[0, 0], DISCOUNTS, gaps, "learned", 0)
axes[0, 0].axhline(0.0, color="#444444", linewidth=1)
label = "value of a search − of safe"
panels.finish(axes[0, 0], "After training", "discount across trials", label)
for i, arm in enumerate(run.arms):
    panels.band(axes[0, 1], run.update, run.curve("gap", arm), f"discount {DISCOUNTS[i]:g}", i)
panels.finish(axes[0, 1], "While it learns", "updates", label)
figure

# %% [markdown]
# The sign changes where backward induction says. Each of the three conditions matters here, and
# each can be read off the formula: blocks of one trial make $d = 0$; an agent that does not
# remember can not take what it found; a discount of 0 leaves 0.25 against 0.45.
#
# ## Opened with the oracle: reward is no evidence of exploration
#
# Now two arms with uniformly drawn success rates and ten pulls, and no safe pay to give up. What
# does an agent earn that cannot see beyond the next pull? All histories are counts of failures
# and successes, so for any table on counts everything can be computed exactly: what it earns,
# whether it tries both arms in the first half, and whether it never pulls the better arm again in
# the second (*suffix failure*).

# %%
known = exact.beliefs(2, 10)
play = jax.jit(lambda table: exact.play_counts(table, known))
print(f"{'':12}{'pay per pull':>14}{'tried early':>14}{'best lost':>14}")
for name, table in exact.reference_rules(known).items():
    played = play(table)
    shown = (played.reward, played.coverage, played.suffix_failure)
    print(f"{name:12}" + "".join(f"{float(x):14.3f}" for x in shown))

# %% [markdown]
# Posterior-mean greedy (first row) values no information and still earns more than Thompson
# sampling, which explores; it pays with losing the best arm for good three times as often. Even
# the Bayes-optimal table gives up early, because ten pulls are few. *An agent that beats Thompson
# sampling has not been shown to explore.* Between greed and uniform play lies a whole curve:

# %%
mean = jnp.asarray(known.chance[: known.rows])
figure, axes = panels.new_figure(
    1, 1, "Pay against giving up", "exact, no seeds: 10 pulls, two arms"
)
ax = axes[0, 0]
curve = [play(jax.nn.log_softmax(mean / t)) for t in (0.01, 0.03, 0.1, 0.2, 0.4, 1.0, 10.0)]
ax.plot(
    [p.suffix_failure for p in curve], [p.reward for p in curve], "k-", label="softmax(mean / τ)"
)
for i, (name, table) in enumerate(exact.reference_rules(known).items()):
    p = play(table)
    ax.plot(p.suffix_failure, p.reward, panels.MARKERS[i], color=panels.COLORS[i], label=name)
panels.finish(ax, "Two arms", "best arm never pulled in the second half", "pay per pull")
figure

# %% [markdown]
# ## Limits
#
# The rows of the table are the right beliefs: the agent never had to learn to remember. Near the
# switch the two values differ by hundredths, so that noise of the learner decides there. Four boxes
# and two arms are small, and a transcript that a language model reads is something else.
#
# ## What to try next
#
# * Train greedily (`temperature` 0.005 in policy and surrogate). Does the switch survive? Why not?
# * Make the safe pay 0.2. Where is the switch now, and what does the agent without memory do?
# * `lab.run("emergent_exploration")` for the claims, the ablations and their verdicts.
