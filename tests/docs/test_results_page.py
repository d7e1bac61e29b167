"""The code of the page about results runs, and writes the files it says it writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"

pytestmark = pytest.mark.thorough


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXRL_LAB_CACHE", "off")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    space: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), space)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["entropy.png", "entropy.svg", "log.jsonl"]
    printed = capsys.readouterr()
    assert "Interval(mean=" in printed.out
    assert "learning_rate=0.2: update 20  return" in printed.err
