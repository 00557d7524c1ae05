"""What was found together with what is labelled, as a start for labelling the rest."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from data.samples import Batch
from models.predictions import DetectionResult, PoseResult
from utils.boxes import box_iou_matrix, points_to_native, scale_to_native


def with_labels(result: DetectionResult, batch: Batch, image: int, iou: float) -> DetectionResult:
    """Return the labels of an image with confidence 1, then what was found that no label stands for.

    Labels are as they are, also where they cover each other: no suppression chooses among them. Crowds are left out,
    because a file of boxes cannot say what they are.

    Args:
        result: of the image, in native pixels, on the CPU.
        batch: that the image is of, with placements.
        image: its index in the batch.
        iou: overlap, 0..1, above which a label stands for an object that was found, if both are of one class.
    """
    labelled = batch.valid[image].cpu()
    if batch.crowd is not None:
        labelled &= ~batch.crowd[image].cpu()
    placement = batch.placements[image]
    boxes = scale_to_native(batch.boxes[image].float().cpu()[labelled], placement)
    classes = batch.classes[image].cpu()[labelled]
    same = classes[:, None] == result.classes
    unlabelled = result.only(~((box_iou_matrix(boxes, result.boxes) > iou) & same).any(0))
    joined = {
        "boxes": torch.cat([boxes, unlabelled.boxes]),
        "scores": torch.cat([torch.ones(len(boxes)), unlabelled.scores]),
        "classes": torch.cat([classes, unlabelled.classes]),
    }
    if isinstance(unlabelled, PoseResult):
        joined["keypoints"] = torch.cat([_labelled_keypoints(batch, image, labelled), unlabelled.keypoints])
    return replace(unlabelled, **joined)


def _labelled_keypoints(batch: Batch, image: int, labelled: Tensor) -> Tensor:
    """Return (m, K, 3) x y in native pixels, and 1 for keypoints that are labelled, 0 for the others."""
    native = points_to_native(batch.keypoints[image].float().cpu()[labelled], batch.placements[image])
    native[..., 2] = (native[..., 2] > 0).float()
    return native
