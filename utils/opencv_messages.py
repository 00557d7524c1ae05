"""Keeps the messages of OpenCV and its decoders away from the user, who gets one sentence of ours instead."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The decoder reads this when the first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2

_lock = threading.Lock()
_blocks = 0
_level_before = 0


def _begin_anew() -> None:
    """Forget the blocks of threads that a forked process does not have; one of them may have held the lock."""
    global _lock, _blocks
    _lock = threading.Lock()
    if _blocks:
        _blocks = 0
        cv2.utils.logging.setLogLevel(_level_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's own messages within a block; blocks of several threads may overlap."""
    global _blocks, _level_before
    with _lock:
        if _blocks == 0:
            _level_before = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            # A block that was open while the process forked no longer counts there.
            _blocks = max(_blocks - 1, 0)
            if _blocks == 0:
                cv2.utils.logging.setLogLevel(_level_before)
