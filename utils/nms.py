"""Non-maximum suppression of a whole batch: candidates chosen and suppressed at once for all images and classes.

Shape suffixes: B images, N candidate boxes, C classes, M labels (padded), K candidates of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.predictions import Detections, PostprocessOptions
from utils.group_suppression import best_of_groups, most_confident

MAX_CANDIDATES = 30_000
"""Most (box, class) pairs of one image, or of one view of it, that suppression looks at; the most confident stay."""


class Kept(NamedTuple):
    """The candidates of one image that suppression keeps, the most confident first.

    Attributes:
        boxes: (k, 4) float32 x1 y1 x2 y2 in network pixels.
        scores: (k,) float32, objectness times class probability.
        classes: (k,) int64.
        rows: (k,) int64, which of the image's N candidates each was; one that answers for several classes occurs often.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    rows: Tensor


def non_max_suppression(detections: Detections, options: PostprocessOptions) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Keep the confident boxes of each image that no stronger box of their class covers.

    A box's confidence in a class is objectness times class probability. Objectness alone must exceed ``options.conf``
    too. There is no time limit, and nothing is changed in place; half precision inputs are raised to float32 first.
    Where candidates come from several views (``Detections.views``), each view chooses among its own first, at most
    ``options.max_det`` per image, and what all of them leave is suppressed together. Where each candidate stands for an
    object of its own (``Detections.distinct``), nothing is suppressed, and the most confident ones stay.

    Args:
        detections: decoded boxes of a batch, on any device.
        options: thresholds and limits.

    Returns:
        Per image (boxes (k, 4) float32 in network pixels, scores (k,) float32 descending, classes (k,) int64).
    """
    return [(kept.boxes, kept.scores, kept.classes) for kept in kept_candidates(detections, options)]


def kept_candidates(detections: Detections, options: PostprocessOptions) -> list[Kept]:
    """Do what ``non_max_suppression`` does, and also say which candidates were kept.

    What a candidate has besides its box, such as keypoints, follows by ``Kept.rows``.

    Args:
        detections: decoded boxes of a batch, on any device.
        options: thresholds and limits.
    """
    image_K, *candidates = _candidates(detections, options)
    if detections.distinct:
        stay = most_confident(candidates[1], image_K, options.max_det)
    else:
        if detections.views is not None:
            views = detections.views[candidates[3]]
            stay = _suppress(image_K * (detections.views.max() + 1) + views, candidates, options)
            image_K, candidates = image_K[stay], [values[stay] for values in candidates]
        stay = _suppress(image_K, candidates, options)
    counts = torch.bincount(image_K[stay], minlength=detections.boxes.shape[0]).tolist()
    per_image = zip(*(values[stay].split(counts) for values in candidates), strict=True)
    return [Kept(*of_image) for of_image in per_image]


def _candidates(detections: Detections, options: PostprocessOptions) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return image, box, confidence, class and row of every pair above the threshold, by image, row and class."""
    # Most boxes fail this first test, so only the rest is raised to float32 and multiplied.
    gate_BN = detections.scores.amax(-1) if detections.objectness is None else detections.objectness
    image, row = torch.nonzero(gate_BN > options.conf, as_tuple=True)
    scores = detections.scores[image, row].float()
    if detections.objectness is not None:
        scores = scores * detections.objectness[image, row].float()[:, None]
    if options.multi_label and not options.one_class:
        pick, classes = torch.nonzero(scores > options.conf, as_tuple=True)
        confidence = scores[pick, classes]
    else:
        best, best_class = scores.max(-1)
        pick = torch.nonzero(best > options.conf)[:, 0]
        confidence, classes = best[pick], best_class[pick]
    image, row = image[pick], row[pick]
    boxes = detections.boxes[image, row].float()
    # An overflow in half precision must not turn the class offsets of the whole image into NaN.
    keep = boxes.isfinite().all(-1)
    if options.classes is not None:
        keep &= torch.isin(classes, torch.tensor(options.classes, dtype=classes.dtype, device=classes.device))
    if options.one_class:
        classes = torch.zeros_like(classes)
    return image[keep], boxes[keep], confidence[keep], classes[keep], row[keep]


def _suppress(groups: Tensor, candidates: Sequence[Tensor], options: PostprocessOptions) -> Tensor:
    """Return the indices of what stays when the candidates of each group suppress each other, the most confident first.

    Args:
        groups: (K,) int64, ascending by image.
        candidates: boxes, scores and classes of all K.
        options: overlap, limit, and whether classes are kept apart.
    """
    boxes, scores, classes = candidates[:3]
    apart = torch.zeros_like(classes) if options.agnostic else classes
    return best_of_groups(boxes, scores, apart, groups, options.iou, MAX_CANDIDATES, options.max_det)


def append_labels(detections: Detections, boxes: Tensor, classes: Tensor, valid: Tensor) -> Detections:
    """Add ground-truth boxes to predictions with full confidence, as automatic labelling wants them.

    Args:
        detections: decoded boxes of a batch.
        boxes: (B, M, 4) x1 y1 x2 y2 in network pixels.
        classes: (B, M) class indices.
        valid: (B, M) bool, False where the row is padding; such rows get confidence 0.

    Returns:
        New detections with N + M boxes; the input is not changed.
    """
    scores_BMC = torch.nn.functional.one_hot(classes, detections.scores.shape[-1]) * valid[..., None]
    objectness = detections.objectness
    if objectness is not None:
        objectness = torch.cat([objectness, valid.to(objectness)], 1)
    return Detections(
        boxes=torch.cat([detections.boxes, boxes.to(detections.boxes)], 1),
        scores=torch.cat([detections.scores, scores_BMC.to(detections.scores)], 1),
        objectness=objectness,
    )
