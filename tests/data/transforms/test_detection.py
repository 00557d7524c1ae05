from __future__ import annotations

import numpy as np
import pytest

from data.sample_key import SampleKey
from data.samples import Sample
from data.transforms.detection import DetectionTrainTransform
from utils.errors import ModelError

FULL = {
    "mosaic": 1.0,
    "mixup": 0.5,
    "degrees": 5.0,
    "translate": 0.1,
    "scale": 0.5,
    "shear": 2.0,
    "perspective": 0.0005,
    "flipud": 0.5,
    "fliplr": 0.5,
    "hsv_h": 0.015,
    "hsv_s": 0.7,
    "hsv_v": 0.4,
}
SIZES = [(60, 80), (80, 60), (64, 64), (30, 90), (50, 50)]


@pytest.mark.parametrize("hyp", [{}, FULL, FULL | {"mosaic": 0.0}], ids=["plain", "full", "no mosaic"])
def test_every_sample_is_square_and_its_labels_lie_inside(painted, hyp):
    dataset = painted(SIZES)
    transform = DetectionTrainTransform(hyp, 96)
    for index in range(len(dataset)):
        for seed in range(8):
            sample = transform(dataset, SampleKey(0, index), np.random.default_rng(seed))
            assert sample.image.shape == (96, 96, 3) and sample.image.dtype == np.uint8
            assert sample.mask.shape == (96, 96)
            assert len(sample.boxes) == len(sample.classes) == len(sample.keypoints)
            assert sample.boxes.dtype == np.float32 and sample.classes.dtype == np.int64
            assert (sample.boxes >= 0).all() and (sample.boxes <= 96).all()
            assert (sample.boxes[:, 2:] - sample.boxes[:, :2] > 2).all()
            assert sample.id == f"{index}.png" and sample.placement is None


def test_the_same_generator_gives_the_same_sample(painted):
    dataset, transform = painted(SIZES), DetectionTrainTransform(FULL, 96)
    one, two, other = (transform(dataset, SampleKey(0, 1), np.random.default_rng(seed)) for seed in (5, 5, 6))
    for name in ("image", "boxes", "classes", "keypoints", "mask"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one.image != other.image).any()


def test_an_empty_recipe_letterboxes(painted):
    dataset = painted([(48, 96)])
    sample = DetectionTrainTransform({}, 96)(dataset, SampleKey(0, 0), np.random.default_rng(0))
    native = dataset.load(0)
    np.testing.assert_array_equal(sample.image[24:72], native.image)
    assert (sample.image[:24] == 114).all() and (sample.mask[72:] == 255).all()
    np.testing.assert_allclose(sample.boxes, native.boxes + np.array([0, 24, 0, 24]))


def test_mosaic_boxes_fit_the_painted_rectangles(painted):
    dataset = painted([(96, 96)] * 4)
    found = 0
    for seed in range(10):
        sample = DetectionTrainTransform({"mosaic": 1.0, "scale": 0.4}, 96)(
            dataset, SampleKey(0, 0), np.random.default_rng(seed)
        )
        for x1, y1, x2, y2 in sample.boxes.round().astype(int):
            inner = sample.image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
            assert (inner == 250).all()
            assert (sample.mask[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == 1).all()
            found += 1
        boxed = np.zeros((96, 96), bool)
        for x1, y1, x2, y2 in sample.boxes:
            boxed[max(0, int(y1) - 2) : int(y2) + 3, max(0, int(x1) - 2) : int(x2) + 3] = True
        outside = (sample.image[..., 0] > 200) & ~boxed
        assert outside.mean() < 0.04, "only slivers at the border may lose their box"
    assert found > 10


def test_probabilities_switch_flips_and_mixup(painted):
    dataset = painted([(96, 96)] * 4)
    plain = DetectionTrainTransform({}, 96)(dataset, SampleKey(0, 0), np.random.default_rng(0))
    mirrored = DetectionTrainTransform({"fliplr": 1.0}, 96)(dataset, SampleKey(0, 0), np.random.default_rng(0))
    upside_down = DetectionTrainTransform({"flipud": 1.0}, 96)(dataset, SampleKey(0, 0), np.random.default_rng(0))
    np.testing.assert_array_equal(mirrored.image, plain.image[:, ::-1])
    np.testing.assert_array_equal(upside_down.image, plain.image[::-1])
    recipe = {"mosaic": 1.0, "mixup": 1.0}
    blended = DetectionTrainTransform(recipe, 96)(dataset, SampleKey(0, 0), np.random.default_rng(0))
    single = DetectionTrainTransform(recipe | {"mixup": 0.0}, 96)(dataset, SampleKey(0, 0), np.random.default_rng(0))
    assert len(blended.boxes) > len(single.boxes)


def test_the_data_sets_own_arrays_are_not_changed(painted):
    dataset = painted([(60, 80)])
    kept = dataset.load(0, long_side=96)
    dataset.load = lambda index, long_side=None: kept
    fresh = painted([(60, 80)]).load(0, long_side=96)
    for seed in range(5):
        DetectionTrainTransform(FULL | {"mosaic": 0.5}, 96)(dataset, SampleKey(0, 0), np.random.default_rng(seed))
    for name in ("image", "boxes", "classes", "keypoints", "mask"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))


@pytest.mark.parametrize("bad", [{"mosaic": 2}, {"hsv_h": -1}, {"degrees": "5"}, {"flip_pairs": [[1]]}])
def test_a_wrong_recipe_is_refused_before_any_sample(bad):
    with pytest.raises(ModelError, match=next(iter(bad))):
        DetectionTrainTransform(FULL | bad, 96)


def marked(sizes: list[tuple[int, int]], painted) -> tuple[object, list[int]]:
    """Return a painted data set and the list to which it adds every index that is loaded."""
    dataset, loaded = painted(sizes), []
    load = dataset.load

    def note(index: int, long_side: int | None = None):
        loaded.append(index)
        return load(index, long_side=long_side)

    dataset.load = note
    return dataset, loaded


def test_a_key_without_mosaic_shows_one_picture_alone(painted):
    dataset, loaded = marked(SIZES, painted)
    transform = DetectionTrainTransform({"mosaic": 1.0, "mixup": 1.0}, 96)
    sample = transform(dataset, SampleKey(0, 1, mosaic=False), np.random.default_rng(0))
    assert loaded == [1] and sample.image.shape == (96, 96, 3)


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_a_key_with_a_shape_shows_one_picture_letterboxed_into_it(painted, mosaic):
    dataset, loaded = marked([(48, 96)] * 5, painted)
    transform = DetectionTrainTransform({"mosaic": mosaic, "mixup": 1.0}, 96)
    sample = transform(dataset, SampleKey(0, 2, shape=(64, 96)), np.random.default_rng(0))
    native = dataset.load(2)
    assert loaded == [2, 2] and sample.image.shape == (64, 96, 3) and sample.mask.shape == (64, 96)
    np.testing.assert_array_equal(sample.image[8:56], native.image)
    assert (sample.image[:8] == 114).all() and (sample.image[56:] == 114).all()
    np.testing.assert_allclose(sample.boxes, native.boxes + np.array([0, 8, 0, 8]))


def test_padding_beyond_the_training_size_does_not_enlarge_the_picture(painted):
    sample = DetectionTrainTransform({}, 96)(
        painted([(48, 96)]), SampleKey(0, 0, shape=(64, 128)), np.random.default_rng(0)
    )
    assert (sample.image[8:56, 16:112] != 114).any(axis=(0, 2)).all()
    assert (sample.image[:, :16] == 114).all() and (sample.image[:, 112:] == 114).all()


def test_mosaic_and_mixup_find_their_other_pictures_among_the_partners(painted):
    dataset, loaded = marked([(64, 64)] * 9, painted)
    transform = DetectionTrainTransform({"mosaic": 1.0, "mixup": 1.0}, 96)
    for seed in range(20):
        transform(dataset, SampleKey(0, 0, partners=(3, 5, 8)), np.random.default_rng(seed))
    assert set(loaded) == {0, 3, 5, 8}
    assert 20 * 7 < len(loaded) <= 20 * 8, "all but those of which not one pixel is seen"
    loaded.clear()
    for seed in range(40):
        transform(dataset, SampleKey(0, 0), np.random.default_rng(seed))
    assert set(loaded) == set(range(9))


def test_objects_that_are_too_long_are_dropped():
    """YOLOv6 drops what is 20 times as long as it is wide, YOLOv5 and YOLOv8 what is 100 times."""
    boxes = np.array([[10, 10, 90, 14.5], [10, 30, 90, 33], [10, 50, 14, 90]], np.float32)

    class Long:
        def __len__(self) -> int:
            return 1

        def load(self, index: int, long_side: int | None = None) -> Sample:
            return Sample(np.zeros((96, 96, 3), np.uint8), boxes.copy(), np.arange(3))

    def sample(seed: int, **hyp: float) -> Sample:
        return DetectionTrainTransform(hyp, 96)(Long(), SampleKey(0, 0), np.random.default_rng(seed))

    for most, kept in ((20.0, [0, 2]), (100.0, [0, 1, 2]), (15.0, [2])):
        assert sample(0, max_aspect=most).classes.tolist() == kept
        assert sample(0, max_aspect=most, degrees=1e-9).classes.tolist() == kept, "by a warp"
    assert sample(0).classes.tolist() == [0, 1, 2], "100 unless the recipe says it"
    for degrees in (0.0, 1e-9):
        counts = []
        for most in (100.0, 8.0):
            found = [sample(seed, max_aspect=most, mosaic=1.0, degrees=degrees).boxes for seed in range(8)]
            sides = np.concatenate(found)[:, 2:] - np.concatenate(found)[:, :2]
            assert (sides.max(1) / sides.min(1) < most).all()
            counts.append(len(sides))
        assert counts[0] > counts[1] > 0
    with pytest.raises(ModelError, match="max_aspect"):
        DetectionTrainTransform({"max_aspect": 0.5}, 96)
