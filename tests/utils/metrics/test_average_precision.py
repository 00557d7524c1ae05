"""Curves and average precision against published numbers, and the matching rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.metrics.average_precision import (
    CONFIDENCES,
    IOU_THRESHOLDS,
    LATER_RULE,
    average_precision,
    match_predictions,
    precision_recall_curves,
)

PARITY = Path(__file__).parents[2] / "parity" / "fixtures"
PUBLISHED = json.loads((PARITY / "metrics_ap.json").read_text())
ARRAYS = np.load(PARITY / "metrics_ap.npz")


@pytest.mark.parametrize("case", PUBLISHED["cases"], ids=lambda case: str(case["case"]))
def test_curves_equal_published_numbers(case):
    number = case["case"]
    own = {name: ARRAYS[f"case{number}_{name}"] for name in ("tp", "conf", "pred_cls", "target_cls")}
    curves = precision_recall_curves(own["tp"], own["conf"], own["pred_cls"], own["target_cls"])
    close = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_array_equal(curves.classes, ARRAYS[f"case{number}_classes"])
    np.testing.assert_allclose(curves.ap, ARRAYS[f"case{number}_ap"], **close)
    np.testing.assert_allclose(curves.precision[:, curves.best], ARRAYS[f"case{number}_precision"], **close)
    np.testing.assert_allclose(curves.recall[:, curves.best], ARRAYS[f"case{number}_recall"], **close)
    np.testing.assert_allclose(curves.f1[:, curves.best], ARRAYS[f"case{number}_f1"], **close)
    assert curves.ap[:, 0].mean() == pytest.approx(case["map50"], abs=1e-9)
    assert curves.ap.mean() == pytest.approx(case["map"], abs=1e-9)


def test_one_curve_equals_published_numbers():
    area, envelope, at = average_precision(ARRAYS["curve_recall"], ARRAYS["curve_precision"])
    assert area == pytest.approx(PUBLISHED["curve_ap"], abs=1e-9)
    np.testing.assert_allclose(envelope, ARRAYS["curve_mpre"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(at, ARRAYS["curve_mrec"], rtol=0, atol=1e-9)


def test_later_rule_lets_precision_fall_slowly_and_smooths_the_peak():
    recall, precision = np.array([0.1, 0.5]), np.array([1.0, 1.0])
    # Precision 1 up to recall 0.5, then a straight line to 0 at recall 1.
    assert average_precision(recall, precision, recall_end=1.0)[0] == pytest.approx(0.75, abs=1e-6)
    assert average_precision(recall, precision)[0] == pytest.approx(0.505, abs=1e-2)
    rng = np.random.default_rng(0)
    tp, conf = rng.random((300, 1)) < 0.5, rng.random(300)
    later = precision_recall_curves(tp, conf, np.zeros(300), np.zeros(200), LATER_RULE)
    f1 = np.concatenate([np.repeat(later.f1[0, :1], 50), later.f1[0], np.repeat(later.f1[0, -1:], 50)])
    assert later.best == int(np.convolve(f1, np.ones(101) / 101, "valid").argmax())


def test_without_labels_or_predictions():
    none = precision_recall_curves(np.zeros((0, 10), bool), np.zeros(0), np.zeros(0), np.array([1, 1, 3]))
    assert none.classes.tolist() == [1, 3] and not none.ap.any() and not none.recall.any()
    unlabelled = precision_recall_curves(np.zeros((2, 10), bool), np.ones(2), np.zeros(2), np.zeros(0))
    assert unlabelled.ap.shape == (0, 10) and unlabelled.precision.shape == (0, len(CONFIDENCES))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inter = np.prod(np.clip(high - low, 0, None))
    return float(inter / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter))


def match_slowly(boxes, classes, label_boxes, label_classes):
    """Say the rule once more with plain loops."""
    correct = np.zeros((len(boxes), len(IOU_THRESHOLDS)), bool)
    for t, threshold in enumerate(IOU_THRESHOLDS):
        taken = set()
        for i, box in enumerate(boxes):
            same = [j for j in range(len(label_boxes)) if label_classes[j] == classes[i]]
            best = max(same, key=lambda j: overlap(box, label_boxes[j]), default=None)
            if best is not None and overlap(box, label_boxes[best]) >= threshold and best not in taken:
                taken.add(best)
                correct[i, t] = True
    return correct


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 12))
def test_matching_equals_the_rule_in_plain_loops(seed, predictions, labels):
    rng = np.random.default_rng(seed)
    low = rng.random((labels, 2)) * 50
    label_boxes = np.concatenate([low, low + 10 + rng.random((labels, 2)) * 30], 1).astype(np.float32)
    label_classes = rng.integers(0, 2, labels)
    pick = rng.integers(0, labels, predictions) if labels else np.zeros(predictions, int)
    base = label_boxes[pick] if labels else np.tile(np.array([[0, 0, 9, 9]], np.float32), (predictions, 1))
    boxes = (base + rng.normal(0, 2, (predictions, 4))).astype(np.float32)
    classes = rng.integers(0, 2, predictions)
    found = match_predictions(boxes, classes, label_boxes, label_classes)
    expected = match_slowly(boxes.astype(np.float64), classes, label_boxes.astype(np.float64), label_classes)
    np.testing.assert_array_equal(found, expected)


def test_each_threshold_has_its_own_winner():
    label = np.array([[0, 0, 100, 100]], np.float32)
    boxes = np.array([[0, 0, 100, 62], [0, 0, 100, 97]], np.float32)
    correct = match_predictions(boxes, np.zeros(2), label, np.zeros(1))
    assert correct[0].tolist() == [True] * 3 + [False] * 7
    assert correct[1].tolist() == [False] * 3 + [True] * 7


def test_groups_such_as_images_do_not_see_each_other():
    rng = np.random.default_rng(0)
    low = rng.random((30, 2)) * 30
    label_boxes = np.concatenate([low, low + 10 + rng.random((30, 2)) * 30], 1).astype(np.float32)
    boxes = (label_boxes[rng.integers(0, 30, 90)] + rng.normal(0, 2, (90, 4))).astype(np.float32)
    groups, label_groups = rng.integers(0, 5, 90), rng.integers(0, 5, 30)
    together = match_predictions(boxes, groups, label_boxes, label_groups)
    for group in range(5):
        own, wanted = groups == group, label_groups == group
        alone = match_predictions(boxes[own], groups[own], label_boxes[wanted], label_groups[wanted])
        np.testing.assert_array_equal(together[own], alone)
    assert together.any()
