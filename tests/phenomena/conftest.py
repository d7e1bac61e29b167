"""One tiny run of a phenomenon, started from the command line, shared by every test here."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from jaxrl_lab import cli
from jaxrl_lab.cli import runs
from jaxrl_lab.phenomena import Report

TINY = {
    "environment.prompts": 4,
    "environment.arms": 8,
    "environment.modes": 2,
    "interventions.updates": 40,
    "interventions.measure_every": 2,
    "breakdown.updates": 3,
    # One list for both experiments; arms with an optimizer of their own keep it.
    "recipe.optimizer": "[sgd: {learning_rate: 1e-1}]",
}


@dataclass(frozen=True)
class Ran:
    """A finished command: its report, its exit code, and what it printed."""

    report: Report
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="package")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        yield


@pytest.fixture(scope="package")
def ran(light: None, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Three seeds of everything, saved."""
    folder = tmp_path_factory.mktemp("phenomenon") / "deep" / "run"
    settings = [x for key, value in TINY.items() for x in ("--set", f"{key}={value}")]
    command = ["jaxrl-lab", "run", "entropy_collapse", "--seeds", "3", *settings, "--json"]
    reports: list[Report] = []
    show = runs.show

    def keep(report: Any, as_json: bool) -> None:
        reports.append(report)
        show(report, as_json)

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "show", keep)
        patch.setattr(sys, "argv", [*command, "--out", str(folder)])
        to = (contextlib.redirect_stdout(out), contextlib.redirect_stderr(err))
        with to[0], to[1], pytest.raises(SystemExit) as left:
            cli.main()
    assert reports, err.getvalue()
    return Ran(reports[0], int(left.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="package")
def report(ran: Ran) -> Report:
    return ran.report
