"""The tables of worlds say what is registered, with a measured number in every row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jaxrl_envs as je

ROOT = Path(__file__).resolve().parents[1]


def test_every_world_has_a_measured_row() -> None:
    measured = json.loads((ROOT / "docs" / "benchmarks" / "worlds.json").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("<!-- worlds: begin -->")[1].split("<!-- worlds: end -->")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| [`")]
    named = [row[1].split("`")[1] for row in rows]
    assert named == [i for i in je.registered() if i in measured["worlds"]]
    assert set(named) == set(je.registered())
    for row in rows:
        assert all(cell.strip() for cell in row[1:-1]), row
        assert float(row[3]) > 0


def test_the_pages_are_up_to_date() -> None:
    command = [sys.executable, "scripts/worlds_table.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
