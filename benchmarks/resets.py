"""When does each way of restarting ended episodes win? Steps per second, by world and size.

    python benchmarks/resets.py            # a minute or two

``every_step`` computes a reset for every instance and selects; ``pooled`` computes a share of them
and hands them out; ``never`` is the bound without restarts (episodes end and stand still). Levels
are rebuilt from their ids, or looked up in a bank that was built once.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import jaxrl_envs
from worlds import stepping, take_turns

WORLDS = (
    ("gridworld/two_goals", {"levels": 16}),
    ("gridworld/four_rooms", {}),
    ("gridworld/maze", {"size": 11}),
)
SIZES = (1 << 10, 1 << 14, 1 << 18)
SHARES = (64, 16)
"""The pool is N over one of these."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    ways = ["every_step", *(f"pooled N/{s}" for s in SHARES), "never"]
    print("| world | levels | N | " + " | ".join(ways) + " |")
    print("| --- | --- | ---: |" + " ---: |" * len(ways))
    for world, static in WORLDS:
        env = jaxrl_envs.make(world, **static)
        for banked in (True, False):
            for n in SIZES:
                rates = measure(env, n, banked, options.repeats)
                best = max(rates[w] for w in ways[:-1])
                cells = [f"**{r:.1f}**" if r == best else f"{r:.1f}" for r in rates.values()]
                kind = "bank" if banked else "rebuilt"
                print(f"| `{world}` | {kind} | {n} | " + " | ".join(cells) + " |", flush=True)


def measure(env: jaxrl_envs.Environment, n: int, banked: bool, repeats: int) -> dict[str, float]:
    """Million steps per second of every way, the ways taking turns."""
    steps = max((1 << 22) // n, 8)
    runs = {"every_step": stepping(env, n, steps, banked=banked)}
    for share in SHARES:
        runs[f"pooled N/{share}"] = stepping(
            env, n, steps, strategy="pooled", pool=n // share, banked=banked
        )
    runs["never"] = stepping(env, n, steps, strategy="never", banked=banked)
    times = take_turns(runs, repeats)
    return {way: n * steps / statistics.median(t) / 1e6 for way, t in times.items()}


if __name__ == "__main__":
    sys.exit(main())
