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
# # Entropy collapse
#
# **The question.** A prompt has four equally right answers, and the reward is 1 for each of them.
# We train a policy with GRPO until it is almost always right. How many of the four answers does
# it still give? And if it gives fewer than before, was that the price of being right?
#
# In a language model this question costs days and has no exact answer. Here it costs half a
# minute, and next to every measured number stands one that was computed exactly.

# %%
# # %pip install jaxrl-lab
from dataclasses import replace
from typing import ClassVar

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
SEEDS, PROMPTS, ARMS, RIGHT = 32, 16, 16, 4

# %% [markdown]
# ## The world
#
# Sixteen prompts, sixteen arms each, four of them right. An episode is one pull. The policy is a
# table of logits $z_{b,a}$ with $\pi_b = \mathrm{softmax}(z_b)$, drawn from
# $\mathcal N(0, 1.5^2)$, so that some right answers start out likely and others rare, as they do
# in a pretrained model. Prompts share nothing: whatever we see is not interference between them.
#
# We count answers by **effective solutions**,
#
# $$N_\text{eff} = \exp H(\pi \mid \text{right}),$$
#
# the exponential of the entropy of the policy *among the right arms*. It is 4 when all four are
# used equally and 1 when a single one is left. Because it looks at the right arms only, it does
# not fall merely because wrong answers disappear; plain entropy does.

# %%
env = jaxrl_envs.make("bandit/modes", prompts=PROMPTS, arms=ARMS, modes=RIGHT)
policy = lab.policies.make("tabular", env, scale=1.5)
levels = jax.vmap(env.make_level, in_axes=(None, 0))(env.default_params, jnp.arange(PROMPTS))
right = jax.vmap(env.correct)(levels)  # [prompt, arm], True for the four right arms

print(env.render(env.default_params, jax.tree.map(lambda x: x[0], levels), ()))

# %% [markdown]
# GRPO with eight rollouts per prompt and four inner steps on each batch. The step of 1.6 on the
# mean over all 16 prompts is a step of 0.1 for each of them. A recipe prints as the objective it
# stands for:

# %%
grpo = lab.recipe("grpo", optimizer={"sgd": {"learning_rate": 1.6}})
print(grpo)

# %% [markdown]
# ## Write down what you expect
#
# Before running anything. The policies we start from already have a spread among the right arms,
# which we can read off the logits without any training:

# %%
learner = lab.PolicyGradient(env, policy)
world = learner.world(env.default_params)
keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
start = jax.vmap(lambda key: learner.init(grpo, world, key).params["logits"])(keys)

logp_start = jax.nn.log_softmax(start)  # [seed, prompt, arm]
solutions_start = lab.measures.effective_solutions(logp_start, right).mean(-1)
accuracy_start = lab.measures.accuracy(logp_start, right).mean(-1)
print(f"at the start: accuracy {accuracy_start.mean():.2f}, ", end="")
print(f"{solutions_start.mean():.2f} of {RIGHT} solutions, mean over {SEEDS} seeds")

# %% [markdown]
# Three answers that people give, and what each of them says:
#
# | if you believe that … | effective solutions at accuracy 0.9 |
# |---|---|
# | the reward does not tell the four apart: shares stay | about 2.65, as at the start |
# | trying things out evens out the shares | more than 2.65, up to 4 |
# | somebody has to win | less than 2.65, down to 1 |
#
# Put your own number into the next cell. It will be drawn into the figure. (The one that stands
# there is the first row, which sounds most reasonable.)

# %%
expected = 2.65

# %% [markdown]
# ## The smallest experiment that answers it
#
# A measure is an ordinary function of the learner before and after an update. In a one-step world
# everything it reports is exact: accuracy is a sum of probabilities and not a count of samples.
# All 32 seeds train side by side in one compiled program.


# %%
def look(env, policy, world, first, before, after):
    logp = jax.nn.log_softmax(after.params["logits"])
    return {
        "accuracy": lab.measures.accuracy(logp, right).mean(),
        "solutions": lab.measures.effective_solutions(logp, right).mean(),
        "entropy": lab.measures.token_entropy(logp).mean(),
    }


result = lab.train(env, policy, grpo, updates=200, seeds=SEEDS, measure=look, every=2)

# %%
note = f"{SEEDS} seeds (thin lines), their mean, and its 95 % t interval (shade)"
figure, axes = panels.new_figure(1, 3, "GRPO gets better, and narrower", note)
labels = {
    "accuracy": ("Right almost always …", "accuracy (probability)"),
    "entropy": ("… with less entropy …", "entropy of the policy (nats)"),
    "solutions": ("… and one answer left of four", f"effective solutions (of {RIGHT})"),
}
for ax, (name, (title, label)) in zip(axes[0], labels.items(), strict=True):
    curves = result.curve(name, "grpo")
    ax.plot(result.update, curves.T, color="#C8C8C8", linewidth=0.5, zorder=0)
    panels.band(ax, result.update, curves, "GRPO", 0)
    panels.finish(ax, title, "updates (batches)", label, legend=False)
axes[0, 2].set_ylim(0.9, RIGHT + 0.1)
panels.reference(axes[0, 2], expected, "written down before the run")
figure

# %% [markdown]
# The third row of the table. By the end one right answer is left per prompt.
#
# Comparing at equal *updates* would be unfair to any method that simply learns faster, so from
# here on we compare at equal **accuracy**: each seed is read off where it first reaches a level.


# %%
def cell(sample):
    interval = mean_interval(sample)
    return f"{interval.mean:.2f} ± {interval.high - interval.mean:.2f}"


LEVELS = (0.5, 0.8, 0.9, 0.95)
reached = at_matched(result.curve("accuracy", "grpo"), result.curve("solutions", "grpo"), LEVELS)
print(f"effective solutions, mean ± 95 % over {SEEDS} seeds")
print(f"  at the start    {cell(np.asarray(solutions_start))}")
for accuracy, sample in zip(LEVELS, reached.T, strict=True):
    print(f"  at accuracy {accuracy:<4} {cell(sample)}")

# %% [markdown]
# ## Inside one update: entropy moves by a covariance
#
# Write $\Delta z$ for the change of the logits of one prompt. To first order the entropy of a
# softmax changes by
#
# $$\Delta H \;\approx\; -\,\mathrm{Cov}_{a\sim\pi}\big(\log\pi(a),\ \Delta z(a)\big).$$
#
# Entropy falls when what is already likely is pushed up, and *rises* when something rare is. The
# reward does not appear: it acts through $\Delta z$ alone. This is an identity, so it is not a
# finding. What can be found out is how large a step may be before it stops being true.
#
# First with an update that has no sampling noise. On average over groups of $G$ rollouts, GRPO
# moves the logits of a prompt with success probability $p$ by
#
# $$\mathbb E[\Delta z_a] = \eta\; w_G(p)\; \pi_a\,(r_a - p),$$
#
# where $w_G(p)$ is the weight that dividing by the group's standard deviation gives to a prompt of
# that difficulty. We take it for every prompt and seed, at step sizes from 0.001 to 100.

# %%
reward = right.astype(jnp.float32)
p = lab.measures.accuracy(logp_start, right)[..., None]
weight = lab.exact.difficulty_weight(p[..., 0], grpo.group, ddof=1)[..., None]
direction = weight * jnp.exp(logp_start) * (reward - p)  # [seed, prompt, arm]


def entropy_changes(step):
    delta = step * direction
    predicted = lab.exact.first_order_entropy_change(logp_start, delta)
    return np.asarray(lab.exact.measured_entropy_change(start, delta)), np.asarray(predicted)


def relative_error(measured, predicted):
    """Over the prompts of each seed, so that errors of opposite sign do not cancel."""
    return np.abs(measured - predicted).sum(-1) / np.abs(measured).sum(-1)


steps = 10.0 ** np.arange(-3, 2.1, 0.5)
exact_error = [relative_error(*entropy_changes(step)) for step in steps]

# %% [markdown]
# Then with real updates: sampled actions, four clipped inner steps, whatever $\Delta z$ came out.
# Seven learning rates are seven arms of one sweep, and since a learning rate is a number, all of
# them run in one program.


# %%
def gap(env, policy, world, first, before, after):
    logits, change = before.params["logits"], after.params["logits"] - before.params["logits"]
    measured = lab.exact.measured_entropy_change(logits, change)
    predicted = lab.exact.first_order_entropy_change(jax.nn.log_softmax(logits), change)
    return {"gap": jnp.abs(measured - predicted).sum(), "change": jnp.abs(measured).sum()}


rates = [0.05, 0.16, 0.5, 1.6, 5.0, 16.0, 50.0]
arm = lab.make_arm(env, policy, grpo)
one_update = lab.sweep(
    arm, {"recipe.optimizer.learning_rate": rates}, updates=1, seeds=SEEDS, measure=gap
)
real_error = [
    one_update.curve("gap", name)[:, 1] / one_update.curve("change", name)[:, 1]
    for name in one_update.arms
]
per_prompt = np.array(rates) * grpo.epochs / PROMPTS  # total step of an update on one prompt

# %%
note = (
    f"Left: every prompt of {SEEDS} seeds, exact expected update. "
    f"Right: mean over {SEEDS} seeds with 95 % t intervals (bars, mostly smaller than markers)"
)
figure, axes = panels.new_figure(1, 2, "One update, predicted and measured", note)
left, ax = axes[0]
for i, step in enumerate((10.0, 1.0, 0.1)):
    measured, predicted = entropy_changes(step)
    dot = {"color": ("#AAAAAA", "#D55E00", "#000000")[i], "marker": "^so"[i], "s": 9}
    left.scatter(predicted / step, measured / step, label=f"η = {step:g}", alpha=0.7, **dot)
left.axline((0, 0), slope=1, color="#444444", linewidth=1, linestyle=(0, (6, 2)))
panels.finish(left, "Per prompt", "−Cov(log π, Δz) / η (nats)", "measured ΔH / η (nats)")
panels.dots(ax, steps, exact_error, "expected update, no noise", 0)
panels.dots(ax, per_prompt, real_error, "sampled GRPO update", 1)
ax.plot(steps[:7], exact_error[0].mean() * steps[:7] / steps[0], color="#999999", linewidth=5,
        alpha=0.4, zorder=0, label="slope 1: error of the next order")  # fmt: skip
ax.set(xscale="log", yscale="log")
panels.finish(ax, "Where first order ends", "step per prompt η (logits per unit of advantage)",
              "Σ|ΔH − predicted| / Σ|ΔH|")  # fmt: skip
figure

# %%
slope = np.polyfit(np.log(steps[:5]), np.log([e.mean() for e in exact_error[:5]]), 1)[0]
measured, predicted = entropy_changes(0.001)
line = (measured * predicted).sum(-1) / (predicted**2).sum(-1)
at_work = np.asarray(real_error)[rates.index(1.6)].mean()
hard = np.asarray(p[..., 0]) < 0.5
print(f"relative error of a real update at our rate of 1.6: {at_work:.0%}")
print("prompts whose entropy falls in the first update:")
print(f"  starting below accuracy 0.5: {(predicted[hard] < 0).mean():.0%} of {hard.sum()}")
print(f"  starting above accuracy 0.5: {(predicted[~hard] < 0).mean():.0%} of {(~hard).sum()}")

# %% [markdown]
# Three things to take away.
#
# * For small steps the prediction is the measurement, and the relative error grows like $\eta$:
#   nothing is left to explain but the next order.
# * At the steps we actually train with it is a good approximation and not more; a few times
#   larger, and it is worthless.
# * **At the start the entropy of most prompts rises.** Right answers are rare there, and pushing up
#   what is rare spreads the policy; where the policy is mostly right already, entropy falls. That
#   is why the middle panel above starts out flat. Collapse is not in the first step.
#
# So the covariance keeps the books, but it does not say *why the right answers themselves* get
# fewer. For that we need the whole path.

# %% [markdown]
# ## Why one of four equals wins: a conserved quantity
#
# Make the steps small and many. For a right answer ($r_a = 1$) the expected update becomes
#
# $$\dot z_a = \pi_a\,(1 - p).$$
#
# The factor $w_G(p)$ is gone because it is the same for all arms of a prompt: it changes how fast
# the path is traveled and not where it leads. *Dividing by the standard deviation is not the
# culprit.* The factor that matters is $\pi_a$: we only learn about an answer when we sample it, so
# what is likely is reinforced more often. Now look at $e^{-z_a}$, with
# $\pi_a = e^{z_a}/Z$:
#
# $$\frac{d}{dt}\,e^{-z_a} = -e^{-z_a}\,\pi_a\,(1-p) = -\frac{1-p}{Z}.$$
#
# The right-hand side is the same for all right answers. Hence
#
# $$e^{-z_a} - e^{-z_b} = \text{constant for any two right answers.}$$
#
# All $e^{-z}$ shrink together by the same *amount*, and the smallest, which belongs to the answer
# that started out likeliest, reaches zero first while the others are still positive. Its logit runs
# away and theirs stop: **the rich get richer, and the winner is known before the first sample.**
#
# **Natural gradient** divides the factor $\pi_a$ out: $\dot z_a = 1 - p$. Then $z_a - z_b$ is
# constant, and so is the ratio $\pi_a/\pi_b$: shares among the right answers never change. It
# reaches the same accuracy without any collapse, so collapse is not the price of being right.

# %%
z0, r = start[0, 0], reward[0]  # prompt 0 of seed 0
times = jnp.concatenate([jnp.zeros(1), jnp.logspace(-1, 4, 80)])
paths = {
    "Policy gradient (GRPO without noise)": jax.nn.log_softmax(
        lab.exact.softmax_flow(z0, r, times)
    ),
    "Natural policy gradient": lab.exact.replicator_flow(z0, r, times),
}

note = "Exact flows from one start: prompt 0 of seed 0. Nothing is sampled, so there is no interval"
figure, axes = panels.new_figure(1, 2, "The same prompt, two gradients", note)
order = jnp.argsort(-jnp.where(r > 0, z0, -jnp.inf))[:RIGHT]
for ax, (title, logp) in zip(axes[0], paths.items(), strict=True):
    accuracy = lab.measures.accuracy(logp, right[0])
    share = jnp.exp(logp[:, order]) / accuracy[:, None]
    for i in range(RIGHT):
        ax.plot(accuracy, share[:, i], label=f"right answer {i + 1}", **panels.look(i))
    ax.set_ylim(-0.02, 1.02)
    panels.finish(ax, title, "accuracy (probability)", "share of the right mass", legend=False)
axes[0, 0].legend(loc="upper left")
figure

# %% [markdown]
# The oracle confirms the bookkeeping: while logits move by several units, the differences of
# $e^{-z}$ stay put.

# %%
at = [0, 30, 60, 80]
z = lab.exact.softmax_flow(z0, r, times)[jnp.array(at)]
_, constant = lab.exact.flow_invariants(z, jnp.broadcast_to(r, z.shape))
print("    time   accuracy   logits of the right answers          e^(−z_a) − e^(−z_b)")
for i, t in enumerate(at):
    logits = "  ".join(f"{x:5.2f}" for x in z[i, order])
    kept = "  ".join(f"{x:6.3f}" for x in constant[i, order])
    accuracy = lab.measures.accuracy(jax.nn.log_softmax(z[i]), right[0])
    print(f"{times[t]:8.1f}   {accuracy:8.3f}   {logits}       {kept}")

# %% [markdown]
# Does sampled GRPO, with its noise, its clipping and its finite steps, obey this? Two checks. The
# flow says who wins: the right answer that was likeliest at the start. And the flow says how many
# solutions are left at each accuracy.

# %%
final = jnp.asarray(result.params["grpo"]["logits"])
leader = jnp.argmax(jnp.where(right, start, -jnp.inf), axis=-1)
winner = jnp.argmax(jnp.where(right, final, -jnp.inf), axis=-1)
print(f"prompts in which the initial leader wins: {cell(np.asarray((leader == winner).mean(-1)))}")
print()

# %% [markdown]
# For the second check we run GRPO's own schedule, 200 updates of four inner steps of 0.1, with the
# expected step in place of the sampled one.


# %%
def expected_step(z):
    pi = jax.nn.softmax(z)
    p = jnp.sum(pi * reward, axis=-1, keepdims=True)
    weight = lab.exact.difficulty_weight(p[..., 0], grpo.group, ddof=1)[..., None]
    return z + 0.1 * weight * pi * (reward - p)


@jax.jit
def without_noise(z):
    def update(z, _):
        logp = jax.nn.log_softmax(z)
        seen = lab.measures.accuracy(logp, right), lab.measures.effective_solutions(logp, right)
        return jax.lax.fori_loop(0, grpo.epochs, lambda _, z: expected_step(z), z), seen

    return jax.lax.scan(update, z, None, length=200)[1]


accuracy, solutions = (np.asarray(x.mean(-1)).T for x in without_noise(start))
ideal = at_matched(accuracy, solutions, LEVELS)
print("effective solutions    sampled GRPO    without noise    natural gradient")
for i, level in enumerate(LEVELS):
    row = [cell(reached[:, i]), cell(ideal[:, i]), cell(np.asarray(solutions_start))]
    print(f"  at accuracy {level:<4}    " + "      ".join(row))

# %% [markdown]
# Sampled and noise-free GRPO agree to the second digit. That is worth a pause: **the collapse is
# not drift, not bad luck in small groups, not clipping.** It is what the expected update does.
# Larger groups and smaller steps would not help. And the natural gradient, which reaches the same
# accuracies from the same policies, shows that it need not happen.

# %% [markdown]
# ## What one update looks like from inside
#
# `lab.debug` trains one member again up to an update and then replays that update without
# compilation. It returns one entry per mechanism called: the slot, what went in, what came out.

# %%
tape = lab.debug(result, arm="grpo", seed=0, update=10)


def brief(value):
    """The shape of what passed through a slot."""
    leaves = [type(x).__name__ + str(list(getattr(x, "shape", ()))) for x in jax.tree.leaves(value)]
    kind = type(value).__name__
    return leaves[0].replace("ArrayImpl", "array") if len(leaves) == 1 else kind


print(f"{'slot':<11}{'mechanism':<18}{'goes in':<10}comes out")
for entry in tape:
    print(f"{entry['slot']:<11}{entry['mechanism']:<18}", end="")
    print(f"{brief(entry['input']):<10}{brief(entry['output'])}")

# %% [markdown]
# One line per mechanism; surrogate and aggregate appear four times, once per inner step. The
# entries hold the arrays themselves, so we can lay a single group on the table: the prompt whose
# group has the most evenly mixed rewards, rollout by rollout.

# %%
batch = tape[0]["output"]  # what the advantage slot returned
surrogates = [entry for entry in tape if entry["slot"] == "surrogate"]
prompt = int(jnp.argmax(batch.reward[..., 0].std(axis=1)))

(out, _), (_, last) = surrogates[-1]["input"], surrogates[-1]["output"]
ratio = jnp.exp(out.logp - batch.logp_old)
columns = {
    "arm": batch.action,
    "π_old": jnp.exp(batch.logp_old),
    "reward": batch.reward,
    "advantage": batch.advantage,
    "ρ, last step": ratio,
    "clipped": last["clipped"],
}
print(f"prompt {prompt}")
print("".join(f"{name:>14}" for name in columns))
for g in range(grpo.group):
    row = [x[prompt, g, 0].item() for x in columns.values()]
    print("".join(f"{x:>14.2f}" if isinstance(x, float) else f"{x!s:>14}" for x in row))
print("J at each inner step:", *(f"{e['output']:.4f}" for e in tape if e["slot"] == "aggregate"))

# %% [markdown]
# Everything from above is visible in one group. Each right rollout gets the *same* advantage,
# whichever right arm it pulled. But an arm that was pulled twice gets it twice.

# %% [markdown]
# ## Your own mechanism
#
# The derivation says what to change. A right answer gains $\pi_a(1-p)$ because its copies are
# paid once each, and there are on average $G\pi_a$ copies in a group. So let copies share: divide
# the reward of a rollout by the number of rollouts in its group that gave the same answer. In
# genetic algorithms this is known as fitness sharing.
#
# A mechanism is a small class with a call. `power` is annotated `float`, so it is a number that
# may be swept; `formula` is how it prints. It fits in nine lines, and nothing has to be registered:


# %%
@lab.mechanism
class ShareReward:
    power: float
    formula: ClassVar[str] = "R ← R / (copies of the answer in its group)^{power}"

    def __call__(self, batch, ctx):
        answer = batch.action[..., 0]
        copies = jnp.sum(answer[:, :, None] == answer[:, None, :], axis=-1, dtype=jnp.float32)
        return replace(batch, reward=batch.reward / copies[..., None] ** self.power)


shared = lab.recipe(grpo, reward=ShareReward(power=1.0), name="grpo with shared reward")
print(shared)

# %% [markdown]
# **Write down what you expect** of `power` 0, ¼, ½, 1 and 2: how many solutions at accuracy 0.95,
# and what it costs. Power 0 divides by one and must give GRPO back.
#
# Five settings and 32 seeds each are 160 runs. The package has never seen this class; they still
# share one program, which is what the counter of traces shows.

# %%
powers = [0.0, 0.25, 0.5, 1.0, 2.0]
print("programs traced before:", lab.traces())
sharing = lab.sweep(
    lab.make_arm(env, policy, shared),
    {"recipe.reward.power": powers},
    updates=200,
    seeds=SEEDS,
    measure=look,
    every=2,
)
print("programs traced after: ", lab.traces())

difference = sharing.curve("solutions", "power=0.0") - result.curve("solutions", "grpo")
print(f"power 0 against GRPO above: largest difference {np.abs(difference).max():.1e} solutions")

# %%
note = f"{SEEDS} seeds; shades and bars are 95 % t intervals over seeds"
figure, axes = panels.new_figure(1, 2, "Copies share their reward", note)
ax, dots = axes[0]
for i, power in enumerate(powers):
    panels.band(ax, sharing.update, sharing.curve("solutions", f"power={power}"), f"{power:g}", i)
ax.set_ylim(0.9, RIGHT + 0.1)
panels.finish(ax, "The collapse stops", "updates (batches)", f"effective solutions (of {RIGHT})")
ax.legend(title="power", ncols=3, loc="upper right")

matched = {
    power: at_matched(
        sharing.curve("accuracy", f"power={power}"),
        sharing.curve("solutions", f"power={power}"),
        LEVELS,
    )
    for power in powers
}
for i, level in enumerate((0.8, 0.9, 0.95)):
    samples = [matched[power][:, LEVELS.index(level)] for power in powers]
    x = np.arange(len(powers)) + 0.07 * (i - 1)
    panels.dots(dots, x, samples, f"at accuracy {level:g}", i)
dots.set_xticks(range(len(powers)), [f"{power:g}" for power in powers])
dots.set_ylim(0.9, RIGHT + 0.1)
panels.reference(dots, float(solutions_start.mean()), "natural gradient")
panels.finish(dots, "At matched accuracy", "power of sharing", f"effective solutions (of {RIGHT})")
dots.legend(loc="upper left")
figure

# %%
print("power   more solutions than GRPO    accuracy after      updates until")
print("        at accuracy 0.95 (paired)   200 updates         accuracy 0.9")
for power in powers:
    name = f"power={power}"
    gain = matched[power][:, 3] - matched[0.0][:, 3]
    curve = sharing.curve("accuracy", name)
    time = at_matched(curve, np.broadcast_to(sharing.update, curve.shape), [0.9])[:, 0]
    last = mean_interval(curve[:, -1])
    print(
        f"{power:<8g}{cell(gain):<28}{last.mean:.3f} ± {last.high - last.mean:.3f}       ", end=""
    )
    half = mean_interval(time)
    print(f"{half.mean:.0f} ± {half.high - half.mean:.0f}")

# %% [markdown]
# Two things to notice.
#
# * Even a quarter power stops the collapse, and the curves turn up again. Look at late training: a
#   group whose eight rollouts are all right has no advantage under GRPO, so nothing ever repairs a
#   lost answer. With shared rewards such a group still has unequal rewards, and GRPO divides by
#   their standard deviation, which makes *any* power, however small, count almost in full there.
# * It is not free. Reward that goes to keeping answers apart is missing for telling right from
#   wrong, and accuracy comes later and ends a little lower. The table shows what is paid. Whether
#   that is a good bargain depends on what the answers are for.

# %% [markdown]
# ## Limits: what this cannot say about large models
#
# * **Four right answers that we can enumerate.** Effective solutions is exact here because the
#   world tells which arms are right. For text, "the same answer" needs a definition, and sharing
#   reward over it needs a matcher; two solutions that end in the same number are not four arms.
# * **Prompts share nothing.** A network moves all prompts at once. The covariance identity still
#   holds for the observed change of the logits, but that change is no longer the gradient of one
#   prompt, and the conserved quantity is lost.
# * **One step.** With sequences the entropy is spread over tokens, and the states that are visited
#   change with the policy.
# * **The starting spread is ours.** Random logits give every right answer a chance. A pretrained
#   model may give some of them none, and what is never sampled cannot be kept by any reward.
# * **One learning rate, SGD.** Step sizes here were chosen, not tuned.
#
# What does carry over is the logic: an update that reinforces an answer in proportion to how often
# it is sampled makes likely answers likelier, also among equals, without noise and at any group
# size. Whether that is what dominates in a given large run is an empirical question.
#
# ## What to try next
#
# * `lab.run("entropy_collapse")` is the full experiment behind this page: 64 prompts, 64 seeds, the
#   published remedies (clip-higher, entropy bonus, Clip-Cov, KL-Cov), claims fixed beforehand, and
#   verdicts on them.
# * Replace `ShareReward` by a regularizer that charges a right answer for being above a cap, say
#   `self.strength * jax.nn.relu(out.logp - jnp.log(self.share)) * (batch.reward > 0)` with the
#   signature `(out, batch, aux, ctx)`. Does it need to know how many answers are right?
# * Fit $R = -a\,e^{H} + b$ to the first fifth of the curves above
#   (`lab.measures.exponential_law`). How far off is the accuracy it predicts for $H = 0$?
# * Give the policy shared parameters: `observation="features"` in the environment and
#   `lab.policies.make("mlp", env, hidden=(32,))`, with Adam. What becomes of the winner?
