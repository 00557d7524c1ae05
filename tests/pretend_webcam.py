"""A webcam for processes that a test starts: OpenCV asks the system for it, and a preloaded library answers instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2

INDEX = "7"
_SOURCE = Path(__file__).with_suffix(".c")


def is_possible() -> bool:
    """Return whether there can be such a webcam: on Linux, with a C compiler and an OpenCV that reads V4L2."""
    has_backend = cv2.CAP_V4L2 in cv2.videoio_registry.getCameraBackends()
    return sys.platform.startswith("linux") and has_backend and shutil.which("cc") is not None


def environment(folder: Path, frames: int | None = None) -> dict[str, str]:
    """Return the environment of a process in which webcam 7 gives frames.

    Args:
        folder: for the library.
        frames: after which the camera is unplugged; None for no end.
    """
    library = folder / "pretend_webcam.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    limits = {} if frames is None else {"WEBCAM_FRAMES": str(frames)}
    return {**os.environ, "LD_PRELOAD": str(library), **limits}
