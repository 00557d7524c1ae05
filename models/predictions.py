"""What heads answer: batched predictions (still on the device) and per-image results (native pixels).

Shape suffixes: B images, N candidate boxes, C classes, H rows, W columns, K keypoints, k kept objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from models.views import View

if TYPE_CHECKING:
    from data.keypoints import KeypointSpec


class Predictions(Protocol):
    """What every kind of batched predictions offers, so that several passes or models can answer together."""

    def undo(self, view: View) -> Self:
        """Return what was predicted for a changed input as predictions for the input itself."""
        ...

    def of_view(self, number: int) -> Self:
        """Mark predictions as those of one view, where views shall choose among their own boxes before they meet."""
        ...

    @classmethod
    def combine(cls, parts: Sequence[Self]) -> Self:
        """Join predictions for the same inputs, each from another pass or model."""
        ...

    @classmethod
    def stack(cls, parts: Sequence[Self], places: Sequence[Sequence[int]], size: tuple[int, int]) -> Self:
        """Join predictions for different inputs into those of one batch.

        Args:
            parts: each for inputs of one size.
            places: per part, the positions of its pictures in the batch.
            size: (height, width) of the batch; every picture begins in its upper left corner.
        """
        ...


@dataclass
class Detections:
    """Decoded boxes of a batch before suppression.

    Attributes:
        boxes: (B, N, 4) x1 y1 x2 y2 in pixels of the network input.
        scores: (B, N, C) class probabilities in 0..1, not multiplied by objectness.
        objectness: (B, N) in 0..1, or None for heads without it.
        views: (N,) int64, the view that each candidate comes from, 0, 1 ...; the boxes of a view suppress each other
            before they meet those of other views. None where all boxes meet at once.
        distinct: whether every candidate stands for an object of its own, as where training matches each object with
            one query; then none suppresses another. Several passes or models find the same objects again, so what is
            combined of them is suppressed as usual.
    """

    boxes: Tensor
    scores: Tensor
    objectness: Tensor | None = None
    views: Tensor | None = None
    distinct: bool = False

    def undo(self, view: View) -> Detections:
        """Move the boxes back; like all boxes before suppression they may reach beyond the input."""
        place = view.placement
        x, y = self.boxes[..., 0::2], self.boxes[..., 1::2]
        x, y = (x - place.left) / place.scale_x, (y - place.top) / place.scale_y
        if view.mirrored:
            # What was the right edge is the left one now.
            x = place.width - x.flip(-1)
        boxes = torch.stack((x, y), -1).flatten(-2)
        return Detections(boxes, self.scores, self.objectness, distinct=self.distinct)

    def of_view(self, number: int) -> Self:
        """Mark all candidates as those of one view."""
        return replace(self, views=torch.full((self.boxes.shape[1],), number, device=self.boxes.device))

    @classmethod
    def combine(cls, parts: Sequence[Detections]) -> Detections:
        """Put all candidates side by side; suppression chooses among them.

        Where only some parts tell objectness, it is multiplied into their scores, which gives the same confidences.
        """
        objectness = [part.objectness for part in parts if part.objectness is not None]
        if 0 < len(objectness) < len(parts):
            parts, objectness = [part._with_confidences() for part in parts], []
        views = [part.views for part in parts if part.views is not None]
        return Detections(
            torch.cat([part.boxes for part in parts], 1),
            torch.cat([part.scores for part in parts], 1),
            torch.cat(objectness, 1) if objectness else None,
            torch.cat(views) if len(views) == len(parts) else None,
            distinct=len(parts) == 1 and parts[0].distinct,
        )

    @classmethod
    def stack(cls, parts: Sequence[Self], places: Sequence[Sequence[int]], size: tuple[int, int]) -> Self:
        """Put the pictures' candidates below each other; where some have fewer, those of confidence 0 fill them up."""
        most = max(part.boxes.shape[1] for part in parts)
        names = [name for name, value in named_outputs(parts[0]).items() if value.shape[:2] == parts[0].boxes.shape[:2]]
        joined = {}
        for name in names:
            values = [getattr(part, name) for part in parts]
            total = sum(len(value) for value in values)
            joined[name] = values[0].new_zeros((total, most, *values[0].shape[2:]))
            for value, of_part in zip(values, places, strict=True):
                joined[name][list(of_part), : value.shape[1]] = value
        return replace(parts[0], **joined)

    def _with_confidences(self) -> Detections:
        if self.objectness is None:
            return self
        return Detections(self.boxes, self.scores * self.objectness[..., None], views=self.views)


@dataclass
class Poses(Detections):
    """Decoded boxes of a batch before suppression, each with the keypoints of its object.

    Attributes:
        keypoints: (B, N, K, 3) x y in pixels of the network input, which they may lie outside of, and score 0..1.
        spec: what the K keypoints are; a mirrored view needs their partners.
    """

    keypoints: Tensor = field(kw_only=True)
    spec: KeypointSpec = field(kw_only=True)

    def undo(self, view: View) -> Poses:
        """Move boxes and keypoints back; in a mirrored view, the left wrist was found as the right one."""
        seen, place = Detections.undo(self, view), view.placement
        x, y, score = self.keypoints.unbind(-1)
        x, y = (x - place.left) / place.scale_x, (y - place.top) / place.scale_y
        if view.mirrored:
            x = place.width - x
        keypoints = torch.stack((x, y, score), -1)
        if view.mirrored:
            keypoints = keypoints[:, :, list(self.spec.flip)]
        return Poses(
            seen.boxes, seen.scores, seen.objectness, distinct=seen.distinct, keypoints=keypoints, spec=self.spec
        )

    @classmethod
    def combine(cls, parts: Sequence[Poses]) -> Poses:
        """Put all candidates side by side, as for boxes alone."""
        joined = Detections.combine(parts)
        keypoints = torch.cat([part.keypoints for part in parts], 1)
        return Poses(
            joined.boxes,
            joined.scores,
            joined.objectness,
            joined.views,
            joined.distinct,
            keypoints=keypoints,
            spec=parts[0].spec,
        )


@dataclass
class Masks:
    """Class logits of a batch: (B, C, H, W) at the network input's size."""

    logits: Tensor

    @property
    def num_classes(self) -> int:
        """C."""
        return self.logits.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the logits are."""
        return self.logits.device

    def planes(self, picture: int, first: int, end: int) -> Tensor:
        """Return one picture's (1, classes, H, W) logits of the classes from ``first`` on, without ``end``."""
        return self.logits[picture : picture + 1, first:end]

    def undo(self, view: View) -> Masks:
        """Cut the input's area out, resize it and mirror it back.

        Corners are not aligned here, unlike in a head's own enlargement: the way back is that of the picture.
        """
        place = view.placement
        top, bottom, left, right = view.area
        logits = self.logits[..., top:bottom, left:right]
        logits = F.interpolate(logits, (place.height, place.width), mode="bilinear", align_corners=False)
        return Masks(logits.flip(-1) if view.mirrored else logits)

    def of_view(self, number: int) -> Masks:
        """Return the masks themselves: every view has one vote, whatever its number."""
        return self

    @classmethod
    def combine(cls, parts: Sequence[Masks]) -> Masks:
        """Average the probabilities, and return their logarithms, which are logits again.

        Probabilities and not logits are averaged because models give logits of different size: the mean of logits
        would follow whichever is loudest, while here every part has one vote, at most.
        """
        total = parts[0].logits.softmax(1)
        for part in parts[1:]:
            total += part.logits.softmax(1)
        smallest = torch.finfo(total.dtype).tiny
        return Masks((total / len(parts)).clamp_min_(smallest).log_())

    @classmethod
    def stack(cls, parts: Sequence[Masks], places: Sequence[Sequence[int]], size: tuple[int, int]) -> Masks:
        """Lay every picture's logits into the upper left corner of the batch's size, with 0 beyond them."""
        count, every = sum(len(of_part) for of_part in places), [part.logits for part in parts]
        logits = every[0].new_zeros((count, every[0].shape[1], *size))
        for own, of_part in zip(every, places, strict=True):
            rows, columns = own.shape[-2:]
            logits[list(of_part), :, :rows, :columns] = own
        return Masks(logits)


class CoarseMasks(Masks):
    """Class logits of a batch that are enlarged when they are asked for, as few classes at a time as are wanted.

    A batch of maps of all classes at the network input's size is by far the largest thing that a segmentation head
    could make; what it knows fits into a map that is eight times smaller each way.

    Args:
        coarse: (B, C, h, w) logits.
        size: (H, W) of the network's input; enlarging is bilinear, with aligned corners.
    """

    def __init__(self, coarse: Tensor, size: tuple[int, int]) -> None:
        self.coarse, self.size = coarse, size

    @property
    def logits(self) -> Tensor:
        """(B, C, H, W), made anew each time."""
        return self._enlarged(self.coarse)

    @property
    def num_classes(self) -> int:
        """C."""
        return self.coarse.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the logits are."""
        return self.coarse.device

    def planes(self, picture: int, first: int, end: int) -> Tensor:
        """Return one picture's (1, classes, H, W) logits of the classes from ``first`` on, without ``end``."""
        return self._enlarged(self.coarse[picture : picture + 1, first:end])

    def _enlarged(self, coarse: Tensor) -> Tensor:
        return F.interpolate(coarse, self.size, mode="bilinear", align_corners=True)


class ClassMaps(Masks):
    """Classes of pixels that were chosen already, as class logits: 1 for the chosen class and 0 for all others.

    Logits are made when they are asked for, some classes at a time. Enlarged, they tell the class of the nearest chosen
    ones, weighed by distance.

    Args:
        chosen: (B, H, W) uint8 classes at the network input's size.
        num_classes: C.
    """

    def __init__(self, chosen: Tensor, num_classes: int) -> None:
        self.chosen, self._num_classes = chosen, num_classes

    @property
    def logits(self) -> Tensor:
        """(B, C, H, W) float32, made anew each time."""
        return torch.cat([self.planes(i, 0, self.num_classes) for i in range(len(self.chosen))])

    @property
    def num_classes(self) -> int:
        """C."""
        return self._num_classes

    @property
    def device(self) -> torch.device:
        """Where the classes are."""
        return self.chosen.device

    def planes(self, picture: int, first: int, end: int) -> Tensor:
        """Return one picture's (1, classes, H, W) logits of the classes from ``first`` on, without ``end``."""
        classes = torch.arange(first, min(end, self.num_classes), device=self.device).view(1, -1, 1, 1)
        return (self.chosen[picture : picture + 1, None] == classes).float()


def named_outputs(predictions: Any) -> dict[str, Tensor]:
    """Return the tensors of a head's batched predictions by field name; other fields are left out.

    Args:
        predictions: a dataclass with tensors, such as ``Detections`` or ``Masks``.
    """
    values = {entry.name: getattr(predictions, entry.name) for entry in fields(predictions)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@dataclass
class DetectionResult:
    """Objects found in one image.

    Attributes:
        boxes: (k, 4) float32 x1 y1 x2 y2 in native pixels, inside the image.
        scores: (k,) float32 in 0..1, descending.
        classes: (k,) int64.
        masks: (k, H, W) bool, the pixels of each object at native size, where something has outlined them; else None.
        tracks: (k,) int64, which object of its film each one is: a number from 1 that stays while it is followed, -1
            for an object that is not followed (yet); None where nothing follows objects.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor | None = field(default=None, kw_only=True)
    tracks: Tensor | None = field(default=None, kw_only=True)

    def only(self, kept: Tensor) -> Self:
        """Return the result with some of its objects.

        Args:
            kept: (k,) bool, or int64 indices in the order that is wanted.
        """
        columns = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return replace(self, **{name: value[kept] for name, value in columns.items() if isinstance(value, Tensor)})


@dataclass
class PoseResult(DetectionResult):
    """Objects found in one image with their keypoints.

    Attributes:
        keypoints: (k, K, 3) float32 x y in native pixels, also outside of the image, and score 0..1.
        spec: what the K keypoints are.
    """

    keypoints: Tensor
    spec: KeypointSpec


@dataclass
class MaskResult:
    """Class of every pixel of one image: (h, w) uint8 at native size."""

    class_map: Tensor


@dataclass(frozen=True)
class PostprocessOptions:
    """How predictions become results.

    Attributes:
        conf: least confidence of a kept object, 0..1.
        iou: overlap above which the weaker of two boxes is suppressed, 0..1.
        max_det: most objects kept per image.
        multi_label: a box may answer for several classes (testing) or only for its best (detecting).
        agnostic: suppress across classes.
        classes: keep only these class indices, or None for all.
        oks: similarity of keypoints (OKS) above which the weaker of two poses is suppressed too, 0..1; None looks at
            boxes alone.
        one_class: count every object as class 0, each candidate by its likeliest class, so that all suppress each
            other; ``multi_label`` is nothing then.
    """

    conf: float = 0.25
    iou: float = 0.45
    max_det: int = 300
    multi_label: bool = False
    agnostic: bool = False
    classes: tuple[int, ...] | None = None
    oks: float | None = None
    one_class: bool = False
