"""Videos: every frame that is looked at comes out in one new video, and what was found in it in files of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.frame import Frame
from models.predictions import DetectionResult
from utils.annotate import count_words
from utils.detecting.following import Follower
from utils.detecting.look import Look
from utils.detecting.report import plural
from utils.detecting.run import READ, Run, timed
from utils.ordered_work import Outlet
from utils.result_formats.found_picture import FoundPicture
from utils.video import VideoReader, VideoWriter

LOGGER = logging.getLogger("yolograph")


@dataclass
class Film:
    """The result of a video or live source, frame by frame; all numbers are of frames whose files are written.

    Attributes:
        run: that it belongs to.
        source: path of the video, or name of the live source.
        writer: of the drawn frames; its ``path`` names the other result files too.
        size: native (height, width) of all frames, where that matters.
        frames: that are done.
        counts: objects of each class so far, per head.
        milliseconds: of their passes.
        shape: of the network's input, in words.
        follower: of its objects, or None.
        before: the film of the same source that ends where this one begins, or None.
    """

    run: Run
    source: str
    writer: VideoWriter
    size: tuple[int, int] | None = None
    frames: int = 0
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    milliseconds: float = 0.0
    shape: str = ""
    follower: Follower | None = None
    before: Film | None = None

    def add(self, look: Look, outlet: Outlet) -> None:
        """Hand the next frame to the outlet, which draws and writes it."""
        outlet.put((self, look, self.run.files.wanted.pictures, self.run.shown(look)))

    def write(self, look: Look, drawing: np.ndarray | None) -> None:
        """Write the files of one frame and count it; called by the outlet, frame by frame."""
        if self.before is not None:
            # All its frames are written. A source may change its size every minute, and encoders take memory.
            self.before.writer.close()
            self.before = None
        if drawing is not None:
            self.writer.write(drawing)
        frame = look.frame
        self.run.files.save(
            FoundPicture.of_frame(self.writer.path, self.source, frame.image, look.results, frame.number)
        )
        self._count(look)

    def _count(self, look: Look) -> None:
        self.frames += 1
        self.milliseconds += look.milliseconds
        self.shape = self.shape or self.run.predictor.shape_text(look.frame.image)
        for head, result in look.results.items():
            if isinstance(result, DetectionResult):
                # Sums and no lists: a live source may go on for weeks.
                here = np.bincount(result.classes.numpy(), minlength=len(self.run.names[head]))
                self.counts[head] = self.counts.get(head, 0) + here

    def __str__(self) -> str:
        """Words for the report: ``384x640, 250 frames at 25 per second, 12 car, 31.4 ms``."""
        words = [self.shape, f"{plural(self.frames, 'frame')} at {self.writer.rate:.4g} per second"]
        words += [count_words(counts, self.run.names[head]) for head, counts in self.counts.items()]
        words += [] if self.follower is None else [self.follower.words(self.source)]
        return ", ".join([*words, f"{self.milliseconds / max(self.frames, 1):.1f} ms"])


def detect_video(run: Run, path: Path, title: str) -> Film:
    """Run the model over a video: the same number of frames at the same rate, and the wanted files of every frame.

    With a stride the rate is that of the frames that are left, so that the result takes as long as the video.

    Returns:
        What was done; without a frame where the user interrupted it before the first.

    Raises:
        DataError: not one frame can be read.
        OSError: the disk is full, or the folder cannot be written to.
    """
    target = run.files.name_for(path).with_suffix(".mp4")
    with VideoReader(path, run.stride) as video, VideoWriter(target, video.rate / run.stride) as writer:
        follower = run.follower(lambda _: writer.rate)
        film = Film(run, str(path), writer, follower=follower)
        batches = run.batches(_frames(run, video))
        with (
            _bar(run, video, title) as bar,
            run.until_interrupted(),
            run.outlet(Film.write) as outlet,
            run.looks(batches, follower) as looks,
        ):
            for look in looks:
                film.add(look, outlet)
                bar.update()
    if not film.frames:
        return film
    run.videos += 1
    run.frames += film.frames
    LOGGER.info("%s: %s", title, film)
    if video.missing and not run.interrupted and film.frames != run.most_frames:
        run.cut_short.append(path.name)
        LOGGER.warning(
            "%s: announces %d frames, but only %d can be read; the result ends there",
            path,
            video.announced,
            video.frames_read,
        )
    return film


def _frames(run: Run, video: VideoReader) -> Iterator[Frame]:
    """Yield the frames to look at, with their numbers in the video."""
    images = timed(islice(video, run.most_frames), run.clock, READ)
    return (Frame(video.path, image, video.frames_read) for image in images)


def _bar(run: Run, video: VideoReader, title: str) -> tqdm:
    """Return the progress bar of a video; there is none where nobody watches a terminal."""
    total = -(-video.announced // run.stride)
    if run.most_frames is not None:
        total = min(total, run.most_frames) if total else run.most_frames
    return tqdm(total=total or None, desc=title, unit="frame", leave=False, dynamic_ncols=True, disable=None)
