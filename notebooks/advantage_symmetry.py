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
# # Advantage symmetry
#
# **The question.** In GRPO the advantages of a group sum to zero: right and wrong rollouts pull
# with equal weight, and an answer nobody gave is not pushed at all. A published remedy
# (A-GRAE, arXiv 2602.05548) *attenuates* the right rollouts, multiplying their advantages by less
# than one, so that answers nobody gave get a push upward and diversity survives. Does it? And if
# it does, is that why?
#
# Attenuation does three things at once: it pushes unsampled answers, it takes a smaller step, and
# it changes the noise. A bandit is small enough to tell them apart exactly.

# %%
# # %pip install jaxrl-lab
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import matplotlib.pyplot as plt
import numpy as np

import jaxrl_lab as lab
from jaxrl_lab.experiments.statistics import at_matched, mean_interval
from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)
SEEDS, PROMPTS, ARMS, RIGHT, G = 32, 8, 32, 4, 8

# %% [markdown]
# ## The world
#
# Eight prompts with 32 answers each, four of them right, and a uniform table of logits: nothing
# prefers any right answer to another. We count **effective solutions**, the exponential of the
# entropy of the policy among the right answers: 4 at the start.

# %%
env = jaxrl_envs.make("bandit/modes", prompts=PROMPTS, arms=ARMS, modes=RIGHT)
policy = lab.policies.make("tabular", env, scale=0.0)
levels = jax.vmap(env.make_level, in_axes=(None, 0))(env.default_params, jnp.arange(PROMPTS))
right = jax.vmap(env.correct)(levels)


def look(env, policy, world, first, before, after):
    logp = jax.nn.log_softmax(after.params["logits"])
    return {
        "accuracy": lab.measures.accuracy(logp, right).mean(),
        "solutions": lab.measures.effective_solutions(logp, right).mean(),
    }


recipe = lab.recipe(
    "grpo",
    epochs=1,
    advantage=["group_normalized", "matched_scale", "matched_shift", "attenuate"],
    optimizer={"sgd": {"learning_rate": 0.4 * PROMPTS}},
    name="grpo, and three ways to change it",
)
print(recipe)

# %% [markdown]
# The three mechanisms after `group_normalized` do nothing at their default weight 1. Setting one of
# them to 0.2 gives an arm:
#
# * `attenuate`: right rollouts × 0.2.
# * `matched_shift`: GRPO with the baseline raised until the *mean* advantage is that of
#   attenuation. Unsampled answers get the same push, right rollouts are not attenuated.
# * `matched_scale`: GRPO times the factor by which attenuation shortens the step.
#
# For binary rewards attenuation is exactly the second plus the third. Check it on all groups:

# %%
chains = {
    "GRPO": [],
    "right × 0.2": [{"attenuate": {"positive": 0.2}}],
    "its step alone": [{"matched_scale": {"positive": 0.2}}],
    "its baseline alone": [{"matched_shift": {"positive": 0.2}}],
}
tables = {
    name: lab.exact.advantage_tables(
        lab.recipe(advantage=["group_normalized", *chain]).advantage, G
    )
    for name, chain in chains.items()
}
print("right rollouts in the group   ", *(f"{s:6d}" for s in range(1, G)))
for name, (plus, minus) in tables.items():
    print(f"{name:<20}right     ", *(f"{x:6.2f}" for x in plus[1:G]))
    print(f"{'':<20}wrong     ", *(f"{x:6.2f}" for x in minus[1:G]))
a, b, c, d = (jnp.stack([plus[1:G], minus[1:G]]) for plus, minus in tables.values())
print(f"largest |attenuated − (step + baseline − GRPO)|: {jnp.abs(b - (c + d - a)).max():.1e}")

# %% [markdown]
# ## Write down what you expect
#
# We train until 95 % of the answers are right. How many of the four solutions are left
#
# | if you believe that … | GRPO | right × 0.2 | its baseline alone |
# |---|---|---|---|
# | nothing prefers one, so all stay | 4 | 4 | 4 |
# | the push on unsampled answers keeps them | few | more | more |
# | attenuation is nothing but a smaller step | few | as GRPO with a smaller step | few |
#
# Put your own numbers here; they will be drawn.

# %%
expected = {"GRPO": 4.0, "right × 0.2": 4.0, "its baseline alone": 4.0}

# %% [markdown]
# ## The smallest experiment that answers it
#
# All arms, learning rates and seeds share one compiled program. Every arm gets the same three
# learning rates, because "slower" and "attenuated" must not be confused.

# %%
settings = {
    "GRPO": {},
    "right × 0.2": {"advantage.attenuate.positive": 0.2},
    "its step alone": {"advantage.matched_scale.positive": 0.2},
    "its baseline alone": {"advantage.matched_shift.positive": 0.2},
}
STEPS = (0.2, 0.4, 0.8)
arms = {}
for name, weight in settings.items():
    for step in STEPS:
        changed = lab.recipe(recipe, optimizer={"sgd": {"learning_rate": step * PROMPTS}})
        for path, value in weight.items():
            changed = lab.recipes.with_value(changed, path, value)
        arms[f"{name}, step {step}"] = lab.make_arm(env, policy, changed)
result = lab.run_arms(arms, updates=480, seeds=range(SEEDS), measure=look, every=6)
print("programs traced:", lab.traces())


# %%
def reached(run, arm, level=0.95):
    """Solutions and updates where each seed first reaches the accuracy."""
    accuracy, solutions = run.curve("accuracy", arm), run.curve("solutions", arm)
    updates = np.broadcast_to(run.update, accuracy.shape)
    return [at_matched(accuracy, y, [level])[:, 0] for y in (solutions, updates)]


note = f"{SEEDS} seeds; shades and bars are 95 % t intervals over seeds; crosses: your numbers"
figure, axes = panels.new_figure(1, 2, "From a uniform start", note)
curves, frontier = axes[0]
for i, name in enumerate(settings):
    arm = f"{name}, step 0.4"
    panels.band(curves, result.update, result.curve("solutions", arm), name, i)
    at = [reached(result, f"{name}, step {step}") for step in STEPS]
    mean = [float(np.nanmean(updates)) for _, updates in at]
    panels.dots(frontier, mean, [solutions for solutions, _ in at], name, i)
    if name in expected:
        frontier.plot(mean[1], expected[name], "x", color=panels.look(i)["color"])
curves.set_ylim(0.9, 4.1)
panels.finish(curves, "Solutions get lost", "updates (batches)", "effective solutions (of 4)")
frontier.set_xscale("log")
frontier.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
frontier.set_xticks([], minor=True)
title = "Three learning rates, at accuracy 0.95"
panels.finish(frontier, title, "updates needed", "effective solutions (of 4)")
figure


# %%
def cell(sample):
    found = mean_interval(sample[np.isfinite(sample)])
    return f"{found.mean:.2f} ± {found.high - found.mean:.2f}"


print(f"{'at accuracy 0.95':<32}solutions      updates")
for arm in arms:
    solutions, updates = reached(result, arm)
    print(f"{arm:<32}{cell(solutions):<15}{np.nanmean(updates):.0f}")

# %% [markdown]
# Three readings:
#
# * GRPO loses most of the four answers although nothing prefers any of them.
# * Part of what attenuation gains is its smaller step: GRPO with a smaller learning rate keeps
#   more, too. But at *equal updates* (that is, equal rollouts) attenuation is still clearly above.
# * The raised baseline, which pushes unsampled answers exactly as much as attenuation does, gains
#   next to nothing. **The push is not the reason.**

# %% [markdown]
# ## The mechanism: a clock, not a compass
#
# Take any advantage that is a function of the rewards of the group. Given that S of G rollouts are
# right, which of the right answers they gave is a fair draw in proportion to $\pi_a$. So the
# expected update of a prompt is
#
# $$\mathbb E[\Delta z_a] = \eta\, w(p)\, \pi_a (r_a - p),$$
#
# the exact policy gradient times a number. Attenuation changes $w$, that is, *how fast*; it cannot
# change *where to*. The oracle enumerates all groups; one small world suffices to see it:

# %%
pi = jnp.array([0.3, 0.2, 0.1, 0.4])
pays = jnp.array([1.0, 1.0, 0.0, 0.0])
p = jnp.sum(pi * pays)
print("expected update divided by π (r − p), answer by answer, groups of 4:")
for name, chain in chains.items():
    advantage = lab.recipe(advantage=["group_normalized", *chain]).advantage
    plus, minus = lab.exact.advantage_tables(advantage, 4)

    def change(answers, plus=plus, minus=minus):
        pay = pays[answers]
        count = jnp.sum(pay).astype(jnp.int32)
        a = jnp.where(pay > 0, plus[count], minus[count])
        return jnp.zeros(4).at[answers].add(a / 4) - pi * jnp.mean(a)

    update = lab.exact.exact_moments(change, jnp.log(pi), 4).mean
    w = lab.exact.group_weight(plus, minus, p)
    print(f"  {name:<20}", *(f"{x:.4f}" for x in update / (pi * (pays - p))), f"  w(p) = {w:.4f}")

# %% [markdown]
# So from a uniform start the expected update keeps all four answers, for every arm. What is lost is
# lost by **luck**: an answer that happens to be sampled more often gets ahead, and then grows
# faster. Two right answers of equal probability drift apart with
#
# $$\mathrm{Var}[\Delta z_a - \Delta z_b] = 2\eta^2 \tfrac{\pi_a}{G}\, v(p), \qquad
#   v(p) = \frac{\mathbb E[S\,A_+(S)^2]}{G p}.$$
#
# Only the advantage of *right* rollouts stands there. An arm that is slower by $w$ may take a
# larger step, so at equal speed the luck is $v/w^2$.

# %%
rate = jax.nn.sigmoid(jnp.linspace(-3.5, 3.5, 71))
note = "Exact, groups of 8: nothing is sampled, so there is no interval"
figure, axes = panels.new_figure(1, 2, "What attenuation changes", note)
for i, (name, (plus, minus)) in enumerate(tables.items()):
    w, v = lab.exact.group_weight(plus, minus, rate), lab.exact.group_noise(plus, rate)
    axes[0, 0].plot(rate, w, label=name, **panels.look(i))
    axes[0, 1].plot(rate, v / w**2, label=name, **panels.look(i))
axes[0, 1].set_yscale("log")
panels.finish(axes[0, 0], "Speed", "pass@1 of the prompt", "w(p)")
panels.finish(axes[0, 1], "Luck at equal speed", "pass@1 of the prompt", "v / w²", legend=False)
figure

# %% [markdown]
# The step alone leaves luck where it was. The baseline alone lowers it where most rollouts are
# right. Attenuation by $\beta$ multiplies it by $(\beta/(\beta(1-p)+p))^2$: wrong rollouts go on
# teaching, and they do not tell right answers apart.
#
# ## A lead stays
#
# If the expected update is the same for all arms, attenuation can do nothing about a preference
# that is there from the start. We let one right answer start ahead by 1.5 in log-odds, with the
# same pass@1 of one in eight.

# %%
one_in_eight = {"hardest": jnp.float32(0.125), "easiest": jnp.float32(0.125)}
params = replace(env.default_params, **one_in_eight)
base = lab.pretrain(policy, env, params, prior="correct", prior_strength=1.5)
start = jax.nn.log_softmax(base["logits"])
print(f"at the start: {lab.measures.effective_solutions(start, right).mean():.2f} solutions")
led = {name: replace(arms[f"{name}, step 0.4"], base=base) for name in settings}
second = lab.run_arms(led, updates=240, seeds=range(SEEDS), measure=look, every=3)

note = f"Means over {SEEDS} seeds; at accuracy 0.95: " + "; ".join(
    f"{name} {cell(reached(second, name)[0])}" for name in ("GRPO", "right × 0.2")
)
figure, axes = panels.new_figure(1, 1, "One answer ahead", note)
for i, name in enumerate(settings):
    x, y = (second.curve(n, name).mean(0) for n in ("accuracy", "solutions"))
    axes[0, 0].plot(x, y, label=name, **panels.look(i))
panels.finish(
    axes[0, 0], "One path for all", "accuracy (probability)", "effective solutions (of 4)"
)
figure

# %% [markdown]
# ## Who is pushed in practice?
#
# "Unsampled answers get no push" is a statement about logits in a table, with SGD and one step per
# batch. Adam remembers earlier batches, and a network shares parameters. The full experiment
# (`lab.run("advantage_symmetry")`) measures how far answers nobody gave are moved by either, as a
# share of how far those that were given are. Guess first: more or less than a tenth?
#
# ## Limits: what this cannot say about large models
#
# * **Equals are rare.** Luck decides only among right answers that start out about equally likely.
#   A pretrained model has preferences, and those follow the expected update.
# * **The identity needs a table.** With shared parameters prompts have different weights $w(p)$,
#   and changing those does bend the path of the network.
# * **Binary rewards, one step.** Advantages that see more than the rewards of the group (a bonus
#   for rare answers, say) can change the direction. That is the place to look for a compass.
#
# ## What to try next
#
# * Attenuate to 0: what becomes of the frontier, and what does it cost in updates?
# * Give two answers a lead of 0.1 instead of 1.5. When does luck stop to matter?
# * Write an advantage that depends on the *answer*: divide the advantage of a right rollout by the
#   copies of its answer in the group. Its expected update is no multiple of $\pi (r - p)$; check it
#   with `lab.exact.exact_moments`.
