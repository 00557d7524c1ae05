"""How long passes take: each timed by itself, between two moments at which the device has nothing left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LOW, HIGH = 5, 95
"""Percentiles that are given as the spread."""


@dataclass(frozen=True)
class Latency:
    """Times of one kind of pass over all repeats, milliseconds per batch.

    Attributes:
        median_ms: of all passes.
        p5_ms: 5th percentile.
        p95_ms: 95th percentile.
        repeat_medians_ms: of every repeat by itself.
        images_per_second: of the median pass.
    """

    median_ms: float
    p5_ms: float
    p95_ms: float
    repeat_medians_ms: list[float]
    images_per_second: float

    @classmethod
    def of(cls, repeats: Sequence[Sequence[float]], batch_size: int) -> Latency:
        """Return the summary of measured seconds.

        Args:
            repeats: per repeat, the seconds of every pass.
            batch_size: images of a pass.
        """
        milliseconds = [1000 * np.asarray(seconds) for seconds in repeats]
        low, median, high = np.percentile(np.concatenate(milliseconds), (LOW, 50, HIGH))
        medians = [float(np.median(each)) for each in milliseconds]
        return cls(float(median), float(low), float(high), medians, 1000 * batch_size / float(median))


def timed(work: Callable[[], Any], device: torch.device, warmup: int, iterations: int) -> list[float]:
    """Return the seconds of every timed pass.

    Args:
        work: makes a pass.
        device: whose queue has to be empty before a clock is read.
        warmup: passes before.
        iterations: timed passes.
    """
    for _ in range(warmup):
        work()
    seconds = []
    for _ in range(iterations):
        wait_for(device)
        started = time.perf_counter()
        work()
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return seconds


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
