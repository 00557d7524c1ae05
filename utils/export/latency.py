"""How long a file and its model take for the same input."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

WARM_UP = 3
"""Passes of each before the first timed one."""
MOST_SECONDS = 15.0
"""After so long no further pass begins; a large transformer takes seconds for one."""


@dataclass(frozen=True)
class Latency:
    """Median times of a pass.

    Attributes:
        model_ms: of the model, milliseconds.
        file_ms: of the file.
        passes: of each.
    """

    model_ms: float
    file_ms: float
    passes: int

    @property
    def speedup(self) -> float:
        """How many passes the file makes while the model makes one."""
        return self.model_ms / self.file_ms


def by_turns(
    model: Callable[[], Any], file: Callable[[], Any], passes: int, most_seconds: float = MOST_SECONDS
) -> Latency:
    """Time two kinds of passes by turns, so that whatever else the machine does slows down both.

    Args:
        model: makes a pass of the model, and has finished when it returns.
        file: makes a pass of the file, likewise.
        passes: timed ones of each, 1 or more.
        most_seconds: no further pass begins after that, but at least one of each is timed, behind one that is not.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    for number in range(-WARM_UP, passes):
        is_late = time.perf_counter() - began > most_seconds
        if is_late and number > 0:
            break
        if is_late and -WARM_UP < number < 0:
            continue
        for run, spent in zip((model, file), seconds, strict=True):
            started = time.perf_counter()
            run()
            if number >= 0:
                spent.append(time.perf_counter() - started)
    of_model, of_file = (1000 * float(np.median(spent)) for spent in seconds)
    return Latency(of_model, of_file, len(seconds[0]))
