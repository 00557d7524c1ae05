"""Suppression: published numbers, limits, types, and that classes never touch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import nms

import utils.group_suppression
import utils.nms
from models.predictions import Detections, PostprocessOptions
from utils.boxes import xywh_to_xyxy
from utils.nms import append_labels, kept_candidates, non_max_suppression

PARITY = Path(__file__).parents[1] / "parity" / "fixtures"
PUBLISHED = json.loads((PARITY / "metrics_nms.json").read_text())
ARRAYS = np.load(PARITY / "metrics_nms.npz")


def published_detections() -> Detections:
    prediction = torch.from_numpy(ARRAYS["prediction"])
    return Detections(xywh_to_xyxy(prediction[..., :4]), prediction[..., 5:], prediction[..., 4])


def random_detections(seed: int, images: int = 2, count: int = 200, classes: int = 4) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(images, count, 2, generator=generator) * 600 - 50
    sizes = torch.rand(images, count, 2, generator=generator) * 200 + 5
    return Detections(
        xywh_to_xyxy(torch.cat([centres, sizes], -1)),
        torch.rand(images, count, classes, generator=generator),
        torch.rand(images, count, generator=generator),
    )


@pytest.mark.parametrize("case", PUBLISHED["cases"], ids=lambda case: case["name"])
def test_equals_published_numbers(case):
    arguments, detections = case["arguments"], published_detections()
    before = [tensor.clone() for tensor in (detections.boxes, detections.scores, detections.objectness)]
    if arguments["labels"]:
        most = max(len(rows) for rows in arguments["labels"])
        rows = torch.zeros(len(arguments["labels"]), most, 5)
        valid = torch.zeros(rows.shape[:2], dtype=torch.bool)
        for i, own in enumerate(arguments["labels"]):
            rows[i, : len(own)] = torch.tensor(own, dtype=torch.float32).reshape(-1, 5)
            valid[i, : len(own)] = True
        detections = append_labels(detections, xywh_to_xyxy(rows[..., 1:]), rows[..., 0].long(), valid)
    options = PostprocessOptions(
        conf=arguments["conf_thres"],
        iou=arguments["iou_thres"],
        max_det=300,
        multi_label=arguments["multi_label"],
        agnostic=arguments["agnostic"],
        classes=None if arguments["classes"] is None else tuple(arguments["classes"]),
    )
    for i, (boxes, scores, classes) in enumerate(non_max_suppression(detections, options)):
        expected = ARRAYS[f"{case['name']}_{i}"]
        np.testing.assert_array_equal(boxes.numpy(), expected[:, :4])
        np.testing.assert_array_equal(scores.numpy(), expected[:, 4])
        np.testing.assert_array_equal(classes.numpy(), expected[:, 5])
    after = published_detections()
    for old, new in zip(before, (after.boxes, after.scores, after.objectness), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("shift", [-3000.0, 0.0, 20000.0])
def test_classes_never_suppress_each_other_wherever_the_boxes_lie(shift):
    detections = random_detections(1)
    detections.boxes += shift
    options = PostprocessOptions(conf=0.2, iou=0.3, multi_label=True, max_det=10_000)
    for i, (boxes, scores, classes) in enumerate(non_max_suppression(detections, options)):
        confidence = detections.scores[i] * detections.objectness[i][:, None]
        expected = 0
        for c in range(confidence.shape[1]):
            rows = (confidence[:, c] > 0.2) & (detections.objectness[i] > 0.2)
            kept = nms(detections.boxes[i][rows], confidence[rows, c], 0.3)
            own = classes == c
            assert torch.equal(boxes[own], detections.boxes[i][rows][kept])
            assert torch.equal(scores[own], confidence[rows, c][kept])
            expected += len(kept)
        assert len(boxes) == expected
        assert (scores.diff() <= 0).all()


def test_one_image_does_not_depend_on_the_others():
    detections, options = random_detections(2, images=3), PostprocessOptions(multi_label=True)
    together = non_max_suppression(detections, options)
    for i, result in enumerate(together):
        alone = Detections(detections.boxes[i : i + 1], detections.scores[i : i + 1], detections.objectness[i : i + 1])
        for a, b in zip(result, non_max_suppression(alone, options)[0], strict=True):
            assert torch.equal(a, b)


def test_heads_without_objectness():
    detections = random_detections(3)
    bare = Detections(detections.boxes, detections.scores * detections.objectness[..., None])
    detections.scores = bare.scores
    detections.objectness = torch.ones_like(detections.objectness)
    for options in (PostprocessOptions(conf=0.3), PostprocessOptions(conf=0.3, multi_label=True)):
        for a, b in zip(non_max_suppression(bare, options), non_max_suppression(detections, options), strict=True):
            assert len(a[0]) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_labels_without_objectness_get_full_confidence_and_padding_none():
    bare = Detections(torch.zeros(1, 0, 4), torch.zeros(1, 0, 3))
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10]]])
    detections = append_labels(bare, boxes, torch.tensor([[2, 0]]), torch.tensor([[True, False]]))
    ((_, scores, classes),) = non_max_suppression(detections, PostprocessOptions(conf=0.001))
    assert scores.tolist() == [1.0] and classes.tolist() == [2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32_results(dtype):
    detections = random_detections(4)
    half = Detections(detections.boxes.to(dtype), detections.scores.to(dtype), detections.objectness.to(dtype))
    raised = Detections(half.boxes.float(), half.scores.float(), half.objectness.float())
    options = PostprocessOptions(conf=0.25)
    for a, b in zip(non_max_suppression(half, options), non_max_suppression(raised, options), strict=True):
        assert a[0].dtype == a[1].dtype == torch.float32 and a[2].dtype == torch.int64
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_overflown_boxes_are_dropped_and_spare_the_others():
    detections = random_detections(5, images=1)
    options = PostprocessOptions(conf=0.25)
    expected = non_max_suppression(detections, options)[0]
    bad = torch.tensor([[[0.0, 0.0, float("inf"), 5.0], [float("nan"), 0.0, 5.0, 5.0]]])
    detections = append_labels(detections, bad, torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(non_max_suppression(detections, options)[0], expected, strict=True))


def test_one_wild_box_leaves_the_others_alone():
    detections = random_detections(8, images=1)
    options = PostprocessOptions(conf=0.25, multi_label=True, max_det=10_000)
    expected = non_max_suppression(detections, options)[0]
    wild = torch.tensor([[[-1e9, -1e9, -9e8, 1e9]]])
    labelled = append_labels(detections, wild, torch.tensor([[3]]), torch.ones(1, 1, dtype=torch.bool))
    found = non_max_suppression(labelled, options)[0]
    assert torch.equal(found[0][0], wild[0, 0])
    assert all(torch.equal(a[1:], b) for a, b in zip(found, expected, strict=True))


def test_limits(monkeypatch):
    detections = random_detections(6, images=1)
    everything = non_max_suppression(detections, PostprocessOptions(conf=0.01, iou=1.0, max_det=10_000))[0]
    assert len(everything[0]) > 100
    few = non_max_suppression(detections, PostprocessOptions(conf=0.01, iou=1.0, max_det=7))[0]
    assert torch.equal(few[1], everything[1][:7])
    monkeypatch.setattr(utils.nms, "MAX_CANDIDATES", 20)
    capped = non_max_suppression(detections, PostprocessOptions(conf=0.01, iou=1.0, max_det=10_000))[0]
    assert torch.equal(capped[1], everything[1][:20])


def test_nothing_found_and_nothing_given():
    detections = random_detections(7)
    for boxes, scores, classes in non_max_suppression(detections, PostprocessOptions(conf=0.9999)):
        assert boxes.shape == (0, 4) and scores.shape == (0,) and classes.shape == (0,)
    empty = Detections(torch.zeros(2, 0, 4), torch.zeros(2, 0, 3), torch.zeros(2, 0))
    assert [len(boxes) for boxes, _, _ in non_max_suppression(empty, PostprocessOptions())] == [0, 0]


def test_candidates_that_stand_for_themselves_all_stay():
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0]]).expand(2, 6, 4)
    scores = torch.tensor([0.2, 0.9, 0.4, 0.9, 0.0, torch.nan])[:, None].repeat(2, 1, 3) * torch.tensor([1.0, 0.5, 0.1])
    found = Detections(boxes, scores, distinct=True)
    for kept in kept_candidates(found, PostprocessOptions(conf=0.0)):
        assert kept.rows.tolist() == [1, 3, 2, 0] and kept.scores.tolist() == pytest.approx([0.9, 0.9, 0.4, 0.2])
    (kept, _) = kept_candidates(found, PostprocessOptions(conf=0.3, max_det=2))
    assert kept.rows.tolist() == [1, 3]
    (kept, _) = kept_candidates(found, PostprocessOptions(conf=0.15, multi_label=True))
    assert list(zip(kept.rows.tolist(), kept.classes.tolist(), strict=True)) == [
        (1, 0), (3, 0), (1, 1), (3, 1), (2, 0), (0, 0), (2, 1)
    ]  # fmt: skip
    (kept, _) = kept_candidates(found, PostprocessOptions(conf=0.1, classes=(1,)))
    assert len(kept.rows) == 0
    (kept, _) = kept_candidates(Detections(boxes, scores), PostprocessOptions(conf=0.1))
    assert kept.rows.tolist() == [1]


def test_a_batch_is_one_suppression_however_it_is_cut(monkeypatch):
    """All images and classes together, in calls of any size, give what each image gives in calls of its own."""
    detections = random_detections(9, images=4, count=60)
    detections.scores = (detections.scores * 20).round() / 20
    detections.objectness = torch.full_like(detections.objectness, 0.5)
    options = PostprocessOptions(conf=0.2, iou=0.3, multi_label=True, max_det=25)
    expected = kept_candidates(detections, options)
    assert all(len(kept.rows) == 25 for kept in expected), "and there are equal confidences at the limit"
    for at_once in (1, 40, 1000):
        monkeypatch.setattr(utils.group_suppression, "AT_ONCE", at_once)
        for i, kept in enumerate(kept_candidates(detections, options)):
            own = Detections(
                detections.boxes[i : i + 1], detections.scores[i : i + 1], detections.objectness[i : i + 1]
            )
            for one, two, three in zip(kept, expected[i], kept_candidates(own, options)[0], strict=True):
                assert torch.equal(one, two) and torch.equal(one, three)
