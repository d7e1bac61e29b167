"""The command line: help at once, plans without training, and what an interrupt leaves.

Mistakes are in ``test_bad_input.py``, sweeps and files of one's own in ``test_own_experiments.py``,
and what a run prints and leaves behind is tested in ``phenomena/test_collapse_cli.py``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import xarray as xr
from cli_calls import COMMAND, EXPERIMENT, call, spawn

import jaxrl_lab as lab
from jaxrl_lab import doctor

RUN = ["run", "entropy_collapse"]
GONE = dict.fromkeys(set(doctor.PACKAGES) - {"jax", "flax"}, "")
TINY = [
    *("--quick", "--quiet"),
    *("--set", "seeds=2", "--set", "environment.prompts=4", "--set", "environment.arms=8"),
    *("--set", "environment.modes=2"),
]


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        yield


# ------------------------------------------------------------------ without jax


LIGHT = [["--help"], ["list"], ["list", "--json"], ["run", "--help"], ["sweep", "--help"]]


@pytest.mark.parametrize("arguments", LIGHT)
def test_help_and_lists_are_there_without_jax(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom jaxrl_lab import cli\nsys.argv[1:] = " + repr(arguments) + "\n"
        "try:\n    cli.main()\nfinally:\n"
        "    heavy = {'jax', 'matplotlib', 'pydantic', 'xarray', 'scipy', 'numpy'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    assert done.stdout


def test_lists_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "list")
    for name in ("entropy_collapse", "grpo", "dapo"):
        assert name in said.out
    found = json.loads(call(capsys, "list", "--json").out)
    assert set(found) == {"phenomena", "recipes"}
    assert found["phenomena"]["entropy_collapse"].endswith("?")
    assert all(found["recipes"].values()), "every recipe begins with a comment"


def test_nothing_at_all_is_a_call_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys)
    assert said.code == 0
    assert said.out.startswith("Usage:")
    listed = [line.split()[0] for line in said.out.partition("Commands:")[2].splitlines()[1:]]
    assert {"bench", "doctor", "list", "plot", "resume", "run", "sweep"} <= set(listed)
    version = call(capsys, "--version")
    assert version.code == 0
    assert "jaxrl-lab" in version.out


# ------------------------------------------------------------------ plans, costs, the doctor


def test_a_bench_measures_every_program_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(EXPERIMENT + "  two: {recipe: grpo, recipe.group: 2}\n")
    before = lab.traces()
    size = ["--set", "environment.prompts=23"]  # that no other test has traced
    said = call(capsys, "bench", "mine.yaml", "--json", "--repeats", "2", *size)
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert [p["arms"] for p in found["programs"]] == [["grpo"], ["two"]]
    assert lab.traces() - before == 4, "two programs, with two generators each"
    for program, group in zip(found["programs"], (4, 2), strict=True):
        median, low, high = program["seconds"]
        assert 0 < low <= median <= high
        assert min(program["trace"], program["compile"], program["memory"]) > 0
        assert program["tokens"] == program["updates"] * 2 * 23 * group  # seeds, prompts
        assert program["per_update"] * 2 * program["updates"] == pytest.approx(median)
        assert program["noise"] < 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_plan_counts_programs_and_members_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    axes = ["--set", "recipe.surrogate.high=0.2,0.28,0.4", "--set", "recipe.group=4,8"]
    before = lab.traces()
    said = call(capsys, "sweep", "mine.yaml", *axes, "--seeds", "5", "--plan")
    assert said.code == 0
    assert said.out.startswith("2 programs to compile, 30 policies, 120 policy updates; about ")
    found = json.loads(call(capsys, "sweep", "mine.yaml", *axes, "--plan", "--json").out)
    assert [(len(p["arms"]), p["seeds"], p["members"]) for p in found["programs"]] == [
        (3, 64, 192)
    ] * 2
    whole = json.loads(call(capsys, "run", "entropy_collapse", "--plan", "--json").out)
    assert sum(len(p["arms"]) for p in whole["programs"]) == 16
    assert lab.traces() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


def test_the_doctor_looks_everywhere_and_counts_its_problems(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call(capsys, "doctor")
    assert (said.code, said.err) == (0, "")
    topics = [line.split()[0] for line in said.out.splitlines()]
    for topic in ("python", "jax", "flax", "devices", "cache", "memory", "disk"):
        assert topic in topics
    assert said.out.endswith("no problem found\n")
    monkeypatch.setattr(doctor, "versions", lambda: {"jax": "0.11.2", "flax": "0.12.9"} | GONE)
    said = call(capsys, "doctor", "--json")
    assert said.code == 1
    problems = {f["topic"]: f["problem"] for f in json.loads(said.out) if f["problem"]}
    assert "5596" in problems["versions"]
    assert problems["six"] == "not installed"


def test_the_doctor_survives_what_it_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError(f"{name} is\nbroken today")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    monkeypatch.setenv("JAXRL_LAB_CACHE", "/dev/null/cache")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    problems = {f.topic: f.problem for f in doctor.examine() if f.problem}
    assert problems["import flax"] == "flax is broken today"
    assert problems["cache"] == "cannot be written"
    assert problems["disk"]


@pytest.mark.parametrize(
    ("found", "bad"),
    [
        ({"jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.9"}, False),
        ({"jax": "0.11.2", "jaxlib": "0.11.2", "flax": "0.12.9"}, True),
        ({"jax": "0.10.2", "jaxlib": "0.11.0", "flax": "0.12.8"}, True),
        ({"jax": "0.10.2", "jaxlib": "0.10.1", "gymnax": "1.0.1", "six": "1.17"}, False),
        ({"jax": "0.10.2", "jaxlib": "0.10.2", "gymnax": "1.0.1", "six": ""}, True),
    ],
)
def test_versions_that_do_not_work_together(found: dict[str, str], bad: bool) -> None:
    assert bool(doctor.bad_pairs(found)) == bad


# ------------------------------------------------------------------ mistakes


def test_mistakes_from_a_shell(tmp_path: Path) -> None:
    said = spawn(*RUN, "--set", "recipe.surrogate.hihg=3", "--json", cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert "recipe.surrogate.hihg = 3" in line
    assert "nearest valid name: high" in line
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ an interrupt


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_an_interrupt_keeps_the_chunk_that_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    long = ["--set", "updates=400000", "--set", "measure_every=20000", "--out", "run", "--quiet"]
    program = tmp_path / "run.unfinished" / "experiment" / "0"
    with start("run", "mine.yaml", *long, cwd=tmp_path) as process:
        wait_for(program / "state-0.npz", process)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "stopping after this chunk" in err
    assert "jaxrl-lab resume run" in err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.yaml", "run.unfinished"]
    kept = {int(p.stem.removeprefix("state-")) for p in program.glob("state-*.npz")}
    assert max(kept) >= 20_000, "the chunk in which the interrupt came"


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.slow
def test_a_killed_run_is_resumed_with_the_same_bits(tmp_path: Path) -> None:
    with start(*RUN, *TINY, "--out", "run", cwd=tmp_path) as process:
        wait_for(tmp_path / "run.unfinished" / "interventions" / "0" / "points-20.npz", process)
        process.kill()
    assert not (tmp_path / "run").exists()
    refused = spawn(*RUN, *TINY, "--out", "run", cwd=tmp_path)
    assert refused.code == 2
    assert "jaxrl-lab resume run" in refused.err
    assert spawn("resume", "run", "--quiet", cwd=tmp_path).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert spawn(*RUN, *TINY, "--out", "whole", cwd=tmp_path).code == 0
    for group in ("interventions", "breakdown"):
        one, other = (
            xr.load_dataset(tmp_path / name / "results.nc", group=group, engine="h5netcdf")
            for name in ("run", "whole")
        )
        assert set(one) == set(other)
        for name in one:
            assert one[name].values.tobytes() == other[name].values.tobytes(), name


def test_resuming_what_was_never_begun_is_a_complaint(tmp_path: Path) -> None:
    said = spawn("resume", "nothing", cwd=tmp_path)
    assert said.code == 2
    assert "unfinished run" in said.err
    assert list(tmp_path.iterdir()) == []


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """A command that runs on while the test goes on."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a file is there, as long as the process lives."""
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")
