"""Bad input: one line that names key, value, what was expected and the nearest name; exit code 2.

Nothing is written, nothing is lost, and nothing that a file contains is executed.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from cli_calls import EXPERIMENT, call, spawn

from jaxrl_lab import config, phenomena
from jaxrl_lab.experiments import checkpoint, store


class Case(NamedTuple):
    """A command and what its one line says."""

    arguments: list[str]
    key: str
    value: str
    expected: str
    nearest: str = ""


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        yield


def refused(said: Any) -> str:
    """The one line of a refusal."""
    assert (said.code, said.out) == (2, ""), said
    (line,) = said.err.splitlines()
    assert line.startswith("jaxrl-lab: ")
    return str(line)


def check(said: Any, case: Case) -> None:
    """The line has all that the case says."""
    line = refused(said)
    text = f"jaxrl-lab: {case.key} = {case.value}: expected "
    assert line.startswith(text), line
    assert case.expected in line[len(text) :]
    assert ("nearest valid name" in line) == bool(case.nearest), line
    assert line.endswith(f"nearest valid name: {case.nearest}" if case.nearest else "")


# ------------------------------------------------------------------ arguments

RUN, SWEEP, OWN = ["run", "entropy_collapse"], ["sweep", "mine.yaml"], ["run", "mine.yaml"]
HIGH = ["--set", "recipe.surrogate.high=0.2,0.4"]
MANY = [
    *("--set", "recipe.group=" + ",".join(map(str, range(101)))),
    *("--set", "recipe.epochs=" + ",".join(map(str, range(100)))),
]
LONG = "x" * 300
CUT = "'" + "x" * 49 + "..." + "x" * 26 + "'"

ARGUMENTS = [
    Case(
        ["run", "entropy_collapse", "--distributed"],
        "out",
        "None",
        "a folder that all processes of --distributed see",
    ),
    Case(["rum"], "command", "'rum'", "a command", "run"),
    Case(
        ["run", "entropy_colapse"],
        "phenomenon",
        "'entropy_colapse'",
        "a phenomenon",
        "entropy_collapse",
    ),
    Case(["run", ""], "phenomenon", "''", "a phenomenon"),
    Case(["run", "a\nb"], "phenomenon", r"'a\nb'", "a phenomenon"),
    Case([*RUN, "--seeds", "0"], "seeds", "0", "at least 1"),
    Case([*RUN, "--set", "updates"], "--set", "'updates'", "KEY=VALUE"),
    Case([*RUN, "--set", "=4"], "--set", "'=4'", "KEY=VALUE"),
    Case([*RUN, "--set", "updats=4"], "updats", "4", "one of the keys", "updates"),
    Case([*RUN, "--set", "updates="], "updates", "None", "a valid integer"),
    Case([*RUN, "--set", "updates=[4"], "updates", "'[4'", "a valid integer"),
    Case([*RUN, "--set", "updates=off"], "updates", "False", "a number"),
    Case([*RUN, "--set", "updates=-3"], "updates", "-3", "at least 1"),
    Case([*RUN, "--set", "updates=1000000000000"], "updates", "1000000000000", "below 2^31"),
    Case([*RUN, "--set", "a\nb=4"], "a b", "4", "one of the keys"),
    Case([*RUN, "--set", "policy=mlp"], "policy", "'mlp'", "a mapping with an id"),
    Case([*RUN, "--set", "recipe=rloo"], "recipe", "'rloo'", "arms.NAME.recipe, because every arm"),
    Case(
        [*RUN, "--set", "arms.grpo.recipe=[grpo]"],
        "arms.grpo.recipe",
        "['grpo']",
        "name of a recipe",
    ),
    Case(
        [*RUN, "--set", "arms.grpo.recipe=grop"],
        "arms.grpo.recipe",
        "'grop'",
        "a named recipe",
        "grpo",
    ),
    Case([*RUN, "--set", "environment.id=3"], "environment.id", "3", "a valid string"),
    Case(
        [*RUN, "--set", "environment.id=bandit/mods"],
        "environment.id",
        "'bandit/mods'",
        "registered",
        "bandit/modes",
    ),
    Case([*RUN, "--set", "environment.arns=3"], "environment.arns", "3", "one of the keys", "arms"),
    Case([*RUN, "--set", "environment.arms=-5"], "environment.arms", "-5", "2 to"),
    Case(
        [*RUN, "--set", f"environment.prompts={10**30}"],
        "environment.prompts",
        f"{10**30}",
        "at most",
    ),
    Case([*RUN, "--set", f"environment.prompts={10**9}"], "policy.id", "'tabular'", "too many"),
    Case([*RUN, "--set", "policy.id=tabula"], "policy.id", "'tabula'", "a policy", "tabular"),
    Case([*RUN, "--set", "policy.scale=wide"], "policy.scale", "'wide'", "a valid number"),
    Case([*RUN, "--set", "first_seed=-1"], "first_seed", "-1", "0 to"),
    Case([*RUN, "--set", "generator=rbg"], "generator", "'rbg'", "one of threefry, counter"),
    Case(["bench", "entropy_collapse", "--repeats", "0"], "--repeats", "0", "at least 1"),
    Case([*RUN, "--set", "measure_every=7"], "measure_every", "7", "a divisor of updates"),
    Case([*RUN, "--set", "breakdown.environment.arms=1"], "environment.arms", "1", "2 to"),
    Case(
        [*RUN, "--set", "arms.grop.recipe=rloo"], "arms.grop.recipe", "'rloo'", "an arm of", "grpo"
    ),
    Case([*RUN, "--set", "arms=5"], "arms", "5", "arms.NAME.PATH"),
    Case([*RUN, "--set", "recipe.group=1"], "recipe.group", "1", "at least 2"),
    Case([*RUN, "--set", "recipe.grop=8"], "recipe.grop", "8", "one of the keys", "group"),
    Case([*RUN, "--set", "recipe.group=.nan"], "recipe.group", "nan", "a finite number"),
    Case(
        [*RUN, "--set", "recipe.surrogate=clop"],
        "recipe.surrogate",
        "'clop'",
        "a mechanism of slot",
        "clip",
    ),
    Case(
        [*RUN, "--set", "recipe.surrogate=[clip: 5]"],
        "recipe.surrogate.clip",
        "5",
        "a mapping of fields",
    ),
    Case(
        [*RUN, "--set", "arms.grpo.recipe.surrogate.hihg=1"],
        "arms.grpo.recipe.surrogate.hihg",
        "1",
        "one of the keys",
        "high",
    ),
    Case([*RUN, "--out", "file"], "out", "'file'", "a folder that does not exist yet"),
    Case(
        [*RUN, "--out", "file/below"], "out", "'file/below'", "a writable place (Not a directory)"
    ),
    Case([*RUN, "--out", "full"], "out", "'full'", "a folder that does not exist yet"),
    Case([*RUN, "--out", "/proc/run"], "out", "'/proc/run'", "a writable place"),
    Case([*RUN, "--out", LONG], "out", CUT, "a writable place (File name too long)"),
    Case(["plot", "nowhere"], "DIR", "'nowhere'", "a run directory"),
    Case(["plot", "full"], "DIR", "'full'", "a run directory"),
    Case(["plot", LONG], "DIR", CUT, "a run directory"),
    Case(["resume", "nowhere"], "DIR", "'nowhere'", "an unfinished run"),
    Case(
        ["sweep", "entropy_colapse", *HIGH],
        "phenomenon",
        "'entropy_colapse'",
        "a phenomenon",
        "entropy_collapse",
    ),
    Case([*SWEEP, "--set", "updates=4"], "sweep", "{}", "at least one setting to sweep over"),
    Case(
        [*SWEEP, "--set", "recipe.surrogate.high=0.2,0.2"],
        "recipe.surrogate.high",
        "[0.2, 0.2]",
        "values that differ",
    ),
    Case(
        [*SWEEP, "--set", "recipe.surrogate.hihg=0.2,0.3"],
        "arms.hihg=0.2.recipe.surrogate.hihg",
        "0.2",
        "one of the keys",
        "high",
    ),
    Case([*SWEEP, "--set", "seeds=1,2"], "seeds", "[1, 2]", "--seeds says how many"),
    Case([*SWEEP, "--set", "recpie.group=4,8"], "recpie.group", "4", "one of the keys", "recipe"),
    Case([*SWEEP, *HIGH, "--seeds", "0"], "seeds", "0", "at least 1"),
    Case(
        [*SWEEP, *HIGH, "--experiment", "experimnt"],
        "experiment",
        "'experimnt'",
        "an experiment of the study",
        "experiment",
    ),
    Case([*SWEEP, *HIGH, "--arm", "grop"], "arm", "'grop'", "an arm of the study", "grpo"),
    Case([*SWEEP, *HIGH, "--quick"], "tier", "'quick'", "no tier: the file has none"),
    Case([*SWEEP, *MANY], "sweep", "'10100 points'", "at most 10000 points"),
    Case(["run", "nothing.yaml"], "config", "'nothing.yaml'", "a readable YAML file (No such file"),
    Case(["run", "full/"], "config", "'full'", "a readable YAML file (directory)"),
    Case(["run", "/dev/zero"], "config", "'/dev/zero'", "a readable YAML file (not a file)"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, a folder and an experiment in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path."""
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("case", ARGUMENTS, ids=[" ".join(c.arguments)[:60] for c in ARGUMENTS])
def test_a_mistake_is_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], place: Path, case: Case
) -> None:
    before = content(place)
    check(call(capsys, *case.arguments), case)
    assert content(place) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run"], "Missing argument 'WHAT'"),
        (["plot"], "Missing argument 'DIR'"),
        (["sweep", "entropy_collapse"], "Missing option '--set'"),
        (["--jsn"], "No such option"),
        ([*RUN, "--seeds", "two"], "'two' is not a valid integer"),
        ([*RUN, "--sedes", "2"], "No such option '--sedes'"),
        ([*RUN, "extra"], "unexpected extra argument"),
    ],
)
def test_what_the_parser_of_arguments_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert text in refused(call(capsys, *arguments))


# ------------------------------------------------------------------ files of one's own

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
PHENOMENON = "phenomenon: entropy_collapse\n"

FILES: list[tuple[str | bytes, str, str, str, str]] = [
    ("", "f.yaml", "None", "a mapping", ""),
    ("- a\n", "f.yaml", "['a']", "a mapping", ""),
    ("a: 1\na: 2\n", "f.yaml", "\"key 'a' appears twice at line 2\"", "valid YAML", ""),
    (BOMB, "f.yaml", "'anchors are not allowed at line 2'", "valid YAML", ""),
    ("[" * 5000, "f.yaml", "'nested too deeply'", "valid YAML", ""),
    (b"a: \xff\xfe", "config", "'f.yaml'", "not UTF-8 text", ""),
    (bytes(range(256)), "config", "'f.yaml'", "not UTF-8 text", ""),
    ("a: 1\n" + "#" * config.LARGEST, "f.yaml", "'1000005 bytes'", "at most 1000000 bytes", ""),
    ("{}", "experiments", "None", "experiments, or the entries of one", ""),
    ("experimens: {}\n", "experimens", "{}", "one of the keys", "experiments"),
    (
        "enviroment: {id: bandit/modes}\n",
        "enviroment",
        "{'id': 'bandit/modes'}",
        "one of",
        "environment",
    ),
    ("experiments: []\n", "experiments", "[]", "a mapping of at least one experiment", ""),
    ("experiments: {a: 5}\n", "experiments.a", "5", "a mapping", ""),
    ("experiments: {a: {updtes: 5}}\n", "experiments.a.updtes", "5", "one of the keys", "updates"),
    ("phenomenon: nothing\nupdates: 3\n", "phenomenon", "'nothing'", "a phenomenon", ""),
    (PHENOMENON + "updates: 3\n", "experiments", "'experiment'", "an experiment", "interventions"),
    (
        PHENOMENON + "experiments: {interventions: {arms: {grpo: {}}}}\n",
        "experiments.interventions.arms.clip_higher",
        "None",
        "without claims",
        "",
    ),
    (EXPERIMENT + "tiers: 5\n", "tiers", "5", "a mapping", ""),
    (EXPERIMENT + "tiers: {default: {updats: 5}}\n", "updats", "5", "one of the keys", "updates"),
    (EXPERIMENT + "tiers: {quick: {}}\n", "tier", "'default'", "a tier", ""),
    (
        EXPERIMENT + "tiers: {default: {without: [x]}}\n",
        "tiers.default.without",
        "'x'",
        "an experiment, or an arm of one",
        "",
    ),
    (
        EXPERIMENT + "tiers: {default: {without: [experiment.grop]}}\n",
        "tiers.default.without",
        "'experiment.grop'",
        "an experiment, or an arm of one",
        "experiment.grpo",
    ),
    (EXPERIMENT + "tier: verdct\n", "tier", "'verdct'", "a tier", "verdict"),
    (EXPERIMENT + "box: 5\n", "box", "5", "a mapping", ""),
    (EXPERIMENT + "changed: 5\n", "changed", "5", "a mapping", ""),
    (
        EXPERIMENT.replace("grpo: {recipe: grpo}", "grpo: {recipe: grop}"),
        "arms.grpo.recipe",
        "'grop'",
        "a named recipe",
        "grpo",
    ),
]


@pytest.mark.parametrize(
    ("text", "key", "value", "expected", "nearest"),
    FILES,
    ids=[f"{case[1]} {case[2]}"[:60] for case in FILES],
)
def test_a_file_that_is_no_experiment_is_refused(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    text: str | bytes,
    key: str,
    value: str,
    expected: str,
    nearest: str,
) -> None:
    (place / "f.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = content(place)
    check(call(capsys, "run", "f.yaml"), Case([], key, value, expected, nearest))
    assert content(place) == before


def test_there_are_at_least_sixty_cases() -> None:
    assert len(ARGUMENTS) + len(FILES) >= 60


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [bad]", "!!python/name:os.mkdir"])
def test_no_tag_of_a_file_is_obeyed(
    capsys: pytest.CaptureFixture[str], place: Path, tag: str
) -> None:
    (place / "f.yaml").write_text(f"updates: {tag}\n")
    assert "could not determine a constructor for the tag" in refused(call(capsys, "run", "f.yaml"))
    call(capsys, *RUN, "--set", f"updates={tag}")
    assert not (place / "bad").exists()


# ------------------------------------------------------------------ damaged run directories


@pytest.fixture(scope="module")
def finished(light: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of an experiment of one's own."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mine.yaml").write_text(EXPERIMENT)
    phenomena.run(folder / "mine.yaml", out=folder / "run")
    return folder / "run"


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_bytes(data))


def void(_: Any) -> None:
    return None


def halve(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no configuration": (remove("config.yaml"), "DIR = "),
    "no results": (remove("results.nc"), "a readable results.nc"),
    "half the results": (halve("results.nc"), "a readable results.nc"),
    "text as results": (write("results.nc", b"hello"), "a readable results.nc"),
    "foreign configuration": (write("config.yaml", b"name: theirs\n"), "name = 'theirs'"),
    "binary configuration": (write("config.yaml", bytes(range(256))), "not UTF-8 text"),
    "another phenomenon": (
        write("config.yaml", b"phenomenon: other\nexperiments: {a: {}}\n"),
        "phenomenon = 'other'",
    ),
    "half the verdicts": (halve("verdicts.json"), "a readable verdicts.json"),
}


@pytest.mark.parametrize(("damage", "text"), DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_run_directory_is_refused(
    capsys: pytest.CaptureFixture[str],
    finished: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    text: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    damage(folder)
    before = content(folder)
    assert text in refused(call(capsys, "plot", str(folder)))
    assert content(folder) == before


# ------------------------------------------------------------------ unfinished runs


@pytest.fixture
def unfinished(place: Path) -> Path:
    """What a run leaves that was killed before its first chunk was done."""
    study = phenomena.load_study("mine.yaml")
    checkpoint.create(place / "cut", store.study_text(study), store.versions())
    return place / "cut.unfinished"


def begun(config: str, versions: dict[str, str] | None = None) -> Callable[[Path], None]:
    """The run was begun with another configuration, or under other versions."""

    def damage(folder: Path) -> None:
        shutil.rmtree(folder)
        checkpoint.create(folder.with_name("cut"), config, versions or store.versions())

    return damage


MANIFESTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "none": (remove(checkpoint.MANIFEST), "an unfinished run"),
    "half": (halve(checkpoint.MANIFEST), "a readable cut.unfinished/manifest.json"),
    "binary": (write(checkpoint.MANIFEST, bytes(range(256))), "a readable cut.unfinished"),
    "a list": (write(checkpoint.MANIFEST, b"[]"), "a readable cut.unfinished"),
    "other versions": (begun("a: 1\n", {"jax": "0.1"}), "the versions it began with"),
    "a tag": (begun("a: !!python/name:os.mkdir"), "valid YAML"),
    "no study": (begun("name: theirs\n"), "name = 'theirs'"),
}


@pytest.mark.parametrize(("damage", "text"), MANIFESTS.values(), ids=list(MANIFESTS))
def test_an_unfinished_run_that_cannot_go_on_says_why(
    capsys: pytest.CaptureFixture[str],
    unfinished: Path,
    damage: Callable[[Path], None],
    text: str,
) -> None:
    damage(unfinished)
    assert text in refused(call(capsys, "resume", "cut"))
    assert unfinished.exists()


class Trap:
    """An object that writes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_nothing_in_a_checkpoint_is_executed(
    capsys: pytest.CaptureFixture[str], unfinished: Path, place: Path
) -> None:
    program = unfinished / "experiment" / "0"
    program.mkdir(parents=True)
    trap = np.array([Trap(place / "sprung")], dtype=object)
    np.savez(program / "state-2.npz", allow_pickle=True, **{"0": trap})
    np.savez(program / "points-2.npz", allow_pickle=True, **{"return": trap})
    said = call(capsys, "resume", "cut", "--quiet")
    assert said.code == 0, said.err
    assert "damaged" in said.err
    assert not (place / "sprung").exists()
    assert (place / "cut" / "results.nc").exists()


def test_no_source_reads_pickles_or_runs_text() -> None:
    root = Path(config.__file__).parent
    sources = {path: path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    assert len(sources) > 50
    words = ("import pickle", "allow_pickle=True", "yaml.Loader", "unsafe_load", " eval(", " exec(")
    for path, text in sources.items():
        assert not [word for word in words if word in text], path


# ------------------------------------------------------------------ disks and environment


def test_a_disk_that_fills_up_loses_the_result_and_not_the_work(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_results", full)
        line = refused(call(capsys, *OWN, "--out", "run", "--quiet"))
    assert "out = 'run': expected a writable place (No space left on device)" in line
    assert not (place / "run").exists()
    assert call(capsys, "resume", "run", "--quiet").code == 0
    assert (place / "run" / "results.nc").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_disk_that_takes_nothing_is_found_before_any_work(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def closed(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", closed)
    line = refused(call(capsys, *OWN, "--out", "run"))
    assert f"out = 'run': expected a writable place ({os.strerror(number)})" in line


VARIABLES = [
    ("JAXRL_LAB_CACHE", "/dev/null/cache", "a folder that can be written, or off", ""),
    ("JAXRL_LAB_CAHCE", "off", "one of the keys", "JAXRL_LAB_CACHE"),
]


@pytest.mark.parametrize(("name", "value", "expected", "nearest"), VARIABLES)
def test_a_variable_of_ours_that_cannot_be_meant(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    expected: str,
    nearest: str,
) -> None:
    monkeypatch.setenv(name, value)
    check(call(capsys, *OWN), Case([], name, repr(value), expected, nearest))


@pytest.mark.parametrize(
    ("name", "value"), [("JAX_PLATFORMS", "banana"), ("JAX_ENABLE_X64", "banana")]
)
def test_a_variable_with_which_jax_does_not_start(place: Path, name: str, value: str) -> None:
    said = spawn(*OWN, cwd=place, env=os.environ | {name: value})
    check(said, Case([], name, repr(value), "a value with which jax starts"))
