"""Object keypoint similarity (OKS): how near predicted keypoints lie to the labelled ones, measured by object size.

Shape suffixes: B images, G objects, P points, K keypoints.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

OksForm = Literal["diagonal", "area"]
OKS_FORMS: tuple[OksForm, ...] = ("diagonal", "area")
PERSON_SHARE = 0.53
"""Of a person's box, how much is person: the area that COCO's form is given where there is only a box."""
_LEAST = 1e-8


def oks_tolerance(boxes: Tensor, sigmas: Tensor, form: OksForm) -> Tensor:
    """Return by which squared distance each keypoint's similarity falls to 1/e.

    Args:
        boxes: (..., 4) centre x, centre y, width, height in pixels.
        sigmas: (K,) constants of the keypoints.
        form: ``diagonal`` is ``2 sigma^2 (w^2 + h^2)``, as MMYOLO trains YOLOX-Pose; ``area`` is COCO's
            ``2 (2 sigma)^2 area``, with 0.53 w h for the annotated area, which does not outlive augmentation.

    Returns:
        (..., K) square pixels, above 0.
    """
    width, height = boxes[..., 2:3], boxes[..., 3:4]
    squared = sigmas.to(boxes.dtype).square()
    if form == "diagonal":
        tolerance = 2 * squared * (width.square() + height.square())
    else:
        tolerance = 8 * squared * (PERSON_SHARE * width * height)
    return tolerance.clamp(min=_LEAST)


def keypoint_similarity(predicted: Tensor, labelled: Tensor, visible: Tensor, tolerance: Tensor) -> Tensor:
    """Return the mean similarity over the visible keypoints of objects.

    Args:
        predicted: (..., K, 2) pixels.
        labelled: (..., K, 2) pixels.
        visible: (..., K) 1 for keypoints that count, 0 for others.
        tolerance: (..., K) from ``oks_tolerance``.

    Returns:
        (...) in 0..1; 0 where nothing is visible.
    """
    distance = (predicted - labelled).square().sum(-1)
    likeness = (-distance / tolerance).exp() * visible
    return likeness.sum(-1) / visible.sum(-1).clamp(min=_LEAST)


def pairwise_keypoint_similarity(predicted: Tensor, labelled: Tensor, visible: Tensor, tolerance: Tensor) -> Tensor:
    """Return the similarity of every prediction with every object.

    Args:
        predicted: (B, P, K, 2) pixels.
        labelled: (B, G, K, 2) pixels.
        visible: (B, G, K) 1 for keypoints that count, 0 for others.
        tolerance: (B, G, K).

    Returns:
        (B, G, P) in 0..1.
    """
    weight = visible / visible.sum(-1, keepdim=True).clamp(min=_LEAST)
    places_K2B1P = predicted.permute(2, 3, 0, 1).contiguous().unsqueeze(3)
    goals_K2BG1 = labelled.permute(2, 3, 0, 1).unsqueeze(-1)
    weights_KBG1, tolerances_KBG1 = (values.permute(2, 0, 1).unsqueeze(-1) for values in (weight, tolerance.neg()))
    total = predicted.new_zeros(*tolerance.shape[:2], predicted.shape[1])
    # One keypoint after the other, since a tensor of all pairs and keypoints would be K times as large: it outgrows the
    # cache, and the assignment, whose memory is bounded, would have to take the objects in K times as many pieces.
    for place, goal, share, reach in zip(places_K2B1P, goals_K2BG1, weights_KBG1, tolerances_KBG1, strict=True):
        exponent = (place[0] - goal[0]).square_().add_((place[1] - goal[1]).square_()).div_(reach)
        total.addcmul_(exponent.exp_(), share)
    return total
