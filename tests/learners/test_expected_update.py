"""The mean of one full update over many keys equals the update written out and enumerated.

Four arms, two of them right, one prompt, four rollouts: all 4^4 action tuples are enumerated with
their probabilities, and the parameter change of each is computed from the recipe's formula as it
stands in its paper, sharing no code with the mechanisms.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache, partial
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import make

from jaxrl_lab import policies, recipes
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.recipes import recipe, with_value

KEYS = 100_000
K = G = 4
START = jnp.asarray([0.5, -0.6, 0.9, -0.1], jnp.float32)
REFERENCE = jnp.asarray([-0.4, 0.3, 0.2, 0.6], jnp.float32)
VALUE = jnp.float32(0.3)
ENV = make("bandit/modes", prompts=1, arms=K, modes=2)
REWARD = ENV.make_level(ENV.default_params, jnp.int32(0)).reward
TUPLES = jnp.asarray(list(itertools.product(range(K), repeat=G)))
RATE = 1.5

OVERRIDES = {
    "ppo": {"prompts": G, "steps": 1, "minibatches": 1},
    "ppo_ewma": {"prompts": G, "steps": 1, "minibatches": 1},
    "random_drop": {"epochs": 2, "weight.fraction": 0.5},
    "clip_cov": {"epochs": 2},
    "filter_groups": {"prompts": 2},
    "copo": {"prompts": 2},
    "lite_ppo": {"prompts": 2},
    "lp_reg": {"regularizer.keep": 0.5},
    "disco": {
        "weight.temperature": 0.5,
        "regularizer.limit": 0.02,
        "regularizer.coefficient": 2.0,
    },
}
STREAMS = ("ppo", "ppo_ewma")
TWO_PROMPTS = [name for name, changes in OVERRIDES.items() if changes.get("prompts") == 2]

MEMORY = {
    "dcpo": {"advantage.1": jnp.float32(1.7)},
    "epo": {"regularizer.0": {"total": jnp.asarray([4.2]), "updates": jnp.float32(3.0)}},
    "safe": {"regularizer.0": {"kl": jnp.float32(6.0)}},
}
"""What mechanisms with a memory remember from before the update."""


def sampled(name, keys=KEYS):
    """Parameter changes of ``learner.update`` over independent keys, ``[keys, ...]``."""
    built = recipe(name) if name in STREAMS else recipe(name, group=G)
    for path, value in OVERRIDES.get(name, {}).items():
        built = with_value(built, path, value)
    if name not in STREAMS:
        built = with_value(built, "optimizer.learning_rate", RATE)
    rows = 2 if name in TWO_PROMPTS else 1
    env = replace(ENV, prompts=rows)
    policy = policies.make("tabular", env, value="value" in built.needs)
    built.check(env, policy)
    learner = PolicyGradient(env, policy)
    world = learner.world(env.default_params)
    base = {"logits": jnp.tile(START, (rows, 1))}
    if policy.value:
        base["value"] = jnp.full(rows, VALUE)
    state = jax.jit(learner.init)(built, world, jax.random.key(7), base)
    trees = {n: base | {"logits": jnp.tile(REFERENCE, (rows, 1))} for n in state.trees}
    state = replace(state, trees=trees, memory=remembered(state.memory, MEMORY.get(name, {})))

    def change(key):
        after, _ = learner.update(built, world, state, key, jnp.int32(0), jnp.int32(1))
        delta = jax.tree.map(lambda x, y: x - y, after.params, base)
        return jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(delta)])

    keys = jax.random.split(jax.random.key(2024), keys)
    return np.asarray(jax.jit(partial(jax.lax.map, change, batch_size=5000))(keys), np.float64)


def remembered(memory, changes):
    """A learner's memory with some of it, or some entries of it, replaced."""
    for place, value in changes.items():
        new = memory[place] | value if isinstance(value, dict) else value
        memory = memory | {place: new}
    return memory


# ------------------------------------------------------------------ the formulas


def none(r, a):
    return r


def batch_mean(r, a):
    return r - jnp.mean(r)


def others(r, a):
    return r - (jnp.sum(r) - r) / (G - 1)


def normalized(r, a):
    return jnp.where(jnp.max(r) > jnp.min(r), (r - jnp.mean(r)) / (jnp.std(r, ddof=1) + 1e-6), 0.0)


def whitened(x):
    return (x - jnp.mean(x)) / jnp.sqrt(jnp.var(x) + 1e-8)


def kl_whitened(r, a):
    """REINFORCE++: the reward pays the log-ratio to the reference, then whitening."""
    log_ratio = jax.nn.log_softmax(START)[a] - jax.nn.log_softmax(REFERENCE)[a]
    return whitened(r - 0.01 * log_ratio)


def score(logp, old, A):
    return A * logp


def weighted(logp, old, A):
    return jnp.exp(logp - old) * A


def clip(low, high):
    def f(logp, old, A):
        ratio = jnp.exp(logp - old)
        return jnp.where(A >= 0, jnp.minimum(ratio, 1 + high) * A, jnp.maximum(ratio, 1 - low) * A)

    return f


def capped(logp, old, A):
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(logp - old), 1.2)) * A * logp


def bonus(z, logp, old, A, a):
    p = jax.nn.softmax(z)
    return 0.05 * -jnp.sum(p * jnp.log(p))


def guided(z, logp, old, A, a):
    """RL-PLUS: the last of the group is the lowest-numbered right arm, π_ω = (π_old + 1)/2."""
    a = a.at[-1].set(jnp.argmax(REWARD))
    A = REWARD[a] - jnp.mean(REWARD[a])
    pi, old = jax.nn.softmax(z)[a], jax.nn.softmax(START)[a]
    shown = 2 * pi / (1.5 * old + 0.5) * jnp.sqrt(1 - jax.lax.stop_gradient(pi))
    ratio = jnp.where(jnp.arange(G) == G - 1, shown, pi / old)
    return jnp.mean(ratio * A) + 0.001 * entropy(z)


def k3(z, logp, old, A, a):
    d = jax.nn.log_softmax(REFERENCE)[a] - logp
    return -0.04 * jnp.mean(jnp.exp(d) - d - 1)


def covariance(logp, A):
    return jax.lax.stop_gradient((A - jnp.mean(A)) * (logp - jnp.mean(logp)))


def kl_cov(z, logp, old, A, a):
    """-|log ρ| on the one token of highest covariance, with derivative 0 at ρ = 1."""
    at = jnp.argmax(covariance(logp, A))
    x = logp[at] - old[at]
    return -jnp.where(x > 0, x, jnp.where(x < 0, -x, 0.0)) / G


def drop_two(logp, old, A, luck):
    """Random drop of two tokens of four: one of the six pairs."""
    pairs = jnp.asarray(
        [[i not in pair for i in range(4)] for pair in itertools.combinations(range(4), 2)]
    )
    return pairs[luck].astype(jnp.float32), 1 / 6


def drop_top(logp, old, A, luck):
    """Clip-Cov: one of the unclipped tokens whose covariance is the highest of the four."""
    cov, ratio = covariance(logp, A), jnp.exp(logp - old)
    open_ = jnp.where(A >= 0, ratio <= 2.0, ratio >= 0.0)
    candidate = ((cov >= jnp.max(cov)) & open_).astype(jnp.float32)
    n = jnp.sum(candidate)
    keep = 1.0 - jax.nn.one_hot(luck, 4) * candidate[luck]
    chance = jnp.where(n > 0, candidate[luck] / jnp.maximum(n, 1.0), 0.25)
    return keep, chance


def update(advantage, term, epochs, extra=None, lottery=None, draws=1, denominator=1.0):
    """Σ over tuples and luck of probability times the change of z in ``epochs`` ascents."""

    def change(a, luck):
        r = REWARD[a]
        A, z, chance = advantage(r, a), START, jnp.prod(jax.nn.softmax(START)[a])
        old = jax.nn.log_softmax(START)[a]
        for e in range(epochs):
            logp = jax.nn.log_softmax(z)[a]
            keep, share = (jnp.ones(G), 1.0) if lottery is None else lottery(logp, old, A, luck[e])

            def objective(z, A=A, keep=keep):
                logp = jax.nn.log_softmax(z)[a]
                more = 0.0 if extra is None else extra(z, logp, old, A, a)
                return jnp.mean(keep * term(logp, old, A)) / denominator + more

            z, chance = z + RATE * jax.grad(objective)(z), chance * share
        return z - START, chance, jnp.max(r) > jnp.min(r)

    lucks = jnp.asarray(list(itertools.product(range(draws), repeat=epochs)))
    every = jax.jit(jax.vmap(jax.vmap(change, (None, 0)), (0, None)))
    delta, chance, informative = (np.asarray(x, np.float64) for x in every(TUPLES, lucks))
    assert chance.sum() == pytest.approx(1.0, abs=1e-5)
    return (chance[..., None] * delta).sum((0, 1)), (chance * informative).sum()


def entropy(z):
    return -jnp.sum(jax.nn.softmax(z) * jax.nn.log_softmax(z))


def steered(z, logp, old, A, a):
    """STEER: clip-higher, weighted from 2 for the smallest |Ω| down to 0 for the largest."""
    omega = jnp.exp(logp - old) * A * (1 - jnp.exp(logp)) * (logp + entropy(z))
    u = jnp.abs(omega)
    span = jnp.max(u) - jnp.min(u)
    share = jnp.where(span > 0, (u - jnp.min(u)) / jnp.where(span > 0, span, 1.0), 0.5)
    return jnp.mean(jax.lax.stop_gradient(2.0 - 2.0 * share) * clip(0.2, 0.28)(logp, old, A))


def tempered(r, a):
    """DCPO after an estimate of 1.7 nats: T = 0.8 and a gap of 0.2 to the set point."""
    ratio = jax.nn.log_softmax(START / 0.8)[a] - jax.nn.log_softmax(START)[a]
    right = jnp.mean(r)
    alpha = jnp.where(right > 0, 0.2 / (0.2 + right), 0.0)
    return (1 - alpha) * normalized(r, a) + alpha * r * jnp.exp(ratio)


def historic(z, logp, old, A, a):
    """EPO with a mean entropy of 1.4 nats behind it, at the start of the training."""
    off = jnp.maximum(0.8 * 1.4 - entropy(z), 0.0) + jnp.maximum(entropy(z) - 1.2 * 1.4, 0.0)
    return 0.2 * (entropy(z) - 5.0 * off / 1.4)


def protected(z, logp, old, A, a):
    """Lp-Reg: the two arms below half of the top are filtered from the proxy."""
    q = jnp.where(jax.nn.softmax(START) >= 0.5 * jnp.max(jax.nn.softmax(START)), 1.0, 0.0)
    q = q * jax.nn.softmax(START) / jnp.sum(q * jax.nn.softmax(START))
    inside = (A < 0) & (jnp.exp(jax.lax.stop_gradient(logp)) < q[a])
    d = jnp.where(inside, jnp.log(jnp.where(inside, q[a], 1.0)) - logp, 0.0)
    return -jnp.mean(jnp.where(inside, jnp.exp(d) - d - 1, 0.0))


def unsure(r, a):
    """UCAS with log π as the confidence."""
    logp = jax.nn.log_softmax(START)
    varies = jnp.max(logp[a]) > jnp.min(logp[a])
    score = (logp[a] - jnp.mean(logp[a])) / (jnp.std(logp[a], ddof=1) + 1e-6)
    score = jnp.where(varies, score, 0.0)
    A = normalized(r, a)
    A = A * jnp.exp(jnp.where(A > 0, -score, 1.4 * score))
    z = START[a] - jnp.mean(START)
    span = jnp.where(varies, jnp.max(z) - jnp.min(z), 1.0)
    taxed = A - 0.05 * jnp.where(varies, (z - jnp.min(z)) / span, 0.5)
    return jnp.where(A > 0, jnp.maximum(taxed, 0.0), taxed)


def hesitant(r, a):
    """MSSR: one prompt, so that whitening takes the baseline out again; then the bonus."""
    A = whitened(r)
    return A + jnp.minimum(0.4 * entropy(START), jnp.abs(A) / 2.0)


def controlled(z, logp, old, A, a):
    """SAFE at an averaged KL of 6 while warming up: the threshold is 1.5 · 1.5."""
    gate = jnp.maximum(2.0 / (jax.lax.stop_gradient(entropy(z)) + 0.1), 0.5)
    kl = jnp.sum(jax.nn.softmax(z) * (jax.nn.log_softmax(z) - jax.nn.log_softmax(REFERENCE)))
    return -0.2 * (6.0 - 2.25) * gate * kl + 0.01 * entropy(z)


def focused(r, a):
    """A-GRAE on one prompt: the batch's mean return is the prompt's pass rate."""
    p = jnp.mean(r)
    focus = (1 - p) / (2 * jnp.sqrt(1 - p) + 1e-6) + p / (2 * jnp.sqrt(p) + 1e-6)
    A = normalized(r, a) * focus
    return jnp.where(A > 0, p, 1.0) * A


def matched(z, logp, old, A, a):
    """DMPO: the shares of the four rollouts against softmax(R / 0.1)."""
    return -80.0 * jnp.mean((jax.nn.softmax(logp) - jax.nn.softmax(REWARD[a] / 0.1)) ** 2)


def to_target(z, logp, old, A, a):
    """GBPO: each ratio to 1.3 above the median reward, to 0.7 below it, to 1 at it."""
    r = REWARD[a]
    miss = jnp.exp(logp - old) - (1.0 + 0.3 * jnp.sign(r - jnp.median(r)))
    return -jnp.mean(jnp.abs(A) * miss * jax.lax.stop_gradient(jnp.sign(miss)))


def humbled(r, a):
    """ProGRPO: a likely answer pays what an unlikely one gains, where anything is right."""
    confidence = jax.nn.softmax(START)[a]
    shape = 0.8 * (jnp.mean(confidence) - confidence)
    return normalized(r, a) + jnp.where(jnp.max(r) > 0, shape, 0.0)


def sharpened(r, a):
    """XRPO: a right answer less likely than the group's mean gains up to half its advantage."""
    A, logp = normalized(r, a), jax.nn.log_softmax(START)[a]
    novelty = 2.5 * (1 - jnp.exp(logp - jnp.mean(logp)))
    return A + jnp.where(r > 0, jnp.clip(novelty, 0.0, 0.5 * jnp.maximum(A, 0.0)), 0.0)


def discriminated(z, logp, old, A, a):
    """DisCO: right against a log-mean-exp of wrong ones, and the hinge on the mean log-ratio."""
    right, wrong = REWARD[a], 1.0 - REWARD[a]
    good = jnp.sum(right * logp) / jnp.maximum(jnp.sum(right), 1.0)
    bad = jnp.sum(wrong * jnp.exp(logp / 0.5)) / jnp.maximum(jnp.sum(wrong), 1.0)
    bad = 0.5 * jnp.log(jnp.where(bad > 0, bad, 1.0))
    gap = jnp.where(jnp.max(right) > jnp.min(right), good - bad, 0.0)
    beyond = jnp.mean(old - logp) - 0.02
    return gap - 2.0 * jnp.where(beyond > 0, beyond**2, 0.0)


def gated(r, a, others):
    """COPO at one other prompt: the answers' entropy in bits decides whom to compare with."""
    bits = -jnp.mean(jnp.log2(jnp.mean(a[:, None] == a[None, :], axis=1)))
    own = jax.nn.sigmoid(5.0 * (bits - 1.0))
    apart = jnp.mean(r) - jnp.mean(others)
    prompt = 0.5 * apart / (jnp.abs(apart) / jnp.sqrt(2.0) + 1e-6)
    return own * normalized(r, a) + (1 - own) * prompt


def batch_scaled(r, a, others):
    """Lite PPO: one deviation for the rollouts of both prompts."""
    spread = jnp.std(jnp.concatenate([r, others]), ddof=1)
    return jnp.where(jnp.max(r) > jnp.min(r), (r - jnp.mean(r)) / (spread + 1e-6), 0.0)


def of_two(advantage):
    """Two prompts that see each other through the number of right rollouts."""
    success, mean = float(jnp.sum(jax.nn.softmax(START) * REWARD)), 0.0
    for s in range(G + 1):
        others = jnp.asarray(np.arange(G) < s, jnp.float32)
        chance = comb(G, s) * success**s * (1 - success) ** (G - s)
        given = partial(advantage, others=others)
        mean = mean + chance * update(given, clip(0.2, 0.2), 4, denominator=2.0)[0]
    return np.tile(mean, 2)


def refilled():
    """DAPO: as if drawn among informative groups, unless ten rounds brought none."""
    mean, informative = update(normalized, clip(0.2, 0.28), 4)
    return mean / informative * (1 - (1 - informative) ** 10)


def filtered():
    """Two prompts: the mean is over informative groups, so the step doubles where one is not."""
    both, informative = update(normalized, clip(0.2, 0.2), 4, denominator=2.0)
    alone, _ = update(normalized, clip(0.2, 0.2), 4)
    return np.tile(informative * both + (1 - informative) * alone, 2)


def anchored(logp, old, A, anchor):
    """PPO's clip around an anchor that is not the old policy."""
    cut = jnp.clip(jnp.exp(logp - anchor), 0.8, 1.2) * jnp.exp(anchor - old) * A
    return jnp.minimum(jnp.exp(logp - old) * A, cut)


def ppo(ewma=False):
    """Four one-step environments: whitened r - V, clipped values, Adam, clipped gradients."""

    def change(a):
        r, old = REWARD[a], jax.nn.log_softmax(START)[a]
        A = whitened(r - VALUE)
        anchor = jax.nn.log_softmax(REFERENCE if ewma else START)[a]

        def loss(params):
            z, v = params
            logp = jax.nn.log_softmax(z)[a]
            near = VALUE + jnp.clip(v - VALUE, -0.2, 0.2)
            value = 0.5 * jnp.maximum((v - r) ** 2, (near - r) ** 2)
            entropy = -jnp.sum(jax.nn.softmax(z) * jax.nn.log_softmax(z))
            gain = anchored(logp, old, A, anchor) if ewma else clip(0.2, 0.2)(logp, old, A)
            return jnp.mean(value - gain) - 0.01 * entropy

        x, m, s = jnp.append(START, VALUE), jnp.zeros(K + 1), jnp.zeros(K + 1)
        begin = x
        for t in range(1, 5):
            gz, gv = jax.grad(loss)((x[:K], x[K]))
            g = jnp.append(gz, gv)
            g = g * jnp.minimum(1.0, 0.5 / jnp.linalg.norm(g))
            m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
            x = x - 2.5e-4 * (m / (1 - 0.9**t)) / (jnp.sqrt(s / (1 - 0.999**t)) + 1e-5)
        return x - begin, jnp.prod(jax.nn.softmax(START)[a])

    delta, chance = (np.asarray(x, np.float64) for x in jax.jit(jax.vmap(change))(TUPLES))
    return (chance[:, None] * delta).sum(0)


WRITTEN_OUT = {
    "reinforce": lambda: update(none, score, 1)[0],
    "reinforce_batch": lambda: update(batch_mean, score, 1)[0],
    "rloo": lambda: update(others, score, 1)[0],
    "grpo": lambda: update(normalized, clip(0.2, 0.2), 4)[0],
    "grpo_n": lambda: update(lambda r, a: jnp.minimum(normalized(r, a), 0.0), clip(0.2, 0.2), 4)[0],
    "rl_plus": lambda: update(none, lambda logp, old, A: 0.0 * logp, 4, guided)[0],
    "grpo_kl": lambda: update(normalized, clip(0.2, 0.2), 4, k3)[0],
    "dr_grpo": lambda: update(batch_mean, clip(0.2, 0.2), 4)[0],
    "entropy_bonus": lambda: update(normalized, clip(0.2, 0.2), 4, bonus)[0],
    "clip_higher": lambda: update(normalized, clip(0.2, 0.28), 4)[0],
    "dapo": refilled,
    "cure": refilled,  # in one step, to begin inside a rollout is to begin anew
    "filter_groups": filtered,
    "gspo": lambda: update(normalized, clip(3e-4, 4e-4), 4)[0],
    "cispo": lambda: update(normalized, capped, 4)[0],
    "reinforce_pp": lambda: update(kl_whitened, clip(0.2, 0.2), 4)[0],
    "reinforce_pp_baseline": lambda: update(
        lambda r, a: whitened(batch_mean(r, a)), clip(0.2, 0.2), 4
    )[0],
    "kl_cov": lambda: update(normalized, weighted, 4, kl_cov)[0],
    "random_drop": lambda: update(normalized, clip(1.0, 1.0), 2, lottery=drop_two, draws=6)[0],
    "clip_cov": lambda: update(normalized, clip(1.0, 1.0), 2, lottery=drop_top, draws=4)[0],
    "copo": lambda: of_two(gated),
    "lite_ppo": lambda: of_two(batch_scaled),
    "disco": lambda: update(none, lambda logp, old, A: 0.0 * logp, 4, discriminated)[0],
    "agrae": lambda: update(focused, clip(0.2, 0.2), 4)[0],
    "dmpo": lambda: update(normalized, clip(0.2, 0.2), 4, matched)[0],
    "gbpo": lambda: update(normalized, lambda logp, old, A: 0.0 * logp, 10, to_target)[0],
    "progrpo": lambda: update(humbled, clip(0.2, 0.2), 4)[0],
    "xrpo": lambda: update(sharpened, clip(0.2, 0.2), 4)[0],
    "steer": lambda: update(normalized, lambda logp, old, A: 0.0 * logp, 4, steered)[0],
    "dcpo": lambda: update(tempered, clip(0.2, 0.2), 4)[0],
    "epo": lambda: update(normalized, clip(0.2, 0.2), 4, historic)[0],
    "lp_reg": lambda: update(normalized, clip(1.0, 9.0), 4, protected)[0],
    "ucas": lambda: update(unsure, clip(0.2, 0.2), 4)[0],
    "mssr": lambda: update(hesitant, clip(0.2, 0.2), 4, lambda *given: 0.25 * k3(*given))[0],
    "safe": lambda: update(normalized, clip(0.2, 0.2), 4, controlled)[0],
    "ppo": ppo,
    "ppo_ewma": lambda: ppo(ewma=True),
}


@cache
def expected(name):
    return WRITTEN_OUT[name]()


def test_every_named_recipe_is_written_out():
    assert set(WRITTEN_OUT) == set(recipes.names())


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_the_mean_update_is_the_enumerated_one(name):
    changes = sampled(name)
    error = changes.std(0) / np.sqrt(len(changes))
    z = (changes.mean(0) - expected(name)) / (error + 1e-8)
    assert np.abs(z).max() < 4.5, (changes.mean(0), expected(name), z)
    assert np.abs(expected(name)).max() > 10 * error.max()  # or anything would pass


def test_the_recipes_are_told_apart():
    """Expectations of different recipes differ by more than the sampling error allows."""
    simple = [n for n in WRITTEN_OUT if n not in (*STREAMS, *TWO_PROMPTS)]
    close = {
        frozenset(pair)
        for pair in itertools.combinations(simple, 2)
        if np.abs(expected(pair[0]) - expected(pair[1])).max() < 0.005
    }
    # Leave-one-out has no bias: its mean is that of no baseline at all.
    assert close <= {frozenset({"reinforce", "rloo"}), frozenset({"dapo", "cure"})}, close


def test_normalized_advantages_have_the_closed_form_mean():
    """E[gradient] = c_G(p) / (p (1-p)) · ∇p, c_G(p) = E[sqrt(S (G-S))]/G, S ~ Bin(G, p)."""
    p = jax.nn.softmax(START)
    success = float(jnp.sum(p * REWARD))
    slope = np.asarray(p * (REWARD - success))
    c = sum(
        comb(G, s) * success**s * (1 - success) ** (G - s) * np.sqrt(s * (G - s)) / G
        for s in range(G + 1)
    )
    sample = np.sqrt((G - 1) / G)
    closed = RATE * sample * c / (success * (1 - success)) * slope
    np.testing.assert_allclose(update(normalized, score, 1)[0], closed, rtol=1e-4)
    np.testing.assert_allclose(update(others, score, 1)[0], RATE * slope, rtol=1e-4)
