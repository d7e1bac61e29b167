"""Arguments and options that several commands take, and how their text is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from jaxrl_envs.errors import BadInput

from jaxrl_lab import config

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
quiet = click.option("--quiet", is_flag=True, help="No progress bar.")
out = click.option(
    "--out", type=click.Path(path_type=Path), help="Run directory; must not exist yet."
)
devices = click.option("--devices", type=int, help="Devices that share the seeds; 1 unless given.")
block = click.option("--block", type=int, help="Seeds trained at once; all unless given.")
distributed = click.option(
    "--distributed", is_flag=True, help="Join the other processes of this run (see the docs)."
)
plan = click.option("--plan", is_flag=True, help="Say what would be compiled and run, and stop.")
what = click.argument("what")
folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


def tiers(command: F) -> F:
    """``--quick``, ``--default``, ``--verdict`` as ``tier``."""
    for name, text in (
        ("verdict", "All seeds, as long as it needs."),
        ("default", "The figure."),
        ("quick", "A few seeds, seconds: to see it run."),
    ):
        chosen: dict[str, Any] = {"default": "default"} if name == "default" else {}
        command = click.option(f"--{name}", "tier", flag_value=name, help=text, **chosen)(command)
    return command


def changes(command: F) -> F:
    """``--seeds`` and ``--set`` as ``seeds`` and ``texts``."""
    command = click.option(
        "--set",
        "texts",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one entry of the configuration, by dotted path; may be repeated.",
    )(command)
    text = "Seeds of every experiment, in place of the tier's."
    return click.option("--seeds", type=int, help=text)(command)


def places(command: F) -> F:
    """``--devices``, ``--block``, ``--distributed``: where and in which portions to train."""
    return devices(block(distributed(command)))


def known(text: str, tier: str = "default") -> str:
    """The tier that the run of a phenomenon or file will say of itself.

    Raises:
        BadInput: before jax is imported; no such phenomenon, with the nearest one, or no readable
            file.
    """
    if config.is_path(text):
        data = config.read_yaml(Path(text))
        # A file without tiers is as it is, as studies.load_study has it.
        return tier if "tiers" in data else str(data.get("tier", tier))
    if text not in config.phenomena():
        raise config.unknown_phenomenon(text)
    return tier


def settings(texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as values by dotted path."""
    return {key: config.parse_value(value) for key, value in map(_halves, texts)}


def axes(texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """``KEY=V1,V2`` texts: those with one value as settings, the others as axes of a grid."""
    found = {key: config.parse_values(value) for key, value in map(_halves, texts)}
    single = {key: config.parse_value(v) for key, v in map(_halves, texts) if len(found[key]) < 2}
    return single, {key: values for key, values in found.items() if key not in single}


def _halves(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput("--set", text, "KEY=VALUE, for example updates=100")
    return key, value
