"""Objects within a file: those of detect.py for the same candidates, and noticed wherever they are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data.keypoints import COCO_PERSON
from models.object_rules import ObjectRule
from models.predictions import Detections, Poses, PostprocessOptions
from utils.export import object_agreement
from utils.export.object_agreement import compare_class_maps, compare_objects
from utils.export.objects_graph import objects_of
from utils.export.suppression import one_by_one
from utils.nms import kept_candidates

RULE = ObjectRule(confidence=0.2, overlap=0.5, most=50, every_class=False)


def candidates(seed: int, batch: int = 2, count: int = 60, classes: int = 3, steps: int = 1000) -> Detections:
    """Return crowded candidates; few steps make many equal confidences."""
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=draw) * 60
    boxes = torch.cat((corner, corner + 10 + torch.rand(batch, count, 2, generator=draw) * 40), -1)
    scores = (torch.rand(batch, count, classes, generator=draw) * steps).round() / steps
    return Detections(boxes, scores, torch.rand(batch, count, generator=draw).sqrt())


def as_arrays(outputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def fields_of(found: Detections) -> dict[str, np.ndarray]:
    return {"boxes": found.boxes.numpy(), "scores": found.scores.numpy(), "objectness": found.objectness.numpy()}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.05, 0.3, 0.99]),
    st.sampled_from([None, 0.0, 0.45, 1.0]),
    st.sampled_from([1, 5, 100]),
    st.booleans(),
)
def test_objects_are_those_of_the_usual_suppression(
    seed: int, confidence: float, overlap: float | None, most: int, every_class: bool
) -> None:
    found = candidates(seed)
    found.distinct = overlap is None
    options = PostprocessOptions(conf=confidence, iou=overlap or 0.0, max_det=most, multi_label=every_class)
    rule = ObjectRule(confidence, overlap, most, every_class)
    objects = objects_of(found, rule)
    for i, kept in enumerate(kept_candidates(found, options)):
        count = len(kept.scores)
        assert objects["count"][i] == count
        for field, wanted in (("boxes", kept.boxes), ("scores", kept.scores), ("classes", kept.classes)):
            assert objects[field].shape[:2] == (2, most)
            torch.testing.assert_close(objects[field][i, :count], wanted)
            assert not objects[field][i, count:].any()
    told = compare_objects(fields_of(found), as_arrays(objects), rule, "here")
    assert max(each.relative for each in told.values()) < 1e-6


def test_keypoints_follow_their_boxes() -> None:
    plain = candidates(3)
    keypoints = torch.rand(2, 60, 17, 3)
    poses = Poses(plain.boxes, plain.scores, plain.objectness, keypoints=keypoints, spec=COCO_PERSON)
    objects = objects_of(poses, RULE)
    [first, _] = kept_candidates(poses, PostprocessOptions(conf=0.2, iou=0.5, max_det=50))
    torch.testing.assert_close(objects["keypoints"][0, : len(first.rows)], keypoints[0, first.rows])
    given = fields_of(poses) | {"keypoints": keypoints.numpy()}
    wrong = as_arrays(objects) | {"keypoints": objects["keypoints"].numpy() + np.float32(0.01)}
    assert compare_objects(given, wrong, RULE, "here")["count"].relative == np.inf, "behind the count is something"
    wrong["keypoints"] = np.where(wrong["scores"][..., None, None] > 0, wrong["keypoints"], 0)
    assert 0.005 < compare_objects(given, wrong, RULE, "here")["keypoints"].relative < 0.02


def test_a_box_that_is_no_number_is_no_object() -> None:
    found = candidates(5)
    found.boxes[0, found.scores[0].amax(-1).argmax(), 2] = torch.inf
    assert objects_of(found, RULE)["boxes"].isfinite().all()


def test_a_recording_takes_any_number_of_candidates() -> None:
    class Suppressing(torch.nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor, objectness: Tensor) -> dict[str, Tensor]:
            return objects_of(Detections(boxes, scores, objectness), RULE)

    nothing = candidates(0)
    example = (nothing.boxes, nothing.scores * 0, nothing.objectness)
    recorded = torch.jit.trace(Suppressing(), example, strict=False, check_trace=False)
    assert not recorded(*example)["count"].any()
    for seed in range(3):
        found = candidates(seed, steps=20)
        given = (found.boxes, found.scores, found.objectness)
        told = compare_objects(fields_of(found), as_arrays(recorded(*given)), RULE, "here")
        assert max(each.relative for each in told.values()) < 1e-6
        assert recorded(*given)["count"].min() > 3


def test_equal_boxes_leave_one() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10]] * 4])
    kept = one_by_one(boxes, torch.full((1, 4), 0.5), torch.tensor([[0, 0, 1, 0]]), 0.9, 10)
    assert (kept >= 0).sum() == 2 and kept[0, 2] == 0.5


def drop(objects: dict[str, np.ndarray]) -> None:
    """Leave the strongest object of the first picture out."""
    for field, values in objects.items():
        if field != "count":
            values[0, :-1] = values[0, 1:].copy()
    objects["count"][0] -= 1


def double(objects: dict[str, np.ndarray]) -> None:
    for field, values in objects.items():
        if field != "count":
            values[0, 1:] = values[0, :-1].copy()
    objects["count"][0] += 1


def move(objects: dict[str, np.ndarray]) -> None:
    objects["boxes"][0, 0] += 0.5


def rename(objects: dict[str, np.ndarray]) -> None:
    objects["classes"][0, 0] = (objects["classes"][0, 0] + 1) % 3


def boast(objects: dict[str, np.ndarray]) -> None:
    objects["scores"][0, 0] += 0.02


def shuffle(objects: dict[str, np.ndarray]) -> None:
    for field, values in objects.items():
        if field != "count":
            values[0, :2] = values[0, 1::-1].copy()


def overcount(objects: dict[str, np.ndarray]) -> None:
    objects["count"][0] = RULE.most + 1


def unknown_class(objects: dict[str, np.ndarray]) -> None:
    objects["classes"][0, 0] = 3


def nan(objects: dict[str, np.ndarray]) -> None:
    objects["boxes"][0, 0] = np.nan


@pytest.mark.parametrize("spoil", [drop, double, move, rename, boast, shuffle, overcount, unknown_class, nan])
def test_every_other_answer_is_noticed(spoil: Callable[[dict[str, np.ndarray]], None]) -> None:
    found = candidates(11)
    objects = as_arrays(objects_of(found, RULE))
    assert 3 < objects["count"][0] < RULE.most
    spoil(objects)
    told = compare_objects(fields_of(found), objects, RULE, "here")
    assert max(each.relative for each in told.values()) > 1e-3


def test_thousands_of_objects_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found, sizes = candidates(11), []
    beyond = object_agreement._beyond

    def noted(first: np.ndarray, second: np.ndarray, overlap: float) -> np.ndarray:
        sizes.append(len(first) * len(second))
        return beyond(first, second, overlap)

    monkeypatch.setattr(object_agreement, "_beyond", noted)
    for spoil in (drop, double, shuffle):
        objects = as_arrays(objects_of(found, RULE))
        spoil(objects)
        told = []
        for at_once in (10**6, 100):
            monkeypatch.setattr(object_agreement, "AT_ONCE", at_once)
            sizes.clear()
            told.append(compare_objects(fields_of(found), objects, RULE, "here"))
            assert 0 < max(sizes) <= at_once
        assert told[0] == told[1]


@pytest.mark.parametrize("other", [{"overlap": 0.4}, {"overlap": 0.6}, {"confidence": 0.25}, {"confidence": 0.15}])
def test_another_threshold_is_noticed(other: dict[str, float]) -> None:
    found = candidates(11)
    objects = as_arrays(objects_of(found, ObjectRule(**({**RULE.to_plain(), **other}))))
    told = compare_objects(fields_of(found), objects, RULE, "here")
    assert max(each.relative for each in told.values()) > 1e-3


def test_a_choice_that_rounding_made_passes() -> None:
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 10.0001], [40, 40, 60, 60]]], np.float32)
    scores = np.array([[[0.5], [0.5 + 1e-7], [0.9]]], np.float32)
    objects = {
        "boxes": np.zeros((1, 50, 4), np.float32),
        "scores": np.zeros((1, 50), np.float32),
        "classes": np.zeros((1, 50), np.int64),
        "count": np.array([2]),
    }
    for row in (0, 1):
        objects["boxes"][0, :2], objects["scores"][0, :2] = boxes[0, [2, row]], scores[0, [2, row], 0]
        told = compare_objects({"boxes": boxes, "scores": scores}, objects, RULE, "here")
        assert max(each.relative for each in told.values()) < 1e-5


def test_pixels_may_have_either_of_two_equal_classes() -> None:
    logits = np.array([1.0, 1.0 - 1e-7, -4.0], np.float32)[None, :, None, None].repeat(2, -1)
    assert compare_class_maps(logits, np.array([[[0, 1]]], np.uint8), "here").relative < 1e-6
    assert compare_class_maps(logits, np.array([[[0, 2]]], np.uint8), "here").relative > 1
    assert compare_class_maps(logits, np.array([[[0, 3]]], np.uint8), "here").relative == np.inf
