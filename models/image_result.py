"""What a model found in one picture.

Shape suffixes: k objects, H rows, W columns of the native picture. All tensors are on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.predictions import DetectionResult, MaskResult, PoseResult
from utils.annotate import Style, annotate, describe
from utils.errors import UsageError, did_you_mean

Kind = TypeVar("Kind", DetectionResult, MaskResult, PoseResult)

PLAIN_STYLE = Style()


@dataclass(frozen=True, eq=False, repr=False)
class ImageResult:
    """What the heads of a model found in one picture.

    Attributes:
        image: (H, W, 3) uint8 RGB, the picture itself.
        name: of its file, or ``image0.jpg`` ... for pictures without one.
        path: of its file, or None.
        heads: per head a ``DetectionResult``, a ``PoseResult`` (which is one with keypoints) or a ``MaskResult``.
        class_names: per head.
        speed: milliseconds by stage; a picture has an equal share of the time of its batch.
        input_shape: of the network's input, as ``640x480`` (height x width).
    """

    image: np.ndarray
    name: str
    path: Path | None
    heads: Mapping[str, Any]
    class_names: Mapping[str, Sequence[str]]
    speed: Mapping[str, float]
    input_shape: str

    def __str__(self) -> str:
        words = describe(self.heads, self.class_names)
        return f"{self.name}: {self.input_shape}, {words}, {sum(self.speed.values()):.1f} ms"

    __repr__ = __str__

    @property
    def boxes(self) -> Tensor | None:
        """(k, 6) float32 x1 y1 x2 y2 confidence class, most certain first; None if the model has no head for boxes.

        Raises:
            UsageError: there are several such heads; ``only`` chooses one.
        """
        found = self._of_kind(DetectionResult)
        if found is None:
            return None
        result = found[1]
        return torch.cat((result.boxes, confidence_columns(result)), 1)

    @property
    def keypoints(self) -> Tensor | None:
        """(k, K, 3) float32 x, y and score of the keypoints of each of ``boxes``; None if no head gives keypoints.

        A keypoint may lie outside of the picture. ``heads[NAME].spec`` says what they are.

        Raises:
            UsageError: there are several heads for poses; ``only`` chooses one.
        """
        found = self._of_kind(PoseResult)
        return None if found is None else found[1].keypoints

    @property
    def masks(self) -> Tensor | None:
        """(H, W) uint8 class of every pixel; None if the model has no head for areas.

        Raises:
            UsageError: there are several such heads; ``only`` chooses one.
        """
        found = self._of_kind(MaskResult)
        return None if found is None else found[1].class_map

    @property
    def names(self) -> Sequence[str]:
        """Class names of the head for boxes or, if there is none, for areas.

        Raises:
            UsageError: there are several such heads; ``only`` chooses one.
        """
        found = self._of_kind(DetectionResult) or self._of_kind(MaskResult)
        return [] if found is None else self.class_names[found[0]]

    def only(self, *heads: str) -> ImageResult:
        """Return the results of some heads alone.

        Raises:
            UsageError: there is no such head.
        """
        for head in heads:
            if head not in self.heads:
                raise UsageError(
                    f"only('{head}'): the model has no such head, only {', '.join(self.heads)}."
                    f"{did_you_mean(head, self.heads)}"
                )
        return replace(self, heads={head: self.heads[head] for head in self.heads if head in heads})

    def render(self, style: Style = PLAIN_STYLE) -> np.ndarray:
        """Return a copy of the picture, (H, W, 3) uint8 RGB, with everything found drawn on it."""
        return annotate(self.image, self.heads, self.class_names, style)

    def objects(self, purpose: str) -> tuple[DetectionResult, Sequence[str]]:
        """Return the objects of the one head for boxes, and its class names.

        Args:
            purpose: what needs them, the beginning of the message.

        Raises:
            UsageError: there is no such head, or there are several.
        """
        found = self._of_kind(DetectionResult)
        if found is None:
            raise UsageError(f"{purpose} needs a head for boxes, but there is only {', '.join(self.heads)}")
        return found[1], self.class_names[found[0]]

    def _of_kind(self, kind: type[Kind]) -> tuple[str, Kind] | None:
        found = [(head, result) for head, result in self.heads.items() if isinstance(result, kind)]
        if len(found) > 1:
            several = ", ".join(head for head, _ in found)
            raise UsageError(f"the model has several heads of this kind ({several}); choose one: only('{found[0][0]}')")
        return found[0] if found else None


def confidence_columns(objects: DetectionResult) -> Tensor:
    """Return (k, 2) confidence and class."""
    return torch.stack((objects.scores, objects.classes.to(objects.scores.dtype)), 1)
