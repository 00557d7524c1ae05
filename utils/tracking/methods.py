"""The methods that follow objects; they come from the package ``trackers``, an optional extra.

Sources: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", 2022; Cao et al.,
"Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from utils.errors import UsageError

BYTETRACK, OCSORT = "bytetrack", "ocsort"
METHODS = (BYTETRACK, OCSORT)

LOW_CONFIDENCE = 0.1
"""ByteTrack looks for an object that it follows among boxes down to this confidence, as in its paper."""

BUFFER = 30
"""How long a lost object is looked for, in frames of a film with 30 a second: one second."""

INSTALL = "pip install -r requirements-track.txt && pip install --no-deps trackers"
"""The second package by itself: its list asks for another OpenCV, whose files would replace those of the first."""


@dataclass(frozen=True)
class Method:
    """How objects are followed.

    Attributes:
        name: one of ``METHODS``.
        confidence: least confidence, 0..1, of an object that is told without being followed, and that a new track
            begins with.
    """

    name: str
    confidence: float

    @property
    def least_confidence(self) -> float:
        """Least confidence, 0..1, of the boxes that it wants to see."""
        return min(self.confidence, LOW_CONFIDENCE) if self.name == BYTETRACK else self.confidence

    def build(self, rate: float) -> Any:
        """Return a tracker of the library without any tracks.

        Args:
            rate: frames per second, above 0.

        Raises:
            UsageError: the package is not installed.
        """
        trackers = import_trackers()
        common = {"lost_track_buffer": BUFFER, "frame_rate": rate, "high_conf_det_threshold": self.confidence}
        if self.name == BYTETRACK:
            return trackers.ByteTrackTracker(track_activation_threshold=self.confidence, **common)
        return trackers.OCSORTTracker(**common)


def import_trackers() -> ModuleType:
    """Return the package.

    Raises:
        UsageError: it, or something that it needs, is not installed; the sentence holds the command.
    """
    try:
        return import_module("trackers")
    except ModuleNotFoundError as error:
        missing = error.name or "trackers"
        raise UsageError(f"--track needs the package {missing}, which is not installed; run: {INSTALL}") from None
