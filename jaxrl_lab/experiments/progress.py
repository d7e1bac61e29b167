"""A progress bar that moves between chunks and stays away from files and pipes, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

SHOWN = ("entropy", "return")
"""Measured variables that stand at the end of the bar, where a run has them."""

_training = 0
_stop_asked = threading.Event()


class Progress:
    """Policy updates and steps per second, time left, current entropy and return.

    Over all programs of an experiment. As a logger it is told what each chunk measured.
    """

    def __init__(self, quiet: bool = False, label: str = "") -> None:
        self.quiet = quiet or not sys.stderr.isatty()
        self.label = label
        self._bar: Any = None
        self._tokens_per_update = 0.0

    def start(self, total: int) -> None:
        """Announce the work: updates summed over arms and seeds."""
        global _training
        _training += 1
        self._bar = tqdm(
            total=total,
            disable=self.quiet,
            desc=self.label,
            unit=" policy updates",
            unit_scale=True,
            leave=False,
        )

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the values of a chunk: of its last update, means over the arms of the program."""
        last = {row["arm"]: row for row in rows}.values()
        shown = {n: [row[n] for row in last if n in row] for n in (*SHOWN, "tokens")}
        means = {name: float(np.mean(values)) for name, values in shown.items() if values}
        done = max((row["update"] for row in last), default=0)
        if "tokens" in means and done:
            self._tokens_per_update = means.pop("tokens") / done
        text = [f"{name} {mean:.3g}" for name, mean in means.items() if name in SHOWN]
        rate = (self._bar.format_dict.get("rate") or 0.0) * self._tokens_per_update
        if rate:
            text.insert(0, f"{tqdm.format_sizeof(rate)} steps/s")
        self._bar.set_postfix_str(", ".join(text), refresh=False)

    def advance(self, updates: int) -> None:
        """So many more updates are done and kept, summed over arms and seeds.

        Raises:
            KeyboardInterrupt: an interrupt came in while the chunk ran (:func:`chunk_first`).
        """
        self._bar.update(updates)
        if _stop_asked.is_set():
            raise KeyboardInterrupt

    def finish(self) -> None:
        """The experiment is over, or was given up."""
        global _training
        if self._bar is not None:
            _training -= 1
            self._bar.close()
            self._bar = None


@contextlib.contextmanager
def chunk_first() -> Iterator[None]:
    """Within, Ctrl-C in a training ends it after the chunk that runs; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, _ask_to_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _stop_asked.clear()


def _ask_to_stop(number: int, frame: Any) -> None:
    if not _training or _stop_asked.is_set():
        raise KeyboardInterrupt
    _stop_asked.set()
    print("\nstopping after this chunk; Ctrl-C again stops at once", file=sys.stderr, flush=True)
