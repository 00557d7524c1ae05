"""From a head's batched boxes to one result per image: suppression and native pixels."""

from __future__ import annotations

from collections.abc import Sequence

from data.samples import Placement
from models.predictions import DetectionResult, Detections, PostprocessOptions
from utils.boxes import scale_to_native
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
    kept = non_max_suppression(detections, options)
    return [
        DetectionResult(scale_to_native(boxes.cpu(), placement), scores.cpu(), classes.cpu())
        for (boxes, scores, classes), placement in zip(kept, placements, strict=True)
    ]
