"""One run of ``detect.py``: what it works with, what has come of it, and the steps that all kinds of sources share.

Pictures go through the steps side by side and keep their order: read and letterboxed ahead, looked at by one or more
passes, handed to the main thread, which follows and outlines objects, then drawn, then written by one last thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.frame import Frame
from models.predictor import Predictor, group_equal
from models.predictor_pool import PredictorPool
from utils.annotate import Style, annotate
from utils.core_share import CoreShare
from utils.detecting.following import Follower
from utils.detecting.look import Look
from utils.errors import DataError
from utils.masks_from_boxes import BoxMasks, with_masks
from utils.ordered_work import InOrder, Outlet
from utils.plots.window import PictureWindow
from utils.result_files import ResultFiles
from utils.stage_clock import StageClock
from utils.tracking.methods import Method

LOGGER = logging.getLogger("yolograph")
READ, MASKS, DRAW, WRITE = "read", "masks", "draw", "write"
"""Stages besides those of the predictor."""
DRAWERS = 2
READERS = 4


@dataclass
class Run:
    """One run of the command.

    Attributes:
        predictor: pictures to results.
        names: class names per head.
        files: where results go.
        style: how they are drawn.
        inputs: number of images, videos and live sources.
        batch_size: most pictures per pass.
        clock: time per stage.
        share: passes side by side.
        box_masks: outlines the objects, or None.
        tracking: how objects of videos and live sources are followed, or None.
        stride: every how-manieth frame of a video or live source is looked at.
        most_frames: of a video or live source that are looked at, or None for all.
        window: shows drawn pictures, or None.
        started: reading of ``time.perf_counter`` when the first source was begun.
        images: still images done.
        videos: videos done.
        streams: live sources done.
        frames: frames of those videos and live sources.
        failures: names of inputs that could not be read.
        cut_short: names of inputs that ended earlier than they should.
        interrupted: whether the user has ended the run.
    """

    predictor: Predictor
    names: dict[str, list[str]]
    files: ResultFiles
    style: Style
    inputs: int
    batch_size: int
    clock: StageClock
    share: CoreShare = field(default_factory=CoreShare)
    box_masks: BoxMasks | None = None
    tracking: Method | None = None
    stride: int = 1
    most_frames: int | None = None
    window: PictureWindow | None = None
    started: float = field(default_factory=time.perf_counter)
    images: int = 0
    videos: int = 0
    streams: int = 0
    frames: int = 0
    failures: list[str] = field(default_factory=list)
    cut_short: list[str] = field(default_factory=list)
    interrupted: bool = False

    def __post_init__(self) -> None:
        self._predict = PredictorPool(self.predictor, self.share.passes)

    def failed(self, name: str, error: DataError) -> None:
        """Take note of an input that cannot be read; the run goes on if there are others.

        Raises:
            DataError: it was the only input.
        """
        if self.inputs == 1:
            raise error
        self.failures.append(name)
        LOGGER.warning("left out: %s", error)

    @contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """Let Ctrl-C end a block but not the run, so that what is done is completed; ``interrupted`` tells of it."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
            LOGGER.info("interrupted: completing what is done; Ctrl-C once more leaves it")

    def batches(self, frames: Iterable[Frame]) -> Iterator[list[Frame]]:
        """Group consecutive frames that can share a pass."""
        return group_equal(((self.predictor.input_shapes(frame.image), frame) for frame in frames), self.batch_size)

    def follower(self, rate_of: Callable[[Frame], float]) -> Follower | None:
        """Return what numbers the objects of a video or of live sources; None where they are not followed.

        Args:
            rate_of: a frame to the rate of the frames of its source that are looked at, per second.
        """
        return None if self.tracking is None else Follower(self.tracking, rate_of, self.clock)

    @contextmanager
    def looks(self, batches: Iterable[list[Frame]], follower: Follower | None = None) -> Iterator[Iterator[Look]]:
        """Look at batches of frames, which are taken in a thread ahead of the main one.

        Args:
            batches: of consecutive frames.
            follower: numbers their objects; None where nothing is followed.

        Yields:
            The frames in their order, each with what was found.
        """
        ahead = self.share.passes + 1
        with InOrder(self._look, batches, self.share.passes, ahead, self.share.enter_thread) as found:
            told = (look for looks in found for look in looks)
            # Before they are outlined: candidates that nobody follows are gone then.
            yield (self._outlined(look if follower is None else follower(look)) for look in told)

    @contextmanager
    def outlet(
        self,
        write: Callable[[Any, Look, np.ndarray | None], None],
        keep: Callable[[Any, np.ndarray], None] | None = None,
    ) -> Iterator[Outlet]:
        """Draw and write what is put into the outlet, off the main thread and in order.

        Args:
            write: called with the place that came with a look, the look, and its drawing if it was to be drawn.
            keep: called before with the place and the drawing, by several threads at a time.

        Yields:
            Takes (place, look, whether to draw it, its drawing if there is one already).
        """

        def draw(item: tuple[Any, Look, bool, np.ndarray | None]) -> tuple[Any, Look, np.ndarray | None]:
            place, look, wanted, drawing = item
            if wanted and drawing is None:
                drawing = self.drawn(look)
            if wanted and keep is not None:
                with self.clock.time(WRITE):
                    keep(place, drawing)
            return place, look, drawing if wanted else None

        def last(item: tuple[Any, Look, np.ndarray | None]) -> None:
            with self.clock.time(WRITE):
                write(*item)

        with Outlet(draw, last, DRAWERS, ahead=DRAWERS + 2) as outlet:
            yield outlet

    def drawn(self, look: Look) -> np.ndarray:
        """Return a picture with its results drawn on it."""
        with self.clock.time(DRAW):
            return annotate(look.frame.image, look.results, self.names, self.style)

    def shown(self, look: Look) -> np.ndarray | None:
        """Show a picture with its results where somebody watches, and return the drawing; None where nobody does."""
        if self.window is None or not self.window.is_open:
            return None
        drawing = self.drawn(look)
        self.window.show(drawing)
        return drawing

    def _look(self, group: list[Frame]) -> list[Look]:
        started = time.perf_counter()
        found = self._predict([frame.image for frame in group])
        milliseconds = 1000 * (time.perf_counter() - started) / len(group)
        return [Look(frame, results, milliseconds) for frame, results in zip(group, found, strict=True)]

    def _outlined(self, look: Look) -> Look:
        """Return a look with the masks of its objects; in the main thread, because one model outlines all."""
        if self.box_masks is None:
            return look
        started = time.perf_counter()
        with self.clock.time(MASKS):
            results = with_masks(look.frame.image, look.results, self.box_masks)
        return Look(look.frame, results, look.milliseconds + 1000 * (time.perf_counter() - started))


def timed(items: Iterable[Any], clock: StageClock, stage: str) -> Iterator[Any]:
    """Yield the items and count the time that getting them takes for a stage."""
    iterator = iter(items)
    while True:
        with clock.time(stage):
            item = next(iterator, None)
        if item is None:
            return
        yield item
