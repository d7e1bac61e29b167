"""How fast worlds step: random actions, automatic restarts, one jitted scan, against their peers.

    python benchmarks/worlds.py                    # every world, and the peers that import
    python benchmarks/worlds.py --quick            # small sizes, under two minutes
    python benchmarks/worlds.py --only four_rooms  # ids that contain a text
    python benchmarks/worlds.py --json FILE        # what `scripts/worlds_table.py` reads

A step is: random actions, one batched draw of noise, ``env.step``, restarts as in training, and
the observation. States and observations are carried, as a trainer would; rewards are added up.
Peers do the same through their own interface, with a key per environment as they ask for. Actions
come from the counter hash on both sides, so that neither world pays for them. Contestants take
turns in one process; the median of the repeats is reported with its range. The floor is a scan
that rewrites as many bytes as state and observation have.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

os.environ["JAXRL_LAB_CACHE"] = "off"
# The compiler's own choice on CPUs that have them is half as wide; both contestants gain.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_prefer_vector_width=512")

import jax
import jax.numpy as jnp
import jaxrl_envs
import peers
import timing
from jaxrl_envs.counter import counter_prng

from jaxrl_lab.experiments.noise import GENERATORS

Run = Callable[[], Any]
FEWEST = 32
"""Steps of a timed call at least: a shorter one also times the pages that its results fill."""
LARGEST_BANK = 4096
"""Splits up to this size are built once and looked up; larger ones are rebuilt from their ids."""

RACES: tuple[tuple[str, dict[str, Any], str, tuple[tuple[str, float], ...]], ...] = (
    (
        "gridworld/four_rooms",
        {"observation": "coordinates"},
        "gymnax FourRooms-misc",
        (("threefry", 10.0), ("counter", 40.0)),
    ),
    (
        "bandit/meta",
        {"arms": 2, "horizon": 100, "observation": "last"},
        "gymnax BernoulliBandit-misc",
        (("threefry", 6.0),),
    ),
    (
        "gridworld/four_rooms",
        {"observation": "view", "view": 7},
        "xminigrid FourRooms",
        (("threefry", 10.0),),
    ),
    (
        "gridworld/maze",
        {"observation": "view", "view": 7},
        "xminigrid Empty-8x8",
        (("threefry", 10.0),),
    ),
    ("gridworld/maze", {"size": 11, "observation": "map"}, "jumanji Maze", (("threefry", 100.0),)),
)
"""World, structure, peer with the same rules or view, and the ratio aimed at by generator."""


def main() -> None:
    options = _options()
    sizes = (1 << 10, 1 << 14) if options.quick else (1 << 10, 1 << 14, 1 << 17, 1 << 20)
    total = 1 << 21 if options.quick else 1 << 23
    report: dict[str, Any] = {"about": timing.about()}
    chosen = [i for i in jaxrl_envs.registered() if options.only in i]
    report["worlds"], report["races"] = {}, []
    for world in chosen:
        report["worlds"][world] = curve(world, sizes, total, options.repeats)
        _print_world(world, report["worlds"][world])
        _write(report, options.json)
    for race in RACES:
        if options.only in race[0] and race[0] in jaxrl_envs.registered():
            for result in hold(race, sizes, total, options.repeats):
                report["races"].append(result)
                _write(report, options.json)


def _write(report: dict[str, Any], path: str | None) -> None:
    """Written after every measurement: a run that is cut keeps what it has."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


# ------------------------------------------------------------------ what is timed


def programs(
    env: Any, n: int, steps: int, strategy: Any = "every_step", pool: int = 0, banked: bool = True
) -> tuple[Any, Any]:
    """A jitted reset of ``n`` instances, and ``steps`` random steps of them with restarts.

    ``banked``: levels of a small split are built once and looked up.
    """
    params, actions = env.default_params, env.action_space.n
    ids = env.level_ids("train")
    build = jax.vmap(partial(env.make_level, params))
    if banked and len(ids) <= LARGEST_BANK:
        bank = jax.jit(build)(jnp.arange(ids.start, ids.stop, ids.step, dtype=jnp.int32))

        def make_level(level_id: Any) -> Any:
            at = (level_id - ids.start) // ids.step
            return jax.tree.map(lambda x: x[at], bank)

    else:
        make_level = build
    see = jax.vmap(env.observe, (None, 0, 0))

    def body(carry: Any, keys: Any) -> tuple[Any, None]:
        stream, _, returns = carry
        now, act = keys
        action = peers.random_actions(act, n, actions)
        stream, after = jaxrl_envs.stream_step(
            env,
            params,
            make_level,
            "train",
            stream,
            action,
            now,
            strategy=strategy,
            pool=pool,
        )
        obs = see(params, make_level(stream.level_id), stream.state)
        return (stream, obs, returns + after.reward["true"]), None

    @jax.jit
    def start(key: Any) -> Any:
        stream = jaxrl_envs.stream_reset(env, params, make_level, "train", key, n)
        obs = see(params, make_level(stream.level_id), stream.state)
        return stream, obs, jnp.zeros(n)

    @jax.jit
    def run(key: Any, carry: Any) -> Any:
        # Keys of all steps in one call: hashed one by one they cost as much as a small step.
        acts = jax.random.split(jax.random.key(1, impl=counter_prng()), steps)
        return jax.lax.scan(body, carry, (jax.random.split(key, steps), acts))[0]

    return start, run


def stepping(env: Any, n: int, steps: int, generator: str = "threefry", **options: Any) -> Run:
    """The steps of :func:`programs` as a compiled call."""
    start, run = programs(env, n, steps, **options)
    key = jax.random.key(0, impl=GENERATORS[generator]())
    carry = jax.block_until_ready(start(key))
    compiled = run.lower(key, carry).compile()
    return lambda: jax.block_until_ready(compiled(key, carry))


def floor(row_bytes: int, n: int, steps: int) -> Run:
    """A scan that reads and writes as many bytes per step as ``n`` instances have."""
    x = jnp.zeros(max(row_bytes, 1) * n, jnp.uint8)

    @jax.jit
    def run(x: Any) -> Any:
        return jax.lax.scan(lambda x, _: (x + jnp.uint8(1), None), x, length=steps)[0]

    compiled = run.lower(x).compile()
    return lambda: jax.block_until_ready(compiled(x))


def sizes_of(env: Any) -> tuple[int, int]:
    """Bytes of one packed state and of one observation."""
    params = env.default_params
    level = env.make_level(params, jnp.int32(env.level_ids("train").start))
    state = env.reset(params, level, env.draw_reset(jax.random.key(0), ()))
    obs = env.observe(params, level, state)
    return sum(x.nbytes for x in jax.tree.leaves(state)), int(obs.nbytes)


def compile_seconds(env: Any) -> tuple[float, float]:
    """Trace and compile of a reset and a scan over 100 steps of 1 024 instances; and of levels.

    A program that looks levels up in a bank does not contain what builds them.
    """
    ids = env.level_ids("train")
    build = jax.jit(jax.vmap(partial(env.make_level, env.default_params)))
    begin = time.perf_counter()
    build.lower(jnp.arange(ids.start, ids.start + 1, dtype=jnp.int32)).compile()
    levels = time.perf_counter() - begin
    start, run = programs(env, 1024, 100)
    key = jax.random.key(0)
    begin = time.perf_counter()
    carry = start.lower(key).compile()(key)
    run.lower(key, carry).compile()
    return time.perf_counter() - begin, levels


# ------------------------------------------------------------------ curves and races


def curve(world: str, sizes: tuple[int, ...], total: int, repeats: int) -> dict[str, Any]:
    """Steps per second of one world at every size, and the share of the floor."""
    env = jaxrl_envs.make(world)
    state, obs = sizes_of(env)
    compiling, levels = compile_seconds(env)
    found: dict[str, Any] = {
        "state_bytes": state,
        "observation_bytes": obs,
        "compile_seconds": compiling,
        "level_compile_seconds": levels,
        "steps_per_second": {},
    }
    for n in sizes:
        steps = max(total // n, FEWEST)
        runs = {
            "world": stepping(env, n, steps, "threefry"),
            "floor": floor(state + obs, n, steps),
        }
        times = take_turns(runs, repeats)
        rate = {name: [n * steps / t for t in ts] for name, ts in times.items()}
        middle = statistics.median(rate["world"])
        found["steps_per_second"][n] = {
            "median": middle,
            "low": min(rate["world"]),
            "high": max(rate["world"]),
            "of_floor": middle / statistics.median(rate["floor"]),
        }
    return found


def hold(race: Any, sizes: tuple[int, ...], total: int, repeats: int) -> Iterator[dict[str, Any]]:
    """One world against one peer at every size; a line where the peer cannot be imported."""
    world, static, name, goals = race
    try:
        rival = peers.PEERS[name]()
    except Exception as error:  # a neighbor may fail to import in any way it likes
        reason = (str(error).splitlines() or [""])[0]
        print(f"{name}: left out, {type(error).__name__}: {reason}")
        return
    env = jaxrl_envs.make(world, **static)
    for n in sizes:
        most = max(int(total * rival.share) // n, 1)
        runs = {"peer": peers.stepping(rival, n, most)}
        steps = max(total // n, FEWEST)
        for generator, _ in goals:
            runs[generator] = stepping(env, n, steps, generator)
        times = take_turns(runs, repeats)
        peer = n * most / statistics.median(times["peer"])
        for generator, goal in goals:
            ours = n * steps / statistics.median(times[generator])
            result = {
                "world": world,
                "static": static,
                "peer": name,
                "generator": generator,
                "n": n,
                "ours": ours,
                "theirs": peer,
                "ratio": ours / peer,
                "goal": goal,
            }
            print(
                f"{world} {static} against {name}, N = {n}, {generator}: "
                f"{ours / 1e6:.1f} and {peer / 1e6:.2f} million steps/s, "
                f"ratio {ours / peer:.1f} (goal {goal:g})",
                flush=True,
            )
            yield result


def take_turns(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat after one warm-up, the runs taking turns."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return times


def _print_world(world: str, found: dict[str, Any]) -> None:
    rates = "  ".join(
        f"{n}: {timing.in_brackets(r, 1, unit=1e-6)} ({100 * r['of_floor']:.0f} % of the floor)"
        for n, r in found["steps_per_second"].items()
    )
    print(
        f"{world}: {found['state_bytes']} + {found['observation_bytes']} bytes, compile "
        f"{found['compile_seconds']:.2f} s, million steps/s {rates}",
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two sizes, few steps")
    parser.add_argument("--only", default="", help="worlds whose id contains this text")
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats after the warm-up")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
