"""A picture with what one look at it has found, on its way through the steps of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data.frame import Frame


@dataclass(frozen=True, eq=False)
class Look:
    """A picture that was looked at.

    Attributes:
        frame: the picture.
        results: per head.
        milliseconds: that its pass took, shared among the pictures of a batch.
    """

    frame: Frame
    results: dict[str, Any]
    milliseconds: float
