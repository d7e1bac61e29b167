"""Several processes on one machine are one run, and outlive each other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from cli_calls import COMMAND

EXPERIMENT = """
environment: {{id: bandit/modes, prompts: 4, arms: 6, modes: 2}}
policy: {{id: tabular, scale: 1.0}}
recipe: {{group: 4, epochs: 2, optimizer: [sgd: {{learning_rate: 0.1}}]}}
updates: {updates}
measure_every: 10
seeds: 4
arms:
  grpo: {{recipe: grpo}}
"""
LONG = 400_000


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start(folder: Path, *command: str, processes: int = 1) -> list[subprocess.Popen[str]]:
    """``jaxrl-lab COMMAND`` in so many processes that know of each other."""
    common = os.environ | {"JAXRL_LAB_CACHE": str(folder / "cache"), "JAXRL_LAB_JOIN_SECONDS": "60"}
    common.pop("XLA_FLAGS", None)
    many = ["--distributed"] * (processes > 1)
    port = free_port()
    started = []
    for i in range(processes):
        place = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(i),
        }
        started.append(
            subprocess.Popen(
                [*COMMAND, *command, *many, "--quiet"],
                cwd=folder,
                env=common | (place if processes > 1 else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What they print, once all of them have ended well."""
    said = []
    for one in processes:
        out, err = one.communicate(timeout=300)
        assert one.returncode == 0, err[-2000:]
        said.append(out)
    return said


def same(a: Path, b: Path) -> None:
    """The same parameters bit for bit, and curves that differ by the order of a sum at most."""
    with np.load(a / "params.npz") as x, np.load(b / "params.npz") as y:
        assert x.files == y.files
        for name in x.files:
            np.testing.assert_array_equal(x[name], y[name])
    curves = [
        xr.load_dataset(d / "results.nc", group="experiment", engine="h5netcdf") for d in (a, b)
    ]
    xr.testing.assert_allclose(*curves, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_are_one_run(tmp_path: Path, processes: int) -> None:
    (tmp_path / "mine.yaml").write_text(EXPERIMENT.format(updates=40))
    finish(start(tmp_path, "run", "mine.yaml", "--out", "one"))
    first, *others = finish(
        start(tmp_path, "run", "mine.yaml", "--out", "many", processes=processes)
    )
    assert "results in many" in first
    assert not any("results in" in said for said in others)  # one of them speaks, and writes
    same(tmp_path / "one", tmp_path / "many")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_who_is_left_says_so_and_fewer_go_on(tmp_path: Path, victim: int) -> None:
    (tmp_path / "mine.yaml").write_text(EXPERIMENT.format(updates=LONG))
    both = start(tmp_path, "run", "mine.yaml", "--out", "cut", processes=2)
    place = tmp_path / "cut.unfinished" / "experiment" / "0"
    deadline = time.monotonic() + 240
    while len(list(place.glob("points-*.npz"))) < 3:
        assert time.monotonic() < deadline, "no checkpoint"
        assert all(one.poll() is None for one in both), "over too soon"
        time.sleep(0.02)
    both[victim].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    both[victim].communicate(timeout=60)
    _, said = both[1 - victim].communicate(timeout=120)
    assert time.monotonic() - begin < 60
    assert both[1 - victim].returncode == 1
    assert "another process of the run is gone" in said
    assert "jaxrl-lab resume cut" in said
    assert "Traceback" not in said
    finish(start(tmp_path, "resume", "cut"))
    finish(start(tmp_path, "run", "mine.yaml", "--out", "whole"))
    same(tmp_path / "cut", tmp_path / "whole")


def test_a_process_that_never_comes_is_waited_for_in_bounded_time(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(EXPERIMENT.format(updates=40))
    environment = os.environ | {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "0",
        "JAXRL_LAB_JOIN_SECONDS": "3",
    }
    command = [*COMMAND, "run", "mine.yaml", "--distributed", "--out", "run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "another process of the run is gone or never came" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
