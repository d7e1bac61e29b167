"""Phenomena by name: run directories, and what is refused before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import xarray as xr
import yaml
from jaxrl_envs import BadInput

import jaxrl_lab as lab
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.claims import claims_hash
from jaxrl_lab.phenomena import Report, core
from jaxrl_lab.phenomena.entropy_collapse import CLAIMS

FILES = {"config.yaml", "params.npz", "results.nc", "verdicts.json", "figure.png", "figure.svg"}


def test_a_run_directory_is_complete(report: Report) -> None:
    assert report.folder is not None
    assert {p.name for p in report.folder.iterdir()} == FILES
    assert [p.name for p in report.folder.parent.iterdir()] == ["run"]
    verdicts = json.loads((report.folder / "verdicts.json").read_text(encoding="utf-8"))
    assert verdicts["claims_hash"] == claims_hash(CLAIMS)
    assert [v["claim"] for v in verdicts["verdicts"]] == [c.id for c in CLAIMS]
    assert verdicts["versions"]["jax"]
    assert verdicts["frozen"] == []
    assert verdicts["seconds"] > 0
    image = matplotlib.image.imread(report.folder / "figure.png")
    assert image.shape[0] > 500
    assert np.ptp(image[..., :3]) > 0.5
    svg = (report.folder / "figure.svg").read_text(encoding="utf-8")
    assert "effective solutions" in svg, "text stays text"
    config = yaml.safe_load((report.folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["phenomenon"] == "entropy_collapse"
    assert config["experiments"]["breakdown"]["settings"]["environment.arms"] == 8
    assert config["experiments"]["breakdown"]["seeds"] == 3


def test_every_curve_says_what_it_is(report: Report) -> None:
    assert report.folder is not None
    for name in report.study.experiments:
        with xr.open_dataset(report.folder / "results.nc", group=name, engine="h5netcdf") as data:
            assert data.attrs["jax"]
            for variable in data.data_vars.values():
                assert variable.attrs["units"], variable.name
                assert variable.attrs["description"], variable.name


def test_a_run_read_again_says_the_same(report: Report) -> None:
    assert report.folder is not None
    again = lab.load(report.folder)
    assert [v.as_dict() for v in again.verdicts] == [v.as_dict() for v in report.verdicts]
    assert str(again) == str(report)
    assert again.study == report.study
    for name, run in again.runs.items():
        assert run.dataset.equals(report.runs[name].dataset)
    stored = json.loads((report.folder / "verdicts.json").read_text(encoding="utf-8"))
    fresh = again.as_dict() | {"seconds": stored["seconds"]}
    assert json.loads(json.dumps(fresh)) == stored | {k: fresh[k] for k in ("folder", "figure")}
    run = again.runs["breakdown"]
    tape = lab.debug(run, arm="adam", seed=run.seeds[0], update=0)
    assert {"advantage", "surrogate", "aggregate"} <= {e["slot"] for e in tape}


def _edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "config.yaml"
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        change(data)
        file.write_text(yaml.safe_dump(data), encoding="utf-8")

    return act


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8") and None


def _cut(share: float) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "results.nc"
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])

    return act


def _other_results(folder: Path) -> None:
    (folder / "results.nc").unlink()
    foreign = xr.Dataset({"x": ("t", [1.0, 2.0])})
    for name, mode in (("interventions", "w"), ("breakdown", "a")):
        foreign.to_netcdf(folder / "results.nc", group=name, mode=mode, engine="h5netcdf")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda f: (f / "config.yaml").unlink(), "DIR"),
    "no results": (lambda f: (f / "results.nc").unlink(), "DIR"),
    "results cut": (_cut(0.5), "DIR"),
    "results cut late": (_cut(0.98), "DIR"),
    "results empty": (_cut(0.0), "DIR"),
    "results are text": (_write("results.nc", "hello"), "DIR"),
    "results of another kind": (_other_results, "DIR"),
    "config is text": (_write("config.yaml", "hello"), "config.yaml"),
    "config is broken": (_write("config.yaml", "a: [1"), "config.yaml"),
    "config with a tag": (_write("config.yaml", "a: !!python/object:os.system {}"), "config.yaml"),
    "another phenomenon": (_edit(lambda d: d.update(phenomenon="entropy_colapse")), "phenomenon"),
    "unknown key": (_edit(lambda d: d.update(phenomenom="x")), "phenomenom"),
    "no experiments": (_edit(lambda d: d.update(experiments={})), "experiments"),
    "an experiment less": (
        _edit(lambda d: d["experiments"].pop("breakdown") and None),
        "experiments.breakdown",
    ),
    "an experiment more": (
        _edit(lambda d: d["experiments"].update(more={})),
        "experiments",
    ),
    "an arm less": (
        _edit(lambda d: d["experiments"]["breakdown"]["arms"].pop("adam") and None),
        "experiments.breakdown.arms.adam",
    ),
    "an arm more": (
        _edit(lambda d: d["experiments"]["interventions"]["arms"].update(more={"recipe": "grpo"})),
        "arm",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_directory_is_a_complaint(
    report: Report, tmp_path: Path, damage: str
) -> None:
    assert report.folder is not None
    folder = tmp_path / "run"
    shutil.copytree(report.folder, folder)
    act, key = DAMAGE[damage]
    act(folder)
    with pytest.raises(BadInput) as caught:
        lab.load(folder)
    assert caught.value.key.endswith(key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"what": "entropy_colapse"}, "phenomenon"),
        ({"tier": "quik"}, "tier"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": "many"}, "seeds"),
        ({"settings": {"updats": 3}}, "updats"),
        ({"settings": {"breakdown.environment.arms": 1}}, "environment.arms"),
        ({"settings": {"breakdown.measure_every": 3}}, "measure_every"),
        ({"settings": {"arms.sgd 6.4.recipe.group": 1}}, "arms.sgd 6.4.recipe.group"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained_or_written(
    tmp_path: Path, given: dict[str, Any], key: str
) -> None:
    before = lab.traces()
    with pytest.raises(BadInput) as caught:
        lab.run(**({"what": "entropy_collapse", "out": tmp_path / "a" / "b"} | given))
    assert caught.value.key == key
    assert lab.traces() == before
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    before = lab.traces()
    with pytest.raises(BadInput, match="does not exist yet or is empty"):
        lab.run("entropy_collapse", out=tmp_path)
    assert lab.traces() == before


def test_a_report_that_cannot_be_saved_leaves_nothing(report: Report, tmp_path: Path) -> None:
    def no_figure(*_: Any) -> Any:
        raise RuntimeError("no figure today")

    broken = replace(report, phenomenon=replace(report.phenomenon, figure=no_figure))
    with pytest.raises(RuntimeError, match="no figure today"):
        broken.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_report_in_words(report: Report) -> None:
    text = str(report)
    for claim in CLAIMS:
        assert claim.id in text
    for arm in report.runs["interventions"].arms:
        assert arm in text
    assert "Frozen" not in text
    assert store.CONFIG == "config.yaml"
    assert "entropy_collapse" in core.names()


def test_a_tier_leaves_out_experiments_and_arms() -> None:
    """Others stay as they are, and what a claim needs stays."""
    whole, quick = (core.load_study("ppo_stagnation", tier) for tier in ("default", "quick"))
    assert set(whole.experiments) - set(quick.experiments) == {"bandit_512"}
    left_out = {
        (name, arm)
        for name, one in quick.experiments.items()
        for arm in whole.experiments[name].arms
        if arm not in one.arms
    }
    assert left_out == {
        ("bandit_4096", "once n4096"),
        ("grid_32", "once 32"),
        ("grid_512", "long 64"),
    }
    assert quick.experiments["bandit_64"].arms == whole.experiments["bandit_64"].arms
