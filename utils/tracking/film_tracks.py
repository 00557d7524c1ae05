"""Which object is which in the frames of one film: a video, or a live source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.predictions import DetectionResult
from utils.optional_packages import import_optional
from utils.tracking.methods import Method

NOBODY = -1
"""The number of an object that is not followed."""

USUAL_RATE = 25.0
_LEAST_SIDE = 1e-3
_ROW = "row"


class FilmTracks:
    """Follows the objects of a film, those of every head by themselves.

    An object has a number from its second frame on (OC-SORT: from its fourth one, unless the film has just begun), and
    keeps it while it is hidden for less than a second. Classes do not matter: an object that is called a car in one
    frame and a truck in the next is still the same one. Numbers begin at 1 and are not used again, by no head.

    Args:
        method: how.
        rate: frames per second that it will see, which is less than the film has where some are left out; 25 is taken
            where nobody knows it.
    """

    def __init__(self, method: Method, rate: float) -> None:
        self.method = method
        self.rate = rate if math.isfinite(rate) and rate > 0 else USUAL_RATE
        self._supervision = import_optional("supervision", "--track")
        self._trackers: dict[str, Any] = {}
        self._last_time: float | None = None
        self._highest: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Objects that have been followed so far, of all heads."""
        return sum(self._highest.values())

    def follow(self, results: Mapping[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Number the objects of the next frame.

        Args:
            results: per head, with the boxes of ``Method.least_confidence`` and more; heads must be the same for all
                frames.
            seconds: when the frame was taken, for films whose frames do not come at their rate; None where they do.

        Returns:
            The results with ``tracks``. Objects at or below the confidence that was asked for are left out unless they
            are followed: ByteTrack finds a hidden object by them. Results without boxes stay as they are.
        """
        time = self._later(seconds)
        objects = {head: result for head, result in results.items() if isinstance(result, DetectionResult)}
        followed = {}
        for position, (head, result) in enumerate(objects.items(), 1):
            own = self._own_numbers(head, result, time)
            # Heads take turns, so that none needs to know how many objects another one has met.
            tracks = torch.from_numpy(np.where(own == NOBODY, NOBODY, own * len(objects) + position))
            told = (result.scores > self.method.confidence) | (tracks != NOBODY)
            followed[head] = replace(result, tracks=tracks).only(told)
        return {**results, **followed}

    def _own_numbers(self, head: str, result: DetectionResult, time: float | None) -> np.ndarray:
        """Return (k,) int64 numbers among the objects of a head, from 0, or ``NOBODY``."""
        if head not in self._trackers:
            self._trackers[head] = self.method.build(self.rate)
        numbers = self._numbers(self._trackers[head], result, time)
        self._highest[head] = max(self._highest.get(head, 0), int(numbers.max(initial=NOBODY)) + 1)
        return numbers

    def _numbers(self, tracker: Any, result: DetectionResult, time: float | None) -> np.ndarray:
        """Return (k,) int64 numbers of the library, from 0, or ``NOBODY``."""
        boxes = result.boxes.double().numpy()
        # A filter of width and height cannot follow a box that has none.
        rows = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2]) > _LEAST_SIDE).all(1))
        detections = self._supervision.Detections(
            xyxy=boxes[rows],
            confidence=result.scores.double().numpy()[rows],
            class_id=result.classes.numpy()[rows],
            data={_ROW: rows},
        )
        followed = tracker.update(detections, timestamp=time)
        numbers = np.full(len(boxes), NOBODY, np.int64)
        # It may leave objects out and change their order.
        if len(followed):
            numbers[followed.data[_ROW]] = followed.tracker_id
        return numbers

    def _later(self, seconds: float | None) -> float | None:
        """Return the time, or, where a clock was set back, that of the frame before and the time of one frame."""
        if seconds is not None and self._last_time is not None and seconds <= self._last_time:
            seconds = self._last_time + 1 / self.rate
        self._last_time = seconds
        return seconds
