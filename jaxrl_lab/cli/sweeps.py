"""``jaxrl-lab sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from jaxrl_lab.cli import options, runs
from jaxrl_lab.cli.environment import start_jax


@click.command()
@options.what
@options.tiers
@click.option(
    "--set",
    "texts",
    multiple=True,
    required=True,
    metavar="KEY=V1,V2,…",
    help="An axis of the grid, by dotted path; with one value, a change as of `run --set`.",
)
@click.option("--seeds", type=int, default=64, show_default=True, help="Seeds of every point.")
@click.option("--experiment", metavar="NAME", help="Train this experiment only, without claims.")
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Train this arm only, likewise.")
@options.places
@options.plan
@options.out
@options.as_json
@options.quiet
def sweep(
    what: str,
    tier: str,
    texts: Sequence[str],
    seeds: int,
    experiment: str | None,
    arms: Sequence[str],
    devices: int | None,
    block: int | None,
    distributed: bool,
    plan: bool,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run WHAT at every point of a grid, and ask its claims at each.

    WHAT is a phenomenon of `jaxrl-lab list`, or a path to a YAML file. Every combination of the
    values is a point. The plan is printed before the sweep runs, unless --quiet or --json.
    """
    settings, axes = options.axes(texts)
    start_jax(distributed, out, options.known(what, tier))
    from jaxrl_lab import phenomena
    from jaxrl_lab.experiments.sweep import with_grid

    study = phenomena.changed_study(what, tier, settings, experiment, arms)
    study = with_grid(study, axes, seeds)
    with runs.resources(devices, block):
        if plan or not (quiet or as_json):
            runs.show_plan(study, as_json)
        if not plan:
            runs.go(study, f"{Path(what).stem}_sweep", out, as_json, quiet)
