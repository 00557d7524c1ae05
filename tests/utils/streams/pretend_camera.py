"""Connections to a camera that is not there: they give numbered frames, and end when a test says so."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.streams.live_source import LiveSource


class PretendCamera:
    """Opens connections that give so many frames each; frames are numbered through all connections, in red.

    Args:
        connections: number of frames of each connection; None for one that is refused. After them all are refused.
        announced: frames that a connection says it has.
        rate: frames per second that it says it has.
        size: (height, width) of the frames.
    """

    def __init__(
        self,
        connections: Sequence[int | None],
        announced: float = 0.0,
        rate: float = 25.0,
        size: tuple[int, int] = (2, 3),
    ) -> None:
        self.left = list(connections)
        self.announced, self.rate, self.size = announced, rate, size
        self.frames_given = self.opened = self.released = 0

    def __call__(self, source: LiveSource) -> PretendConnection:
        """Open the next connection."""
        self.opened += 1
        return PretendConnection(self, self.left.pop(0) if self.left else None)


class PretendConnection:
    """The part of cv2.VideoCapture that live readers use."""

    def __init__(self, camera: PretendCamera, frames: int | None) -> None:
        self.camera, self.frames = camera, frames

    def isOpened(self) -> bool:
        return self.frames is not None

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: self.camera.rate, cv2.CAP_PROP_FRAME_COUNT: self.camera.announced}[what]

    def grab(self) -> bool:
        if not self.frames:
            return False
        self.frames -= 1
        self.camera.frames_given += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((*self.camera.size, 3), (0, 0, self.camera.frames_given % 256), np.uint8)

    def release(self) -> None:
        self.camera.released += 1
