"""The command line: a thin skin over ``lab.*``.

Nothing of jax is imported before a command needs it, so that help is there at once. A mistake
gets one line on stderr and exit code 2.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from jaxrl_envs.errors import BadInput

from jaxrl_lab import config

TIERS = ("quick", "default", "verdict")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jaxrl-lab")
def cli() -> None:
    """A laboratory for the dynamics of reinforcement learning at small scale."""


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def list_(as_json: bool) -> None:
    """List the phenomena and the named recipes."""
    root = config.folder()
    phenomena = {
        path.stem: str(config.read_yaml(path).get("question", ""))
        for path in sorted(root.glob("*.yaml"))
    }
    recipes = {
        path.stem: _first_comment(path) for path in sorted((root / "recipes").glob("*.yaml"))
    }
    if as_json:
        click.echo(json.dumps({"phenomena": phenomena, "recipes": recipes}, ensure_ascii=False))
        return
    for title, entries in (("phenomena", phenomena), ("recipes", recipes)):
        click.echo(title)
        for name, text in entries.items():
            click.echo(f"  {name:<24}{_shorten(text)}")


@cli.command()
@click.argument("phenomenon")
@click.option("--quick", "tier", flag_value="quick", help="A few seeds, seconds: to see it run.")
@click.option("--default", "tier", flag_value="default", default=True, help="The figure.")
@click.option("--verdict", "tier", flag_value="verdict", help="All seeds, as long as it needs.")
@click.option("--seeds", type=int, help="Seeds of every experiment, in place of the tier's.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one entry of the configuration, by dotted path; may be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; must not exist yet.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def run(
    phenomenon: str,
    tier: str,
    seeds: int | None,
    settings: Sequence[str],
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run PHENOMENON, decide its claims, and write figure and results."""
    changes = dict(_setting(text) for text in settings)
    _known_phenomenon(phenomenon)
    from jaxrl_lab import phenomena
    from jaxrl_lab.experiments import store

    _collect_seldom()
    folder = out or store.default_folder(phenomenon)
    with _resumable(folder):
        report = phenomena.run(
            phenomenon, tier=tier, seeds=seeds, settings=changes, out=folder, quiet=quiet or as_json
        )
    _show(report, as_json)


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def resume(folder: Path, as_json: bool, quiet: bool) -> None:
    """Go on with the run DIR that was interrupted or killed."""
    from jaxrl_lab import phenomena

    _collect_seldom()
    folder = folder.with_name(folder.name.removesuffix(".unfinished"))
    with _resumable(folder):
        report = phenomena.resume(folder, quiet=quiet or as_json)
    _show(report, as_json)


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to draw; DIR unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def plot(folder: Path, out: Path | None, as_json: bool) -> None:
    """Analyze the run directory DIR again and draw its figure."""
    from jaxrl_lab import phenomena
    from jaxrl_lab.phenomena.core import save_figure

    report = phenomena.load(folder)
    target = out or folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_figure(report.figure(), target)
    except OSError as error:
        raise BadInput("out", str(target), f"a writable place ({error.strerror})") from None
    _show(report, as_json)


def _show(report: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.as_dict(), ensure_ascii=False, allow_nan=False))
        return
    took = f"{report.seconds:.1f} s, " if report.seconds else ""
    click.echo(f"{report.study.question}\n\n{report}\n")
    click.echo(f"{took}results in {report.folder}")
    click.echo(f"figure: {report.folder / 'figure.png'}")


def _known_phenomenon(name: str) -> None:
    """Refuse an unknown name before jax is imported."""
    names = sorted(path.stem for path in config.folder().glob("*.yaml"))
    if name not in names:
        raise BadInput("phenomenon", name, "a phenomenon", names)


class InterruptError(Exception):
    """The user stopped the work; the message says what can be done with what is left."""


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """An interrupt says how to go on."""
    from jaxrl_lab.experiments.checkpoint import place_of

    try:
        yield
    except KeyboardInterrupt:
        kept = place_of(folder).exists()
        how = f"go on with: jaxrl-lab resume {folder}" if kept else "nothing was written"
        raise InterruptError(how) from None


def _collect_seldom() -> None:
    """Tracing makes a million small objects and no garbage; collecting costs a tenth of a run."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput("--set", text, "KEY=VALUE, for example updates=100")
    return key, config.parse_value(value)


def _first_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _shorten(text: str, width: int = 72) -> str:
    return text if len(text) <= width else text[: width - 1].rsplit(" ", 1)[0] + " …"


def main() -> None:
    """Entry point: usage errors and bad input are one line and exit code 2."""
    try:
        code = cli.main(sys.argv[1:] or ["--help"], standalone_mode=False)
    except BadInput as error:
        _fail(str(error))
    except click.UsageError as error:
        _fail(_usage(error))
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt, InterruptError) as error:
        how = error if isinstance(error, InterruptError) else "nothing was written"
        click.echo(f"interrupted; {how}", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)  # a compile under way would otherwise be waited for
    gc.freeze()  # the process ends: a last collection would only take a second
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: click.UsageError) -> str:
    text = error.format_message().replace("\n", " ")
    if isinstance(error, click.NoSuchOption) or "No such command" not in text or not error.ctx:
        return text
    name = text.split("'")[1]
    return str(BadInput("command", name, "a command", sorted(cli.commands)))


def _fail(message: str) -> None:
    click.echo(f"jaxrl-lab: {' '.join(message.splitlines())}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
