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
# # Stagnation of PPO
#
# **The question.** A PPO run stops improving. Nothing is left to explore, the policy could
# represent something better, and it goes on moving; it just gets nowhere. Collecting from many
# more environments per update is said to cure this. Why should it, if the number of transitions
# and the number of gradient steps stay the same?
#
# We take a world in which the best policy is known exactly: a bandit with noisy pay and an entropy
# bonus. Its gap is zero for $\pi \propto e^{r/\tau}$, and nowhere else.

# %%
# # %pip install jaxrl-lab
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxrl_envs
import matplotlib.pyplot as plt
import numpy as np

import jaxrl_lab as lab
from jaxrl_lab.exact import inner_loop_plateau, plateau, regularized_bandit
from jaxrl_lab.experiments.statistics import mean_interval
from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)
SEEDS, PROMPTS, ARMS, TAU, RATE = 24, 8, 8, 0.5, 2.0
MINIBATCH, EPOCHS, BUDGET = 64, 4, 2**16

# %% [markdown]
# ## A model of one line
#
# Near the optimum the objective is a parabola, $J = -\tfrac12 h\theta^2$. An update goes a step
# $\eta$ along a gradient that was sampled from $n$ transitions:
#
# $$\theta \leftarrow (1-\eta h)\,\theta + \eta\,\xi, \qquad \xi \sim N(0, s/n).$$
#
# It never ends at zero. Where does it end? Contraction and noise balance at
#
# $$\mathbb{E}[J^* - J] = \frac{\eta s}{2n\,(2-\eta h)} .$$

# %%
h, s = jnp.array([1.0, 0.1]), jnp.array([1.0, 1.0])
rng = np.random.default_rng(0)
print("step   n   formula   simulated")
for step, n in ((0.5, 16), (0.25, 16), (0.5, 32)):
    theta, seen = np.zeros((2000, 2)), []
    for _ in range(120):
        theta += step * (-np.asarray(h) * theta + rng.normal(size=theta.shape) / np.sqrt(n))
        seen.append((0.5 * np.asarray(h) * theta**2).sum(1).mean())
    print(f"{step:4.2f}  {n:2d}   {float(plateau(step, h, s, n)):.5f}   {np.mean(seen[60:]):.5f}")

# %% [markdown]
# Half the step or twice the data: half the plateau.
#
# PPO makes its step of many small ones: $E$ epochs over $M$ minibatches. *Co-scaling* multiplies
# the environments and the minibatches by $c$, and leaves the learning rate and the size of a
# minibatch alone. So there is $c$ times the data, but also $c$ times as many gradient steps on
# it.
#
# Write down your prediction: 64 times the data per update, four epochs, no clip. By which factor
# does the plateau fall? And with a single epoch?

# %%
expected_four_epochs, expected_one_epoch = 64.0, 64.0

# %% [markdown]
# ## The smallest experiment

# %%
env = jaxrl_envs.make(
    "bandit/modes", prompts=PROMPTS, arms=ARMS, modes=2, decoys=2, noise="gaussian"
)
params = replace(env.default_params, sigma=jnp.float32(1.0), decoy_reward=jnp.float32(0.5))
policy = lab.policies.make("tabular", env, scale=1.0, value=True)
levels = jax.vmap(env.make_level, in_axes=(None, 0))(params, jnp.arange(PROMPTS))
best = jax.nn.log_softmax(levels.reward / TAU)
SMALL = lab.recipe(
    "ppo",
    prompts=8,
    steps=8,
    minibatches=1,
    epochs=EPOCHS,
    advantage={"gae": {"discount": 1.0, "decay": 1.0}},
    regularizer=[{"value_loss": {"coefficient": 1.0}}, {"entropy_bonus": {"coefficient": TAU}}],
    optimizer={"sgd": {"learning_rate": RATE}},
)
LARGE = lab.co_scale(SMALL, 512)
print(LARGE)
print(lab.scaling_faults(LARGE, SMALL) or "no fault found")
print(*lab.scaling_faults(replace(LARGE, minibatches=1), SMALL), sep="\n")


# %%
def look(env, policy, world, first, before, after):
    logp = jax.nn.log_softmax(after.params["logits"])
    return {"gap": TAU * jnp.mean(jnp.sum(jnp.exp(logp) * (logp - best), -1))}


def run(recipe):
    """With PPO's clip, and with one so wide that it never binds."""
    arm = replace(lab.make_arm(env, policy, recipe), env_params=params)
    updates = BUDGET // (recipe.prompts * recipe.steps)
    every = max(updates // 32, 1)
    widths = {"recipe.surrogate.high": [0.2, 1e6], "recipe.surrogate.low": [0.2, 1e6]}
    result = lab.sweep(arm, widths, updates=updates, seeds=SEEDS, measure=look, every=every)
    clipped, _, _, free = result.arms
    return {"clip": result.curve("gap", clipped), "no clip": result.curve("gap", free)}


runs = {
    "small": run(SMALL),
    "large": run(LARGE),
    "one epoch, small": run(replace(SMALL, epochs=1)),
    "one epoch, large": run(replace(LARGE, epochs=1)),
}

# %%
note = f"{SEEDS} seeds; shades are 95 % t intervals; {BUDGET} transitions each"
figure, axes = panels.new_figure(1, 2, "A plateau, and what lifts it", note)
for ax, kind in zip(axes[0], ("no clip", "clip"), strict=True):
    for i, name in enumerate(runs):
        curve = runs[name][kind]
        x = np.linspace(0, BUDGET, curve.shape[1]) / 1000
        panels.band(ax, x, np.log10(curve), name, i)
    ax.set_yticks([-2, -1], ["0.01", "0.1"])
    panels.finish(ax, kind, "transitions (thousands)", "gap")
figure


# %%
def end(name, kind):
    """Mean over the last eighth of the transitions, per seed."""
    curve = runs[name][kind]
    return curve[:, -(curve.shape[1] // 8) :].mean(1)


for kind in ("no clip", "clip"):
    for name in runs:
        x = mean_interval(end(name, kind))
        print(f"{kind:<8} {name:<17} {x.mean:.4f} ± {x.high - x.mean:.4f}")


def factor(epochs):
    ends = [end(f"{epochs}{size}", "no clip").mean() for size in ("small", "large")]
    return f"{ends[0] / ends[1]:.1f}"


print(f"predicted before: ÷ {expected_four_epochs:g} and ÷ {expected_one_epoch:g}")
print(f"without a clip:   ÷ {factor('')} and ÷ {factor('one epoch, ')}")

# %% [markdown]
# Neither factor is 64. With one epoch, nothing happens at all: the data grow by 64 and so does
# the step, and the plateau depends on their quotient. With four epochs the gain is a small
# number.
#
# ## The mechanism opened
#
# The inner loop is a sum, and so its plateau has a closed form. Curvature and noise of the bandit
# are known too: at the optimum the Hessian is $-\tau F$ with $F = \mathrm{diag}\,\pi -
# \pi\pi^\top$.

# %%
modes = [regularized_bandit(r, TAU, 1.0) for r in levels.reward]
curvature, noise = (jnp.concatenate(x) / PROMPTS for x in zip(*modes, strict=True))


def predicted(minibatches, epochs):
    return float(
        inner_loop_plateau(
            RATE, curvature, noise, minibatch=MINIBATCH, minibatches=minibatches, epochs=epochs
        )
    )


sizes = 2 ** np.arange(11)
figure, axes = panels.new_figure(1, 1, "Where PPO stalls", note + "; gray: quadratic, no clip")
ax = axes[0, 0]
for epochs in (1, EPOCHS):
    ax.plot(MINIBATCH * sizes, [predicted(int(M), epochs) for M in sizes], **panels.EXACT)
for i, (kind, names) in enumerate(
    {
        "no clip": ("small", "large"),
        "clip": ("small", "large"),
        "no clip, one epoch": ("one epoch, small", "one epoch, large"),
    }.items()
):
    samples = [end(n, kind.partition(",")[0]) for n in names]
    panels.dots(ax, [64, 4096], samples, kind, i)
ax.set_xscale("log")
ax.set_yscale("log")
panels.finish(ax, "Plateau", "transitions per update", "gap")
figure

# %% [markdown]
# Four epochs on a short batch are one step four times as long, on the same noise. In a long inner
# loop the policy has forgotten the first epoch when the second one comes, and the four behave
# like four independent ones. That is the whole gain: at most a factor of $E$.
#
# What goes beyond the gray line is the **clip**. With one minibatch hardly a ratio leaves its
# range; with 64 minibatches the behavior policy grows old, ratios run away, and the clip holds
# them. More environments are a stronger trust region.
#
# ## Limits
#
# One-step episodes and tables, and a temperature that keeps the optimum away from the corners,
# where a softmax policy has no noise of its own. No network, so nothing here can go wrong that
# only networks do.
#
# ## What to try next
#
# * `jaxrl-lab run ppo_stagnation`: the gridworld, wrong ways to scale, an older anchor, a
#   learning rate that drops or decays.
# * Let the rate drop in mid-run: `optimizer={"sgd": {"learning_rate": {"ramp": {"start": 2.0,
#   "end": 0.4, "begin": 0.5, "until": 0.5}}}}`. How soon does the stalled run go on?
# * Anchor the trust region at an older policy with `lab.recipe("ppo_ewma")`, on small batches.
