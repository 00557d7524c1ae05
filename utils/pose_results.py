"""From a head's batched poses to one result per image: suppression, keypoints that follow, native pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from data.samples import Placement
from models.predictions import PoseResult, Poses, PostprocessOptions
from utils.boxes import points_to_native, scale_to_native
from utils.flat_tensors import to_host
from utils.nms import Kept, kept_candidates
from utils.oks_suppression import suppress_equal_poses


def pose_results(poses: Poses, options: PostprocessOptions, placements: Sequence[Placement]) -> list[PoseResult]:
    """Suppress overlapping boxes and map the rest with their keypoints to native pixels.

    Boxes are clipped to the picture. Keypoints are not: a limb may reach beyond the picture, and clipping would claim
    that it ends at the edge.

    Args:
        poses: decoded candidates of a batch, on any device.
        options: thresholds and limits; with ``oks``, poses that are nearly the same suppress each other too.
        placements: where each picture lies in the network's input.

    Returns:
        One result per image, on the CPU.
    """
    columns: list[Tensor] = []
    for kept, candidates in zip(kept_candidates(poses, options), poses.keypoints, strict=True):
        keypoints = candidates[kept.rows].float()
        if options.oks is not None:
            stay = suppress_equal_poses(keypoints, kept.classes, poses.spec, options.oks)
            kept, keypoints = Kept(*(column[stay] for column in kept)), keypoints[stay]
        columns += [kept.boxes, kept.scores, kept.classes, keypoints]
    columns = to_host(columns)
    return [
        PoseResult(
            boxes=scale_to_native(boxes, placement),
            scores=scores,
            classes=classes,
            keypoints=points_to_native(keypoints, placement),
            spec=poses.spec,
        )
        for boxes, scores, classes, keypoints, placement in zip(
            *(columns[i::4] for i in range(4)), placements, strict=True
        )
    ]
