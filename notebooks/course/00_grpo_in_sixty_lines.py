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
# # GRPO in sixty lines
#
# **The question.** What is group-relative policy optimization when everything that is not
# algorithm is taken away: no language model, no trainer, no reward model, no distributed anything?
#
# What is left fits into fewer than sixty lines of plain JAX. We build them one piece at a time,
# train them on a bandit, and then check, number by number, that the laboratory's recipe `grpo` is
# the same algorithm. Exercises with solutions are at the end.
#
# You need to know what a softmax is, and that `jax.grad` returns the gradient of a function.

# %%
# # %pip install jaxrl-lab
import matplotlib.pyplot as plt
import numpy as np

from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)

# %% [markdown]
# ## The world: a bandit with prompts
#
# A *prompt* is a row of a table, an *answer* is one of 16 arms, and four arms of every prompt are
# right. A right answer pays 1, a wrong one 0. That is all a verifier ever says.
#
# We fix one alphabet for the axes: `B` prompts, `G` rollouts per prompt, `K` arms. The cells that
# belong to the sixty lines are the ones that define something; the short ones between them only
# look at what was defined.

# %% tags=["algorithm"]
import jax
import jax.numpy as jnp

PROMPTS, ROLLOUTS, ARMS, RIGHT = 16, 8, 16, 4  # B, G, K, and the right arms of a prompt


def make_rewards(key):
    """What each arm of each prompt pays: rewards[B, K]."""
    order = jnp.argsort(jax.random.uniform(key, (PROMPTS, ARMS)), axis=1)
    return (order < RIGHT).astype(jnp.float32)


# %%
table = make_rewards(jax.random.key(0))
for row in np.asarray(table[:3]):
    print("".join("*" if paid else "." for paid in row))

# %% [markdown]
# ## Sampling
#
# The policy is a table of logits, $\pi_b(a) = e^{z_{b,a}} / \sum_k e^{z_{b,k}}$. To draw an action
# we take one uniform number $u$ per rollout and look up where it falls among the cumulated
# probabilities: the action is the number of arms whose cumulated probability $u$ has passed.
#
# Randomness comes in as an argument. That makes the function easy to test: the same `u` must give
# the same action, in our code and in anybody else's.


# %% tags=["algorithm"]
def sample(logits, u):
    """One action for each uniform number: logits[B, K], u[B, G] -> actions[B, G]."""
    cumulated = jnp.cumsum(jax.nn.softmax(logits), axis=1)
    passed = cumulated[:, None, :] <= u[:, :, None] * cumulated[:, None, -1:]
    return jnp.sum(passed, axis=2)


# %%
demo = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
draws = sample(demo, jax.random.uniform(jax.random.key(1), (1, 10_000)))
print("asked for 0.5 0.3 0.2, got", *np.round(np.bincount(draws[0]) / 10_000, 2))

# %% [markdown]
# ## The advantage: a group is its own baseline
#
# Eight rollouts answer the same prompt and get rewards $R_1, \dots, R_G$. GRPO asks of each only
# whether it did better than its siblings, in units of their spread:
#
# $$A_i = \frac{R_i - \mathrm{mean}(R)}{\mathrm{std}(R) + \varepsilon}$$
#
# No value network: the group mean plays its part. The standard deviation is the sample one, with
# divisor $G - 1$, as in the widely used implementations.


# %% tags=["algorithm"]
def advantages(rewards):
    """How much better than the rest of its group each rollout was: [B, G] -> [B, G]."""
    centered = rewards - rewards.mean(axis=1, keepdims=True)
    return centered / (rewards.std(axis=1, ddof=1, keepdims=True) + 1e-6)


# %%
for right in (1, 4, 7, 8):
    group = (jnp.arange(ROLLOUTS) < right).astype(jnp.float32)[None]
    print(f"{right} of 8 right:", *(f"{x:6.2f}" for x in advantages(group)[0].tolist()))

# %% [markdown]
# Read the rows. A rare success counts a lot, and so does a rare failure. A group that is all right
# (or all wrong) says nothing, and its advantage is exactly zero.
#
# ## The objective: ratio, clip, token mean
#
# We want to take *several* gradient steps on one batch. After the first of them the policy is no
# longer the one that drew the actions, and the **importance ratio** keeps track of that:
#
# $$\rho = \frac{\pi(a)}{\pi_\text{old}(a)} = e^{\log\pi(a) - \log\pi_\text{old}(a)}.$$
#
# The **clip** takes away the incentive to move it further than 20 percent, and the minimum
# makes sure that clipping can only make the objective smaller:
#
# $$J = \mathop{\mathrm{mean}}_{\text{tokens}}\
# \min\big(\rho A,\ \mathrm{clip}(\rho,\ 1-0.2,\ 1+0.2)\,A\big).$$
#
# Here a rollout is a single token, so the mean over tokens is the mean over all rollouts.


# %% tags=["algorithm"]
def log_prob(logits, actions):
    """Log-probability of the actions that were taken: [B, K], [B, G] -> [B, G]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions, axis=1)


def objective(logits, actions, advantage, logp_old, clip=0.2):
    """The clipped surrogate, averaged over all tokens of the batch: a number."""
    ratio = jnp.exp(log_prob(logits, actions) - logp_old)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))


# %% [markdown]
# At the first step $\rho = 1$, the clip is inactive, and
# $\nabla \rho = \rho\,\nabla\log\pi = \nabla\log\pi$: the gradient of this whole construction is
# the plain policy gradient $\mathrm{mean}(A\,\nabla\log\pi)$. Let us not believe that but look:

# %%
logits = jax.random.normal(jax.random.key(2), (PROMPTS, ARMS))
actions = sample(logits, jax.random.uniform(jax.random.key(3), (PROMPTS, ROLLOUTS)))
A = advantages(jnp.take_along_axis(table, actions, axis=1))

surrogate = jax.grad(objective)(logits, actions, A, log_prob(logits, actions))
plain = jax.grad(lambda z: jnp.mean(A * log_prob(z, actions)))(logits)
print(f"largest difference of the two gradients: {jnp.abs(surrogate - plain).max():.1e}")

# %% [markdown]
# ## One update
#
# Compute the advantages and the old log-probabilities once, then climb $J$ by plain gradient
# ascent, four times on the same batch. Advantages and $\pi_\text{old}$ stay fixed during the climb.


# %% tags=["algorithm"]
def update(logits, actions, rewards, step=1.6, epochs=4):
    """The policy after several steps of gradient ascent on one batch."""
    advantage, logp_old = advantages(rewards), log_prob(logits, actions)

    def ascend(logits, _):
        gradient = jax.grad(objective)(logits, actions, advantage, logp_old)
        return logits + step * gradient, None

    return jax.lax.scan(ascend, logits, None, length=epochs)[0]


# %% [markdown]
# A step of 1.6 looks large. The mean divides by all 16 prompts while each row of logits only gets
# the gradient of its own prompt, so for one prompt it is a step of $1.6/16 = 0.1$.
#
# ## Training
#
# Draw, look up what was paid, update; repeat. `scan` is a loop that compiles. Accuracy is not
# estimated from samples, since it can be had exactly: it is the probability of the right arms.


# %% tags=["algorithm"]
def train(key, table, updates=150):
    """Logits after training, and the accuracy of each prompt before every update [updates, B]."""

    def one(logits, key):
        actions = sample(logits, jax.random.uniform(key, (PROMPTS, ROLLOUTS)))
        rewards = jnp.take_along_axis(table, actions, axis=1)
        accuracy = jnp.sum(jax.nn.softmax(logits) * table, axis=1)
        return update(logits, actions, rewards), accuracy

    start, run = jax.random.split(key)
    logits = 1.5 * jax.random.normal(start, (PROMPTS, ARMS))
    return jax.lax.scan(one, logits, jax.random.split(run, updates))


# %% [markdown]
# That was all of it. And because a run is a pure function of its key, 32 seeds are one `vmap` away.

# %%
SEEDS = 32
keys = jax.random.split(jax.random.key(10), SEEDS)
final, accuracy = jax.jit(jax.vmap(train, in_axes=(0, None)))(keys, table)

accuracy = np.asarray(accuracy)  # [seed, update, prompt]
informative = 1 - accuracy**ROLLOUTS - (1 - accuracy) ** ROLLOUTS
print(f"accuracy: {accuracy[:, 0].mean():.2f} before, {accuracy[:, -1].mean():.2f} after training")

# %%
note = f"{SEEDS} seeds (thin lines), their mean, and its 95 % t interval (shade)"
figure, axes = panels.new_figure(1, 2, "Sixty lines at work", note)
for ax, curves, title, label in (
    (axes[0, 0], accuracy.mean(-1), "It learns", "accuracy (probability)"),
    (axes[0, 1], informative.mean(-1), "… until groups agree", "informative groups (share)"),
):
    ax.plot(curves.T, color="#C8C8C8", linewidth=0.5, zorder=0)
    panels.band(ax, np.arange(curves.shape[1]), curves, "sixty lines", 0)
    ax.set_ylim(0, 1.02)
    panels.finish(ax, title, "updates (batches)", label, legend=False)
figure

# %% [markdown]
# The right panel is the probability that the eight rollouts of a prompt do *not* all get the same
# reward, $1 - p^G - (1-p)^G$, averaged over prompts. It is all GRPO can learn from. Early on
# groups are lost because some prompts are too hard, late because they are too easy, and in
# between nearly everything counts.
#
# One thin line stays behind in the left panel. What happened to that seed?

# %%
worst = accuracy[:, -1].mean(-1).argmin()
lost = accuracy[worst, -1].argmin()
print(f"seed {worst}: accuracy {accuracy[worst, -1].mean():.3f}; the other prompts are at "
      f"{np.delete(accuracy[worst, -1], lost).min():.2f} or above")  # fmt: skip
print(f"prompt {lost}: {accuracy[worst, 0, lost]:.4f} at the start, ", end="")
print(f"{accuracy[worst, -1, lost]:.4f} at the end, ", end="")
print(f"informative at the start with probability {informative[worst, 0, lost]:.3f}")

# %% [markdown]
# A prompt on which the policy is hardly ever right gives GRPO nothing to reinforce: eight zeros
# have no winner. Keep this in mind when an average looks good.

# %% [markdown]
# ## The lab does the same
#
# In the laboratory an algorithm is a *recipe*: mechanisms plugged into slots. Printed, it is the
# objective we have just written:

# %%
import jaxrl_envs

import jaxrl_lab as lab

env = jaxrl_envs.make("bandit/modes", prompts=PROMPTS, arms=ARMS, modes=RIGHT)
policy = lab.policies.make("tabular", env, scale=1.5)
grpo = lab.recipe("grpo", group=ROLLOUTS, optimizer={"sgd": {"learning_rate": 1.6}})
print(grpo)

# %% [markdown]
# | here | slot of the recipe | mechanism |
# |---|---|---|
# | `advantages` | advantage | `group_normalized` |
# | `ratio`, `clipped`, `jnp.minimum` | surrogate | `clip` |
# | `jnp.mean` | aggregate | `token_mean` |
# | `logits + step * gradient` | optimizer | `sgd` |
# | `sample`, `scan` | (the learner) | |
#
# Looking alike is not enough. We let the lab make one update, with a *tape* that records what goes
# through every slot. It needs concrete values and therefore runs without compilation. The tape
# holds the actions the lab drew and the rewards they got; we give exactly those to our `update`.

# %%
learner = lab.PolicyGradient(env, policy)
world = learner.world(env.default_params)
key = jax.random.key(0)
before = learner.init(grpo, world, key)

tape = []
with jax.disable_jit():
    after, _ = learner.update(grpo, world, before, key, jnp.int32(0), jnp.int32(1), tape)
batch = tape[0]["output"]  # what left the advantage slot

logits, actions = before.params["logits"], batch.action[..., 0]
ours = update(logits, actions, batch.reward[..., 0])
theirs = after.params["logits"]
advantage = advantages(batch.reward[..., 0])[..., None]
u = jax.random.uniform(jax.random.key(4), (PROMPTS, ROLLOUTS))
dist = lab.policies.Categorical.from_logits(logits[:, None, :])


def gap(a, b):
    return float(jnp.abs(a - b).max())


print(f"same actions for the same u:       {bool((sample(logits, u) == dist.sample(u)).all())}")
print(f"advantages, largest difference:    {gap(advantage, batch.advantage):.1e}")
print(f"new logits, largest difference:    {gap(ours, theirs):.1e}")
print(f"what the update itself changed:    {gap(theirs, logits):.2f}")

# %% [markdown]
# The same to the last digits of single precision. Whole runs draw different random numbers here and
# there, so we compare them as one compares runs: over seeds.


# %%
def exact_accuracy(env, policy, world, first, before, after):
    right = world.bank.mode >= 0
    return {"accuracy": (jax.nn.softmax(after.params["logits"]) * right).sum(-1).mean()}


result = lab.train(env, policy, grpo, updates=150, seeds=SEEDS, measure=exact_accuracy)

note = f"{SEEDS} seeds each, own random numbers; shades: 95 % t intervals"
figure, axes = panels.new_figure(1, 1, "One algorithm, written twice", note)
ax = axes[0, 0]
panels.band(ax, np.arange(150), accuracy.mean(-1), "sixty lines", 0)
panels.band(ax, result.update, result.curve("accuracy", "grpo"), "recipe grpo", 1)
panels.finish(ax, "", "updates (batches)", "accuracy (probability)")
figure

# %% [markdown]
# What the lab adds is not another algorithm but the freedom to change one piece: every number is a
# value that may be swept in one compiled program, every slot takes a mechanism of your own, and
# every world has exact answers to hold the result against.

# %% [markdown]
# ## Exercises
#
# Each can be done with the functions above in a handful of lines. Write down your guess first.
#
# **1. Wasted rollouts.** A prompt is solved with probability 0.05. With eight rollouts, how often
# does its group say anything at all? How many rollouts does it take until half of the groups do?
#
# *Hint:* a group is silent when all its rewards are equal; there are two ways for that to happen.
#
# <details><summary>Solution</summary>
#
# A group is informative with probability $1 - p^G - (1-p)^G$: one third of the time for $G = 8$.
#
# ```python
# def informative_share(p, group):
#     return 1 - p**group - (1 - p) ** group
#
# share = informative_share(0.05, 8)
# enough = next(group for group in range(2, 100) if informative_share(0.05, group) >= 0.5)
# assert abs(share - 0.337) < 1e-3
# assert enough == 14
# ```
#
# Fourteen rollouts. With eight, two thirds of the work on such a prompt is thrown away, which is
# why some methods (DAPO's dynamic sampling) draw again until a group is mixed. In the lab that is
# the recipe `dapo`.
#
# </details>
#
# **2. When does the clip do anything?** Set `epochs=1`, and compare `clip=0.2` with `clip=0.0`.
# Then do the same with four epochs.
#
# *Hint:* what is $\rho$ in the first step? `objective` takes the clip width as an argument.
#
# <details><summary>Solution</summary>
#
# In the first step $\rho = 1$ whatever the width, so with one epoch any positive width gives the
# same update. (At width zero the kink of the minimum lies exactly at $\rho = 1$, where JAX shares
# the gradient between the two branches.) With four epochs a narrow clip stops the climb early.
#
# ```python
# def update_with(clip, epochs, step=1.6):
#     z, logp_old = logits, log_prob(logits, actions)
#     for _ in range(epochs):
#         z = z + step * jax.grad(objective)(z, actions, A, logp_old, clip)
#     return z
#
# assert jnp.allclose(update_with(0.2, 1), update_with(0.01, 1))
# moved = {c: float(jnp.abs(update_with(c, 4) - logits).sum()) for c in (0.01, 0.2, 10.0)}
# assert moved[0.01] < moved[0.2] <= moved[10.0]
# ```
#
# </details>
#
# **3. Without the standard deviation.** Dr. GRPO leaves the division out. Which prompts move less
# now, and which move as before? Check with groups that have one, four and seven right of eight.
#
# *Hint:* what is the standard deviation of a group with a share $\hat p$ of successes?
#
# <details><summary>Solution</summary>
#
# It is $\sqrt{\hat p(1-\hat p)}$ (times $\sqrt{G/(G-1)}$), about one half at most. Dividing by it
# nearly doubles the advantages of an even group and multiplies those of a one-sided one by more:
# GRPO gives extra weight to prompts that are nearly always wrong *and* to those that are nearly
# always right. Without it, both kinds move less compared with the rest.
#
# ```python
# def centered(rewards):
#     return rewards - rewards.mean(axis=1, keepdims=True)
#
# groups = (jnp.arange(8)[None, :] < jnp.array([[1], [4], [7]])).astype(jnp.float32)
# gain = advantages(groups)[:, 0] / centered(groups)[:, 0]
# assert gain[0] > gain[1] < gain[2]
# assert abs(gain[0] - gain[2]) < 1e-4
# assert 1.8 < gain[1] < 2.0
# ```
#
# In the lab: `lab.recipe(grpo, advantage="group_centered")`.
#
# </details>
#
# **4. Four equals.** Start from logits that are all zero, so that the four right arms of a prompt
# are exactly equal at the start. How many of them are in use after 150 updates? (Count
# $e^{H}$, with $H$ the entropy of the policy among the right arms.)
#
# *Hint:* on average the update treats equals equally. A single batch does not.
#
# <details><summary>Solution</summary>
#
# Fewer than four. The *expected* update keeps the tie, but it is the kind of tie that a pencil on
# its tip has: an arm that happens to be drawn more often gets more probability and is then drawn
# more often.
#
# ```python
# def use_of_right_arms(logits):
#     among = jax.nn.softmax(jnp.where(table > 0, logits, -jnp.inf))
#     return jnp.exp(-jnp.sum(among * jnp.log(jnp.maximum(among, 1e-30)), axis=1))
#
# z = jnp.zeros((PROMPTS, ARMS))
# for key in jax.random.split(jax.random.key(5), 150):
#     drawn_arms = sample(z, jax.random.uniform(key, (PROMPTS, ROLLOUTS)))
#     z = jax.jit(update)(z, drawn_arms, jnp.take_along_axis(table, drawn_arms, axis=1))
# in_use = use_of_right_arms(z).mean()
# assert 1.0 < in_use < 3.5
# ```
#
# The notebook on entropy collapse takes this apart: why it happens without any noise as soon as
# the start is not exactly tied, which quantity is conserved on the way, and what to do about it.
#
# </details>
