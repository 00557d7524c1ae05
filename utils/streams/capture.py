"""Connections to live sources, with limits on the time that reaching them and waiting for a frame may take."""

from __future__ import annotations

import math

import cv2

from utils.opencv_messages import quiet_opencv
from utils.streams.live_source import LiveSource
from utils.video import announced_frames

FALLBACK_RATE = 25.0
_HIGHEST_RATE = 240.0
_OPEN_SECONDS = 10
_FRAME_SECONDS = 10


def open_live(source: LiveSource) -> cv2.VideoCapture:
    """Connect to a webcam or a stream; ``isOpened`` of the answer says whether that went well.

    It takes 10 seconds at most to connect, and a stream counts as lost when no frame comes for 10 seconds.
    """
    with quiet_opencv():
        if source.is_webcam:
            return cv2.VideoCapture(int(source.address))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * _OPEN_SECONDS]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * _FRAME_SECONDS]
        # One thread: decoders with several hold back as many frames, and the machine has other work.
        limits += [cv2.CAP_PROP_N_THREADS, 1]
        return cv2.VideoCapture(source.address, cv2.CAP_FFMPEG, limits)


def rate_of(capture: cv2.VideoCapture | None) -> float:
    """Return the frames per second of a connection; 25 without one, and where the source does not name a likely rate.

    Streams without a rate are often given that of their clock, such as 90000.
    """
    rate = capture.get(cv2.CAP_PROP_FPS) if capture is not None else 0.0
    return rate if math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE else FALLBACK_RATE


def announced_length(source: LiveSource, capture: cv2.VideoCapture) -> int:
    """Return how many frames the recording behind an HTTP address has; 0 where it leads to a live picture."""
    return announced_frames(capture) if source.is_file_server else 0
