"""What generality costs: the lab's population program against a loop written for one update.

Three questions, answered in one process on one machine:

1. Tabular GRPO on one prompt (K = 50 arms, G = 8 rollouts, SGD), thousands of seeds: how many
   times longer does the lab's program take than a hand-written loop of the same update? Both
   must reach the same reward.
2. The GRPO arm of ``entropy_collapse`` with its measures: what do twice the seeds cost?
3. How much memory did the process need at most?

    python benchmarks/population.py            # 8192 seeds x 1000 updates, minutes
    python benchmarks/population.py --quick    # 512 seeds x 200 updates, seconds

Compiling is timed apart from running, with the compilation cache off. Each run is repeated after a
warm-up; lab and loop take turns, so that a busy machine hurts both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

os.environ["JAXRL_LAB_CACHE"] = "off"

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import timing
from jaxtyping import Array

from jaxrl_lab import policies, recipes
from jaxrl_lab.experiments.bench import take_turns
from jaxrl_lab.experiments.population import Arm, compile_program, group_arms, run_program
from jaxrl_lab.experiments.run import no_measure
from jaxrl_lab.phenomena import core
from jaxrl_lab.phenomena.entropy_collapse import measure

ARMS, MODES, GROUP, RATE, EPS = 50, 4, 8, 0.5, 1e-6
WINDOWS = 20
"""Rewards are compared on the last of so many windows of updates."""

Timed = tuple[float, Any]


def main() -> None:
    options = _options()
    sizes = (512, 200, 60) if options.quick else (8192, 1000, 300)
    seeds, updates, collapse = sizes
    report: dict[str, Any] = {"about": timing.about()}
    report["population"] = against_a_loop(seeds, updates, options.repeats)
    report["doubling"] = doubling(collapse, options.repeats)
    report["peak_memory_mib"] = round(timing.peak_memory())
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    if not report["population"]["same_reward"]:
        sys.exit("lab and loop do not reach the same reward: the comparison is void")


# ------------------------------------------------------------------ 1: lab and loop


def against_a_loop(seeds: int, updates: int, repeats: int) -> dict[str, Any]:
    """Seconds of both, their ratio, and whether they learned the same."""
    env = jaxrl_envs.make("bandit/modes", prompts=1, arms=ARMS, modes=MODES)
    policy = policies.make("tabular", env)
    recipe = recipes.recipe(
        "grpo", group=GROUP, epochs=1, optimizer={"sgd": {"learning_rate": RATE}}
    )
    (program,) = group_arms({"grpo": Arm(env, env.default_params, policy, recipe)})
    window = updates // WINDOWS
    compiled = compile_program(program, range(seeds), updates, window, no_measure)
    level = env.make_level(env.default_params, jnp.int32(0))
    loop, loop_compile = _compile_loop(level.mode >= 0, seeds, updates)
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds, dtype=jnp.uint32))

    def lab() -> np.ndarray:
        _, curves = run_program(compiled, range(seeds))
        return np.asarray(curves["return"][0, :, -1])

    def bare() -> np.ndarray:
        return np.asarray(loop(keys)[:, -window:].mean(-1))

    times, rewards = take_turns({"lab": lab, "loop": bare}, repeats)
    error = np.hypot(*(x.std(ddof=1) / np.sqrt(seeds) for x in rewards.values()))
    gap = abs(rewards["lab"].mean() - rewards["loop"].mean())
    return {
        "setting": f"{seeds} seeds x {updates} updates, K = {ARMS}, G = {GROUP}, one prompt",
        "lab": timing.spread(times["lab"])
        | {"trace": compiled.trace_seconds, "compile": compiled.compile_seconds},
        "loop": timing.spread(times["loop"]) | loop_compile,
        "ratio": statistics.median(times["lab"]) / statistics.median(times["loop"]),
        "rollouts_per_second": seeds * updates * GROUP / statistics.median(times["lab"]),
        "reward": {name: float(x.mean()) for name, x in rewards.items()},
        "reward_gap_in_errors": float(gap / error),
        "same_reward": bool(gap < 5 * error),
    }


def _compile_loop(
    right: Array, seeds: int, updates: int
) -> tuple[Callable[[Array], Array], dict[str, float]]:
    """GRPO for one prompt as one would write it by hand: rewards ``[seeds, updates]``.

    One inner step, so every importance ratio is 1 and the clip is idle:
    z += rate / G · Σ_i A_i (e_(a_i) − π).
    """

    def update(z: Array, key: Array) -> tuple[Array, Array]:
        pi = jax.nn.softmax(z)
        action = jnp.searchsorted(jnp.cumsum(pi), jax.random.uniform(key, (GROUP,)))
        action = jnp.minimum(action, ARMS - 1)
        reward = right[action].astype(jnp.float32)
        advantage = (reward - reward.mean()) / (reward.std(ddof=1) + EPS)
        gradient = (jnp.zeros(ARMS).at[action].add(advantage) - pi * advantage.sum()) / GROUP
        return z + RATE * gradient, reward.mean()

    def train(key: Array) -> Array:
        keys = jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(updates))
        return jax.lax.scan(update, jnp.zeros(ARMS), keys)[1]

    begin = time.perf_counter()
    keys = jax.eval_shape(jax.vmap(jax.random.key), jnp.zeros(seeds, jnp.uint32))
    lowered = jax.jit(jax.vmap(train)).lower(keys)
    traced = time.perf_counter()
    executable = lowered.compile()
    return executable, {"trace": traced - begin, "compile": time.perf_counter() - traced}


# ------------------------------------------------------------------ 2: doubling the seeds


def doubling(updates: int, repeats: int) -> dict[str, Any]:
    """Seconds of the study's GRPO arm, measures included, for 64, 128 and 256 seeds."""
    one = core.load_study("entropy_collapse").experiments["interventions"]
    (program,) = group_arms(replace(one, arms={"grpo": one.arms["grpo"]}).build())
    many = (64, 128, 256)
    compiled = {
        n: compile_program(program, range(n), updates, one.measure_every, measure) for n in many
    }
    runs = {str(n): (lambda n=n: run_program(compiled[n], range(n))) for n in many}
    times, _ = take_turns(runs, repeats)
    middle = [statistics.median(times[str(n)]) for n in many]
    return {
        "setting": f"{updates} updates of the grpo arm, measured every {one.measure_every}",
        "seconds": {n: timing.spread(t) for n, t in times.items()},
        "compile": {str(n): c.trace_seconds + c.compile_seconds for n, c in compiled.items()},
        "ratio": [b / a for a, b in pairwise(middle)],
        "marginal_ms_per_seed": 1e3 * (middle[-1] - middle[0]) / (many[-1] - many[0]),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="512 seeds x 200 updates")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats after the warm-up")
    return parser.parse_args()


def _print(report: dict[str, Any]) -> None:
    def seconds(t: dict[str, float]) -> str:
        return f"{timing.in_brackets(t, 3, width=8)} s"

    print(timing.heading(report["about"]))
    one, two = report["population"], report["doubling"]
    print(f"\n{one['setting']}: median [fastest, slowest]")
    for name in ("lab", "loop"):
        t = one[name]
        print(f"  {name:<5}{seconds(t)}   trace {t['trace']:.2f} s, compile {t['compile']:.2f} s")
    print(f"  ratio {one['ratio']:.2f}, {one['rollouts_per_second'] / 1e6:.1f} million rollouts/s")
    lab, loop = one["reward"].values()
    print(f"  reward {lab:.4f} and {loop:.4f}, apart {one['reward_gap_in_errors']:.1f} errors")
    print(f"\n{two['setting']}")
    for n, t in two["seconds"].items():
        print(f"  {n:>4} seeds {seconds(t)}   compile {two['compile'][n]:.2f} s")
    print(f"  doubling costs {', '.join(f'{r:.2f}' for r in two['ratio'])} times as much")
    print(f"  {two['marginal_ms_per_seed']:.2f} ms per further seed")
    print(f"\npeak memory {report['peak_memory_mib']} MiB")


if __name__ == "__main__":
    main()
