"""PPO of the lab against the plain single-file loop, and PPO on a million gridworlds.

1. CartPole through the gymnax adapter: 64x64 tanh actor and critic, 128 steps per rollout, 4
   epochs, 4 minibatches. The baseline is that algorithm as one would write it down: gymnax's own
   step and reset, a sort to shuffle transitions, one gradient per minibatch. Both run in one
   process, taking turns, and returns at the end of a short training are compared over seeds.
2. A gridworld of our own from 2^10 to 2^20 environments, 16 steps per rollout, minibatches of one
   size: steps per second, peak memory, and how far from the optimum a short training ends.

    python benchmarks/ppo.py                 # minutes
    python benchmarks/ppo.py --quick         # under two minutes, few environments
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["JAXRL_LAB_CACHE"] = "off"

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import optax
import timing
from jaxtyping import Array

from jaxrl_lab import policies, recipes
from jaxrl_lab.experiments.bench import take_turns
from jaxrl_lab.experiments.population import Arm, Compiled, compile_program, group_arms, run_program
from jaxrl_lab.experiments.run import no_measure

WIDTH, STEPS, EPOCHS, MINIBATCHES = 64, 128, 4, 4
RATE, CLIP, DISCOUNT, DECAY, ENTROPY, VALUE, NORM = 2.5e-4, 0.2, 0.99, 0.95, 0.01, 0.5, 0.5
GRID_STEPS, GRID_ROWS = 16, 32_768
Tree = Any


def main() -> None:
    options = _options()
    if options.grid:
        print(json.dumps(grid(options.grid, options.updates)))
        return
    report: dict[str, Any] = {"about": timing.about()}
    sizes = (256,) if options.quick else (1024, 16384)
    report["cartpole"] = {str(n): race(n, options.repeats) for n in sizes}
    report["learning"] = learning(*((2, 10) if options.quick else (8, 60)))
    worlds = (2**10, 2**12) if options.quick else tuple(2**k for k in range(10, 21, 2))
    report["gridworld"] = {str(n): _in_its_own_process(n) for n in worlds}
    timing.save(report, options.json)
    _print(report)


# ------------------------------------------------------------------ 1: against the plain loop


def race(n: int, repeats: int) -> dict[str, Any]:
    """Environment steps per second of both, learning included, and their ratio."""
    updates = max(2, 2**19 // (n * STEPS))
    compiled = lab_program(n, 1, updates)
    loop, state, compiling = baseline_program(n, 1, updates)
    runs: dict[str, Callable[[], Any]] = {
        "lab": lambda: run_program(compiled, range(1))[1]["return"],
        "loop": lambda: jax.block_until_ready(loop(state)[1]),
    }
    times, _ = take_turns(runs, repeats)
    steps = updates * n * STEPS
    rates = {name: [steps / t for t in values] for name, values in times.items()}
    ratio = statistics.median(a / b for a, b in zip(rates["lab"], rates["loop"], strict=True))
    return {
        "updates": updates,
        "steps_per_second": {name: timing.spread(values) for name, values in rates.items()},
        "ratio": ratio,
        "compile": {
            "lab": {"trace": compiled.trace_seconds, "compile": compiled.compile_seconds},
            "loop": compiling,
        },
    }


def learning(seeds: int, updates: int, n: int = 64) -> dict[str, Any]:
    """Mean return of the last fifth of a short training, by seed, of both."""
    compiled = lab_program(n, seeds, updates)
    lab = run_program(compiled, range(seeds))[1]["return"][0]
    loop, state, _ = baseline_program(n, seeds, updates)
    own = np.asarray(loop(state)[1])
    last = max(1, updates // 5)
    final = {"lab": lab[:, -last:].mean(1), "loop": own[:, -last:].mean(1)}
    spread = {k: float(v.std(ddof=1) / np.sqrt(seeds)) for k, v in final.items()}
    gap = float(final["lab"].mean() - final["loop"].mean())
    error = float(np.hypot(*spread.values()))
    return {
        "setting": f"{n} environments, {updates} updates, {seeds} seeds",
        "return": {k: float(v.mean()) for k, v in final.items()},
        "standard_error": spread,
        "gap_in_errors": gap / error if error else 0.0,
    }


def lab_program(n: int, seeds: int, updates: int) -> Compiled:
    """The lab's program of the same algorithm."""
    env = jaxrl_envs.make("gymnax/CartPole-v1")
    policy = policies.make("mlp", env, hidden=(WIDTH, WIDTH), value=True)
    recipe = recipes.recipe(
        "ppo",
        prompts=n,
        steps=STEPS,
        epochs=EPOCHS,
        minibatches=MINIBATCHES,
        advantage=[
            {"gae": {"discount": DISCOUNT, "decay": DECAY}},
            {"whiten": {"over": "tokens"}},
        ],
        surrogate=[{"clip": {"low": CLIP, "high": CLIP}}],
        regularizer=[
            {"value_loss": {"coefficient": VALUE, "clip": CLIP}},
            {"entropy_bonus": {"coefficient": ENTROPY}},
        ],
        optimizer=[
            {"clip_by_global_norm": {"max_norm": NORM}},
            {"adam": {"learning_rate": RATE, "eps": 1e-5}},
        ],
    )
    (program,) = group_arms({"ppo": Arm(env, env.default_params, policy, recipe)})
    return compile_program(program, range(seeds), updates, 1, no_measure)


def baseline_program(
    n: int, seeds: int, updates: int
) -> tuple[Callable[[Tree], tuple[Tree, Array]], Tree, dict[str, float]]:
    """The plain loop, compiled, its first state, and the seconds of tracing and compiling."""
    import gymnax

    with jax.numpy_dtype_promotion("standard"):
        env, params = gymnax.make("CartPole-v1")
        tx = optax.chain(optax.clip_by_global_norm(NORM), optax.adam(RATE, eps=1e-5))
        outs = int(env.action_space(params).n)
        size = int(np.prod(env.observation_space(params).shape))

        def start(key: Array) -> Tree:
            net_key, reset_key, run_key = jax.random.split(key, 3)
            net = _networks(net_key, size, outs)
            obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, n), params)
            return net, tx.init(net), obs, state, run_key

        def train(first: Tree) -> tuple[Tree, Array]:
            return jax.lax.scan(lambda s, _: _update(env, params, tx, n, s), first, None, updates)

        keys = jax.vmap(jax.random.key)(jnp.arange(seeds, dtype=jnp.uint32))
        state = jax.jit(jax.vmap(start))(keys)
        begin = time.perf_counter()
        lowered = jax.jit(jax.vmap(train)).lower(state)
        traced = time.perf_counter()
        compiled = lowered.compile()
        seconds = {"trace": traced - begin, "compile": time.perf_counter() - traced}
    return compiled, state, seconds


def _networks(key: Array, size: int, outs: int) -> Tree:
    orthogonal = jax.nn.initializers.orthogonal
    net = {}
    for name, last, gain in (("actor", outs, 0.01), ("critic", 1, 1.0)):
        widths, gains = (size, WIDTH, WIDTH, last), (2**0.5, 2**0.5, gain)
        keys = jax.random.split(jax.random.fold_in(key, len(net)), 3)
        net[name] = [
            (orthogonal(g)(k, (a, b), jnp.float32), jnp.zeros(b))
            for k, a, b, g in zip(keys, widths[:-1], widths[1:], gains, strict=True)
        ]
    return net


def _apply(layers: list[tuple[Array, Array]], x: Array) -> Array:
    for w, b in layers[:-1]:
        x = jnp.tanh(x @ w + b)
    return x @ layers[-1][0] + layers[-1][1]


def _update(env: Any, params: Any, tx: Any, n: int, state: Tree) -> tuple[Tree, Array]:
    """One rollout, advantages, and EPOCHS passes over shuffled transitions."""
    net, opt, obs, worlds, key = state

    def step(carry: Tree, _: None) -> tuple[Tree, Tree]:
        obs, worlds, key = carry
        key, act_key, env_key = jax.random.split(key, 3)
        logits, value = _apply(net["actor"], obs), _apply(net["critic"], obs)[:, 0]
        action = jax.random.categorical(act_key, logits)
        logp = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        ahead, worlds, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(env_key, n), worlds, action, params
        )
        done = terminated | truncated
        return (ahead, worlds, key), (obs, action, logp, value, reward, done)

    (obs, worlds, key), seen = jax.lax.scan(step, (obs, worlds, key), None, STEPS)
    _, _, _, values, rewards, dones = seen

    def back(carry: Tree, at: Tree) -> tuple[Tree, Array]:
        advantage, following = carry
        reward, value, done = at
        delta = reward + DISCOUNT * following * (1 - done) - value
        advantage = delta + DISCOUNT * DECAY * (1 - done) * advantage
        return (advantage, value), advantage

    end = _apply(net["critic"], obs)[:, 0]
    _, advantages = jax.lax.scan(
        back, (jnp.zeros(n), end), (rewards, values, dones.astype(jnp.float32)), reverse=True
    )
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (*seen[:4], advantages, advantages + values)
    )

    def epoch(carry: Tree, _: None) -> tuple[Tree, None]:
        net, opt, key = carry
        key, shuffle = jax.random.split(key)
        order = jax.random.permutation(shuffle, n * STEPS)
        parts = jax.tree.map(lambda x: x[order].reshape(MINIBATCHES, -1, *x.shape[1:]), flat)

        def minibatch(carry: Tree, part: Tree) -> tuple[Tree, None]:
            net, opt = carry
            grads = jax.grad(_loss)(net, *part)
            change, opt = tx.update(grads, opt, net)
            return (optax.apply_updates(net, change), opt), None

        (net, opt), _ = jax.lax.scan(minibatch, (net, opt), parts)
        return (net, opt, key), None

    (net, opt, key), _ = jax.lax.scan(epoch, (net, opt, key), None, EPOCHS)
    episodes = jnp.maximum(jnp.sum(dones.astype(jnp.float32)), 1.0)
    return (net, opt, obs, worlds, key), jnp.sum(rewards) / episodes


def _loss(
    net: Tree, obs: Array, action: Array, logp_old: Array, v_old: Array, a: Array, target: Array
) -> Array:
    logits, value = _apply(net["actor"], obs), _apply(net["critic"], obs)[:, 0]
    logp_all = jax.nn.log_softmax(logits)
    ratio = jnp.exp(jnp.take_along_axis(logp_all, action[:, None], 1)[:, 0] - logp_old)
    a = (a - a.mean()) / (a.std() + 1e-8)
    gain = jnp.minimum(ratio * a, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * a).mean()
    near = v_old + jnp.clip(value - v_old, -CLIP, CLIP)
    error = 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2).mean()
    entropy = -jnp.sum(jnp.exp(logp_all) * logp_all, axis=-1).mean()
    return -gain + VALUE * error - ENTROPY * entropy


# ------------------------------------------------------------------ 2: a million gridworlds


def grid(n: int, updates: int) -> dict[str, Any]:
    """Speed, memory and return of PPO on n gridworlds; the process is its own, for the memory."""
    env = jaxrl_envs.make("gridworld/two_goals")
    policy = policies.make("mlp", env, hidden=(WIDTH, WIDTH), value=True)
    rows = n * GRID_STEPS
    recipe = recipes.recipe(
        "ppo",
        prompts=n,
        steps=GRID_STEPS,
        minibatches=max(1, rows // GRID_ROWS),
        optimizer=[{"clip_by_global_norm": {}}, {"adam": {"learning_rate": 1e-3, "eps": 1e-5}}],
    )
    (program,) = group_arms({"ppo": Arm(env, env.default_params, policy, recipe)})
    compiled = compile_program(program, range(1), updates, 1, no_measure)
    stamps: list[float] = []
    _, curves = run_program(compiled, range(1), lambda _: stamps.append(time.perf_counter()))
    # The first chunk is the warm-up.
    seconds = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    per_chunk = updates // len(stamps)
    levels = [env.make_level(env.default_params, jnp.int32(i)) for i in env.level_ids("train")]
    best = [float(env.optimal_value(env.default_params, level)) for level in levels]
    return {
        "updates": updates,
        "steps_per_second": per_chunk * rows / seconds,
        "peak_memory_mib": round(timing.peak_memory()),
        "compile": compiled.trace_seconds + compiled.compile_seconds,
        "returns": [float(x) for x in curves["return"][0, 0, 1:]],
        "optimum": statistics.mean(best),
    }


def _in_its_own_process(n: int) -> dict[str, Any]:
    updates = max(6, min(64, 2**25 // (n * GRID_STEPS)))
    command = [sys.executable, __file__, "--grid", str(n), "--updates", str(updates)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ------------------------------------------------------------------ reporting


def _options() -> argparse.Namespace:
    parser = timing.options(__doc__, "few environments", repeats=3)
    parser.add_argument("--grid", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--updates", type=int, default=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def _print(report: dict[str, Any]) -> None:
    print(timing.heading(report["about"]))
    print("\nCartPole, environment steps per second with learning: median [lowest, highest]")
    for n, one in report["cartpole"].items():
        for name, rate in one["steps_per_second"].items():
            low, middle, high = (rate[k] / 1e3 for k in ("low", "median", "high"))
            print(f"  N = {n:>6} {name:<5}{middle:9.0f} k/s  [{low:.0f}, {high:.0f}]")
        print(f"  N = {n:>6} ratio {one['ratio']:.2f}")
    one = report["learning"]
    print(f"  returns after {one['setting']}: {one['return']}, apart {one['gap_in_errors']:.1f} se")
    print("\nGridworld")
    for n, one in report["gridworld"].items():
        print(
            f"  N = {n:>8}  {one['steps_per_second'] / 1e3:8.0f} k/s  "
            f"{one['peak_memory_mib']:6d} MiB  return {one['returns'][-1]:.3f} "
            f"of {one['optimum']:.3f} after {one['updates']} updates"
        )


if __name__ == "__main__":
    main()
