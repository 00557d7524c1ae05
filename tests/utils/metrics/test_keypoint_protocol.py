"""Keypoints by the COCO protocol, value by value against the published program: ties, crowds, nothing labelled."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import utils.metrics.pairs as pairs
from utils.metrics.keypoint_protocol import PoseLabels, PosePredictions, keypoint_summary

CLASSES, IMAGES = 3, 6
SIGMAS = (0.1, 0.05, 0.08, 0.06)
STATS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


def random_set(seed: int, labels: int = 20, found: int = 150) -> tuple[PoseLabels, PosePredictions]:
    """Return labels and predictions in any order of images; the last class has no label, one image neither."""
    rng = np.random.default_rng(seed)
    count = len(SIGMAS)
    low = rng.integers(0, 40, (labels, 2))
    sides = rng.choice((16, 32, 40, 96, 120), (labels, 2))
    points = low[:, None] + rng.integers(0, 100, (labels, count, 2)) * sides[:, None] / 100
    visibility = rng.integers(0, 3, (labels, count, 1)) * (rng.random((labels, 1, 1)) > 0.15)
    truth = PoseLabels(
        images=rng.integers(0, IMAGES - 1, labels),
        boxes=np.concatenate((low, low + sides), 1).astype(np.float32),
        classes=rng.integers(0, CLASSES - 1, labels),
        areas=(sides.prod(1) * rng.choice((0.5, 1.0), labels)).astype(np.float32),
        crowd=rng.random(labels) < 0.2,
        keypoints=np.concatenate((points, visibility), 2).astype(np.float32),
    )
    # Every fourth label stands there twice, so predictions agree with both alike.
    again = np.arange(labels) % 4 == 1
    for column in vars(truth).values():
        column[again] = column[np.flatnonzero(again) - 1]
    near = rng.integers(0, max(labels, 1), found)
    moved = points[near] if labels else rng.integers(0, 100, (found, count, 2)).astype(float)
    reach = sides[near].max(1) if labels else np.full(found, 50)
    moved = moved + (rng.normal(0, 1, moved.shape) * rng.choice((0, 0.03, 0.2), (found, 1, 1)) * reach[:, None, None])
    right = rng.random(found) < 0.8
    predictions = PosePredictions(
        images=truth.images[near] if labels else rng.integers(0, IMAGES, found),
        boxes=np.zeros((found, 4), np.float32),
        classes=np.where(right, truth.classes[near] if labels else 0, rng.integers(0, CLASSES, found)),
        # Confidences of a grid, so that many are equal, also between images.
        scores=((rng.random(found) * 15).round() / 15).astype(np.float32),
        keypoints=np.concatenate((moved, rng.random((found, count, 1))), 2).astype(np.float32),
    )
    return truth, predictions


def published(labels: PoseLabels, predictions: PosePredictions) -> Any:
    """Evaluate with the published program."""
    truth_rows, found_rows = (
        [
            {"id": i + 1, "image_id": image + 1, "category_id": kind + 1} | {"keypoints": points.ravel().tolist()}
            for i, (image, kind, points) in enumerate(
                zip(values.images.tolist(), values.classes.tolist(), values.keypoints.astype(float), strict=True)
            )
        ]
        for values in (labels, predictions)
    )
    for i, (x1, y1, x2, y2) in enumerate(labels.boxes.astype(float).tolist()):
        truth_rows[i] |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(labels.areas[i])}
        truth_rows[i] |= {"iscrowd": int(labels.crowd[i]), "num_keypoints": int((labels.keypoints[i, :, 2] > 0).sum())}
    for row, score in zip(found_rows, predictions.scores.tolist(), strict=True):
        row["score"] = score
    with redirect_stdout(StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i + 1} for i in range(IMAGES)],
            "categories": [{"id": c + 1} for c in range(CLASSES)],
            "annotations": truth_rows,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found_rows), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100_000), labels=st.sampled_from([1, 12, 40]), at_once=st.sampled_from([1, 50, 1 << 18]))
def test_equals_the_published_program(seed: int, labels: int, at_once: int) -> None:
    truth, found = random_set(seed, labels)
    before, pairs.PAIRS_AT_ONCE = pairs.PAIRS_AT_ONCE, at_once
    try:
        summary = keypoint_summary(truth, found, CLASSES, SIGMAS)
    finally:
        pairs.PAIRS_AT_ONCE = before
    evaluation = published(truth, found)
    np.testing.assert_allclose([summary.metrics[name] for name in STATS], evaluation.stats, rtol=0, atol=1e-9)
    precision = evaluation.eval["precision"][..., 0]
    np.testing.assert_allclose(summary.precision_50, precision[0, :, :, 0].T, rtol=0, atol=1e-9)
    for c, row in enumerate(summary.by_class):
        expected = [precision[:, :, c, a].mean() for a in range(3)] + [evaluation.eval["recall"][:, c, 0, 0].mean()]
        own = [row[name] for name in ("AP", "AP_medium", "AP_large", "AR")]
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-9)


def test_the_data_of_these_tests_are_not_trivial() -> None:
    sets = [random_set(seed) for seed in range(5)]
    found = [keypoint_summary(*both, CLASSES, SIGMAS).metrics for both in sets]
    assert all(0.02 < metrics["AP"] < 0.98 and metrics["AP_medium"] != metrics["AP_large"] for metrics in found)
    counts = [np.bincount(both[1].images * CLASSES + both[1].classes) for both in sets]
    assert max(own.max() for own in counts) > 20, "some predictions are beyond the limit of an image and class"
    assert any((both[0].crowd & (both[0].keypoints[..., 2] > 0).any(1)).any() for both in sets), "crowds with points"


@pytest.mark.parametrize(("labels", "found"), [(0, 30), (20, 0), (0, 0)])
def test_nothing_labelled_or_nothing_found(labels: int, found: int) -> None:
    truth, predictions = random_set(1, labels, found)
    metrics = keypoint_summary(truth, predictions, CLASSES, SIGMAS).metrics
    assert metrics["AP"] == metrics["AR"] == (0 if labels else -1)
