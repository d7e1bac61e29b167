"""A box that was cut: what was trained of it is read, and only the rest is trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_box import phenomenon, study

from jaxrl_lab.experiments.checkpoint import Checkpoints
from jaxrl_lab.phenomena.box import run_box

BOX = {"seeds": 2, "axes": {"main.recipe.optimizer.learning_rate": [0.0, 4.0]}}


def stamps(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")}


def test_finished_parts_of_a_box_survive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = Checkpoints(tmp_path, study="of this test")
    whole = run_box(phenomenon(), study(BOX), checkpoints=saved)
    trained, rest = tmp_path / "box main 8x4", tmp_path / "box other 8x4"
    assert sorted(tmp_path.iterdir()) == [trained, rest]
    before = stamps(trained)
    assert before
    shutil.rmtree(rest)  # as if it had been cut between the two
    again = run_box(phenomenon(), study(BOX), checkpoints=saved)
    assert again.estimate.tobytes() == whole.estimate.tobytes()
    assert stamps(trained) == before, "not trained again"
    assert stamps(rest), "trained"
    assert capsys.readouterr().err == ""
