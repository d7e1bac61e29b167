"""What users may rely on changes only on purpose: names and parameters against a stored list."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_public_names_and_parameters_are_the_stored_ones() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "public_api.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_has_functions_mechanisms_recipes_and_worlds_with_their_parameters() -> None:
    stored = (ROOT / "tests" / "public_api.txt").read_text(encoding="utf-8").splitlines()
    expected = {
        "lab.run(what, tier=, seeds=, settings=, out=, quiet=, log=)",
        "lab.co_scale(recipe, num_envs)",
        "recipe.surrogate: clip(low=, high=, dual=)",
        "recipe grpo",
        "world bandit/modes",
    }
    assert expected <= set(stored)
