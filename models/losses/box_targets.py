"""Labelled boxes of a batch, as losses want them whose positive points are found only after the forward pass.

Shape suffixes: B images, M padded objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data.packed_arrays import tensors_to_device
from data.samples import Batch


@dataclass
class BoxTargets:
    """Labelled objects of a batch, padded.

    Attributes:
        boxes: (B, M, 4) float32, x1 y1 x2 y2 in pixels of the network input.
        classes: (B, M) int64.
        valid: (B, M) bool, False where the row is padding.
        normalizers: (1,) float32, number of images.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor
    normalizers: Tensor

    def to(self, device: torch.device) -> BoxTargets:
        """Return the targets on ``device``, in one copy that nobody waits for."""
        return tensors_to_device(self, device)


def box_targets(batch: Batch) -> BoxTargets:
    """Collect the labels of a batch, wherever it lies; the number of images is on the CPU always."""
    return BoxTargets(batch.boxes.float(), batch.classes, batch.valid, torch.tensor([float(len(batch))]))
