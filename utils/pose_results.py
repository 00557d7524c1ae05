"""From a head's batched poses to one result per image: suppression, keypoints that follow, native pixels."""

from __future__ import annotations

from collections.abc import Sequence

from data.samples import Placement
from models.predictions import PoseResult, Poses, PostprocessOptions
from utils.boxes import points_to_native, scale_to_native
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
    results = []
    for kept, candidates, placement in zip(kept_candidates(poses, options), poses.keypoints, placements, strict=True):
        keypoints = candidates[kept.rows].float()
        if options.oks is not None:
            stay = suppress_equal_poses(keypoints, kept.classes, poses.spec, options.oks)
            kept, keypoints = Kept(*(column[stay] for column in kept)), keypoints[stay]
        results.append(
            PoseResult(
                boxes=scale_to_native(kept.boxes.cpu(), placement),
                scores=kept.scores.cpu(),
                classes=kept.classes.cpu(),
                keypoints=points_to_native(keypoints.cpu(), placement),
                spec=poses.spec,
            )
        )
    return results
