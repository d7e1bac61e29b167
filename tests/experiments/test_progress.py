"""The bar says where a run stands, and Ctrl-C ends it between chunks."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
import time

import pytest

from jaxrl_lab.experiments.progress import Progress, chunk_first

ROWS = [
    {"arm": "a", "update": 5, "entropy": 9.0, "return": 9.0, "tokens": 1.0},
    {"arm": "a", "update": 10, "entropy": 0.5, "return": 0.25, "tokens": 80.0},
    {"arm": "b", "update": 10, "entropy": 1.5, "return": 0.75, "tokens": 120.0},
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_shows_rate_time_left_entropy_and_return(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(label="study")
    progress.start(1000)
    for _ in range(3):
        time.sleep(0.15)
        progress.log(ROWS)
        progress.advance(100)
    progress.finish()
    shown = terminal.getvalue()
    for part in ("study", "policy updates/s", "entropy 1, return 0.5", "steps/s"):
        assert part in shown
    last = next(x for x in reversed(shown.split("\r")) if "steps/s" in x)
    rates = re.search(r"([\d.]+)(k?) policy updates/s, ([\d.]+)(k?) steps/s", last)
    assert rates, last
    updates, steps = (float(rates[i]) * (1000 if rates[i + 1] else 1) for i in (1, 3))
    assert 5 < steps / updates < 20, "100 tokens of a policy in 10 updates"


def test_files_and_pipes_get_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(label="study")
    progress.start(10)
    progress.log(ROWS)
    progress.advance(10)
    progress.finish()
    assert capsys.readouterr() == ("", "")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # the handler runs between two instructions of the main thread


def test_an_interrupt_in_a_chunk_waits_for_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    progress = Progress(quiet=True)
    with chunk_first():
        progress.start(10)
        interrupt()
        assert "stopping after this chunk" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            progress.advance(5)
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        progress.finish()
    assert signal.getsignal(signal.SIGINT) is before
    with chunk_first():
        progress.start(10)
        progress.advance(10)  # an earlier interrupt is forgotten
        progress.finish()


def test_outside_a_training_an_interrupt_acts_at_once() -> None:
    with chunk_first(), pytest.raises(KeyboardInterrupt):
        interrupt()


def test_another_thread_leaves_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def look() -> None:
        with chunk_first():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
