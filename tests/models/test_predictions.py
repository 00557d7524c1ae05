"""Predictions as named tensors."""

from __future__ import annotations

import torch

from data.keypoints import generic_keypoints
from models.predictions import Detections, Masks, Poses, named_outputs


def test_predictions_become_tensors_by_field_name() -> None:
    boxes, scores, objectness, logits = (
        torch.rand(2, 5, 4),
        torch.rand(2, 5, 3),
        torch.rand(2, 5),
        torch.rand(2, 4, 8, 8),
    )
    assert named_outputs(Detections(boxes, scores, objectness)) == {
        "boxes": boxes,
        "scores": scores,
        "objectness": objectness,
    }
    assert list(named_outputs(Detections(boxes, scores))) == ["boxes", "scores"]
    assert named_outputs(Masks(logits)) == {"logits": logits}
    keypoints = torch.rand(2, 5, 6, 3)
    poses = Poses(boxes, scores, objectness, keypoints=keypoints, spec=generic_keypoints(6))
    assert list(named_outputs(poses)) == ["boxes", "scores", "objectness", "keypoints"]
    assert named_outputs(poses)["keypoints"] is keypoints
