"""One picture to look at, from a file or from a live source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One picture to look at.

    Attributes:
        path: of the file it comes from; None for a live source.
        image: (H, W, 3) uint8 RGB.
        number: position of the file among the images, of the frame in its video, or of the frame among those that its
            live source has delivered; from 1.
        source: name of the live source; empty for files.
        time: when a live frame arrived, in seconds since 1970; None for files.
    """

    path: Path | None
    image: np.ndarray
    number: int
    source: str = ""
    time: float | None = None

    @property
    def name(self) -> str:
        """Name of the file or of the live source, for messages."""
        return self.path.name if self.path is not None else self.source
