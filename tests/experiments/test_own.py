"""Mechanisms and worlds of a user: stored by name and digest, resumed with the class in hand."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jaxrl_envs
import pytest
import yaml
from cli_calls import call
from jaxrl_envs import BadInput
from jaxrl_envs.bandits.modes import ModesBandit

import jaxrl_lab as lab
from jaxrl_lab import recipes
from jaxrl_lab.experiments import own, store
from jaxrl_lab.mechanisms.regularizer import EntropyBonus
from jaxrl_lab.mechanisms.schedules import Linear


@lab.mechanism
class Cap:
    """Penalize log-probability beyond a ceiling."""

    strength: float
    ceiling: float = -0.1

    def __call__(self, out: Any, batch: Any, aux: Any, ctx: Any) -> Any:
        return self.strength * jnp.maximum(out.logp - self.ceiling, 0.0)


def another_cap() -> type[Any]:
    """A class of the same name with another call."""

    @lab.mechanism
    class Cap:
        strength: float
        ceiling: float = -0.1

        def __call__(self, out: Any, batch: Any, aux: Any, ctx: Any) -> Any:
            return self.strength * jnp.minimum(out.logp - self.ceiling, 0.0)

    Cap.__qualname__ = "Cap"
    return Cap


EXPERIMENT = """
environment: {id: bandit/modes, prompts: 4, arms: 6, modes: 2}
policy: {id: tabular, scale: 1.0}
recipe: {group: 4, optimizer: [sgd: {learning_rate: 1.0}]}
updates: 12
seeds: 3
arms: {plain: {recipe: grpo}}
"""
SLOT = "recipe.regularizer"


class StopAfter:
    """A logger that a run does not survive."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks

    def log(self, rows: Any) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_a_run_with_an_own_mechanism_is_written_and_read(file: Path, tmp_path: Path) -> None:
    settings = {SLOT: (Cap(strength=0.3), EntropyBonus(coefficient=Linear(start=0.1, end=0.0)))}
    done = lab.run(file, settings=settings, out=tmp_path / "run")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["own"] == {"test_own:Cap": own.source_digest(Cap)}
    (experiment,) = written["experiments"].values()
    assert experiment["settings"][SLOT][0] == {"test_own:Cap": {"strength": 0.3, "ceiling": -0.1}}
    read = lab.load(tmp_path / "run", own=[Cap])
    assert store.study_text(read.study) == store.study_text(done.study)
    (arm,), (before,) = ([r.arms["plain"] for r in x.runs.values()] for x in (read, done))
    assert recipes.to_mapping(arm.recipe) == recipes.to_mapping(before.recipe)
    assert type(arm.recipe.regularizer[0]) is Cap


@pytest.mark.parametrize(
    ("given", "expected"), [((), "own=[Cap]"), ((another_cap(),), "the source it had")]
)
def test_other_classes_are_refused(file: Path, tmp_path: Path, given: Any, expected: str) -> None:
    lab.run(file, settings={SLOT: Cap(strength=0.3)}, out=tmp_path / "run")
    with pytest.raises(BadInput, match="own") as refused:
        lab.load(tmp_path / "run", own=given)
    assert "Cap" in str(refused.value)
    assert expected in str(refused.value)


def test_a_cut_run_goes_on_with_the_class_and_to_the_same_bits(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {SLOT: Cap(strength=0.3)}
    whole = lab.run(file, settings=settings, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        lab.run(file, settings=settings, out=tmp_path / "cut", log=[StopAfter(4)])
    said = call(capsys, "resume", str(tmp_path / "cut"))
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "own=[Cap]" in said.err
    resumed = lab.resume(tmp_path / "cut", own=[Cap])
    for a, b in zip(whole.runs.values(), resumed.runs.values(), strict=True):
        assert a.dataset.drop_attrs().identical(b.dataset.drop_attrs())
    with pytest.raises(BadInput, match="own"):
        lab.load(tmp_path / "cut")


def test_a_mechanism_of_the_package_may_be_an_object(file: Path, tmp_path: Path) -> None:
    given = lab.run(file, settings={SLOT: EntropyBonus(coefficient=0.01)}, out=tmp_path / "run")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert "own" not in written
    named = lab.run(file, settings={SLOT: [{"entropy_bonus": {"coefficient": 0.01}}]})
    for a, b in zip(given.runs.values(), named.runs.values(), strict=True):
        assert a.dataset.drop_attrs().identical(b.dataset.drop_attrs())


@dataclass(frozen=True, kw_only=True)
class Renamed(ModesBandit):
    """A world of a user."""


def test_a_world_goes_by_its_id_and_its_source(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jaxrl_envs.core._REGISTRY, "test/own", Renamed)
    file.write_text(EXPERIMENT.replace("bandit/modes", "test/own"))
    lab.run(file, out=tmp_path / "run")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["own"] == {"test/own": own.source_digest(Renamed)}
    assert lab.load(tmp_path / "run").runs
    monkeypatch.setitem(jaxrl_envs.core._REGISTRY, "test/own", ModesBandit)
    with pytest.raises(BadInput, match="test/own"):
        lab.load(tmp_path / "run")
    monkeypatch.delitem(jaxrl_envs.core._REGISTRY, "test/own")
    with pytest.raises(BadInput, match="registers"):
        lab.load(tmp_path / "run")


def test_what_is_written_in_a_class_decides_its_digest() -> None:
    same, other = own.source_digest(Cap), own.source_digest(another_cap())
    assert same != other
    asked = "import test_own; print(test_own.own.source_digest(test_own.Cap))"
    path = os.pathsep.join(sys.path)
    elsewhere = subprocess.run(
        [sys.executable, "-c", asked],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.strip() == same, "in every process"

    @lab.mechanism
    class Bolder(Cap):  # type: ignore[misc]
        strength: float = 2.0

    assert own.source_digest(Bolder) not in (same, other)


def test_a_class_without_a_source_is_not_written(file: Path, tmp_path: Path) -> None:
    space: dict[str, Any] = {"lab": lab, "__name__": __name__}
    text = (
        "@lab.mechanism\nclass Typed:\n    strength: float = 1.0\n"
        "    def __call__(self, out, batch, aux, ctx):\n        return out.logp\n"
    )
    exec(compile(text, "<stdin>", "exec"), space)  # as a bare prompt does
    with pytest.raises(BadInput, match="test_own:Typed"):
        lab.run(file, settings={SLOT: space["Typed"]()}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
