"""``jaxrl-lab run``, ``resume`` and ``plot``."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
from jaxrl_envs.errors import BadInput

from jaxrl_lab.cli import options
from jaxrl_lab.cli.environment import start_jax
from jaxrl_lab.experiments.place import SUFFIX, place_of, tier_of


@click.command()
@options.what
@options.tiers
@options.changes
@options.places
@options.plan
@options.out
@options.as_json
@options.quiet
def run(
    what: str,
    tier: str,
    seeds: int | None,
    texts: Sequence[str],
    devices: int | None,
    block: int | None,
    distributed: bool,
    plan: bool,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run WHAT, decide its claims, and write figure and results.

    WHAT is a phenomenon of `jaxrl-lab list`, or a path to a YAML file: a copy of a phenomenon's
    configuration, the config.yaml of a run, or an experiment of your own.
    """
    changes = {} if seeds is None else {"seeds": seeds}
    changes |= options.settings(texts)
    start_jax(distributed, out, options.known(what, tier))
    from jaxrl_lab import phenomena

    study = phenomena.changed_study(what, tier, changes)
    with resources(devices, block):
        if plan:
            show_plan(study, as_json)
        else:
            go(study, Path(what).stem, out, as_json, quiet)


@click.command()
@options.folder
@options.places
@options.as_json
@options.quiet
def resume(
    folder: Path,
    devices: int | None,
    block: int | None,
    distributed: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Go on with the run or sweep DIR that was interrupted or killed."""
    folder = folder.with_name(folder.name.removesuffix(SUFFIX))
    start_jax(distributed, folder, tier_of(folder))
    from jaxrl_lab import phenomena

    _collect_seldom()
    with resources(devices, block), _resumable(folder):
        report = phenomena.resume(folder, quiet=quiet or as_json)
    show(report, as_json)


@click.command()
@options.folder
@click.option("--out", type=click.Path(path_type=Path), help="Where to draw; DIR unless given.")
@options.as_json
def plot(folder: Path, out: Path | None, as_json: bool) -> None:
    """Analyze the run directory DIR again and draw its figure."""
    start_jax()
    from jaxrl_lab import phenomena
    from jaxrl_lab.phenomena.core import save_figure

    report = phenomena.load(folder)
    target = out or folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_figure(report.figure(), target)
    except OSError as error:
        raise BadInput("out", str(target), f"a writable place ({error.strerror})") from None
    show(report, as_json)


def go(study: Any, name: str, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Run a study into ``out``, or a new folder below ``runs/NAME``, and print its report."""
    from jaxrl_lab import phenomena
    from jaxrl_lab.experiments import store

    _collect_seldom()
    folder = out or store.default_folder(name)
    with _resumable(folder):
        report = phenomena.start(study, folder, quiet or as_json)
    show(report, as_json)


def resources(devices: int | None, block: int | None) -> AbstractContextManager[None]:
    """Where and in which portions to train: :func:`~jaxrl_lab.experiments.devices.resources`."""
    from jaxrl_lab.experiments import devices as places

    return places.resources(devices, block)


def show(report: Any, as_json: bool) -> None:
    """A report on stdout; of several processes one speaks."""
    from jaxrl_lab.experiments.devices import is_writer

    if not is_writer():
        return
    if as_json:
        click.echo(json.dumps(report.as_dict(), ensure_ascii=False, allow_nan=False))
        return
    took = f"{report.seconds:.1f} s, " if report.seconds else ""
    click.echo(f"{report.study.question}\n\n{report}\n".lstrip("\n"))
    click.echo(f"{took}results in {report.folder}")
    click.echo(f"figure: {report.folder / 'figure.png'}")


def show_plan(study: Any, as_json: bool) -> None:
    """What a study would compile and run."""
    from jaxrl_lab import phenomena

    planned = phenomena.plan(study)
    click.echo(json.dumps(planned.as_dict(), ensure_ascii=False) if as_json else planned)
    if planned.smaller_block == 0:
        expected = f"a smaller experiment; {planned.advice}"
        raise BadInput("seeds", planned.programs[0].seeds, expected)


class InterruptError(Exception):
    """The user stopped the work; the message says what can be done with what is left."""


class LostProcessError(Exception):
    """Another process of the run is gone; the message says how to go on without it."""


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """An interrupt waits for the chunk that runs, and says how to go on."""
    import jax

    from jaxrl_lab.experiments.progress import chunk_first

    try:
        with chunk_first():
            yield
    except KeyboardInterrupt:
        kept = place_of(folder).exists()
        how = f"go on with: jaxrl-lab resume {folder}" if kept else "nothing was written"
        raise InterruptError(how) from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error):
            expected = "fewer seeds at once: --block N, and --plan for how many fit"
            raise BadInput("memory", str(error).splitlines()[0], expected) from None
        if jax.process_count() == 1:
            raise
        reason = str(error).splitlines()[0]
        how = f"go on with: jaxrl-lab resume {folder}, on as many processes as there are"
        raise LostProcessError(f"another process of the run is gone ({reason}); {how}") from None


def _collect_seldom() -> None:
    """Tracing makes a million small objects and no garbage; collecting costs a tenth of a run."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
