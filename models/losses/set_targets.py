"""Labels as criteria of heads for sets read them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data.packed_arrays import tensors_to_device
from data.samples import Batch
from models.set_outputs import extents
from utils.boxes import xyxy_to_xywh


@dataclass
class SetTargets:
    """Labelled objects of a batch, padded: B images, M objects.

    Attributes:
        boxes: (B, M, 4) float32, centre x, centre y, width, height as fractions of the picture's valid area.
        classes: (B, M) int64, index of the logit that stands for the object's class.
        valid: (B, M) bool, False where the row is padding.
        normalizers: (4,) float32, number of objects, the sum of the weights of all queries' labels, number of objects
            that can be matched, and of pictures.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor
    normalizers: Tensor

    def to(self, device: torch.device) -> SetTargets:
        """Return the targets on ``device``, in one copy that nobody waits for."""
        return tensors_to_device(self, device)


def set_targets(batch: Batch, queries: int, no_object: float, label_of_class: Tensor | None = None) -> SetTargets:
    """Collect the labels of a batch, wherever it lies.

    Args:
        batch: for training.
        queries: of an image; further objects stay unmatched.
        no_object: weight of the label of queries without an object; all others weigh 1.
        label_of_class: (C,) int64, the logit that stands for each class; None where classes are labels.
    """
    height, width = extents(batch.sizes, batch.images.shape[-2:], batch.boxes.device)
    x, y, w, h = xyxy_to_xywh(batch.boxes.float()).unbind(-1)
    classes = batch.classes if label_of_class is None else label_of_class.to(batch.classes.device)[batch.classes]
    objects = batch.valid.sum(1)
    matched = objects.clamp(max=queries)
    weights = matched + (queries - matched) * no_object
    return SetTargets(
        torch.stack((x / width, y / height, w / width, h / height), -1),
        classes,
        batch.valid,
        torch.stack((*(count.sum().float() for count in (objects, weights, matched, torch.ones_like(objects))),)),
    )
