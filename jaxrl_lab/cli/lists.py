"""``jaxrl-lab list``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from jaxrl_lab import config


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def list_(as_json: bool) -> None:
    """List the phenomena and the named recipes."""
    root = config.folder()
    phenomena = {
        name: str(config.read_yaml(root / f"{name}.yaml").get("question", ""))
        for name in config.phenomena()
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


def _first_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _shorten(text: str, width: int = 72) -> str:
    return text if len(text) <= width else text[: width - 1].rsplit(" ", 1)[0] + " …"
