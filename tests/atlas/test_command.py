"""``jaxrl-lab atlas``: one line and a page, or one line and exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from atlas_runs import report, verdict, write_run

from jaxrl_lab import cli


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxrl-lab", "atlas", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


def test_runs_and_published_verdicts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "one", report("small_thing", [verdict("it_learns")]))
    assert call(capsys, "runs", "--out", "mine.html") == (0, "atlas: mine.html\n", "")
    assert "small_thing" in (tmp_path / "mine.html").read_text(encoding="utf-8")
    for arguments in (["--json"], ["--published", "--json"]):
        code, out, err = call(capsys, *arguments)
        assert (code, json.loads(out), err) == (0, {"page": "atlas.html"}, "")
    assert "entropy_collapse" in (tmp_path / "atlas.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing"], "DIR = 'nothing': expected a run directory"),
        (["runs", "broken"], "readable JSON"),
        (["runs", "--published"], "--published"),
        (["runs", "--out", "notes.html"], "out = 'notes.html': expected"),
        (["runs", "--out", "."], "out = '.': expected"),
        (["--ot", "x"], "--out"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/one", "broken"):
        write_run(tmp_path / name, report("x", [verdict("it_learns")]))
    (tmp_path / "broken" / "verdicts.json").write_text("{")
    (tmp_path / "notes.html").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert expected in line
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "notes.html").read_text() == "mine"
