"""Calling the command line from a test: in this process, or in one of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaxrl_lab import cli

COMMAND = [sys.executable, "-m", "jaxrl_lab.cli"]

EXPERIMENT = """\
question: does the clip matter?
environment: {id: bandit/modes, prompts: 4, arms: 8, modes: 2}
policy: {id: tabular, scale: 1.0}
recipe: {group: 4, optimizer: [sgd: {learning_rate: 1.0}]}
updates: 4
measure_every: 1
seeds: 2
arms:
  grpo: {recipe: grpo}
"""
"""An experiment of one's own that takes no time once it is compiled."""


@dataclass(frozen=True)
class Said:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """``jaxrl-lab ARGUMENTS`` in this process."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxrl-lab", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    captured = capsys.readouterr()
    return Said(int(left.value.code or 0), captured.out, captured.err)


def spawn(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> Said:
    """The same in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)
