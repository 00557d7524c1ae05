"""Video files: frames out of them, and frames into a file that has its name only when it is whole."""

from __future__ import annotations

import errno
import math
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from utils.errors import DataError, RunError
from utils.opencv_messages import quiet_opencv

VIDEO_SUFFIXES = frozenset(
    {".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
FALLBACK_RATE = 30.0
_LEAST_FREE_BYTES = 2**20


class VideoReader:
    """The frames of a video file, in order.

    Args:
        path: of the file.
        stride: every how-manieth frame is yielded, beginning with the first; the others are not converted.

    Attributes:
        path: as given.
        rate: frames per second; 30 where the file does not say.
        announced: how many frames the file says it has; 0 where it does not say.
        frames_read: how many have been read so far, with those that a stride leaves out.

    Raises:
        DataError: the file is missing, empty, or no video that can be decoded.
    """

    def __init__(self, path: str | Path, stride: int = 1) -> None:
        self.path, self.stride = Path(path), stride
        if not self.path.is_file():
            raise DataError(f"{path}: no such video; restore the file or take it out of the list")
        if self.path.stat().st_size == 0:
            raise DataError(f"{path}: the video has zero bytes; restore the file or remove it")
        # Whoever reads may be at it in another thread when the block ends; a decoder does not survive that.
        self._at_work = threading.Lock()
        self._capture = _open_capture(self.path)
        if not self._capture.isOpened():
            raise DataError(f"{path}: the video is corrupt, cut off or of an unknown kind; restore or remove the file")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and rate > 0 else FALLBACK_RATE
        self.announced = announced_frames(self._capture)
        self.frames_read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 RGB frames, upright, up to the first that cannot be read.

        Raises:
            DataError: there is not a single readable frame.
        """
        while True:
            left_out = self.frames_read % self.stride != 0
            with self._at_work:
                found = self._capture.grab()
                if found and not left_out:
                    found, frame = self._capture.retrieve()
            if not found:
                break
            self.frames_read += 1
            if not left_out:
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if self.frames_read == 0:
            raise DataError(f"{self.path}: not one frame of the video can be read; restore the file or remove it")

    @property
    def missing(self) -> int:
        """Frames that the file announces and that could not be read; meaningful after the last frame."""
        return max(self.announced - self.frames_read, 0)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        with self._at_work:
            self._capture.release()


class VideoWriter:
    """Writes an MPEG-4 video under a temporary name, which becomes the final one when the block ends well.

    If the block fails, or the process is killed, nothing stands under the final name, unless ``close`` has completed
    the video before. The first frame decides the size. The codec stores even sizes only, so the last row or column of
    an odd-sized frame is lost.

    Args:
        path: final name, ending in ``.mp4``; its folder must exist.
        rate: frames per second.

    Attributes:
        path: as given.
        frames_written: so far.
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path, self.rate = Path(path), rate
        self.frames_written = 0
        self._size: tuple[int, int] | None = None
        self._writer: cv2.VideoWriter | None = None
        # The container follows from the suffix, so that must stay at the end.
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp.mp4")

    def write(self, frame: np.ndarray) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8 RGB, all of one size.

        Raises:
            RunError: the encoder does not take this size.
            OSError: the disk is full.
        """
        size = frame.shape[0], frame.shape[1]
        if self._writer is None:
            self._size, self._writer = size, self._open(size)
        if size != self._size:
            raise RunError(f"{self.path}: a frame of {size[0]}x{size[1]} does not fit into a video of {self._size}")
        if self._disk_is_full():
            raise self._no_space()
        with quiet_opencv():
            self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.frames_written += 1

    def close(self) -> None:
        """Complete the video before the block ends; no frame comes after that.

        Raises:
            RunError: not all frames have reached the file.
            OSError: the disk is full.
        """
        if self._writer is None or not self.frames_written:
            return
        self._release()
        self._check_stored()
        with open(self._temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self._temporary, self.path)

    def _release(self) -> None:
        """Let the encoder write what it still holds."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with quiet_opencv():
                writer.release()

    def _open(self, size: tuple[int, int]) -> cv2.VideoWriter:
        # Made by ourselves first, because the encoder would not say why it cannot write here.
        self._temporary.touch()
        codec = cv2.VideoWriter_fourcc(*"mp4v")
        name, shape = str(self._temporary.absolute()), (size[1], size[0])
        with quiet_opencv():
            writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, codec, _storable(self.rate), shape)
        if not writer.isOpened():
            raise self._failure(
                f"frames of {size[0]}x{size[1]} at {self.rate:g} per second cannot be encoded as mp4 video"
            )
        return writer

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._release()
            self._temporary.unlink(missing_ok=True)

    def _check_stored(self) -> None:
        """Count the frames in the file: the encoder reports no error of its own, not even a full disk."""
        capture = _open_capture(self._temporary)
        stored = announced_frames(capture)
        capture.release()
        if stored == self.frames_written:
            return
        raise self._failure(
            f"only {stored} of {self.frames_written} frames reached the file; see whether a quota is full, or choose "
            "another --project"
        )

    def _failure(self, message: str) -> Exception:
        """Return the error to raise: a full disk where it is one, whatever the encoder stumbled over."""
        return self._no_space() if self._disk_is_full() else RunError(f"{self.path}: {message}")

    def _disk_is_full(self) -> bool:
        return shutil.disk_usage(self.path.parent).free < _LEAST_FREE_BYTES

    def _no_space(self) -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))


def _open_capture(path: Path) -> cv2.VideoCapture:
    # Absolute, because "name:rest" would be a protocol; FFmpeg alone, because others read "%03d" as a pattern.
    with quiet_opencv():
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)


def announced_frames(capture: cv2.VideoCapture) -> int:
    """Return how many frames a video says it has; 0 where it does not say."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and count > 0 else 0


def _storable(rate: float) -> float:
    """Return the rate as MPEG-4 can hold it: as a fraction whose numerator stays below 65536."""
    digits = next((digits for digits in (3, 2, 1) if rate * 10**digits < 65536), 0)
    return max(round(rate, digits), 0.001)
