"""Seeds of a network together or in turns: vmapped, or looped over inside one program.

PPO with 64x64 actor and critic on ``gridworld/two_goals``, 4 epochs. A vmapped update makes one
batched product of the small matrices of all seeds, a loop one product per seed. The lab always
vmaps; this says what that costs or gains, for minibatches from 128 to 32 768 transitions.

    python benchmarks/seeds.py            # minutes
    python benchmarks/seeds.py --quick    # two sizes
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

os.environ["JAXRL_LAB_CACHE"] = "off"

import jax
import jax.numpy as jnp
import jaxrl_envs
import timing

from jaxrl_lab import policies, recipes
from jaxrl_lab.experiments.bench import take_turns
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.recipes import canonical

SIZES = (
    (8, 16, 1), (32, 16, 1), (64, 16, 1), (256, 16, 1), (64, 128, 4), (1024, 16, 4), (1024, 128, 4),
)  # fmt: skip
"""Environments, steps and minibatches."""
SEEDS = (4, 16)
UPDATES = 2
LARGEST = 2**19
"""Transitions of all seeds in one update at most."""


def main() -> None:
    options = timing.options(__doc__, "two sizes").parse_args()
    report: dict[str, Any] = {"about": timing.about()}
    print(timing.heading(report["about"]))
    print("\nms per update of all seeds: median [lowest, highest]")
    report["sizes"] = []
    for n, steps, minibatches in SIZES[:2] if options.quick else SIZES:
        for seeds in SEEDS:
            if seeds * n * steps <= LARGEST:
                row = race(n, steps, minibatches, seeds, options.repeats)
                report["sizes"].append(row)
                _print(row)
    timing.save(report, options.json)


def race(n: int, steps: int, minibatches: int, seeds: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of an update of all seeds, both ways."""
    env = jaxrl_envs.make("gridworld/two_goals")
    policy = policies.make("mlp", env, hidden=(64, 64), value=True)
    recipe = canonical(recipes.recipe("ppo", prompts=n, steps=steps, minibatches=minibatches))
    learner = PolicyGradient(env, policy)
    world = jax.jit(learner.world)(env.default_params)
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    states = jax.jit(jax.vmap(lambda key: learner.init(recipe, world, key)))(keys)

    def one(state: Any, key: Any, t: Any) -> Any:
        return learner.update(
            recipe, world, state, jax.random.fold_in(key, t), t, jnp.int32(UPDATES)
        )[0]

    def vmapped(states: Any, t: Any) -> Any:
        return jax.vmap(one, (0, 0, None))(states, keys, t)

    def looped(states: Any, t: Any) -> Any:
        return jax.lax.map(lambda own: one(*own, t), (states, keys))

    runs = {"vmap": _compiled(vmapped, states), "loop": _compiled(looped, states)}
    times, _ = take_turns(runs, repeats)
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "environments": n,
        "minibatch": n * steps // minibatches,
        "seeds": seeds,
        "ms": {k: timing.spread([1e3 * x / UPDATES for x in v]) for k, v in times.items()},
        "ratio": middle["vmap"] / middle["loop"],
    }


def _compiled(update: Callable[[Any, Any], Any], states: Any) -> Callable[[], Any]:
    @jax.jit
    def train(states: Any) -> Any:
        times = jnp.arange(UPDATES)
        return jax.lax.scan(lambda now, t: (update(now, t), None), states, times)[0]

    ready = train.lower(states).compile()
    return lambda: ready(states)


def _print(row: dict[str, Any]) -> None:
    cells = (f"{name} {timing.in_brackets(t, 2, width=8)}" for name, t in row["ms"].items())
    print(
        f"  {row['environments']:>5} environments, minibatches of {row['minibatch']:>5}, "
        f"{row['seeds']:>2} seeds: {', '.join(cells)}, vmap/loop {row['ratio']:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
