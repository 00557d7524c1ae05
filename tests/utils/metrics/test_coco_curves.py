"""Precision and recall by the COCO protocol, value by value against the published program, with ties and crowds."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import utils.metrics.pairs as pairs
from utils.metrics.coco_curves import BOX_RULE, CocoCurves, CocoRule, Found, Truth, coco_curves
from utils.metrics.coco_protocol import BoxLabels, BoxPredictions, coco_summary
from utils.metrics.pairs import box_similarity

CLASSES = 3


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return whole-numbered boxes, so that many overlaps are equal; sides reach over both limits of size."""
    low = rng.integers(0, 12, (count, 2)) * 4
    sides = rng.choice((8, 12, 16, 32, 40, 96, 120), (count, 2))
    return np.concatenate((low, low + sides), 1).astype(np.float32)


def random_set(seed: int, images: int = 6, labels: int = 25, found: int = 160) -> tuple[BoxLabels, BoxPredictions]:
    """Return labels and predictions in any order of images; the last class has no label, one image neither."""
    rng = np.random.default_rng(seed)
    label_boxes = random_boxes(rng, labels)
    areas = (label_boxes[:, 2:] - label_boxes[:, :2]).prod(1) * rng.choice((0.5, 1.0), labels)
    truth = BoxLabels(
        rng.integers(0, images - 1, labels),
        label_boxes,
        rng.integers(0, CLASSES - 1, labels),
        areas.astype(np.float32),
        rng.random(labels) < 0.15,
    )
    near = rng.integers(0, labels, found) if labels else np.zeros(found, int)
    boxes = random_boxes(rng, found)
    if labels:
        boxes = np.where(rng.random((found, 1)) < 0.7, label_boxes[near] + rng.integers(-4, 5, (found, 4)), boxes)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    of_images = truth.images[near] if labels else rng.integers(0, images, found)
    classes = np.where(rng.random(found) < 0.8, truth.classes[near] if labels else 0, rng.integers(0, CLASSES, found))
    # Confidences of a grid, so that many are equal, also between images.
    scores = (rng.random(found) * 15).round() / 15
    return truth, BoxPredictions(of_images, boxes.astype(np.float32), classes, scores.astype(np.float32))


def published(labels: BoxLabels, predictions: BoxPredictions, images: int = 6, limit: int = 100) -> Any:
    """Evaluate with the published program."""

    def rows(values: BoxLabels | BoxPredictions) -> list[dict[str, Any]]:
        boxes = values.boxes.astype(float)
        made = []
        for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            image, kind = int(values.images[i]) + 1, int(values.classes[i]) + 1
            made.append({"id": i + 1, "image_id": image, "category_id": kind, "bbox": [x1, y1, x2 - x1, y2 - y1]})
            if isinstance(values, BoxLabels):
                made[-1] |= {"area": float(values.areas[i]), "iscrowd": int(values.crowd[i])}
            else:
                made[-1] |= {"score": float(values.scores[i])}
        return made

    with redirect_stdout(StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i + 1} for i in range(images)],
            "categories": [{"id": c + 1} for c in range(CLASSES)],
            "annotations": rows(labels),
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows(predictions)), "bbox")
        evaluation.params.maxDets = [1, 10, limit]
        evaluation.evaluate()
        evaluation.accumulate()
        if limit == 100:
            evaluation.summarize()
    return evaluation


def measured(labels: BoxLabels, predictions: BoxPredictions, rule: CocoRule = BOX_RULE) -> CocoCurves:
    boxes = predictions.boxes.astype(np.float64)
    return coco_curves(
        Truth(labels.images, labels.classes, labels.areas, labels.crowd, labels.crowd),
        Found(predictions.images, predictions.classes, (boxes[:, 2:] - boxes[:, :2]).prod(1), predictions.scores),
        box_similarity(boxes, labels.boxes.astype(np.float64), labels.crowd),
        CLASSES,
        rule,
    )


def check(curves: CocoCurves, evaluation: Any) -> None:
    precision, recall = evaluation.eval["precision"][..., -1], evaluation.eval["recall"]
    np.testing.assert_allclose(curves.precision, precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves.recall, recall, rtol=0, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100_000), labels=st.sampled_from([1, 12, 40]), at_once=st.sampled_from([1, 50, 1 << 18]))
def test_equals_the_published_program_value_by_value(seed: int, labels: int, at_once: int) -> None:
    truth, found = random_set(seed, labels=labels)
    before, pairs.PAIRS_AT_ONCE = pairs.PAIRS_AT_ONCE, at_once
    try:
        curves, summary = measured(truth, found), coco_summary(truth, found, CLASSES)
    finally:
        pairs.PAIRS_AT_ONCE = before
    evaluation = published(truth, found)
    check(curves, evaluation)
    own = [summary.ap, summary.ap50, summary.ap75, *summary.by_area.values(), *summary.recall.values()]
    np.testing.assert_allclose(own, evaluation.stats, rtol=0, atol=1e-12)


def test_the_data_of_these_tests_are_not_trivial() -> None:
    found = [coco_summary(*random_set(seed), CLASSES) for seed in range(5)]
    assert all(0.02 < summary.ap < 0.9 and summary.by_area["small"] != summary.by_area["large"] for summary in found)
    assert all(summary.recall["AR1"] < summary.recall["AR10"] < summary.recall["AR100"] for summary in found)
    assert all(summary.class_ap[-1] == -1 for summary in found)


@pytest.mark.parametrize("limit", [12, 100])
def test_what_is_beyond_the_limit_does_not_count(limit: int) -> None:
    truth, found = random_set(7, images=2, labels=40, found=400)
    evaluation = published(truth, found, images=2, limit=limit)
    rule = CocoRule(BOX_RULE.areas, (1, 10, limit))
    check(measured(truth, found, rule), evaluation)
    assert (measured(truth, found).precision != measured(truth, found, rule).precision).any() == (limit < 100)


@pytest.mark.parametrize(("labels", "found"), [(0, 30), (20, 0), (0, 0)])
def test_nothing_labelled_or_nothing_found(labels: int, found: int) -> None:
    truth, predictions = random_set(1, labels=labels, found=found)
    curves = measured(truth, predictions)
    known = (truth.classes[~truth.crowd] == np.arange(CLASSES)[:, None]).any(1)
    assert (curves.precision[:, :, known, 0] == 0).all() and (curves.precision[:, :, ~known] == -1).all()
    assert (curves.recall[:, known, 0] == 0).all() and (curves.recall[:, ~known] == -1).all()


def test_recalls_are_reached_as_divided_numbers_reach_them() -> None:
    """0.07 of 100 is more than 7 in binary, yet 7 / 100 reaches it; so it must be for every number of labels."""
    from utils.metrics.average_precision import RECALLS
    from utils.metrics.coco_curves import _least_right

    wanted = np.arange(1, 2000)
    for labels, least in zip(wanted, _least_right(wanted), strict=True):
        expected = np.searchsorted(np.arange(1, labels + 1) / labels, RECALLS, side="left") + 1
        np.testing.assert_array_equal(least, expected)


def test_too_many_combinations_are_refused() -> None:
    from utils.metrics.greedy_matching import match_greedily

    none = pairs.Pairs(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    with pytest.raises(ValueError, match="7 ranges of areas and 10 overlaps"):
        match_greedily(none, np.zeros(0, int), np.zeros((0, 7), bool), np.zeros(0, bool), np.linspace(0.5, 0.95, 10))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), at_once=st.sampled_from([1, 7, 1000]), least=st.sampled_from([0.3, 0.5]))
def test_pairs_are_those_of_a_loop(seed: int, at_once: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = SimpleNamespace(found=int(rng.integers(0, 30)), labels=int(rng.integers(0, 15)))
    boxes, label_boxes = random_boxes(rng, sizes.found), random_boxes(rng, sizes.labels)
    groups, label_groups = rng.integers(0, 4, sizes.found), rng.integers(0, 4, sizes.labels)
    overlap = box_similarity(boxes, label_boxes)
    expected = [
        (i, j)
        for i in range(sizes.found)
        for j in range(sizes.labels)
        if groups[i] == label_groups[j] and overlap(np.array([i]), np.array([j]))[0] >= least
    ]
    before, pairs.PAIRS_AT_ONCE = pairs.PAIRS_AT_ONCE, at_once
    try:
        found = pairs.similar_pairs(groups, label_groups, overlap, least)
    finally:
        pairs.PAIRS_AT_ONCE = before
    assert list(zip(found.prediction.tolist(), found.label.tolist(), strict=True)) == expected


def test_overlaps_of_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [3, 3, 3, 3], [20, 20, 30, 30]], np.float64)
    plain = box_similarity(boxes, boxes)
    assert plain(np.array([0, 0, 0, 2]), np.array([0, 1, 3, 2])).tolist() == [1, pytest.approx(1 / 3), 0, 0]
    crowd = box_similarity(boxes, boxes, np.array([True, False, True, True]))
    assert crowd(np.array([1, 1, 0]), np.array([0, 1, 1])).tolist() == [0.5, 1, pytest.approx(1 / 3)]
