"""Confusion matrix of boxes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.metrics.confusion import BoxConfusion

LABELS = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [100, 100, 120, 120]], np.float32)
NO_BOXES, NO_CLASSES = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def test_hits_mix_ups_misses_and_spurious():
    confusion = BoxConfusion(3)
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 61], [200, 200, 210, 210], [0, 0, 10, 9]], np.float32)
    confusion.update(boxes, np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 2, 1, 0]), LABELS, np.array([0, 1, 2]))
    expected = np.zeros((4, 4), int)
    expected[0, 0] = 1  # found
    expected[2, 1] = 1  # a 1 taken for a 2
    expected[3, 2] = 1  # a missed 2
    expected[1, 3] = 1  # a 1 where there is nothing
    expected[0, 3] = 1  # the second box on one label
    np.testing.assert_array_equal(confusion.matrix, expected)


def test_images_without_labels_matches_or_predictions_count_too():
    confusion = BoxConfusion(2)
    confusion.update(LABELS, np.array([0.9, 0.9, 0.2]), np.array([0, 1, 1]), NO_BOXES, NO_CLASSES)
    confusion.update(NO_BOXES, np.zeros(0), NO_CLASSES, LABELS, np.array([0, 0, 1]))
    confusion.update(LABELS[:1], np.array([0.9]), np.array([0]), LABELS[1:2], np.array([1]))
    confusion.update(NO_BOXES, np.zeros(0), NO_CLASSES, NO_BOXES, NO_CLASSES)
    np.testing.assert_array_equal(confusion.matrix, [[0, 0, 2], [0, 0, 1], [2, 2, 0]])


def test_a_label_goes_to_its_closest_prediction():
    confusion = BoxConfusion(2)
    boxes = np.array([[0, 0, 10, 7], [0, 0, 10, 10]], np.float32)
    confusion.update(boxes, np.array([0.9, 0.5]), np.array([1, 0]), LABELS[:1], np.array([0]))
    np.testing.assert_array_equal(confusion.matrix, [[1, 0, 0], [0, 0, 1], [0, 0, 0]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 20), st.integers(0, 10))
def test_every_label_and_every_confident_prediction_is_counted_once(seed, predictions, labels):
    rng = np.random.default_rng(seed)
    corners = rng.random((predictions + labels, 2)) * 30
    boxes = np.concatenate([corners, corners + 5 + rng.random((predictions + labels, 2)) * 20], 1).astype(np.float32)
    scores, classes = rng.random(predictions), rng.integers(0, 3, predictions)
    label_classes = rng.integers(0, 3, labels)
    confusion = BoxConfusion(3)
    confusion.update(boxes[:predictions], scores, classes, boxes[predictions:], label_classes)
    np.testing.assert_array_equal(confusion.matrix.sum(0)[:3], np.bincount(label_classes, minlength=3))
    np.testing.assert_array_equal(confusion.matrix.sum(1)[:3], np.bincount(classes[scores > 0.25], minlength=3))
    assert confusion.matrix[3, 3] == 0


def test_several_images_at_once_count_as_one_after_the_other():
    rng = np.random.default_rng(0)
    corners = rng.random((100, 2)) * 30
    boxes = np.concatenate([corners, corners + 5 + rng.random((100, 2)) * 20], 1).astype(np.float32)
    scores, classes, images = rng.random(100), rng.integers(0, 3, 100), rng.integers(0, 6, 100)
    found, wanted = np.arange(70), np.arange(70, 100)
    together, alone = BoxConfusion(3), BoxConfusion(3)
    columns = boxes[found], scores[found], classes[found], boxes[wanted], classes[wanted]
    together.update(*columns, images[found], images[wanted])
    for image in range(6):
        own, labels = found[images[found] == image], wanted[images[wanted] == image]
        alone.update(boxes[own], scores[own], classes[own], boxes[labels], classes[labels])
    np.testing.assert_array_equal(together.matrix, alone.matrix)
    assert np.diag(together.matrix).any()
