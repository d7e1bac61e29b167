"""``jaxrl-lab atlas``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from jaxrl_envs.errors import BadInput


@click.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--published", is_flag=True, help="The verdicts of this checkout (without DIR too).")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("atlas.html"), show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def atlas(folders: Sequence[Path], published: bool, out: Path, as_json: bool) -> None:
    """Write one page with a card per phenomenon.

    DIR is a run directory or a folder of them, such as runs.
    """
    from jaxrl_lab import atlas as page  # reads with pydantic and scipy, which help does not need

    if published and folders:
        raise BadInput("--published", str(folders[0]), "no DIR beside it")
    written = page.build(folders, out)
    click.echo(json.dumps({"page": str(written)}) if as_json else f"atlas: {written}")
