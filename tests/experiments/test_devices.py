"""One run on several devices is the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from jaxrl_envs import BadInput

from jaxrl_lab.experiments import devices


def compared(*cases: str) -> dict[str, Any]:
    """What a process with eight devices found: several of them against one."""
    here = Path(__file__).with_name("on_devices.py")
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAXRL_LAB_CACHE": "off"}
    command = [sys.executable, str(here), *cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("case", "place"),
    [("half", "4 devices"), pytest.param("population", "8 devices", marks=pytest.mark.slow)],
)
def test_seeds_on_devices_of_their_own_keep_every_bit(case: str, place: str) -> None:
    found = compared(case)[case]
    assert found["same"]
    assert found["collectives"] == []
    assert found["place"] == place


@pytest.mark.parametrize(
    ("case", "most"),
    [
        ("prompts", 0.16),
        pytest.param("env", 0.16, marks=pytest.mark.slow),
        pytest.param("both", 0.16, marks=pytest.mark.slow),
        # A piece counts once, and each device has as many rows of it as a device alone.
        pytest.param("pieces", 0.6, marks=pytest.mark.slow),
    ],
)
def test_a_learner_on_several_devices_agrees_to_rounding(case: str, most: float) -> None:
    """And every device does its share of the work, an eighth."""
    found = compared(case)[case]
    assert found["apart"] < 1e-5
    assert found["place"] == "8 devices"
    assert "all-reduce" in found["collectives"]
    assert found["work"] < most


def test_more_devices_than_there_are_is_refused() -> None:
    with pytest.raises(BadInput, match="devices there are") as error:
        devices.make_mesh(len(jax.devices()) + 1, 8)
    assert error.value.key == "devices"


def test_devices_that_the_seeds_do_not_fill_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "devices", lambda: [object()] * 4)
    assert devices.make_mesh(4, 6, [4, 10]).shape == {"population": 2, "env": 2}
    with pytest.raises(BadInput, match="a divisor of the 6 seeds times one of the 5 prompts"):
        devices.make_mesh(4, 6, [4, 5])


def test_a_process_number_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(BadInput, match="JAX_NUM_PROCESSES"):
        devices.join()
