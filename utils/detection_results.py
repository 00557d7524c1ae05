"""From a head's batched boxes to one result per image: suppression and native pixels."""

from __future__ import annotations

from collections.abc import Sequence

from data.samples import Placement
from models.predictions import DetectionResult, Detections, PostprocessOptions
from utils.boxes import scale_to_native
from utils.flat_tensors import to_host
from utils.nms import non_max_suppression


def detection_results(
    detections: Detections, options: PostprocessOptions, placements: Sequence[Placement]
) -> list[DetectionResult]:
    """Suppress overlapping boxes and map the rest to native pixels.

    Args:
        detections: decoded candidates of a batch, on any device.
        options: thresholds and limits.
        placements: where each picture lies in the network's input.

    Returns:
        One result per image, on the CPU.
    """
    kept = to_host([column for of_image in non_max_suppression(detections, options) for column in of_image])
    return [
        DetectionResult(scale_to_native(boxes, placement), scores, classes)
        for boxes, scores, classes, placement in zip(kept[::3], kept[1::3], kept[2::3], placements, strict=True)
    ]
