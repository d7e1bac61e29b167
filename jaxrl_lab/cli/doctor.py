"""``jaxrl-lab doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def doctor(as_json: bool) -> int:
    """Say what is installed, what works, and what does not; exit code 1 with a problem."""
    from jaxrl_lab import doctor as diagnosis

    findings = diagnosis.examine()
    problems = sum(bool(finding.problem) for finding in findings)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        click.echo("\n".join(map(str, findings)))
        click.echo(f"{problems} problems" if problems else "no problem found")
    return int(problems > 0)
