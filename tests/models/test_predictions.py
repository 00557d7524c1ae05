"""Predictions as named tensors."""

from __future__ import annotations

import torch

from data.keypoints import generic_keypoints
from data.samples import Placement
from models.predictions import ClassMaps, Detections, Masks, Poses, named_outputs
from models.views import Pass
from utils.mask_results import mask_results


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


def test_chosen_classes_are_logits_that_choose_them_again() -> None:
    chosen = torch.tensor([[[0, 2], [1, 2]], [[3, 3], [0, 1]]], dtype=torch.uint8)
    maps = ClassMaps(chosen, 4)
    assert maps.num_classes == 4 and maps.logits.shape == (2, 4, 2, 2)
    assert torch.equal(maps.logits.argmax(1), chosen.long()) and maps.logits.sum(1).eq(1).all()
    assert torch.equal(maps.planes(1, 2, 9), maps.logits[1:2, 2:])
    results = mask_results(maps, [Placement(4, 4, 0.5, 0.5)] * 2)
    assert [result.class_map[::3, ::3].tolist() for result in results] == chosen.tolist()
