"""Multi-scale training: the batches of a step at another size, a pure function of the seed and the step's number."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch.nn.functional as F

from data.samples import Batch
from models.graph import Graph
from utils.errors import UsageError
from utils.image_size import round_up_to_stride

SMALLEST, GREATEST = 0.5, 1.5
"""Range of sizes relative to the nominal one, as in YOLOv5."""


class MultiScale:
    """Resizes batches of heads that find objects; heads that label pixels keep their crops.

    Every step has a size of its own, half to one and a half the nominal one, as in YOLOv5.

    Args:
        img_size: nominal side, pixels.
        stride: sizes are multiples of it, pixels.
        seed: of the run; the size of a step is a pure function of it and the step's number.

    Attributes:
        smallest: size that may come, pixels.
        largest: likewise.
        interval: steps that have the same size.
    """

    interval = 1

    def __init__(self, img_size: int, stride: int, seed: int) -> None:
        self.img_size, self.stride, self.seed = img_size, stride, seed
        self.smallest = max(int(img_size * SMALLEST) // stride, 1) * stride
        self.largest = (int(img_size * GREATEST) + stride - 1) // stride * stride

    def size(self, step: int) -> int:
        """Return the side for step number ``step``, counted from 1, a multiple of the stride."""
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


class IntervalScale(MultiScale):
    """The same with one size for several steps, drawn among the multiples of the stride around the nominal size.

    The first steps, as many as have one size, are at the nominal one, as in YOLOX.

    Args:
        img_size: nominal side, pixels, a multiple of the stride.
        stride: pixels.
        seed: of the run.
        interval: steps of one size, 1 or more.
        below: by how many strides a size may be less than the nominal one; sizes are at least one stride.
        above: by how many it may be more.
    """

    def __init__(self, img_size: int, stride: int, seed: int, interval: int, below: int, above: int) -> None:
        super().__init__(img_size, stride, seed)
        self.interval = interval
        self.smallest = max(img_size - below * stride, stride)
        self.largest = img_size + above * stride

    def size(self, step: int) -> int:
        """Return the side for step number ``step``, counted from 1, a multiple of the stride."""
        turn = (step - 1) // self.interval
        if turn == 0:
            return self.img_size
        units = np.random.default_rng((self.seed, turn)).integers(
            self.smallest // self.stride, self.largest // self.stride + 1
        )
        return int(units) * self.stride


def build_multi_scale(hyp: Mapping[str, Any], options: Namespace, stride: int) -> MultiScale | None:
    """Return how sizes change: by ``--multi-scale``, else as the recipe says; None where they do not.

    Args:
        hyp: ``multi_scale_interval``, ``multi_scale_range``.
        options: ``multi_scale``, ``img_size``, ``seed``.
        stride: of the model, pixels.

    Raises:
        UsageError: the pictures of a batch have sizes of their own already.
    """
    asked = "--multi-scale" if options.multi_scale else "multi_scale_interval" if hyp["multi_scale_interval"] else ""
    if asked and hyp["augment"] == "detr":
        raise UsageError(
            f"{asked}: the recipe says augment: detr, which draws a size for every picture (resize_sides); "
            "leave one of the two out"
        )
    size = round_up_to_stride(options.img_size[0], stride)
    if options.multi_scale:
        return MultiScale(options.img_size[0], stride, options.seed)
    if not hyp["multi_scale_interval"]:
        return None
    below, above = (int(strides) for strides in hyp["multi_scale_range"])
    return IntervalScale(size, stride, options.seed, int(hyp["multi_scale_interval"]), below, above)
