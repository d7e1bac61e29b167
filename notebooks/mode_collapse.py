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
# # Mode collapse: geometry or luck
#
# **The question.** A prompt has four equally right answers. Train with GRPO, and one of them is
# left. Two explanations are around:
#
# * *Geometry.* The exact update, with no sampling at all, already favors the answer that leads.
# * *Luck.* A group of eight rollouts happens to hold more of one answer than of another, and what
#   was drawn is reinforced.
#
# Both are true of some runs. They need different remedies, so it matters which one you have. Here
# each can be switched on alone, and each has an exact theory.

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
SEEDS, PROMPTS, ARMS, RIGHT, G = 32, 4, 8, 4, 8

# %% [markdown]
# ## Two starts
#
# Four prompts, eight arms each, four of them right. The policy is a table of logits. We prescribe
# pass@1 of every prompt at the start, and what the right answers look like among themselves:
# *even*, all four alike; or *skewed*, one of them $e^2$ times as likely as each of the others.
# **Effective modes** are $\exp H(\pi \mid \text{right})$, between 1 and 4.

# %%
env = jaxrl_envs.make("bandit/modes", prompts=PROMPTS, arms=ARMS, modes=RIGHT)
params = replace(env.default_params, hardest=jnp.float32(0.1), easiest=jnp.float32(0.7))
policy = lab.policies.make("tabular", env)
levels = jax.vmap(env.make_level, in_axes=(None, 0))(params, jnp.arange(PROMPTS))
right = jax.vmap(env.correct)(levels)

starts = {
    "even": lab.pretrain(policy, env, params),
    "skewed": lab.pretrain(policy, env, params, prior="correct", prior_strength=2.0),
}
for name, base in starts.items():
    logp = jax.nn.log_softmax(base["logits"])
    rates = ", ".join(f"{p:.2f}" for p in lab.measures.accuracy(logp, right))
    modes = lab.measures.effective_solutions(logp, right)
    print(f"{name:<7} pass@1 of the prompts {rates};  effective modes {modes.mean():.2f}")

# %% [markdown]
# ## Write down what you expect
#
# GRPO with one inner step per batch. At pass@1 0.9, how many effective modes are left from the
# even start? How many from the skewed one? And which of the two numbers changes when the learning
# rate becomes sixteen times smaller?

# %%
expected = {"even": 4.0, "skewed": 2.5}  # what one has who thinks the reward cannot tell them apart

# %% [markdown]
# ## The smallest experiment
#
# Three step sizes from either start; a step on the mean over the prompts is a quarter of it on
# each prompt. The three step sizes share a program.


# %%
def look(env, policy, world, first, before, after):
    logp = jax.nn.log_softmax(after.params["logits"])
    return {
        "accuracy": lab.measures.accuracy(logp, right).mean(),
        "modes": lab.measures.effective_solutions(logp, right).mean(),
        "deficit": lab.measures.solution_deficit(logp, right).mean(),
    }


grpo = lab.recipe("grpo", epochs=1, group=G)
STEPS = (0.05, 0.2, 0.8)  # per prompt
UPDATES, EVERY = 800, 5
rates = {"recipe.optimizer.learning_rate": [PROMPTS * step for step in STEPS]}
runs = {}
for name, base in starts.items():
    arm = replace(lab.make_arm(env, policy, grpo), base=base, env_params=params)
    runs[name] = lab.sweep(
        arm, rates, updates=UPDATES, seeds=range(SEEDS), measure=look, every=EVERY
    )


def curve(name, quantity, step):
    return runs[name].curve(quantity, f"learning_rate={PROMPTS * step}")


# %% [markdown]
# Beside every sampled run stands the run without sampling noise: the *expected* update, repeated.
# It needs no simulation of groups, because the mean of the update over all groups is known.


# %%
def without_noise(name, step):
    one = lambda z, c: lab.exact.expected_path(z, c, G, step, UPDATES)  # noqa: E731
    logp = jax.nn.log_softmax(jax.vmap(one)(starts[name]["logits"], right))
    correct = jnp.broadcast_to(right[:, None], logp.shape)
    seen = lab.measures.accuracy(logp, correct), lab.measures.effective_solutions(logp, correct)
    return [np.asarray(x.mean(0)) for x in seen]


note = f"Means over {SEEDS} seeds (intervals in the table below); wide gray: exact, no sampling"
figure, axes = panels.new_figure(1, 2, "From either start one answer is left", note)
wide = {"color": "#7F7F7F", "linewidth": 5, "alpha": 0.45, "zorder": 0}
for ax, name in zip(axes[0], starts, strict=True):
    for i, step in enumerate(STEPS):
        accuracy = curve(name, "accuracy", step).mean(0)
        ax.plot(accuracy, curve(name, "modes", step).mean(0), label=f"{step:g}", **panels.look(i))
    ax.plot(*without_noise(name, STEPS[-1]), label="expected update", **wide)
    ax.set_ylim(0.9, RIGHT + 0.1)
    title = f"{name.capitalize()} start"
    panels.finish(ax, title, "pass@1", f"effective modes (of {RIGHT})", legend=False)
    panels.reference(ax, expected[name], "written down before")
axes[0, 0].legend(title="step per prompt", loc="lower left")
figure

# %%
print("effective modes at pass@1 0.9, mean ± 95 %")
for name in starts:
    for step in STEPS:
        found = at_matched(curve(name, "accuracy", step), curve(name, "modes", step), [0.9])[:, 0]
        found = found[np.isfinite(found)]
        ideal = at_matched(*(x[None] for x in without_noise(name, step)), [0.9]).item()
        cell = mean_interval(found)
        print(
            f"  {name:<7} step {step:<5} {cell.mean:.3f} ± {cell.high - cell.mean:.3f}"
            f"   without noise {ideal:.3f}   ({len(found)} of {SEEDS} seeds got there)"
        )

# %% [markdown]
# Two different collapses.
#
# * **Skewed:** sampled runs of every step size lie on the path of the expected update. No noise is
#   needed, and smaller steps or larger groups change nothing.
# * **Even:** the expected update keeps all four modes for ever, and the runs lose them all the
#   same; the more, the larger the step.

# %% [markdown]
# ## Geometry: a conserved quantity
#
# For a right answer the exact flow is $\dot z_a = \pi_a(1-p)$ up to a factor that all answers
# share, hence
#
# $$\frac{d}{dt}e^{-z_a} = -\frac{1-p}{Z},$$
#
# the same for all right answers: **differences of $e^{-z_a}$ are conserved** while every one of
# them shrinks. An initial lead is an initial difference, and it grows in the shares. If all are
# equal, the conserved differences are zero, and they stay equal.
#
# The flow slows down like $1/t$. A sentence about mode collapse without a horizon says nothing:

# %%
z0, reward = starts["skewed"]["logits"][0], right[0].astype(jnp.float32)
times = jnp.array([0.0, 10.0, 100.0, 1e3, 1e4, 1e5])
path = lab.exact.softmax_flow(z0, reward, times)
print("    time   1 − pass@1   shares of the four right answers     e^(−z_a) − e^(−z_leader)")
for t, z in zip(times, path, strict=True):
    logp, gaps = jax.nn.log_softmax(z), lab.exact.flow_invariants(z, reward)[1]
    p = lab.measures.accuracy(logp, right[0])
    shares = "  ".join(f"{x:.4f}" for x in jnp.exp(logp[right[0]]) / p)
    kept = "  ".join(f"{x:6.3f}" for x in gaps[right[0]])
    print(f"{t:8.0f}   {1 - p:10.5f}   {shares}       {kept}")

# %% [markdown]
# ## Luck: the covariance of one update
#
# What may a group of eight rollouts do to the logits? There are only
# $\binom{K+G-1}{G}$ different groups. We can list them all, with their probabilities, and so know
# mean *and covariance* of the update exactly.

# %%
groups, orders = lab.exact.compositions(ARMS, G)
z0 = starts["even"]["logits"][0]
logp = jax.nn.log_softmax(z0)


def update(actions, logp):
    """What GRPO does to the logits of a prompt after seeing one group, per unit of step."""
    rewards = reward[actions]
    spread = jnp.std(rewards, ddof=1)
    informative = spread > 0
    scale = jnp.where(informative, spread, 1.0)
    advantage = jnp.where(informative, (rewards - rewards.mean()) / scale, 0.0)
    return jnp.mean(advantage[:, None] * (jax.nn.one_hot(actions, ARMS) - jnp.exp(logp)), axis=0)


listed = lab.exact.exact_moments(lambda actions: update(actions, logp), logp, G)
mean, covariance = lab.exact.normalized_update_moments(logp, right[0], G)
print(f"{len(groups)} groups instead of {ARMS**G} ordered ones")
print(f"closed form against the list: mean {jnp.abs(mean - listed.mean).max():.1e}", end=", ")
print(f"covariance {jnp.abs(covariance - listed.covariance).max():.1e}")

# %% [markdown]
# With the whole list one can ask sharper questions. After one update, by how much do effective
# modes change on average, and how much of it would the *mean* update do alone? What the mean does
# is geometry; the rest is luck.


# %%
def split(start, step):
    """Expected change of effective modes by one update: by the mean update, and by its scatter."""
    logp = jax.nn.log_softmax(start)

    def modes(z):
        return lab.measures.effective_solutions(jax.nn.log_softmax(z), right[0])

    def change(actions):
        delta = step * update(actions, logp)
        return {"delta": delta, "modes": modes(start + delta) - modes(start)}

    found = lab.exact.exact_moments(change, logp, G).mean
    geometry = modes(start + found["delta"]) - modes(start)
    return float(geometry), float(found["modes"] - geometry)


print("expected change of effective modes by one update of the first prompt")
print("start     step    geometry        luck")
for name, base in starts.items():
    for step in STEPS:
        geometry, luck = split(base["logits"][0], step)
        print(f"{name:<7} {step:>6}   {geometry:9.5f}   {luck:9.5f}")

# %% [markdown]
# Geometry is of first order in the step, luck of second order; and from the even start geometry
# does nothing. So why is luck not negligible for small steps, where there are more of them but each
# does so much less? Because geometry works on what luck has sown. Carry the covariance along the
# exact path, to first order in the deviation:
#
# $$V_{t+1} = J\,V_t\,J^\top + \eta^2\,\mathrm{Cov}[\Delta z], \qquad
# J = 1 + \eta\,\frac{\partial\,\mathbb E[\Delta z]}{\partial z}.$$
#
# $J$ stretches differences between right answers. The expected loss is then
# $\tfrac12\sum_{ab} V_{ab}\,\partial_a\partial_b(\log M - H)$: a number without a fitted parameter.


# %%
def deficit(z, correct):
    found = lab.measures.effective_solutions(jax.nn.log_softmax(z), correct)
    return jnp.log(float(RIGHT)) - jnp.log(found)


@jax.jit
def predicted(step):
    def one(z, correct):
        z, V = lab.exact.linear_noise(z, correct, G, step, UPDATES)
        z, V = z[::EVERY], V[::EVERY]
        bent = jax.vmap(jax.hessian(deficit), in_axes=(0, None))(z, correct)
        correct = jnp.broadcast_to(correct, z.shape)
        accuracy = lab.measures.accuracy(jax.nn.log_softmax(z), correct)
        return accuracy, 0.5 * jnp.sum(bent * V, axis=(-2, -1))

    return jax.tree.map(lambda x: x.mean(0), jax.vmap(one)(starts["even"]["logits"], right))


note = (
    f"{SEEDS} seeds; bars are 95 % t intervals over seeds; wide gray: linear noise, nothing fitted"
)
figure, axes = panels.new_figure(1, 2, "What luck costs", note)
ax, dots = axes[0]
for i, step in enumerate(STEPS):
    theory = [np.asarray(x) for x in predicted(step)]
    ax.plot(*theory, label="linear noise" if i == 0 else "_", **wide)
    accuracy = curve("even", "accuracy", step).mean(0)
    ax.plot(accuracy, curve("even", "deficit", step).mean(0), label=f"{step:g}", **panels.look(i))
ax.set(yscale="log", ylim=(1e-3, 2.0))
panels.finish(ax, "Along the training", "pass@1", "log 4 − H(π | right) (nats)")
for i, level in enumerate((0.6, 0.8)):
    lost = [
        at_matched(curve("even", "accuracy", s), curve("even", "deficit", s), [level])[:, 0]
        for s in STEPS
    ]
    panels.dots(dots, STEPS, lost, f"at pass@1 {level:g}", i)
    theory = [
        at_matched(*(np.asarray(x)[None] for x in predicted(s)), [level]).item() for s in STEPS
    ]
    dots.plot(STEPS, theory, **wide)
dots.set(xscale="log", yscale="log")
dots.set_xticks(STEPS, [f"{step:g}" for step in STEPS])
dots.minorticks_off()
panels.finish(dots, "In proportion to the step", "step per prompt", "log 4 − H(π | right) (nats)")
figure

# %% [markdown]
# The theory holds while the loss is small, and overshoots once whole modes are gone: the loss
# cannot exceed $\log 4$, a linear theory does not know that.
#
# ## A remedy has to match the cause
#
# If your collapse is luck, anything that calms the noise helps. If it is geometry, only something
# that acts *on the shares* does: a bonus for what is rare, a pull to a reference. Try three from
# the skewed start, with two inner steps: reverse KL to the skewed reference with two coefficients,
# and ProGRPO's shaping, which lowers the advantage of answers the policy is sure of.

# %%
remedies = {
    "GRPO": {},
    "reverse KL 0.05": {
        "regularizer": {"kl_to_reference": {"coefficient": 0.05, "estimator": "exact"}}
    },
    "reverse KL 0.2": {
        "regularizer": {"kl_to_reference": {"coefficient": 0.2, "estimator": "exact"}}
    },
    "ProGRPO 3.2": {"advantage": ["group_normalized", {"confidence_shaped": {"strength": 3.2}}]},
}
none = {"recipe.optimizer.learning_rate": [PROMPTS * 0.4]}
results = {}
for label, slots in remedies.items():
    recipe = lab.recipe("grpo", epochs=2, group=G, **slots)
    arm = replace(lab.make_arm(env, policy, recipe), base=starts["skewed"], env_params=params)
    results[label] = lab.sweep(arm, none, updates=1600, seeds=range(8), measure=look, every=10)

note = "8 seeds; shades are 95 % t intervals over seeds"
figure, axes = panels.new_figure(1, 2, "Lost first, recovered in time", note)
for i, (label, result) in enumerate(results.items()):
    (only,) = result.arms
    for ax, quantity in zip(axes[0], ("accuracy", "modes"), strict=True):
        shown = result.curve(quantity, only)[:, 1:]
        panels.band(ax, result.update[1:], shown, label, i)
for ax, title, y in (
    (axes[0, 0], "Right almost always", "pass@1"),
    (axes[0, 1], "Modes go, and some return", f"effective modes (of {RIGHT})"),
):
    ax.set_xscale("log")
    panels.finish(ax, title, "updates (log)", y, legend=ax is axes[0, 0])
panels.reference(axes[0, 1], 2.5, "reference")
figure

# %% [markdown]
# Reverse KL is often called mode-seeking. Its optimum is not: it keeps right answers in proportion
# to the reference. But its pull on an answer is proportional to that answer's own probability, so
# it comes late: all arms lose their modes first. With 0.2 they come back within the horizon, with
# 0.05 they do not, and a shorter run would have called both collapsed.
#
# ## Limits: what this cannot say about large models
#
# * **Labelled answers.** Effective modes are exact because the world says which arms are right.
# * **Prompts share nothing.** In a network other prompts move this prompt's logits; the conserved
#   quantity is gone, though reinforcement in proportion to probability is not.
# * **One step.** A solution of many tokens is a path, and noise enters at every token.
# * **Two starts.** Real base models are skewed by an unknown amount, so both causes act at once.
#
# ## What to try next
#
# * `lab.run("mode_collapse")`: nine remedies, three values each, from both starts, with claims
#   fixed beforehand and the Pareto fronts.
# * Change `G` to 32 in the prediction only. What does the law say a four times larger group buys?
# * Replace ProGRPO by `"sharpened"` (XRPO) with its published cap of 0.5, then with 8.
# * Start from `prior_strength=0.2`. Which cause wins? Compute `split` along the path.
