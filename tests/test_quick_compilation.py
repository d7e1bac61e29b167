"""What is quick is compiled cheaply, also when it is resumed; everything else as XLA does it."""

import os
from pathlib import Path

import pytest
from cli_calls import spawn

from jaxrl_lab.cli import environment, options
from jaxrl_lab.experiments.place import MANIFEST, place_of, tier_of

CHEAPLY = "--xla_backend_optimization_level=0"


@pytest.mark.parametrize(("tier", "cheap"), [("quick", True), ("quick sweep", True), ("", False),
                                             ("default", False), ("verdict", False)])  # fmt: skip
def test_flags_follow_the_tier(monkeypatch: pytest.MonkeyPatch, tier: str, cheap: bool) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    environment.start_jax(tier=tier)
    environment.start_jax(tier=tier)
    flags = os.environ["XLA_FLAGS"].split()
    assert flags.count(CHEAPLY) == cheap
    assert flags[0] == "--xla_force_host_platform_device_count=2"


def test_the_user_decides_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    environment.start_jax(tier="quick")
    assert CHEAPLY not in os.environ["XLA_FLAGS"]


def test_a_file_may_say_its_tier(tmp_path: Path) -> None:
    shipped, run = tmp_path / "shipped.yaml", tmp_path / "config.yaml"
    shipped.write_text("tiers: {quick: {seeds: 1}}\ntier: default\n")
    run.write_text("tier: quick\n")
    assert options.known(str(shipped), "verdict") == "verdict"
    assert options.known(str(run), "default") == "quick"
    assert options.known("entropy_collapse", "quick") == "quick"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"config": 3}', '{"config": "[1"}', '{"config": "seeds: 3"}']
)
def test_no_tier_in_a_manifest_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    assert tier_of(tmp_path / "nothing") == ""
    place = place_of(tmp_path / "run")
    place.mkdir()
    (place / MANIFEST).write_text(text)
    assert tier_of(tmp_path / "run") == ""


def test_a_quick_run_compiles_with_flags_that_this_xla_knows(tmp_path: Path) -> None:
    """An unknown flag ends the process."""
    said = spawn("run", "entropy_collapse", "--quick", "--plan", cwd=tmp_path)
    assert said.code == 0, said.err
