"""Suppression among poses of one image: of two that say the same keypoints, the weaker one goes."""

from __future__ import annotations

import torch
from torch import Tensor

from data.keypoints import KeypointSpec


def suppress_equal_poses(keypoints: Tensor, classes: Tensor, spec: KeypointSpec, threshold: float) -> Tensor:
    """Return which poses stay when each suppresses the weaker ones of its class that are too similar to it.

    The similarity is COCO's object keypoint similarity over all K keypoints, whatever their scores. Its area is the
    mean of the two poses', each that of the rectangle around its keypoints (as mmpose's evaluator does it, at 0.9).

    Args:
        keypoints: (k, K, 2 or more) x y ... in any unit of length, the most confident pose first.
        classes: (k,) class indices.
        spec: what the K keypoints are.
        threshold: similarity, 0..1, above which the weaker pose goes.

    Returns:
        (k',) int64 indices of the poses that stay, ascending, on the device of the keypoints.
    """
    points = keypoints[..., :2].float()
    same = classes[:, None] == classes
    too_similar = (_similarities(points, spec) > threshold) & same
    # Who suppresses whom depends on who is still there, strongest first; most images have no such pair at all.
    pairs = too_similar.triu(1).nonzero().cpu().tolist()
    gone: set[int] = set()
    for stronger, weaker in pairs:
        if stronger not in gone:
            gone.add(weaker)
    stay = torch.ones(len(keypoints), dtype=torch.bool, device=keypoints.device)
    stay[sorted(gone)] = False
    return stay.nonzero()[:, 0]


def _similarities(points: Tensor, spec: KeypointSpec) -> Tensor:
    """Return (k, k) similarities of (k, K, 2) poses."""
    areas = (points.amax(1) - points.amin(1)).prod(-1) if len(points) else points.new_zeros(0)
    between = ((areas[:, None] + areas) / 2).clamp_min(torch.finfo(points.dtype).eps)
    total = points.new_zeros(len(points), len(points))
    # By keypoint: K small matrices need far less memory at once than one of (k, k, K).
    for index, sigma in enumerate(spec.sigmas):
        place = points[:, index]
        squared = (place[:, None] - place).square().sum(-1)
        total += (-squared / (2 * (2 * sigma) ** 2 * between)).exp()
    return total / len(spec)
