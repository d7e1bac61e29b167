"""Published pages say what the published verdicts say, and those are about today's claims."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from jaxrl_lab import phenomena
from jaxrl_lab.experiments.claims import claims_hash

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish", ROOT / "scripts" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", phenomena.names())
def test_the_page_is_what_the_run_said(name: str, script: ModuleType) -> None:
    assert script.page(name).read_text(encoding="utf-8") == script.rendered(name)
    assert (ROOT / "docs" / "figures" / f"{name}.png").exists()


def test_the_readme_lists_every_phenomenon(script: ModuleType) -> None:
    assert set(script.published()) == set(phenomena.names())
    assert script.README.read_text(encoding="utf-8") == script.overview()
    for name in phenomena.names():
        assert (ROOT / "notebooks" / f"{name}.ipynb").exists()


@pytest.mark.parametrize("name", phenomena.names())
def test_the_verdicts_are_about_these_claims(name: str, script: ModuleType) -> None:
    said = json.loads(script.verdicts(name).read_text(encoding="utf-8"))
    assert said["claims_hash"] == claims_hash(phenomena.find(name).claims)
    assert said["changed"] == {}
    assert all(v["n"] + v["missing"] >= 16 for v in said["verdicts"])
    assert said["seconds"] > 0
