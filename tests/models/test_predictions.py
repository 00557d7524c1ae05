"""Predictions as named tensors."""

from __future__ import annotations

import torch

from data.keypoints import generic_keypoints
from models.predictions import Detections, Masks, Poses, named_outputs
from models.views import Pass


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


def test_candidates_stand_for_themselves_until_another_pass_joins_them() -> None:
    boxes, scores = torch.rand(2, 5, 4), torch.rand(2, 5, 3)
    alone = Detections(boxes, scores, distinct=True)
    view = Pass(mirrored=True).view((32, 64))
    assert alone.undo(view).distinct and alone.of_view(3).distinct and Detections.combine([alone]).distinct
    assert (
        not Detections.combine([alone, alone]).distinct and not Detections.combine([Detections(boxes, scores)]).distinct
    )
    other = Detections(boxes, scores, torch.full((2, 5), 0.5))
    mixed = Detections.combine([alone, other])
    assert not mixed.distinct and mixed.objectness is None
    torch.testing.assert_close(mixed.scores, torch.cat((scores, scores / 2), 1))
    assert list(named_outputs(alone)) == ["boxes", "scores"]
    poses = Poses(boxes, scores, distinct=True, keypoints=torch.rand(2, 5, 6, 3), spec=generic_keypoints(6))
    assert poses.undo(view).distinct and Poses.combine([poses]).distinct and not Poses.combine([poses, poses]).distinct
