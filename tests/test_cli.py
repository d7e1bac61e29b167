"""The command line: help at once, one line for a mistake, and nothing written for it.

What a run prints and leaves behind is tested in ``phenomena/test_collapse_cli.py``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import xarray as xr

from jaxrl_lab import cli

COMMAND = [sys.executable, "-m", "jaxrl_lab.cli"]
TINY = [
    *("--quick", "--quiet"),
    *("--set", "seeds=2", "--set", "environment.prompts=4", "--set", "environment.arms=8"),
    *("--set", "environment.modes=2"),
]


@dataclass(frozen=True)
class Said:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        yield


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """``jaxrl-lab ARGUMENTS`` in this process."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxrl-lab", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    captured = capsys.readouterr()
    return Said(int(left.value.code or 0), captured.out, captured.err)


def spawn(*arguments: str, cwd: Path) -> Said:
    """The same in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


# ------------------------------------------------------------------ without jax


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["run", "--help"]])
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
    assert [line.split()[0] for line in said.out.splitlines()[-4:]] == [
        "list",
        "plot",
        "resume",
        "run",
    ]
    version = call(capsys, "--version")
    assert version.code == 0
    assert "jaxrl-lab" in version.out


# ------------------------------------------------------------------ mistakes

RUN = ["run", "entropy_collapse"]
MISTAKES: list[tuple[list[str], str]] = [
    (["rum"], "command = 'rum': expected a command; nearest valid name: run"),
    (["run"], "Missing argument 'PHENOMENON'"),
    (["--jsn"], "No such option"),
    (["run", "entropy_colapse"], "nearest valid name: entropy_collapse"),
    (["run", ""], "phenomenon = ''"),
    (["run", "a\nb"], r"phenomenon = 'a\nb'"),
    ([*RUN, "--seeds", "two"], "'two' is not a valid integer"),
    ([*RUN, "--seeds", "0"], "seeds = 0: expected at least 1"),
    ([*RUN, "--sedes", "2"], "No such option"),
    ([*RUN, "extra"], "unexpected extra argument"),
    ([*RUN, "--set", "updates"], "--set = 'updates': expected KEY=VALUE"),
    ([*RUN, "--set", "=4"], "expected KEY=VALUE"),
    ([*RUN, "--set", "updats=4"], "nearest valid name: updates"),
    ([*RUN, "--set", "updates="], "updates = None: expected a valid integer"),
    ([*RUN, "--set", "updates=[4"], "updates = '[4': expected a valid integer"),
    ([*RUN, "--set", "updates=off"], "updates = False: expected a number"),
    ([*RUN, "--set", "a\nb=4"], "a b = 4: expected"),
    ([*RUN, "--set", "policy=mlp"], "policy = 'mlp': expected a mapping with an id"),
    ([*RUN, "--set", "recipe=rloo"], "expected arms.NAME.recipe, because every arm sets its own"),
    ([*RUN, "--set", "arms.grpo.recipe=[grpo]"], "['grpo']: expected the name of a recipe"),
    ([*RUN, "--set", "environment.id=3"], "environment.id = 3: expected a valid string"),
    ([*RUN, "--set", "first_seed=-1"], "first_seed = -1"),
    ([*RUN, "--set", "measure_every=7"], "measure_every = 7: expected a divisor"),
    ([*RUN, "--set", "breakdown.environment.arms=1"], "environment.arms = 1: expected 2 to"),
    ([*RUN, "--set", "arms.grop.recipe=rloo"], "nearest valid name: grpo"),
    ([*RUN, "--set", "arms=5"], "arms = 5"),
    ([*RUN, "--set", "recipe.group=1"], "recipe.group = 1: expected at least 2"),
    ([*RUN, "--set", "arms.grpo.recipe.surrogate.hihg=1"], "nearest valid name: high"),
    ([*RUN, "--out", "file"], "out = 'file': expected a folder that does not exist"),
    ([*RUN, "--out", "file/below"], "out = 'file/below': expected a writable place"),
    ([*RUN, "--out", "full"], "out = 'full': expected a folder that does not exist yet"),
    ([*RUN, "--out", "x" * 300], "expected a writable place (File name too long)"),
    (["plot"], "Missing argument 'DIR'"),
    (["plot", "nowhere"], "DIR = 'nowhere': expected a run directory"),
    (["plot", "full"], "DIR = 'full': expected a run directory"),
    (["plot", "x" * 300], "expected a run directory"),
]


@pytest.mark.parametrize(
    ("arguments", "text"), MISTAKES, ids=[" ".join(a)[:60] for a, _ in MISTAKES]
)
def test_a_mistake_is_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    before = sorted(tmp_path.rglob("*"))
    said = call(capsys, *arguments)
    assert said.code == 2
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("jaxrl-lab: ")
    assert text in line
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_mistakes_from_a_shell(tmp_path: Path) -> None:
    said = spawn(*RUN, "--set", "recipe.surrogate.hihg=3", "--json", cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert "recipe.surrogate.hihg = 3" in line
    assert "nearest valid name: high" in line
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ an interrupt


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    # An interrupt waits for the chunk that runs, a twentieth of the updates.
    long = ["--set", "updates=200000", "--set", "measure_every=100", "--out", "run"]
    with start(*RUN, *TINY, *long, cwd=tmp_path) as process:
        wait_for(tmp_path / "run.unfinished" / "manifest.json", process)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "jaxrl-lab resume run" in err
    assert "Traceback" not in err
    assert out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["run.unfinished"]


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
