"""A run from the command line: what it prints, what it leaves, and that it can be redrawn."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jaxrl_lab import cli
from jaxrl_lab.experiments import store

FILES = ["config.yaml", "figure.png", "figure.svg", "params.npz", "results.nc", "verdicts.json"]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``jaxrl-lab ARGUMENTS``."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxrl-lab", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


def test_a_run_prints_one_document_and_fills_its_folder(ran: Any) -> None:
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.out.splitlines()) == 1
    printed, folder = json.loads(ran.out), ran.report.folder
    assert printed["folder"] == str(folder)
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert printed == json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    assert {v["outcome"] for v in printed["verdicts"]} == {"inconclusive"}, "3 seeds say nothing"
    assert printed["tier"] == "default"
    assert "&id" not in (folder / "config.yaml").read_text(encoding="utf-8"), "no anchors"


def test_a_plot_says_the_same_and_draws_again(
    capsys: pytest.CaptureFixture[str], ran: Any, tmp_path: Path
) -> None:
    folder = ran.report.folder
    code, out, err = call(capsys, "plot", str(folder), "--json", "--out", str(tmp_path / "new"))
    assert (code, err) == (0, "")
    first, again = json.loads(ran.out), json.loads(out)
    for key in ("verdicts", "claims_hash", "claims", "tier", "phenomenon", "frozen"):
        assert again[key] == first[key]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["figure.png", "figure.svg"]
    assert (tmp_path / "new" / "figure.svg").read_bytes() == (folder / "figure.svg").read_bytes()
    code, out, err = call(capsys, "plot", str(folder))
    assert (code, err) == (0, "")
    assert "Verdicts" in out
    assert out.rstrip().endswith("figure.png")


def test_a_run_is_not_written_over(capsys: pytest.CaptureFixture[str], ran: Any) -> None:
    folder = ran.report.folder
    before = {p: p.read_bytes() for p in folder.iterdir()}
    code, out, err = call(capsys, "run", "entropy_collapse", "--quick", "--out", str(folder))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_a_place_that_cannot_be_drawn_in(capsys: pytest.CaptureFixture[str], ran: Any) -> None:
    place = ran.report.folder / store.CONFIG
    code, _, err = call(capsys, "plot", str(ran.report.folder), "--out", str(place))
    assert code == 2
    assert "expected a writable place" in err
