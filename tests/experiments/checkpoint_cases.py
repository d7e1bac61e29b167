"""A small program that checkpoints are made of, and what two runs of it must share."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from experiment_cases import experiment

from jaxrl_lab.cache import use_compilation_cache
from jaxrl_lab.experiments import checkpoint
from jaxrl_lab.experiments.population import Compiled, compile_program, group_arms, run_program
from jaxrl_lab.experiments.run import no_measure

UPDATES, EVERY, SEEDS = 40, 2, range(3)


@pytest.fixture(autouse=True)
def every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk is kept, however short it is."""
    monkeypatch.setattr(checkpoint, "SPACING", 0.0)


def compile_small(updates: int = UPDATES) -> Compiled:
    """Two arms that share a program, with optimizers that have a memory."""
    arms: dict[str, dict[str, Any]] = {
        "a": {"recipe.optimizer": [{"adam": {"learning_rate": 0.1}}]},
        "b": {"recipe.optimizer": [{"adam": {"learning_rate": 0.3}}]},
    }
    (program,) = group_arms(experiment(arms, actions=6).build())
    return compile_program(program, SEEDS, updates, EVERY, no_measure)


def program_at(folder: Path) -> checkpoint.ProgramCheckpoints:
    return checkpoint.Checkpoints(folder).program("main", 0)


def digest(trained: Any) -> str:
    """Of every bit of final states and curves."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trained):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def run_and_tell(folder: Path, updates: int) -> None:
    """Train or go on, and print the updates done after every chunk, and the digest at the end."""
    use_compilation_cache()
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        print(done, flush=True)

    trained = run_program(compile_small(updates), SEEDS, tell, program_at(folder))
    print(digest(trained), flush=True)


if __name__ == "__main__":
    checkpoint.SPACING = 0.0
    run_and_tell(Path(sys.argv[1]), int(sys.argv[2]))
