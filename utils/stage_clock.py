"""How long the stages of a job take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class StageClock:
    """Adds up the time spent per stage, by any number of threads.

    Args:
        stages: names in the order in which they are shown.

    Attributes:
        seconds: spent so far, by stage; where several threads were at a stage, the sum of their times.
    """

    def __init__(self, stages: Iterable[str]) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count a block's time for a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            with self._lock:
                self.seconds[stage] += spent

    def per_image(self, images: int) -> str:
        """Return ``read 1.0 ms, inference 5.2 ms ...`` for a number of images."""
        return ", ".join(f"{stage} {1000 * spent / max(images, 1):.1f} ms" for stage, spent in self.seconds.items())
