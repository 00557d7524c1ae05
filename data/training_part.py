"""Which of the labels and images of a split are trained on: no crowds, of poses only those that teach a keypoint, and
without the images that the recipe leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data.scan import LabelIndex
from data.task_data import TaskData

TRAINING_PART: Mapping[str, Any] = {"drop_empty": False, "drop_smaller": 0}
"""Recipe keys that leave images out of training, with their defaults; see ``LeftOut``."""


@dataclass(frozen=True)
class LeftOut:
    """Which images a recipe leaves out of training.

    Attributes:
        empty: those without any annotated object (key ``drop_empty``); sets of masks have none of these.
        smaller: those with a side shorter than so many pixels (key ``drop_smaller``).
    """

    empty: bool = False
    smaller: int = 0

    @classmethod
    def of(cls, hyp: Mapping[str, Any]) -> LeftOut:
        """Return what a recipe says; absent keys leave nothing out."""
        return cls(bool(hyp.get("drop_empty", False)), int(hyp.get("drop_smaller", 0)))


NOTHING_LEFT_OUT = LeftOut()


def training_part(data: TaskData, index: LabelIndex, left_out: LeftOut = NOTHING_LEFT_OUT) -> LabelIndex:
    """Return the part of an index that is trained on, without areas and crowd marks; its report counts the rest.

    Crowds are left out, in pose sets also objects without a labelled keypoint. Images without any annotated object are
    left out where the data say so (``TaskData.background``) or the recipe; one whose objects are all left out stays, as
    the published recipes have it.

    Args:
        data: the task.
        index: all labels of the split.
        left_out: what the recipe leaves out.
    """
    kept = np.ones(len(index.boxes), bool) if index.crowd is None else ~index.crowd
    crowds = int((~kept).sum())
    if data.keypoints:
        kept &= (index.keypoints[..., 2] > 0).any(1)
    annotated = np.diff(index.offsets)
    large = index.sizes.min(1, initial=np.iinfo(np.int32).max) >= left_out.smaller
    may_be_empty = data.task == "segment" or (data.background and not left_out.empty)
    images = large & (may_be_empty | (annotated > 0))
    if kept.all() and images.all():
        return replace(index, areas=None, crowd=None)
    owner = np.repeat(np.arange(len(annotated)), annotated)
    without_keypoints = int((~kept).sum()) - crowds
    kept &= images[owner]
    counts = np.bincount(owner[kept], minlength=len(annotated))[images]
    with_labels = counts > 0 if data.task != "segment" else np.ones(len(counts), bool)
    report = replace(
        index.report,
        found=int(with_labels.sum()),
        background=int((~with_labels).sum()),
        untrained_crowds=crowds,
        untrained_objects=without_keypoints,
        untrained_images=int((large & ~images).sum()),
        untrained_small=int((~large).sum()),
    )
    return LabelIndex(
        kept=index.kept[images],
        sizes=index.sizes[images],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        classes=index.classes[kept],
        boxes=index.boxes[kept],
        keypoints=index.keypoints[kept],
        report=report,
    )
