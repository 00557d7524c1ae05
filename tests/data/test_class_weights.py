from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.class_weights import class_weights, image_weights


def test_rare_classes_weigh_more_and_the_mean_is_one():
    weights = class_weights(np.array([0, 0, 0, 0, 1, 1, 3]), 4)
    np.testing.assert_allclose(weights / weights[1], [0.5, 1, 2, 2])
    assert weights.sum() == pytest.approx(4)
    np.testing.assert_allclose(class_weights(np.zeros(0, np.int64), 3), 1)


@given(st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_image_weights_are_sums_over_their_objects(images, seed):
    precision = np.random.default_rng(seed).random(5)
    classes = np.array([label for image in images for label in image], np.int64)
    weights = class_weights(classes, 5)
    found = image_weights(weights, precision, classes, np.cumsum([0] + [len(image) for image in images]))
    expected = [sum(weights[label] * (1 - precision[label]) ** 2 / 5 for label in image) for image in images]
    np.testing.assert_allclose(found, expected)


def test_classes_that_are_found_well_pull_no_more():
    classes, offsets = np.array([0, 1]), np.array([0, 1, 2])
    assert image_weights(class_weights(classes, 2), np.array([1.0, 0.5]), classes, offsets).tolist() == [0, 0.125]
