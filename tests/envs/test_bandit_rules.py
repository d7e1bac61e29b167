"""Reference rules against known tables, known regret orders, and recursions written anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs.bandits import counts, rules
from scipy import stats

f32 = jnp.float32


class Luck(NamedTuple):
    """Noise of one choice by N agents with K arms."""

    key: Any
    coin: Any
    tie: Any


Rule = Callable[[Any, Any, Luck], Any]

RULES: dict[str, Rule] = {
    "greedy": lambda n, s, luck: rules.greedy(n, s),
    "posterior": lambda n, s, luck: rules.beta_posterior(n, s, f32(1), f32(1)).mean,
    "epsilon": lambda n, s, luck: rules.epsilon_greedy(n, s, 0.1, luck.coin, luck.tie),
    "ucb": lambda n, s, luck: rules.ucb(n, s),
    "ucb1": lambda n, s, luck: rules.ucb1(n, s),
    "kl_ucb": lambda n, s, luck: rules.kl_ucb(n, s),
    "thompson": lambda n, s, luck: rules.thompson(luck.key, n, s, f32(1), f32(1)),
    "uniform": lambda n, s, luck: jnp.zeros(n.shape, f32),
}


class Log(NamedTuple):
    """What N agents did, each ``[T, N]``."""

    best: np.ndarray
    greedy: np.ndarray
    pay: np.ndarray
    regret: np.ndarray
    border: np.ndarray


def play(env: Any, params: Any, rule: Rule, agents: int) -> tuple[Log, np.ndarray]:
    """N agents, each on its own prompt; also the final pulls ``[N, K]``.

    The first arm is best in the first task of these prompts, and untried arms are taken in order:
    so the golden table was made. An untried arm counts as one of mean 0.
    """
    levels = jax.vmap(partial(env.make_level, params))(jnp.arange(agents) * env.arms)
    first = jax.vmap(partial(env.reset, params), (0, None))(levels, ())

    def pull(state: Any, key: Any) -> Any:
        keys = jax.random.split(key, 4)
        n, pay = jax.vmap(env.history)(state)
        tie = jax.random.uniform(keys[2], n.shape)
        luck = Luck(keys[0], jax.random.uniform(keys[1], (agents,)), tie)
        score = rule(n, pay, luck)
        order = jnp.where(jnp.isinf(score), -jnp.arange(env.arms, dtype=f32)[None] + env.arms, tie)
        arm = rules.choose(score, order)
        seen = pay / jnp.maximum(n, 1).astype(f32)
        follows = jnp.take_along_axis(seen, arm[:, None], 1)[:, 0] >= jnp.max(seen, axis=1)
        step = jax.vmap(env.step, (None, 0, 0, 0, 0))
        after = step(params, levels, state, arm, env.draw(keys[3], (agents,)))
        log = Log(
            after.info["correct"],
            follows,
            after.reward["true"],
            after.info["regret"],
            after.info["border"],
        )
        return after.state, log

    run = jax.jit(lambda keys: jax.lax.scan(pull, first, keys))
    last, log = run(jax.random.split(jax.random.key(0), env.horizon))
    return jax.tree.map(np.asarray, log), np.asarray(jax.vmap(env.history)(last)[0])


GOLDEN = {  # SuffFail(T/2), K · MinFrac, GreedyFrac, mean pay over T = 100 pulls
    ("hard", "greedy"): (0.463, 0.051, 0.969, 0.4910),
    ("hard", "posterior"): (0.371, 0.044, 0.968, 0.5023),
    ("hard", "epsilon"): (0.129, 0.107, 0.894, 0.4985),
    ("hard", "ucb"): (0.023, 0.181, 0.728, 0.5042),
    ("hard", "thompson"): (0.006, 0.285, 0.587, 0.4881),
    ("hard", "uniform"): (0.0, 0.747, 0.242, 0.440),
    ("easy", "greedy"): (0.198, 0.041, 0.976, 0.6321),
    ("easy", "posterior"): (0.026, 0.030, 0.984, 0.7013),
    ("easy", "ucb"): (0.0, 0.093, 0.915, 0.6913),
    ("easy", "thompson"): (0.0, 0.140, 0.861, 0.6632),
}


@pytest.mark.parametrize(("instance", "rule"), GOLDEN)
def test_golden_table(instance: str, rule: str) -> None:
    arms, location, scale = {"hard": (5, 0.4, 0.2), "easy": (4, 0.25, 0.5)}[instance]
    env = je.make("bandit/meta", arms=arms, horizon=100, prior="gap", prompts=10_000)
    params = replace(env.default_params, location=f32(location), scale=f32(scale))
    log, pulls = play(env, params, RULES[rule], 1000)
    runs = [
        ~np.any(log.best[50:], axis=0),
        arms * pulls.min(axis=1) / 100,
        log.greedy.mean(axis=0),
        log.pay.mean(axis=0),
    ]
    for i, (seen, expected) in enumerate(zip(runs, GOLDEN[instance, rule], strict=True)):
        spread = expected * (1 - expected) if i == 0 else np.var(seen)  # failures may be too rare
        error = np.sqrt(spread * (1 / 1000 + 1 / 20_000))  # theirs were 20 000 runs
        assert abs(np.mean(seen) - expected) < 4 * error + 0.0006, (np.mean(seen), expected, error)


@cache
def growth(rule: str) -> np.ndarray:
    """Regret of 200 agents gained over pulls 256 to 1024, and over 1024 to 4096, ``[2, N]``."""
    env = je.make("bandit/meta", horizon=4096, prior="gap", prompts=1000)
    params = replace(env.default_params, location=f32(0.5), scale=f32(0.25))
    log, _ = play(env, params, RULES[rule], 200)
    total = np.cumsum(log.regret, axis=0, dtype=np.float64)
    return np.diff(total[[255, 1023, 4095]], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["ucb1", "kl_ucb", "thompson"])
def test_regret_is_logarithmic(rule: str) -> None:
    """Over equal steps of log T a logarithm gains equally, a square root twice, a line 4 times."""
    early, late = growth(rule)
    slower = late - 1.8 * early
    assert slower.mean() + 3 * slower.std() / np.sqrt(len(slower)) < 0.0
    assert late.mean() > 0.5 * early.mean(), "it must not stop exploring"


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["epsilon", "greedy"])
def test_regret_is_linear(rule: str) -> None:
    early, late = growth(rule)
    faster = late - 3.0 * early
    assert faster.mean() > 3 * faster.std() / np.sqrt(len(faster))


@pytest.mark.slow
def test_regret_slopes_and_the_lower_bound() -> None:
    """Lai and Robbins: dR / d log T → Δ / kl(μ, μ*) at best; UCB1 pays at most 8 / Δ."""
    lower = 0.25 / (0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))
    slope = {rule: growth(rule)[1].mean() / np.log(4) for rule in ("ucb1", "kl_ucb", "thompson")}
    assert 0.5 * lower < slope["thompson"] < slope["kl_ucb"] < 1.7 * lower
    assert 2 * slope["kl_ucb"] < slope["ucb1"] < 8 / 0.25


BLOCKS = {  # mean pay per pull with N(0, 1) arms and pay N(μ, 1), K = 3, n = 30
    "posterior": (0.640, lambda b, z: b.mean),
    "thompson": (0.626, lambda b, z: rules.perturbed(b, z)),
    "bayes_ucb": (0.693, lambda b, z: rules.bayes_ucb(b)),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", BLOCKS)
def test_golden_blocks(rule: str) -> None:
    expected, score = BLOCKS[rule]

    def scores(n: Any, s: Any, luck: Luck) -> Any:
        return score(rules.normal_posterior(n, s), jax.random.normal(luck.key, n.shape))

    env = je.make("bandit/meta", arms=3, pay="gaussian", prior="normal", blocks="geometric",
                  horizon=1500, prompts=900)  # fmt: skip
    log, _ = play(env, env.default_params, scores, 300)
    late = slice(200, None)  # an episode begins with a border: wait until that is forgotten
    mean = 1.5 / np.sqrt(np.pi)
    luck = (log.pay + log.regret)[late].mean(axis=0)  # pay of an oracle on the same tasks
    assert abs(luck.mean() - mean) < 4 * luck.std() / np.sqrt(300)
    seen = log.pay[late].mean(axis=0) - luck
    error = seen.std() / np.sqrt(300)
    assert abs(seen.mean() + mean - expected) < 4 * error + 0.004  # theirs: error not stated


def test_without_recurrence_nothing_helps() -> None:
    """n = 1: every rule earns the prior mean, 0."""
    env = je.make("bandit/meta", arms=3, pay="gaussian", prior="normal", blocks="geometric",
                  horizon=200, prompts=900)  # fmt: skip
    params = replace(env.default_params, block=f32(1.0))
    log, _ = play(env, params, RULES["ucb"], 300)
    assert np.all(log.border)
    assert abs(log.pay.mean()) < 4 * np.sqrt(2 / log.pay.size)


def expectimax(a: list[float], b: list[float], horizon: int, known: float | None) -> float:
    """The same optimum by plain recursion, where the known arm may be left again."""

    @cache
    def best(history: tuple[tuple[int, int], ...], left: int) -> float:
        if left == 0:
            return 0.0
        values = [] if known is None else [known + best(history, left - 1)]
        for k, (s, f) in enumerate(history):
            p = (a[k] + s) / (a[k] + b[k] + s + f)
            won = (*history[:k], (s + 1, f), *history[k + 1 :])
            lost = (*history[:k], (s, f + 1), *history[k + 1 :])
            values.append(p * (1 + best(won, left - 1)) + (1 - p) * best(lost, left - 1))
        return max(values)

    return best(((0, 0),) * len(a), horizon)


@pytest.mark.parametrize("known", [None, 0.4, 0.7])
@pytest.mark.parametrize(("a", "b"), [([1.0, 1.0], [1.0, 1.0]), ([0.5, 2.0], [1.0, 3.0])])
def test_bayes_optimal_against_recursion(a: Any, b: Any, known: float | None) -> None:
    solved = rules.bayes_optimal(np.array(a), np.array(b), 6, known)
    assert solved.value[0] == pytest.approx(expectimax(a, b, 6, known), abs=1e-12)
    assert solved.action.max() <= (1 if known is None else 2)


@pytest.mark.parametrize(
    ("arms", "horizon", "optimal", "greedy"),
    [(2, 5, 2.8889, 2.8847), (2, 10, 6.0218, 6.0058), (2, 20, 12.4313, 12.3654),
     (2, 50, 31.9967, 31.6609), (3, 10, 6.4096, 6.3831), (3, 20, 13.4658, 13.3489)],
)  # fmt: skip
def test_golden_bayes_values(arms: int, horizon: int, optimal: float, greedy: float) -> None:
    solved = rules.bayes_optimal(np.ones(arms), np.ones(arms), horizon)
    assert solved.value[0] == pytest.approx(optimal, abs=6e-5)
    assert greedy_value(arms, horizon) == pytest.approx(greedy, abs=6e-5)


def greedy_value(arms: int, horizon: int) -> float:
    """Posterior-mean greedy with uniform ties, pushed forward over the distribution of counts."""
    mass, total = {((1, 1),) * arms: 1.0}, 0.0
    for _ in range(horizon):
        ahead: dict[Any, float] = {}
        for history, weight in mass.items():
            p = np.array([a / (a + b) for a, b in history])
            best = np.flatnonzero(p >= p.max() - 1e-12)
            total += weight * p.max()
            for k in best:
                a, b = history[k]
                for after, chance in (((a + 1, b), p[k]), ((a, b + 1), 1 - p[k])):
                    new = tuple(sorted((*history[:k], after, *history[k + 1 :])))
                    ahead[new] = ahead.get(new, 0.0) + weight * chance / len(best)
        mass = ahead
    return total


def test_kl_ucb_solves_its_equation() -> None:
    n, s = jnp.array([0, 3, 10, 50, 7]), jnp.array([0, 1, 10, 20, 0])
    q = np.asarray(rules.kl_ucb(n, s))[1:]
    mean, n = np.array([1 / 3, 1.0, 0.4, 0.0]), np.array([3, 10, 50, 7])
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.nansum([mean * np.log(mean / q), (1 - mean) * np.log((1 - mean) / (1 - q))], axis=0)
    assert np.isinf(rules.kl_ucb(jnp.array([0, 3]), jnp.array([0, 1]))[0])
    assert q[1] == 1.0
    np.testing.assert_allclose((n * kl)[[0, 2, 3]], np.log(71), rtol=1e-3)


def test_posteriors() -> None:
    n, s = jnp.array([0, 4, 9]), jnp.array([0.0, 3.0, 2.0])
    beta = rules.beta_posterior(n, s, f32(2), f32(1.5))
    exact = stats.beta(2 + np.asarray(s), 1.5 + np.asarray(n) - np.asarray(s))
    np.testing.assert_allclose(beta.mean, exact.mean(), rtol=1e-6)
    np.testing.assert_allclose(beta.sd, exact.std(), rtol=1e-5)
    normal = rules.normal_posterior(n, s, mean=0.5, sd=2.0, noise=3.0)
    precision = 1 / 4 + np.asarray(n) / 9
    np.testing.assert_allclose(normal.sd, precision**-0.5, rtol=1e-6)
    np.testing.assert_allclose(normal.mean, (0.5 / 4 + np.asarray(s) / 9) / precision, rtol=1e-5)
    none = rules.perturbed(normal, jnp.ones(3), 0.0)
    np.testing.assert_array_equal(none, normal.mean)
    many = (20_000, 3)
    draws = rules.thompson(jax.random.key(0), jnp.broadcast_to(n, many), jnp.broadcast_to(s, many),
                           f32(2), f32(1.5))  # fmt: skip
    for k in range(3):
        own = stats.beta(2 + float(s[k]), 1.5 + float(n[k]) - float(s[k]))
        assert stats.kstest(np.asarray(draws[:, k]), own.cdf).pvalue > 1e-3


def test_ties_are_broken_evenly() -> None:
    noise = jax.random.uniform(jax.random.key(1), (30_000, 3))
    arms = rules.choose(jnp.broadcast_to(jnp.array([1.0, 0.0, 1.0]), noise.shape), noise)
    share = np.bincount(np.asarray(arms), minlength=3) / 30_000
    assert share[1] == 0.0
    assert abs(share[0] - 0.5) < 4 * 0.5 / np.sqrt(30_000)


@pytest.mark.parametrize(("entries", "total"), [(2, 7), (4, 5), (6, 3)])
def test_ranks_number_all_counts(entries: int, total: int) -> None:
    every = counts.every_count(entries, total)
    grid = np.stack(np.meshgrid(*[np.arange(total + 1)] * entries), -1).reshape(-1, entries)
    grid = grid[grid.sum(axis=1) <= total]
    assert {tuple(x) for x in every} == {tuple(x) for x in grid}
    ranks = np.asarray(jax.vmap(partial(counts.rank, total=total))(jnp.asarray(every)))
    assert np.array_equal(ranks, np.arange(len(grid)))
    assert np.all(np.diff(every.sum(axis=1)) >= 0), "counts of one clock are contiguous"
