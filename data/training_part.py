"""Which of the labels of a split are trained on: no crowds, and of poses only those that teach a keypoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data.scan import LabelIndex
from data.task_data import TaskData


def training_part(data: TaskData, index: LabelIndex) -> LabelIndex:
    """Return the part of an index that is trained on, without areas and crowd marks; its report counts the rest.

    Crowds are left out, in pose sets also objects without a labelled keypoint. Images without any annotated object are
    left out where the data say so (``TaskData.background``); one whose objects are all left out stays, as the
    published recipes have it.

    Args:
        data: the task.
        index: all labels of the split.
    """
    kept = np.ones(len(index.boxes), bool) if index.crowd is None else ~index.crowd
    crowds = int((~kept).sum())
    if data.keypoints:
        kept &= (index.keypoints[..., 2] > 0).any(1)
    annotated = np.diff(index.offsets)
    images = np.ones(len(annotated), bool) if data.background else annotated > 0
    if kept.all() and images.all():
        return replace(index, areas=None, crowd=None)
    # An image that is left out has no object: the objects of those that stay are all the objects.
    owner = np.repeat(np.arange(len(annotated)), annotated)
    counts = np.bincount(owner[kept], minlength=len(annotated))[images]
    report = replace(
        index.report,
        found=int((counts > 0).sum()),
        background=int((counts == 0).sum()),
        untrained_crowds=crowds,
        untrained_objects=int((~kept).sum()) - crowds,
        untrained_images=int((~images).sum()),
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
