"""What ``detect.py`` says at the end: what was done, how long it took, and what could not be read."""

from __future__ import annotations

import logging
import time

from utils.detecting.run import Run
from utils.errors import DataError

LOGGER = logging.getLogger("yolograph")


def report(run: Run, source: str) -> None:
    """Say what has come of a run.

    Raises:
        DataError: there is no result at all, and not because the user has ended the run.
    """
    if run.images + run.videos + run.streams == 0:
        if run.interrupted:
            return
        raise DataError(f"{source}: not one of the {run.inputs} inputs can be read; mend the files named above")
    pictures = run.images + run.frames
    seconds = time.perf_counter() - run.started
    passes = f", {run.share.passes} passes side by side" if run.share.passes > 1 else ""
    LOGGER.info("\n%.1f pictures per second; the stages overlap%s", pictures / seconds, passes)
    LOGGER.info("mean of %s: %s", plural(pictures, "picture"), run.clock.per_image(pictures))
    LOGGER.info("%s done", " and ".join(_done(run)))
    if run.files.wanted.anything:
        LOGGER.info("results in %s", run.files.folder)
    for names, what in ((run.cut_short, "end early"), (run.failures, "failed")):
        if names:
            LOGGER.warning("%d of %d inputs %s: %s", len(names), run.inputs, what, ", ".join(names))


def _done(run: Run) -> list[str]:
    """Return what was done in words: ``3 images``, ``1 video of 75 frames``."""
    parts = [plural(run.images, "image")] if run.images else []
    kinds = [plural(count, noun) for count, noun in ((run.videos, "video"), (run.streams, "stream")) if count]
    return [*parts, f"{' and '.join(kinds)} of {plural(run.frames, 'frame')}"] if kinds else parts


def plural(count: int, noun: str) -> str:
    """Return ``1 image``, ``2 images``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
