"""Minibatches of single transitions or of blocks: what they cost, and what a block loses.

PPO here shuffles environments: a minibatch has whole rollouts, blocks of T transitions, and not
transitions picked one by one. Two questions about blocks of k = 1, 4, … T successive transitions:

1. Time: the order of an epoch and the gathering of its minibatches, from a rollout of CartPole's
   size.
2. Noise: transitions of a block resemble each other, so that a minibatch of blocks says less. For
   g_i = A_i ∇ log π(a_i | s_i) on a rollout of PPO on CartPole, the mean of n of N blocks drawn
   without replacement has the variance (1 - n/N) s² / n, with s² that of the blocks' means: summed
   over the parameters it is exact, and its ratio to that of k = 1 is what is lost.

    python benchmarks/shuffles.py            # minutes
    python benchmarks/shuffles.py --quick    # fewer environments and seeds
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["JAXRL_LAB_CACHE"] = "off"

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import timing

import jaxrl_lab as lab
from jaxrl_lab import policies, recipes
from jaxrl_lab.experiments.bench import take_turns
from jaxrl_lab.experiments.statistics import mean_interval

STEPS, MINIBATCHES, WIDTH, UPDATES = 128, 4, 64, 40
BLOCKS = (1, 4, 16, 64, STEPS)
COLUMNS = 9
"""Numbers of a transition: four of the state, action, log-probability, value, advantage, target."""


def main() -> None:
    options = timing.options(__doc__, "fewer environments and seeds").parse_args()
    report: dict[str, Any] = {"about": timing.about()}
    print(timing.heading(report["about"]))
    print(f"\nan epoch of {MINIBATCHES} minibatches, {STEPS} steps: ms, median [lowest, highest]")
    report["time"] = {
        n: cost(n, options.repeats) for n in ((1024,) if options.quick else (1024, 16384))
    }
    for n, row in report["time"].items():
        for k, t in row.items():
            text = timing.in_brackets(t, 1, unit=1e3, width=8)
            print(f"  {n:>6} environments, blocks of {k:>3}: {text}", flush=True)
    seeds = 2 if options.quick else 4
    report["noise"] = noise(seeds)
    print(f"\nvariance of a minibatch's gradient over that of single transitions, {seeds} seeds")
    for k, found in report["noise"].items():
        print(f"  blocks of {k:>3}: {found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]")
    timing.save(report, options.json)


def cost(n: int, repeats: int) -> dict[int, dict[str, float]]:
    """Seconds of an epoch's order and gathering, by length of the blocks."""
    rollout = [jnp.ones((n, STEPS), jnp.float32) for _ in range(COLUMNS)]
    times, _ = take_turns({str(k): _epoch(rollout, k) for k in BLOCKS}, repeats)
    return {int(k): timing.spread(seconds) for k, seconds in times.items()}


def _epoch(rollout: list[Any], k: int) -> Callable[[], Any]:
    @jax.jit
    def read(rollout: list[Any], key: Any) -> Any:
        blocks = [x.reshape(-1, k) for x in rollout]
        order = jax.random.permutation(key, len(blocks[0])).reshape(MINIBATCHES, -1)

        def use(total: Any, index: Any) -> tuple[Any, None]:
            part = [x[index] for x in blocks]
            # Products of all columns, so that each is read and none is left out.
            return total + jnp.sum(jnp.prod(jnp.stack(part), axis=0)), None

        return jax.lax.scan(use, jnp.float32(0.0), order)[0]

    key = jax.random.key(0)
    compiled = read.lower(rollout, key).compile()
    return lambda: compiled(rollout, key)


def noise(seeds: int, n: int = 64) -> dict[int, dict[str, float]]:
    """Variance ratio of the minibatch gradient by length of the blocks: mean and 95 % interval."""
    env = jaxrl_envs.make("gymnax/CartPole-v1")
    policy = policies.make("mlp", env, hidden=(WIDTH, WIDTH), value=True)
    recipe = recipes.recipe("ppo", prompts=n, steps=STEPS, epochs=1, minibatches=1)
    result = lab.train(env, policy, recipe, updates=UPDATES, seeds=seeds, every=UPDATES)
    (arm,) = result.arms
    variances = []
    for seed in result.seeds:
        tape = lab.debug(result, arm=arm, seed=seed, update=UPDATES - 1)
        batch = next(e["input"][1] for e in tape if e["slot"] == "surrogate")
        params = jax.tree.map(lambda x, i=seed: x[i], result.params[arm])
        variances.append(_variances(env, policy, params, batch))
    ratios = np.array(variances) / np.array(variances)[:, :1]
    found = {k: mean_interval(ratios[:, i]) for i, k in enumerate(BLOCKS)}
    return {k: {"mean": x.mean, "low": x.low, "high": x.high} for k, x in found.items()}


def _variances(env: Any, policy: Any, params: Any, batch: Any) -> list[float]:
    see = jax.vmap(env.observe, (None, None, 0))
    states = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), batch.state)
    obs = see(env.default_params, env.make_level(env.default_params, jnp.int32(0)), states)
    actions, advantages = batch.action.reshape(-1), batch.advantage.reshape(-1)

    def score(params: Any, obs: Any, action: Any) -> Any:
        _, out = policy.step(params, policy.start(()), obs, jnp.bool_(True))
        return out.dist.logp(action)

    scores = jax.jit(jax.vmap(jax.grad(score), (None, 0, 0)))(params, obs, actions)
    flat = [np.asarray(x).reshape(len(actions), -1) for x in jax.tree.leaves(scores)]
    gradients = np.concatenate(flat, axis=1) * np.asarray(advantages)[:, None]
    found = []
    for k in BLOCKS:
        means = gradients.reshape(-1, k, gradients.shape[1]).mean(1)
        drawn = len(means) // MINIBATCHES
        found.append(float((1 - 1 / MINIBATCHES) * means.var(0, ddof=1).sum() / drawn))
    return found


if __name__ == "__main__":
    main()
