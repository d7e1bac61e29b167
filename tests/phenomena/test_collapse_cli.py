"""A run from the command line: what it prints, what it leaves, and that it can be redrawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_calls import call

from jaxrl_lab.experiments import store

FILES = ["config.yaml", "figure.png", "figure.svg", "params.npz", "results.nc", "verdicts.json"]


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
    said = call(capsys, "plot", str(folder), "--json", "--out", str(tmp_path / "new"))
    assert (said.code, said.err) == (0, "")
    first, again = json.loads(ran.out), json.loads(said.out)
    for key in ("verdicts", "claims_hash", "claims", "tier", "phenomenon", "frozen"):
        assert again[key] == first[key]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["figure.png", "figure.svg"]
    assert (tmp_path / "new" / "figure.svg").read_bytes() == (folder / "figure.svg").read_bytes()
    said = call(capsys, "plot", str(folder))
    assert (said.code, said.err) == (0, "")
    assert "Verdicts" in said.out
    assert said.out.rstrip().endswith("figure.png")


def test_a_run_is_not_written_over(capsys: pytest.CaptureFixture[str], ran: Any) -> None:
    folder = ran.report.folder
    before = {p: p.read_bytes() for p in folder.iterdir()}
    said = call(capsys, "run", "entropy_collapse", "--quick", "--out", str(folder))
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_a_place_that_cannot_be_drawn_in(capsys: pytest.CaptureFixture[str], ran: Any) -> None:
    place = ran.report.folder / store.CONFIG
    said = call(capsys, "plot", str(ran.report.folder), "--out", str(place))
    assert said.code == 2
    assert "expected a writable place" in said.err
