"""A progress bar that moves between chunks, and stays away from files and pipes."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """Policy updates done per second and time left, over all programs of an experiment."""

    def __init__(self, quiet: bool = False, label: str = "") -> None:
        self.quiet = quiet or not sys.stderr.isatty()
        self.label = label
        self._bar: Any = None

    def start(self, total: int) -> None:
        """Announce the work: updates summed over arms and seeds."""
        self._bar = tqdm(
            total=total,
            disable=self.quiet,
            desc=self.label,
            unit=" policy updates",
            unit_scale=True,
            leave=False,
        )

    def advance(self, updates: int) -> None:
        """So many more updates are done, summed over arms and seeds."""
        self._bar.update(updates)

    def finish(self) -> None:
        """The experiment is over, or was given up."""
        if self._bar is not None:
            self._bar.close()
