"""``images.mp4``: all drawn still images of a run, one after the other, as a video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from data.images import image_size
from utils.errors import DataError, UsageError
from utils.result_formats.result_paths import ResultPaths
from utils.video import VideoWriter

_STEM = "images"


class StillsFilm:
    """Appends drawings to a video that has its name when the run is done.

    Args:
        paths: where files go.
        rate: frames per second.
    """

    def __init__(self, paths: ResultPaths, rate: float) -> None:
        self._writer = VideoWriter(paths.folder / f"{paths.take_moving(_STEM)}.mp4", rate)

    def append(self, drawing: np.ndarray) -> None:
        """Append an (H, W, 3) uint8 RGB drawing; all are of one size.

        Raises:
            RunError: the encoder does not take this size, or the size is another than before.
            OSError: the disk is full.
        """
        self._writer.write(drawing)

    def finish(self) -> None:
        """Complete the video; without a drawing there is none."""
        self._writer.__exit__(None, None, None)

    def discard(self) -> None:
        """Remove the video."""
        self._writer.__exit__(RuntimeError, None, None)


def require_equal_sizes(images: Sequence[Path]) -> None:
    """Make sure that still images fit into one video, before anything is drawn; it takes a look at their headers.

    Files that cannot be read are passed over: they are named where the run comes to them.

    Raises:
        UsageError: there is no still image, or two are of different sizes.
    """
    if not images:
        raise UsageError("--save-as-video makes a video of still images, but --source has none; leave it out")
    first: tuple[Path, tuple[int, int]] | None = None
    for path in images:
        with suppress(DataError):
            size = image_size(path)
            first = first or (path, size)
            if size != first[1]:
                raise UsageError(
                    f"--save-as-video: {path} has {_words(size)} pixels, but {first[0]} has {_words(first[1])}; "
                    "a video takes pictures of one size, so choose them by --source or leave the option out"
                )


def _words(size: tuple[int, int]) -> str:
    """Return (height, width) as ``640 x 480``: width first, as pictures are told."""
    return f"{size[1]} x {size[0]}"
