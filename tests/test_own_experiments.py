"""Files of one's own, and sweeps: run, cut, resumed, drawn again, and equal to runs one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from cli_calls import EXPERIMENT, call
from jaxrl_envs import BadInput

from jaxrl_lab import config, phenomena
from jaxrl_lab.experiments.claims import Claim
from jaxrl_lab.experiments.progress import Progress
from jaxrl_lab.experiments.sweep import expand
from jaxrl_lab.phenomena import Analysis, Phenomenon, Report, grid
from jaxrl_lab.phenomena.core import Runs
from jaxrl_lab.phenomena.studies import load_study
from jaxrl_lab.plots import panels

FILES = ["config.yaml", "figure.png", "figure.svg", "results.nc", "verdicts.json"]
AXES = {"recipe.surrogate.high": [0.2, 0.4], "recipe.group": [2, 4]}
SET = ["--set", "recipe.surrogate.high=0.2,0.4", "--set", "recipe.group=2,4"]
TINY = {
    "environment.prompts": 4,
    "environment.arms": 8,
    "environment.modes": 2,
    "interventions.updates": 4,
    "interventions.measure_every": 2,
    "breakdown.updates": 2,
}


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment of one's own in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture(scope="module")
def swept(light: None, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Four points of an experiment of one's own, saved."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mine.yaml").write_text(EXPERIMENT)
    return phenomena.sweep(folder / "mine.yaml", AXES, seeds=3, out=folder / "swept")


def results(folder: Path) -> xr.Dataset:
    return xr.load_dataset(folder / "results.nc", group="experiment", engine="h5netcdf")


# ------------------------------------------------------------------ sweeps


def test_every_point_of_a_sweep_is_the_run_with_its_settings(swept: Report, place: Path) -> None:
    found = swept.runs["experiment"]
    assert found.seeds == (9000, 9001, 9002)
    for high in AXES["recipe.surrogate.high"]:
        settings = {"recipe.surrogate.high": high, "recipe.group": 4, "first_seed": 9000}
        alone = phenomena.run("mine.yaml", seeds=3, settings=settings).runs["experiment"]
        for name in ("return", "entropy", "accuracy"):
            one, other = found.curve(name, f"high={high}, group=4"), alone.curve(name, "grpo")
            np.testing.assert_allclose(one, other, atol=1e-5, err_msg=name)


def test_a_sweep_is_cut_and_resumed_with_the_same_bits(
    capsys: pytest.CaptureFixture[str],
    swept: Report,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chunks = []

    def cut(self: Progress, updates: int) -> None:
        chunks.append(updates)
        if len(chunks) == 3:
            raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", cut)
        said = call(capsys, "sweep", "mine.yaml", *SET, "--seeds", "3", "--out", "cut", "--quiet")
    assert said.code == 9
    assert not (place / "cut").exists()
    said = call(capsys, "resume", "cut", "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "high=0.4, group=2" in said.out
    assert swept.folder is not None
    one, whole = results(place / "cut"), results(swept.folder)
    assert set(one) == set(whole)
    for name in one:
        assert one[name].values.tobytes() == whole[name].values.tobytes(), name
    assert (place / "cut/config.yaml").read_text() == (swept.folder / "config.yaml").read_text()


def test_a_sweep_prints_its_plan_its_ends_and_leaves_a_run_directory(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    arguments = ["--set", "recipe.group=2,4", "--seeds", "2", "--out", "run"]
    said = call(capsys, "sweep", "mine.yaml", *arguments)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("2 programs to compile, 4 policies, 16 policy updates")
    assert "does the clip matter?" in said.out
    assert "after 4 updates, mean ± 95 % over 2 seeds" in said.out
    assert set(FILES) <= {p.name for p in (place / "run").iterdir()}
    drawn = call(capsys, "plot", "run", "--out", "again")
    assert drawn.code == 0
    assert (place / "again" / "figure.svg").read_bytes() == (place / "run/figure.svg").read_bytes()
    saved = json.loads((place / "run" / "verdicts.json").read_text())
    assert (saved["tier"], saved["verdicts"]) == ("default sweep", [])


def test_claims_are_asked_at_every_point_of_their_own_runs(swept: Report) -> None:
    claim = Claim("rises", "It learns.", "final return", "greater", 0.1, "reward", "here")

    def analyze(runs: Runs) -> Analysis:
        (run,) = runs.values()
        (arm,) = run.arms
        if run.arms[arm].recipe.group == 2:
            raise BadInput("recipe.group", 2, "more")
        return Analysis({"rises": run.curve("return", arm)[:, -1]})

    points = expand(swept.study)
    measures = swept.phenomenon.measures
    asked = grid.swept(Phenomenon("own", (claim,), measures, analyze, lambda *_: None), points)
    assert [c.id for c in asked.claims] == [f"rises at {point}" for point in points.points]
    found = asked.analyze(swept.runs)
    for point in points.points:
        sample = found.samples[f"rises at {point}"]
        if point.endswith("group=2"):
            assert np.isnan(sample).all()
        else:
            ends = swept.runs["experiment"].curve("return", point)[:, -1]
            np.testing.assert_array_equal(sample, ends)
    refusals = [text for text in found.tables if "nothing is decided" in text]
    assert len(refusals) == 2
    with panels.styled():
        figure = asked.figure(swept.runs, found, [])
    assert "rises" in [ax.get_title(loc="left") for ax in figure.axes]


@pytest.mark.slow
def test_a_phenomenon_is_asked_its_claims_at_every_point(swept: Report) -> None:
    report = phenomena.sweep(
        "entropy_collapse",
        {"interventions.recipe.group": [4, 8]},
        tier="quick",
        seeds=2,
        settings=TINY,
    )
    claims = phenomena.find("entropy_collapse").claims
    points = ("group=4", "group=8")
    assert [v.claim for v in report.verdicts] == [f"{c.id} at {p}" for c in claims for p in points]
    assert len(report.runs["breakdown"].arms) == 10, "not reached by the axis, and trained once"
    assert "excess_collapse at group=8" in str(report)
    assert report.study.departures["environment.prompts"] == 4
    figure = report.figure()
    figure.draw_without_rendering()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "entropy" in titles
    assert "excess_collapse" in titles


def test_one_experiment_or_arm_of_a_phenomenon_is_swept_without_claims(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    settings = [x for k, v in TINY.items() for x in ("--set", f"{k}={v}")]
    only = ["--experiment", "interventions", "--arm", "grpo", "--seeds", "2", "--quick"]
    axis = ["--set", "recipe.surrogate.high=0.2,0.3"]
    said = call(capsys, "sweep", "entropy_collapse", *settings[:8], *only, *axis, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["phenomenon"] == "entropy_collapse without claims"
    assert found["verdicts"] == []
    again = phenomena.load(found["folder"])
    assert set(again.runs) == {"interventions"}
    assert "prediction_gap" in again.runs["interventions"].dataset, "measured as the phenomenon is"


# ------------------------------------------------------------------ files of one's own


def test_a_changed_copy_says_what_it_changes(place: Path) -> None:
    text = (config.folder() / "entropy_collapse.yaml").read_text(encoding="utf-8")
    assert "updates: 300" in text
    (place / "copy.yaml").write_text(text.replace("updates: 300", "updates: 180", 1))
    study = load_study("copy.yaml")
    assert study.departures == {"interventions.updates": 180}
    assert study.name == "entropy_collapse"
    (place / "same.yaml").write_text(text)
    assert load_study("same.yaml") == load_study("entropy_collapse")
    quick = load_study("copy.yaml", "quick")
    assert quick.experiments["interventions"].updates == 60


def test_the_configuration_of_a_run_is_a_file_like_any_other(swept: Report, place: Path) -> None:
    assert swept.folder is not None
    study = load_study(swept.folder / "config.yaml")
    assert study == swept.study
    assert study.tier == "default sweep"


def test_an_experiment_needs_no_arms_and_no_list_of_experiments(place: Path) -> None:
    (place / "bare.yaml").write_text("environment: {id: bandit/modes}\nrecipe: {base: grpo}\n")
    study = load_study("bare.yaml")
    assert list(study.experiments["experiment"].build()) == ["arm"]
    several = "experiments: {a: {arms: {x: {recipe: grpo}}, environment: {id: bandit/modes}}}\n"
    (place / "several.yaml").write_text(
        "question: why\ntiers: {default: {a.updates: 7}}\n" + several
    )
    study = load_study("several.yaml")
    assert (study.question, study.experiments["a"].updates) == ("why", 7)
    assert study.departures == {"a.updates": 7}


def test_a_world_without_exact_answers_is_measured_by_what_updates_report(place: Path) -> None:
    world = EXPERIMENT.replace(
        "{id: bandit/modes, prompts: 4, arms: 8, modes: 2}", "{id: gridworld/two_goals}"
    )
    (place / "grid.yaml").write_text(world)
    report = phenomena.run("grid.yaml")
    assert "return" in report.runs["experiment"].dataset
    assert "accuracy" not in report.runs["experiment"].dataset
    report.figure().draw_without_rendering()
    assert "Verdicts" not in str(report)
