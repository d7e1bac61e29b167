"""What checkpoints cost, and how soon a killed run trains again.

Every program of a phenomenon is run with and without checkpoints of each chunk, in turns, so that a
busy machine hurts both. Reported per program and for all of them together:

* ``work``: processor time of everything a checkpoint does, in both threads, as a share of the
  processor time of the run without. Other work on the machine hardly moves it.
* ``wall``: time on the clock with checkpoints over that without, minus 1. Trust it on a quiet
  machine only.
* ``load``: seconds to read the checkpoints of a program, as a resume does.

And once: the same work as a share of a whole ``jaxrl-lab run``, compiling, analysis and figure
included, and what a fresh interpreter takes to where a resume begins to compile.

    python benchmarks/checkpoints.py                                  # entropy_collapse, default
    python benchmarks/checkpoints.py mode_collapse --tier quick --json out.json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timing

from jaxrl_lab import phenomena
from jaxrl_lab.cache import use_compilation_cache
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.checkpoint import Checkpoints, ProgramCheckpoints
from jaxrl_lab.experiments.population import Compiled, compile_program, group_arms, run_program
from jaxrl_lab.phenomena.core import build_study, load_study

TO_COMPILING = """
from jaxrl_lab import phenomena
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.population import group_arms
from jaxrl_lab.phenomena.core import build_study, load_study
store.versions()
study = load_study({name!r}, {tier!r})
for arms in build_study(phenomena.find({name!r}), study).values():
    group_arms(arms)
"""
"""What ``jaxrl-lab resume`` does before it compiles."""


def main() -> None:
    options = _options()
    use_compilation_cache()
    study = load_study(options.phenomenon, options.tier)
    phenomenon = phenomena.find(study.name)
    programs: dict[str, dict[str, Any]] = {}
    for name, arms in build_study(phenomenon, study).items():
        sizes, measure = study.experiments[name].sizes, phenomenon.measures[name][0]
        for program in group_arms(arms):
            lengths = (sizes["updates"], sizes["every"])
            compiled = compile_program(program, sizes["seeds"], *lengths, measure)
            key = f"{name}: {', '.join(program.names)}"
            programs[key] = measured(compiled, sizes["seeds"], options.repeats)
            print(f"{key[:60]:<60} {_line(programs[key])}", flush=True)
    whole = {k: sum(p[k] for p in programs.values()) for k in next(iter(programs.values()))}
    script = TO_COMPILING.format(name=options.phenomenon, tier=options.tier)
    start = _child("-c", script)
    with tempfile.TemporaryDirectory() as folder:
        command = ("run", options.phenomenon, f"--{options.tier}", "--out", f"{folder}/run")
        run = _child("-m", "jaxrl_lab.cli", *command)
    of_run = whole["checkpoint cpu"] / run["cpu"]
    report = {
        "about": timing.about(),
        "phenomenon": options.phenomenon,
        "tier": options.tier,
        "repeats": options.repeats,
        "programs": {key: _shares(program) for key, program in programs.items()},
        "whole": _shares(whole),
        "run": run | {"work": round(of_run, 4)},
        "resume_before_compiling": start,
    }
    print(f"{'all programs':<60} {_line(whole)}")
    print(f"of the whole run: {100 * of_run:.1f} %; reading all takes {whole['load']:.2f} s")
    print(f"a resume compiles after {start['wall']:.1f} s ({start['cpu']:.1f} s of processor time)")
    if options.json:
        store.write_json(options.json, report)
    else:
        print(json.dumps(report["about"]))


def measured(compiled: Compiled, seeds: range, repeats: int) -> dict[str, float]:
    """Medians over the repeats, in seconds, of a program with and without checkpoints."""
    states = compiled.start(compiled.program.numbers, compiled.program.keys(seeds))[1]
    run_program(compiled, seeds)
    found: dict[str, list[float]] = {}
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            saved = Checkpoints(Path(folder)).program("main", 0)
            work = [_clocked(saved, method) for method in ("save", "_write")]
            kinds = {"plain": None, "kept": saved}
            for kind in sorted(kinds, reverse=repeat % 2 == 0):
                cpu, wall = time.process_time(), time.perf_counter()
                run_program(compiled, seeds, checkpoints=kinds[kind])
                found.setdefault(f"{kind} wall", []).append(time.perf_counter() - wall)
                found.setdefault(f"{kind} cpu", []).append(time.process_time() - cpu)
            found.setdefault("checkpoint cpu", []).append(sum(map(sum, work)))
            wall = time.perf_counter()
            saved.load(states)
            found.setdefault("load", []).append(time.perf_counter() - wall)
    return {key: statistics.median(values) for key, values in found.items()}


def _child(*arguments: str) -> dict[str, float]:
    """Seconds on the clock and of the processor that a fresh interpreter takes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": round(wall, 2), "cpu": round(cpu, 2)}


def _clocked(saved: ProgramCheckpoints, method: str) -> list[float]:
    """The processor seconds that every call of a method takes in its thread, from now on."""
    seconds: list[float] = []
    work = getattr(saved, method)

    def clocked(*arguments: Any, **named: Any) -> None:
        begin = time.thread_time()
        work(*arguments, **named)
        seconds.append(time.thread_time() - begin)

    setattr(saved, method, clocked)
    return seconds


def _shares(seconds: dict[str, float]) -> dict[str, float]:
    """Costs as shares of the run without checkpoints, and what they were taken from."""
    wall = seconds["kept wall"] / seconds["plain wall"] - 1
    work = seconds["checkpoint cpu"] / seconds["plain cpu"]
    return {k: round(v, 4) for k, v in ({"work": work, "wall": wall} | seconds).items()}


def _line(seconds: dict[str, float]) -> str:
    shares = _shares(seconds)
    return f"work {100 * shares['work']:.1f} %, wall {100 * shares['wall']:+.1f} %"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("phenomenon", nargs="?", default="entropy_collapse")
    parser.add_argument("--tier", default="default", choices=("quick", "default", "verdict"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
