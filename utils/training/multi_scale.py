"""Multi-scale training: the batches of a step at another size, drawn anew for every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch.nn.functional as F

from data.samples import Batch
from models.graph import Graph

SMALLEST, GREATEST = 0.5, 1.5
"""Range of sizes relative to the nominal one, as in YOLOv5."""


class MultiScale:
    """Resizes batches of heads that find objects; heads that label pixels keep their crops.

    Args:
        img_size: nominal side, pixels.
        stride: sizes are multiples of it, pixels.
        seed: of the run; the size of a step is a pure function of it and the step's number.
    """

    def __init__(self, img_size: int, stride: int, seed: int) -> None:
        self.img_size, self.stride, self.seed = img_size, stride, seed

    def size(self, step: int) -> int:
        """Return the side for step number ``step``, a multiple of the stride."""
        low, high = int(self.img_size * SMALLEST), int(self.img_size * GREATEST) + self.stride
        drawn = int(np.random.default_rng((self.seed, step)).integers(low, high))
        return max(drawn // self.stride, 1) * self.stride

    def resize(self, graph: Graph, batch: Batch, step: int) -> Batch:
        """Return the batch at the step's size: images preprocessed and resized linearly, labels moved along.

        Args:
            graph: whose preprocessing the images go through first.
            batch: images on the model's device.
            step: number of the step.
        """
        height, width = batch.images.shape[-2:]
        scale = self.size(step) / max(height, width)
        # Each side is rounded up for itself, so the two scales differ a little.
        size = tuple(-(-round(side * scale) // self.stride) * self.stride for side in (height, width))
        if size == (height, width) or not len(batch):
            return batch
        images = F.interpolate(graph.preprocess(batch.images), size, mode="bilinear", align_corners=False)
        scales = batch.boxes.new_tensor([size[1] / width, size[0] / height])
        keypoints = batch.keypoints
        if keypoints is not None:
            keypoints = keypoints * scales.new_tensor([*scales, 1.0])
        return replace(batch, images=images, boxes=batch.boxes * scales.repeat(2), keypoints=keypoints)
