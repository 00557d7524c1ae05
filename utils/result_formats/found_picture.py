"""One picture with what was found in it, and what every kind of result file does with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.predictions import DetectionResult


@dataclass(frozen=True, eq=False)
class FoundPicture:
    """A still image, or a frame of a video or stream, with the results of all heads.

    Attributes:
        stem: name of its result files without their suffix; ``STEM_FRAME`` for a frame.
        source: what it comes from in words: the path of a file, the name of a live source.
        image: (H, W, 3) uint8 RGB, without anything drawn on it.
        results: per head, in native pixels.
        file: the file of a still image; None for a frame.
        frame: number of the frame in its video or stream, from 1; None for a still image.
    """

    stem: str
    source: str
    image: np.ndarray
    results: Mapping[str, Any]
    file: Path | None = None
    frame: int | None = None

    @classmethod
    def of_still(cls, target: Path, file: Path, image: np.ndarray, results: Mapping[str, Any]) -> FoundPicture:
        """Return a still image.

        Args:
            target: where its drawing goes, from ``ResultFiles.name_for``.
            file: its own file.
            image: (H, W, 3) uint8 RGB.
            results: per head.
        """
        return cls(target.stem, str(file), image, results, file=file)

    @classmethod
    def of_frame(
        cls, target: Path, source: str, image: np.ndarray, results: Mapping[str, Any], number: int
    ) -> FoundPicture:
        """Return a frame of a video or stream.

        Args:
            target: where the drawn video goes, from ``ResultFiles.name_for`` or ``name_for_stream``.
            source: the video's path, or the name of the live source.
            image: (H, W, 3) uint8 RGB.
            results: per head.
            number: of the frame, from 1.
        """
        return cls(f"{target.stem}_{number}", source, image, results, frame=number)

    @property
    def size(self) -> tuple[int, int]:
        """Native (height, width) in pixels."""
        height, width = self.image.shape[:2]
        return height, width

    @property
    def objects(self) -> dict[str, DetectionResult]:
        """The results of the heads that find objects."""
        return {head: result for head, result in self.results.items() if isinstance(result, DetectionResult)}


class ResultFormat(Protocol):
    """Writes one kind of result file. Pictures come one after the other, from one thread at a time.

    A format whose every file belongs to one picture derives from this class and has ``save`` alone.
    """

    def save(self, picture: FoundPicture) -> None:
        """Write what belongs to one picture."""
        ...

    def finish(self) -> None:
        """Complete what goes over several pictures; nothing is saved afterwards."""

    def discard(self) -> None:
        """Leave nothing half written behind a run that failed."""
