"""How time and memory grow with the work: N, T, G, arms, seeds and prompts, with fitted exponents.

Each axis is doubled while everything else stays: parallel environments N and steps per rollout T
of PPO with a 64x64 network on a gridworld; rollouts per prompt G, prompts, variants in one program
and seeds of tabular GRPO on a bandit; prompts of one bandit and of one chain of tokens, up to a
million rollouts in an update. Time is that of an update of the whole population, memory
what XLA asks for. The exponent is the slope of log cost over log size for the larger half of the
sizes: 1 is proportional, less is a fixed share that has not yet gone under.

    python benchmarks/curves.py            # minutes
    python benchmarks/curves.py --quick    # two sizes per axis
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

os.environ["JAXRL_LAB_CACHE"] = "off"

import numpy as np
import timing

from jaxrl_lab.experiments.bench import Cost, bench
from jaxrl_lab.experiments.plan import in_bytes
from jaxrl_lab.experiments.run import no_measure
from jaxrl_lab.experiments.spec import Experiment, parse_experiment

ROWS = 8192
PPO: dict[str, Any] = {
    "environment": {"id": "gridworld/two_goals"},
    "policy": {"id": "mlp", "hidden": [64, 64], "value": True},
    "recipe": {"base": "ppo", "prompts": 256, "steps": 16, "epochs": 4},
    "updates": 2,
    "measure_every": 2,
    "seeds": 1,
    "arms": {"ppo": {}},
}
GRPO: dict[str, Any] = {
    "environment": {"id": "bandit/modes", "prompts": 16, "arms": 16, "modes": 2},
    "policy": {"id": "tabular"},
    "recipe": {"base": "grpo", "group": 8},
    "updates": 40,
    "measure_every": 40,
    "seeds": 64,
    "arms": {"grpo": {}},
}
ONE: dict[str, Any] = GRPO | {"updates": 2, "measure_every": 2, "seeds": 1}
CHAIN: dict[str, Any] = ONE | {
    "environment": {
        "id": "reasoning/modular_chain",
        "modulus": 256,
        "vocabulary": 3,
        "operators": "affine",
        "length": 8,
        "observation": "tokens",
    },
    "policy": {"id": "mlp", "hidden": [32]},
    "recipe": {"base": "grpo", "group": 32, "epochs": 1},
}
AXES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "N, environments of PPO": (PPO, (256, 1024, 4096, 16384, 65536)),
    "T, steps of PPO": (PPO, (16, 32, 64, 128, 256)),
    "G, rollouts per prompt of GRPO": (GRPO, (8, 16, 32, 64, 128, 256)),
    "prompts of GRPO": (GRPO, (16, 64, 256, 1024, 4096)),
    "prompts of one bandit, 8 rollouts each": (ONE, (2048, 8192, 32768, 131072)),
    "prompts of one chain of 8 tokens, 32 rollouts each": (CHAIN, (512, 2048, 8192, 32768)),
    "arms of a program": (GRPO, (1, 2, 4, 8, 16, 32)),
    "seeds": (GRPO, (64, 128, 256, 512, 1024, 2048)),
}


def main() -> None:
    options = timing.options(__doc__, "two sizes per axis", repeats=3).parse_args()
    report: dict[str, Any] = {"about": timing.about()}
    print(timing.heading(report["about"]))
    report["axes"] = {}
    for name, (base, sizes) in AXES.items():
        chosen = sizes[:2] if options.quick else sizes
        costs = [_measure(with_size(base, name, size), options.repeats) for size in chosen]
        seconds = [cost.seconds[0] / cost.updates for cost in costs]
        memory = [cost.memory for cost in costs]
        report["axes"][name] = {
            "sizes": chosen,
            "seconds_per_update": seconds,
            "range": [[s / cost.updates for s in cost.seconds[1:]] for cost in costs],
            "memory": memory,
            "exponents": {"time": exponent(chosen, seconds), "memory": exponent(chosen, memory)},
        }
        _print(name, report["axes"][name])
    timing.save(report, options.json)


def with_size(base: dict[str, Any], axis: str, size: int) -> Experiment:
    """The base experiment with one axis at a size; minibatches of PPO keep their size."""
    experiment = parse_experiment(base)
    match axis.partition(",")[0].partition(" ")[0]:
        case "N":
            changes = {"recipe.prompts": size, "recipe.minibatches": max(1, size * 16 // ROWS)}
        case "T":
            changes = {"recipe.steps": size, "recipe.minibatches": max(1, size * 256 // ROWS)}
        case "G":
            changes = {"recipe.group": size}
        case "prompts":
            changes = {"environment.prompts": size}
        case "seeds":
            changes = {"seeds": size}
        case _:
            arms = {f"{i}": {"recipe.surrogate.high": 0.2 + 0.01 * i} for i in range(size)}
            experiment, changes = parse_experiment(base | {"arms": arms}), {}
    for path, value in changes.items():
        experiment = experiment.with_setting(path, value)
    return experiment


def _measure(experiment: Experiment, repeats: int) -> Cost:
    (cost,) = bench({"main": experiment}, {"main": no_measure}, repeats, generators=())
    return cost


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Slope of log cost over log size, larger half."""
    half = max(2, (len(sizes) + 1) // 2)
    x, y = np.log(sizes[-half:]), np.log(costs[-half:])
    return float(np.polyfit(x, y, 1)[0])


def _print(name: str, row: dict[str, Any]) -> None:
    powers = row["exponents"]
    print(f"\n{name}: time ~ size^{powers['time']:.2f}, memory ~ size^{powers['memory']:.2f}")
    for size, seconds, spread, memory in zip(
        row["sizes"], row["seconds_per_update"], row["range"], row["memory"], strict=True
    ):
        low, high = (1e3 * s for s in spread)
        print(
            f"  {size:>7}  {1e3 * seconds:9.2f} ms [{low:.2f}, {high:.2f}]  {in_bytes(memory)}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
