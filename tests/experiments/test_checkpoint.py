"""Runs that were cut go on where they were, with the bits they would have had."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoint_cases import SEEDS, UPDATES, compile_small, program_at
from checkpoint_cases import every_chunk as every_chunk
from experiment_cases import light as light
from jaxrl_envs import BadInput

from jaxrl_lab.experiments import checkpoint
from jaxrl_lab.experiments.population import run_program

VERSIONS = {"jax": "1.2.3", "device": "cpu: abacus"}


class CutError(Exception):
    pass


@pytest.fixture(scope="module")
def compiled():
    return compile_small()


@pytest.fixture(scope="module")
def whole(compiled):
    return run_program(compiled, SEEDS)


def cut_after(compiled, folder: Path, chunks: int) -> None:
    """Run until so many chunks are done, then stop as abruptly as Python can."""
    left = chunks

    def count(updates: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise CutError

    saved = program_at(folder)
    with pytest.raises(CutError):
        run_program(compiled, SEEDS, count, saved)
    saved.wait()


def assert_same(one, other) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("chunks", [0, 1, 7, 19])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(compiled, whole, tmp_path, chunks):
    cut_after(compiled, tmp_path, chunks)
    redone = []
    again = run_program(compiled, SEEDS, redone.append, program_at(tmp_path))
    assert_same(again, whole)
    assert redone[0] == compiled.length * (chunks + 1), "what was done is not done again"
    assert sum(redone) == UPDATES


def test_short_chunks_share_a_state(compiled, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SPACING", 1e9)
    cut_after(compiled, tmp_path, 6)
    states = sorted(p.name for p in tmp_path.rglob("state-*"))
    given_up = f"state-{7 * compiled.length}.npz"
    assert states == ["state-0.npz", given_up], "only the start, and where the run was given up"
    assert len(list(tmp_path.rglob("points-*"))) == 8, "but nothing that was measured is lost"
    redone = []
    assert_same(run_program(compiled, SEEDS, redone.append, program_at(tmp_path)), whole)
    assert redone[0] == 7 * compiled.length
    states = sorted(p.name for p in tmp_path.rglob("state-*"))
    assert f"state-{UPDATES}.npz" in states, "the end is always kept"


def test_cut_many_times(compiled, whole, tmp_path):
    for _ in range(5):
        cut_after(compiled, tmp_path, 2)
    assert_same(run_program(compiled, SEEDS, checkpoints=program_at(tmp_path)), whole)


def test_a_finished_program_is_read_and_not_run(compiled, whole, tmp_path):
    run_program(compiled, SEEDS, checkpoints=program_at(tmp_path))
    redone = []
    assert_same(run_program(compiled, SEEDS, redone.append, program_at(tmp_path)), whole)
    assert redone == [UPDATES]


def test_only_the_last_states_are_kept(compiled, tmp_path):
    cut_after(compiled, tmp_path, 6)
    names = sorted(p.name for p in (tmp_path / "main" / "0").glob("state-*"))
    assert names == ["state-12.npz", "state-14.npz"]
    assert not list(tmp_path.rglob("*.tmp"))


DAMAGES = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "flipped": lambda p: p.write_bytes(flip(p.read_bytes())),
    "empty": lambda p: p.write_bytes(b""),
    "foreign": lambda p: np.savez(p, hello=np.zeros(3)),
    "other shapes": lambda p: np.savez(p, **{k: np.zeros(9) for k in np.load(p).files}),
    "a pickle": lambda p: np.savez(
        p, allow_pickle=True, **{k: np.array([{}], object) for k in np.load(p).files}
    ),
}


def flip(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


# Points have no form of their own that foreign arrays could be compared with.
CASES = [("state-14.npz", d) for d in DAMAGES]
CASES += [("points-14.npz", d) for d in ("truncated", "flipped", "empty", "a pickle")]


@pytest.mark.parametrize(("which", "damage"), CASES)
def test_a_damaged_file_costs_one_chunk(compiled, whole, tmp_path, capsys, which, damage):
    cut_after(compiled, tmp_path, 6)
    DAMAGES[damage](tmp_path / "main" / "0" / which)
    redone = []
    assert_same(run_program(compiled, SEEDS, redone.append, program_at(tmp_path)), whole)
    assert redone[0] == 12
    told = capsys.readouterr().err
    assert "damaged checkpoint" in told
    assert "state-14" in told


def test_points_that_are_gone_are_missed(compiled, whole, tmp_path, capsys):
    cut_after(compiled, tmp_path, 6)
    (tmp_path / "main" / "0" / "points-6.npz").unlink()
    redone = []
    assert_same(run_program(compiled, SEEDS, redone.append, program_at(tmp_path)), whole)
    assert redone[0] == compiled.length, "every later state needs them"
    assert "points-6.npz" in capsys.readouterr().err


def test_the_states_of_another_study_are_passed_over(compiled, whole, tmp_path, capsys):
    cut_after(compiled, tmp_path, 6)
    redone, other = [], checkpoint.Checkpoints(tmp_path, study="another").program("main", 0)
    assert_same(run_program(compiled, SEEDS, redone.append, other), whole)
    assert redone[0] == compiled.length
    assert "another study" in capsys.readouterr().err


def test_foreign_files_are_left_alone(compiled, whole, tmp_path):
    cut_after(compiled, tmp_path, 6)
    for name in ("state-.npz", "state-x.npz", "state-99.npz.tmp", "state--1.npz", "notes.txt"):
        (tmp_path / "main" / "0" / name).write_text("mine")
    redone = []
    assert_same(run_program(compiled, SEEDS, redone.append, program_at(tmp_path)), whole)
    assert redone[0] == 14


@pytest.mark.parametrize("name", ["..", ".", "", "../../other", "/etc", "a\\b", "nul\0"])
def test_no_experiment_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(BadInput, match="experiments"):
        checkpoint.Checkpoints(tmp_path).program(name, 0)


def test_where_every_state_is_damaged_the_program_starts_anew(compiled, whole, tmp_path, capsys):
    cut_after(compiled, tmp_path, 6)
    for path in (tmp_path / "main" / "0").glob("state-*"):
        DAMAGES["truncated"](path)
    redone = []
    assert_same(run_program(compiled, SEEDS, redone.append, program_at(tmp_path)), whole)
    assert redone[0] == compiled.length
    assert capsys.readouterr().err.count("damaged checkpoint") == 2


def test_a_full_disk_costs_the_safety_and_not_the_run(
    compiled, whole, tmp_path, capsys, monkeypatch
):
    def full(file, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_archive", full)
    assert_same(run_program(compiled, SEEDS, checkpoints=program_at(tmp_path)), whole)
    assert "No space left on device" in capsys.readouterr().err


def test_a_disk_that_was_full_for_a_while_costs_nothing(
    compiled, whole, tmp_path, capsys, monkeypatch
):
    written, write = [], checkpoint.write_archive

    def full_at_times(file, arrays):
        written.append(file.name)
        if 5 <= len(written) <= 8:
            raise OSError(28, "No space left on device")
        write(file, arrays)

    monkeypatch.setattr(checkpoint, "write_archive", full_at_times)
    cut_after(compiled, tmp_path, 12)
    redone = []
    assert_same(run_program(compiled, SEEDS, redone.append, program_at(tmp_path)), whole)
    assert redone[0] == 26
    assert capsys.readouterr().err.count("No space") == 4


def test_training_waits_a_share_of_its_time_for_a_slow_disk(compiled, tmp_path, monkeypatch):
    begun, slow, write = threading.Event(), threading.Event(), checkpoint.write_archive

    def wait_then_write(file, arrays):
        begun.set()
        assert slow.wait(60)
        write(file, arrays)

    monkeypatch.setattr(checkpoint, "write_archive", wait_then_write)
    states = compiled.start(compiled.program.numbers, compiled.program.keys(SEEDS))[1]
    saved = program_at(tmp_path)
    saved.saved = time.perf_counter() - 1.0
    begin = time.perf_counter()
    saved.save(0, states, {"x": np.zeros(3)})
    assert time.perf_counter() - begin >= checkpoint.PATIENCE
    assert begun.wait(60)
    assert saved.load(states) is None, "it came back before the write was done"
    slow.set()
    saved.wait()
    assert saved.load(states).done == 0


# ------------------------------------------------------------------ the study around it


def test_a_study_is_begun_once_and_reopened_with_its_configuration(tmp_path):
    folder = tmp_path / "runs" / "one"
    made = checkpoint.create(folder, "phenomenon: x\n", VERSIONS)
    assert checkpoint.reopen(folder, VERSIONS) == (made, "phenomenon: x\n")
    with pytest.raises(BadInput, match="resume") as told:
        checkpoint.create(folder, "phenomenon: x\n", VERSIONS)
    assert "another" not in str(told.value)
    assert [p.name for p in folder.parent.iterdir()] == ["one.unfinished"]
    made.remove()
    assert not checkpoint.place_of(folder).exists()


def test_other_versions_are_refused_with_the_difference(tmp_path):
    checkpoint.create(tmp_path / "run", "", VERSIONS)
    with pytest.raises(BadInput, match=r"jax.*1\.2\.3.*9\.9") as told:
        checkpoint.reopen(tmp_path / "run", VERSIONS | {"jax": "9.9"})
    assert "abacus" not in str(told.value), "what is the same is not shown"


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    checkpoint.create(tmp_path / "run", "a: 1\nseeds: 3\n", VERSIONS)
    with pytest.raises(BadInput, match="- seeds: 3 \\+ seeds: 4") as told:
        checkpoint.create(tmp_path / "run", "a: 1\nseeds: 4\n", VERSIONS)
    assert "a: 1" not in str(told.value), "what is the same is not shown"
    with pytest.raises(BadInput, match="12 more lines") as told:
        checkpoint.create(tmp_path / "run", "".join(f"{n}: 0\n" for n in range(18)), VERSIONS)
    assert len(str(told.value).splitlines()) == 1


def test_a_changed_manifest_is_refused(tmp_path):
    checkpoint.create(tmp_path / "run", "seeds: 3\n", VERSIONS)
    file = checkpoint.place_of(tmp_path / "run") / checkpoint.MANIFEST
    file.write_text(file.read_text().replace("seeds: 3", "seeds: 7"))
    with pytest.raises(BadInput, match="digest"):
        checkpoint.reopen(tmp_path / "run", VERSIONS)


def test_an_empty_place_is_taken_and_a_file_is_not(tmp_path):
    checkpoint.place_of(tmp_path / "run").mkdir()
    assert checkpoint.create(tmp_path / "run", "", VERSIONS).folder.is_dir()
    checkpoint.place_of(tmp_path / "other").write_text("mine")
    with pytest.raises(BadInput, match="out"):
        checkpoint.create(tmp_path / "other", "", VERSIONS)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"config": 1}', "\x00\xff"])
def test_a_missing_or_foreign_manifest_is_a_complaint(tmp_path, text):
    place = checkpoint.place_of(tmp_path / "run")
    place.mkdir()
    if text is not None:
        (place / checkpoint.MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match="DIR"):
        checkpoint.reopen(tmp_path / "run", VERSIONS)


def test_a_manifest_is_readable_text(tmp_path):
    checkpoint.create(tmp_path / "run", "a: 1\n", VERSIONS)
    text = (checkpoint.place_of(tmp_path / "run") / checkpoint.MANIFEST).read_text()
    assert json.loads(text)["versions"] == VERSIONS
