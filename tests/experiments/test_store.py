"""Run directories: all of them or nothing, and the same numbers when read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment_cases import experiment
from experiment_cases import light as light
from jaxrl_envs import BadInput

import jaxrl_lab as lab
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.result import UNITS
from jaxrl_lab.experiments.spec import Study

ARMS = {"a, ü": {}, "b 0.1": {"recipe.optimizer.learning_rate": 2.0}}


@pytest.fixture(scope="module")
def result() -> lab.Result:
    return lab.sweep(experiment(ARMS, actions=6), {"recipe.group": [4]}, updates=4, every=2)


def filled(folder: Path) -> None:
    (folder / "one").write_text("1")


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("place", ["new", "deep/er/new", "empty"])
def test_a_folder_appears_in_one_piece(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    store.write(tmp_path / place, filled)
    assert everything(tmp_path / place) == ["one"]
    assert not [p for p in everything(tmp_path) if ".jaxrl_lab" in p]


def test_the_current_folder_and_a_link_to_a_folder_are_places_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store.write(Path("."), filled)
    assert everything(tmp_path / "here") == ["one"]
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store.write(tmp_path / "link", filled)
    assert everything(tmp_path / "real") == ["one"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, yaml.YAMLError])
def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def half(folder: Path) -> None:
        filled(folder)
        raise error

    with pytest.raises(error):
        store.write(tmp_path / "new", half)
    assert everything(tmp_path) == []


def test_a_full_disk_is_a_complaint(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        filled(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match="No space left on device"):
        store.write(tmp_path / "new", full)
    assert everything(tmp_path) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis").write_text("all of it")
    (tmp_path / "file").write_text("")
    for place in (taken, tmp_path / "file"):
        for act in (store.claim_folder, lambda folder: store.write(folder, filled)):
            with pytest.raises(BadInput, match="does not exist yet or is empty") as caught:
                act(place)
            assert caught.value.key == "out"
    assert everything(tmp_path) == ["file", "taken", "taken/thesis"]


def test_what_comes_into_being_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    def rival(folder: Path) -> None:
        filled(folder)
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "theirs").write_text("")

    with pytest.raises(BadInput):
        store.write(tmp_path / "new", rival)
    assert everything(tmp_path) == ["new", "new/theirs"]


@pytest.mark.parametrize("place", ["x" * 300, "file/below", "x/" * 3000 + "x"])
def test_impossible_places_are_refused_before_any_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput) as caught:
        store.claim_folder(tmp_path / place)
    assert caught.value.key == "out"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="a writable place"):
        store.claim_folder(tmp_path / "new")
    tmp_path.chmod(0o700)


def test_claiming_writes_nothing(tmp_path: Path) -> None:
    store.claim_folder(tmp_path / "a" / "b" / "c")
    assert everything(tmp_path) == []


def test_default_folders_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = store.default_folder("x")
    store.write(first, filled)
    second = store.default_folder("x")
    assert first != second
    assert first.parts[:2] == second.parts[:2] == ("runs", "x")


def test_curves_come_back_as_they_were(tmp_path: Path, result: lab.Result) -> None:
    many = {"main": result.dataset, "other": result.dataset.isel(arm=[1])}
    store.write(tmp_path / "run", lambda folder: store.write_results(folder, many))
    again = store.read_results(tmp_path / "run", list(many))
    about = store.versions()
    for name, dataset in again.items():
        assert dataset.equals(many[name])
        assert {k: dataset.attrs[k] for k in about} == about
        for variable, content in dataset.data_vars.items():
            assert content.dtype == many[name][variable].dtype
            assert content.attrs == many[name][variable].attrs
    assert {"jax", "numpy", "python", "device", "jaxrl-lab"} <= set(about)


def test_every_variable_has_a_unit_and_a_description(result: lab.Result) -> None:
    assert set(result.dataset.data_vars) == set(UNITS)
    for name in (*result.dataset.data_vars, "update"):
        assert result.dataset[name].attrs["units"], name
        assert result.dataset[name].attrs["description"], name
    assert result.dataset["tokens"].dims == ("arm", "seed", "update")
    assert result.dataset["update"].values.tolist() == [0, 2, 4]


def test_a_study_comes_back_as_it_was(tmp_path: Path) -> None:
    one = experiment(ARMS, actions=6)
    study = Study("grpo?", "why: {not}", {"main": one, "other": one}, tier="quick")
    # One list in two experiments must not become an anchor, which no reader of ours accepts.
    study = study.with_setting("recipe.optimizer", [{"sgd": {"learning_rate": 0.1}}])
    store.write(tmp_path / "run", lambda folder: store.write_study(folder, study))
    assert store.read_study(tmp_path / "run") == study


@pytest.mark.parametrize("size", [0, 1, 100, 1000, 5000])
def test_truncated_results_are_a_complaint(tmp_path: Path, result: lab.Result, size: int) -> None:
    store.write(tmp_path / "run", lambda f: store.write_results(f, {"main": result.dataset}))
    file = tmp_path / "run" / store.RESULTS
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BadInput, match="readable") as caught:
        store.read_results(tmp_path / "run", ["main"])
    assert caught.value.key == "DIR"


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "x.json", {"a": np.nan})
    store.write_json(tmp_path / "y.json", {"ü": [1.5]})
    assert json.loads((tmp_path / "y.json").read_text(encoding="utf-8")) == {"ü": [1.5]}
