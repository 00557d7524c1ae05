from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.device_pictures import load_pictures
from data.samples import Sample
from data.transforms.batched_labels import (
    Objects,
    flip_objects,
    move_objects,
    objects_of,
    pad_objects,
    require_flip_pairs,
)
from data.transforms.geometry import affine_matrix, draw_affine, flip_left_right, flip_up_down, move_labels
from tests.data.smooth_dataset import SmoothDataset
from utils.errors import DataError

HYP = {"degrees": 40, "translate": 0.3, "scale": 0.8, "shear": 12, "perspective": 0.001}
SIZE = (64, 80)


def samples(seed: int, count: int = 5) -> list[Sample]:
    rng = np.random.default_rng(seed)
    listed = []
    for _ in range(count):
        n = int(rng.integers(0, 4))
        corner = rng.uniform(0, 60, (n, 2))
        points = np.concatenate([rng.uniform(0, 90, (n, 3, 2)), rng.integers(0, 3, (n, 3, 1))], -1)
        listed.append(
            Sample(
                image=np.zeros((*SIZE, 3), np.uint8),
                boxes=np.concatenate([corner, corner + rng.uniform(1, 40, (n, 2))], 1).astype(np.float32),
                classes=rng.integers(0, 5, n),
                keypoints=points.astype(np.float32),
            )
        )
    return listed


def joined(listed: list[Sample]) -> Objects:
    return Objects(
        np.repeat(np.arange(len(listed)), [len(sample.boxes) for sample in listed]),
        np.concatenate([sample.boxes for sample in listed]),
        np.concatenate([sample.classes for sample in listed]),
        np.concatenate([sample.keypoints for sample in listed]),
    )


def assert_equal(objects: Objects, expected: list[Sample]) -> None:
    one = joined(expected)
    np.testing.assert_array_equal(objects.image, one.image)
    np.testing.assert_array_equal(objects.classes, one.classes)
    np.testing.assert_allclose(objects.boxes, one.boxes, atol=1e-4)
    np.testing.assert_allclose(objects.keypoints, one.keypoints, atol=1e-4)


@given(st.integers(0, 10_000))
def test_objects_move_as_those_of_single_samples(seed):
    listed, rng = samples(seed), np.random.default_rng(seed)
    draws = [draw_affine(HYP, rng) for _ in listed]
    matrices = np.array([affine_matrix(draw, SIZE, SIZE) for draw in draws])
    zooms = np.array([draw.scale for draw in draws])
    objects = joined(listed)
    moved = move_objects(objects, matrices[objects.image], SIZE, zooms[objects.image])
    assert_equal(moved, [move_labels(s, m, SIZE, z) for s, m, z in zip(listed, matrices, zooms.tolist(), strict=True)])


@given(st.integers(0, 10_000))
def test_objects_flip_as_those_of_single_samples(seed):
    listed, rng = samples(seed), np.random.default_rng(seed)
    across, down = rng.random((2, len(listed))) < 0.5
    objects = joined(listed)
    flip_objects(objects, across[objects.image], down[objects.image], SIZE, [(0, 2)])
    for i, sample in enumerate(listed):
        sample = flip_up_down(sample) if down[i] else sample
        listed[i] = flip_left_right(sample, [(0, 2)]) if across[i] else sample
    assert_equal(objects, listed)


def test_objects_are_found_by_place():
    pictures = load_pictures(SmoothDataset("pose"), 96, enlarge=True, masks=False, device=torch.device("cpu"))
    places, image = np.array([3, 0, 0, 6, 2]), np.array([0, 0, 1, 1, 3])
    objects, entry = objects_of(pictures, places, image)
    own = [np.arange(pictures.offsets[place], pictures.offsets[place + 1]) for place in places]
    np.testing.assert_array_equal(objects.boxes, pictures.boxes[np.concatenate(own)])
    np.testing.assert_array_equal(objects.keypoints, pictures.keypoints[np.concatenate(own)])
    np.testing.assert_array_equal(entry, np.repeat(np.arange(5), [len(rows) for rows in own]))
    np.testing.assert_array_equal(objects.image, image[entry])


def test_padding_keeps_every_object_in_its_image():
    objects = joined(samples(1))
    padded = pad_objects(objects, 7)
    assert padded.valid.shape == (7, padded.valid.sum(1).max()) and padded.valid[5:].sum() == 0
    np.testing.assert_array_equal(padded.boxes[padded.valid], objects.boxes)
    np.testing.assert_array_equal(padded.classes[padded.valid], objects.classes)
    np.testing.assert_array_equal(padded.keypoints[padded.valid], objects.keypoints)
    np.testing.assert_array_equal(np.nonzero(padded.valid)[0], objects.image)
    assert (padded.boxes[~padded.valid] == 0).all()


def test_flip_pairs_beyond_the_keypoints_are_refused():
    pictures = load_pictures(SmoothDataset("pose"), 96, enlarge=True, masks=False, device=torch.device("cpu"))
    require_flip_pairs(pictures, [(0, 3)])
    with pytest.raises(DataError, match="flip_pairs name a keypoint beyond the 4 of the data set"):
        require_flip_pairs(pictures, [(0, 4)])
