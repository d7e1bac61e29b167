"""``jaxrl-lab bench``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from jaxrl_envs.errors import expect

from jaxrl_lab.cli import options, runs
from jaxrl_lab.cli.environment import start_jax


@click.command()
@options.what
@options.tiers
@options.changes
@click.option("--repeats", type=int, default=5, show_default=True, help="Timed calls.")
@options.devices
@options.as_json
def bench(
    what: str,
    tier: str,
    seeds: int | None,
    texts: Sequence[str],
    repeats: int,
    devices: int | None,
    as_json: bool,
) -> None:
    """Measure what the programs of WHAT cost on this machine; nothing is written.

    Seconds to trace and to compile, microseconds per update of one policy (median, fastest,
    slowest), transitions per second, the share of the time that random numbers take (what falls
    away with the cheapest generator), and the memory of the program.
    """
    changes: dict[str, Any] = {} if seeds is None else {"seeds": seeds}
    changes |= options.settings(texts)
    options.known(what)
    expect(repeats >= 1, "--repeats", repeats, "at least 1")
    start_jax()
    from jaxrl_lab import phenomena
    from jaxrl_lab.experiments import bench as benchmark
    from jaxrl_lab.experiments import store
    from jaxrl_lab.experiments.members import traces

    phenomenon, study = phenomena.prepare(phenomena.changed_study(what, tier, changes))
    measures = {name: phenomenon.measures[name][0] for name in study.experiments}
    with runs.resources(devices, None):
        costs = list(benchmark.bench(study.experiments, measures, repeats))
    about = store.versions()
    if as_json:
        found = {"about": about, "traces": traces(), "programs": [c.as_dict() for c in costs]}
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(benchmark.table(costs))
    click.echo(f"{', '.join(f'{k} {v}' for k, v in about.items())}; {traces()} update traces")
