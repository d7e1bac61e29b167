"""Kill points at random: nothing is lost but the chunk in flight, and no bit differs.

A hundred of them: ninety between two file operations of a run, simulated by going on from a copy
of what stood on the disk then, and ten times SIGKILL at any time. The suite takes a few, `make
test-slow` all.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import checkpoint_cases
import pytest
from checkpoint_cases import SEEDS, compile_small, digest, program_at
from checkpoint_cases import every_chunk as every_chunk
from experiment_cases import light as light
from jaxrl_envs import BadInput
from kill_points import before_every_change

from jaxrl_lab.cache import CACHE_VARIABLE
from jaxrl_lab.experiments import checkpoint
from jaxrl_lab.experiments.population import Compiled, run_program

SEED = 20261121
LONG = 4000
"""Updates of a run that is killed: it takes seconds, with 20 chunks and a checkpoint of each."""

SIMULATED = [6, pytest.param(90, marks=pytest.mark.slow)]
REAL = [1, pytest.param(10, marks=pytest.mark.slow)]


class Kill(NamedTuple):
    """What a kill leaves: a folder, and the chunks that had been reported until then."""

    folder: Path
    reported: int


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_small()


@pytest.fixture(scope="module")
def whole(compiled: Compiled) -> str:
    return digest(run_program(compiled, SEEDS))


def killed(compiled: Compiled, place: Path) -> list[Kill]:
    """One run, and a copy of its checkpoints before every change in them."""
    kills: list[Kill] = []
    reported = 0

    def count(updates: int) -> None:
        nonlocal reported
        reported += 1

    def copy() -> None:
        kept = place / f"kill-{len(kills)}"
        if (place / "run").exists():
            shutil.copytree(place / "run", kept)
        kills.append(Kill(kept, reported))

    with before_every_change(place / "run", copy):
        run_program(compiled, SEEDS, count, program_at(place / "run"))
    return kills


@pytest.mark.parametrize("points", SIMULATED)
@pytest.mark.parametrize("patience", [checkpoint.PATIENCE, 1e9], ids=["default", "always waits"])
def test_a_kill_between_any_two_file_operations(
    compiled: Compiled,
    whole: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    points: int,
    patience: float,
) -> None:
    monkeypatch.setattr(checkpoint, "PATIENCE", patience)
    kills = killed(compiled, tmp_path)
    assert len(kills) > 100, "every chunk makes, moves and removes files"
    in_writing = 1 if patience < 1 else 0  # the write that training did not wait for
    states = compiled.start(compiled.program.numbers, compiled.program.keys(SEEDS))[1]
    for kill in random.Random(SEED).sample(kills, points):
        found = program_at(kill.folder).load(states)
        done = found.done if found else 0
        assert done >= (kill.reported - in_writing) * compiled.length, kill
        again = run_program(compiled, SEEDS, checkpoints=program_at(kill.folder))
        assert digest(again) == whole, kill
    assert capsys.readouterr().err == "", "a kill damages nothing"


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize("points", REAL)
def test_a_kill_at_any_time(tmp_path: Path, points: int) -> None:
    uninterrupted = compile_small(LONG)
    begin = time.perf_counter()
    expected = digest(run_program(uninterrupted, SEEDS))
    takes = time.perf_counter() - begin
    chance = random.Random(SEED)
    reported = 0
    for _ in range(points):
        with start(tmp_path) as process:
            begun = int(told(process))
            least = reported - uninterrupted.length  # the chunk that was being written
            assert begun >= least, f"{reported} updates were reported, {begun} are left"
            time.sleep(chance.uniform(0, takes / (points + 1)))
            process.kill()
            lines = [begun, *(int(n) for n in process.communicate()[0].split() if len(n) < 9)]
        reported = max(lines)
    with start(tmp_path) as process:
        out, err = process.communicate(timeout=120)
    *_, found = out.split()
    assert (found, err) == (expected, "")
    assert int(out.split()[0]) >= reported - uninterrupted.length


def start(folder: Path) -> subprocess.Popen[str]:
    """The program in a process of its own; what is started with one ``folder`` is one run."""
    return subprocess.Popen(
        [sys.executable, checkpoint_cases.__file__, str(folder / "run"), str(LONG)],
        env=os.environ | {CACHE_VARIABLE: str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> str:
    """The next line, or why there is none."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return line


def test_a_kill_while_a_study_begins_or_ends(tmp_path: Path) -> None:
    """Its place is there with its manifest or not at all, until what is in it is gone."""
    versions, folder = {"jax": "1"}, tmp_path / "run"
    kills: list[Path] = []

    def copy() -> None:
        kills.append(tmp_path.with_name("kills") / str(len(kills)))
        shutil.copytree(tmp_path, kills[-1])

    with before_every_change(tmp_path, copy):
        made = checkpoint.create(folder, "a: 1\n", versions)
        (made.folder / "main" / "0").mkdir(parents=True)
        (made.folder / "main" / "0" / "state-0.npz").write_bytes(b"")
        made.remove()
    assert len(kills) >= 6
    for kill in kills:
        try:
            assert checkpoint.reopen(kill / "run", versions)[1] == "a: 1\n"
        except BadInput:
            checkpoint.create(kill / "run", "a: 1\n", versions)  # nothing is in the way
