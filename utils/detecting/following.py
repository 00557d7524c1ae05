"""``--track``: the objects of videos and live sources get numbers that they keep from frame to frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from data.frame import Frame
from utils.detecting.look import Look
from utils.stage_clock import StageClock
from utils.tracking.film_tracks import FilmTracks
from utils.tracking.methods import Method

TRACK = "track"


class Follower:
    """Follows the objects of a video, or of several live sources, each by itself.

    Args:
        method: how.
        rate_of: a frame to the rate of the frames of its source that are looked at, per second.
        clock: gets the time of the stage ``track``.
    """

    def __init__(self, method: Method, rate_of: Callable[[Frame], float], clock: StageClock) -> None:
        self._method, self._rate_of, self._clock = method, rate_of, clock
        self._films: dict[str, FilmTracks] = {}

    def __call__(self, look: Look) -> Look:
        """Return a look with the numbers of its objects; those of a source come in their order."""
        started = time.perf_counter()
        frame = look.frame
        with self._clock.time(TRACK):
            source = frame.source or str(frame.path)
            if source not in self._films:
                self._films[source] = FilmTracks(self._method, self._rate_of(frame))
            results = self._films[source].follow(look.results, frame.time)
        spent = 1000 * (time.perf_counter() - started)
        return replace(look, results=results, milliseconds=look.milliseconds + spent)

    def words(self, source: str) -> str:
        """Return how many objects of a source were followed: ``12 followed``.

        Args:
            source: name of the live source, or path of the video.
        """
        return f"{self._films[source].count if source in self._films else 0} followed"
