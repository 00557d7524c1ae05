from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.sample_key import SampleKey
from data.samples import Sample
from data.transforms.hsv_shift import shift_hsv
from data.transforms.letterbox import CENTERED, LetterboxRule, apply_plan
from data.transforms.yolox import MIXUP_TRIES, YOLOX_AUGMENTATION, YOLOXTrainTransform, drop_lost
from data.transforms.yolox_mixup import draw_mixup
from tests.data.recorder import Recorder
from tests.data.smooth_dataset import SmoothDataset
from utils.errors import ModelError

RULE = LetterboxRule("top-left", square=True)
FULL = {
    **YOLOX_AUGMENTATION,
    "mosaic": 1.0,
    "mixup": 1.0,
    "degrees": 10.0,
    "translate": 0.1,
    "shear": 2.0,
    "fliplr": 0.5,
}
POSE = FULL | {"mosaic_scale": [0.75, 1.0], "mixup_scale": [0.8, 1.6], "mixup_pad": 114}
SIZES = [(60, 80), (80, 60), (64, 64), (30, 90), (50, 50)]
PARTS = ("image", "boxes", "classes", "keypoints", "mask")


def key(index: int, **more) -> SampleKey:
    return SampleKey(0, index, **more)


@pytest.mark.parametrize("hyp", [{}, FULL, POSE, FULL | {"mosaic": 0.5}], ids=["plain", "full", "pose", "half"])
@pytest.mark.parametrize("rule", [RULE, CENTERED])
def test_every_sample_is_square_and_its_labels_lie_inside(painted, hyp, rule):
    dataset, transform = painted(SIZES), YOLOXTrainTransform(hyp, 96, rule)
    objects = 0
    for index in range(len(dataset)):
        for seed in range(8):
            sample = transform(dataset, key(index), np.random.default_rng(seed))
            assert sample.image.shape == (96, 96, 3) and sample.image.dtype == np.uint8
            assert sample.mask.shape == (96, 96)
            assert len(sample.boxes) == len(sample.classes) == len(sample.keypoints)
            assert sample.boxes.dtype == np.float32 and sample.classes.dtype == np.int64
            assert (sample.boxes >= 0).all() and (sample.boxes <= 96).all()
            assert (sample.boxes[:, 2:] - sample.boxes[:, :2] > 1).all()
            assert (sample.keypoints[..., 2] > 0).any(1).all(), "no person without a visible keypoint"
            labelled = sample.keypoints[sample.keypoints[..., 2] > 0]
            assert (labelled[:, :2] >= 0).all() and (labelled[:, :2] <= 96).all()
            assert sample.id == f"{index}.png" and sample.placement is None
            objects += len(sample.boxes)
    assert objects > 30


@pytest.mark.parametrize("task", ["detect", "pose", "segment"])
def test_the_same_seed_and_key_give_the_same_sample(task):
    dataset, transform = SmoothDataset(task), YOLOXTrainTransform(FULL, 96, RULE, [(0, 1)])
    for index in range(len(dataset)):
        one, two = (transform(dataset, key(index), key(index).generator(5)) for _ in range(2))
        other = transform(dataset, key(index), key(index).generator(6))
        for name in PARTS:
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert (one.image != other.image).any()


def test_without_mosaic_a_picture_is_letterboxed_as_in_testing(painted):
    dataset = painted([(48, 96)])
    transform = YOLOXTrainTransform({"fliplr": 0.0, "hsv_shift": [0, 0, 0]}, 96, RULE)
    sample = transform(dataset, key(0), np.random.default_rng(0))
    native = dataset.load(0)
    np.testing.assert_array_equal(sample.image, apply_plan(native.image, RULE.plan((48, 96), (96, 96))))
    np.testing.assert_array_equal(sample.boxes, native.boxes)
    assert (sample.mask[48:] == 255).all() and (sample.mask[:48] == native.mask).all()


def test_a_closed_mosaic_is_a_single_picture(painted):
    dataset = Recorder(painted([(48, 96)] * 5))
    transform = YOLOXTrainTransform(FULL | {"fliplr": 1.0}, 96, LetterboxRule("top-left", pad=60))
    for seed in range(6):
        sample = transform(dataset, key(2, mosaic=False), np.random.default_rng(seed))
        assert (sample.image[48:] == 60).all(), "the grey below keeps its level whatever the colours do"
        np.testing.assert_array_equal(sample.boxes[0], [24, 12, 72, 30])
    assert set(dataset.loaded) == {2} and len(dataset.loaded) == 6


def test_a_narrow_picture_is_mirrored_before_it_is_placed(painted):
    dataset = painted([(96, 48)])
    transform = YOLOXTrainTransform({"fliplr": 1.0, "hsv_shift": [0, 0, 0]}, 96, RULE)
    sample = transform(dataset, key(0), np.random.default_rng(0))
    np.testing.assert_array_equal(sample.image[:, :48], dataset.load(0).image[:, ::-1])
    assert (sample.image[:, 48:] == 114).all()


def test_a_rectangular_batch_has_its_shape(painted):
    sample = YOLOXTrainTransform(FULL, 128, RULE)(
        painted([(64, 96)]), key(0, shape=(96, 160)), np.random.default_rng(0)
    )
    assert sample.image.shape == (96, 160, 3)


@pytest.mark.parametrize("task", ["detect", "pose"])
def test_marks_are_found_again_where_boxes_say(painted, task):
    dataset = painted([(96, 96), (60, 96), (96, 70), (96, 96)])
    if task == "detect":
        load = dataset.load
        dataset.load = lambda index, long_side=None: replace(load(index, long_side), keypoints=None)
    recipe = FULL | {"mixup": 0.0, "hsv_shift": [0, 0, 0], "mosaic_scale": [0.5, 1.2]}
    transform = YOLOXTrainTransform(recipe, 96, RULE)
    marks = 0
    for seed in range(25):
        sample = transform(dataset, key(seed % 4), np.random.default_rng(seed))
        bright = sample.image[..., 0] > 180
        boxed = np.zeros((96, 96), bool)
        points_of = sample.keypoints if task == "pose" else [()] * len(sample.boxes)
        for (x1, y1, x2, y2), points in zip(sample.boxes, points_of, strict=True):
            boxed[max(0, int(y1) - 1) : int(y2) + 2, max(0, int(x1) - 1) : int(x2) + 2] = True
            inner = bright[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1]
            if min(x1, y1) > 0 and max(x2, y2) < 96:
                assert inner.mean() > 0.5, "a mark turned by ten degrees fills most of its hull"
                marks += 1
            for x, y, visibility in points:
                if visibility:
                    around = bright[max(int(y) - 2, 0) : int(y) + 3, max(int(x) - 2, 0) : int(x) + 3]
                    assert around.any(), "a keypoint lies at a corner of its mark"
        # A person of whom no keypoint is seen has no box, though a part of the mark may be seen.
        assert task == "pose" or not (bright & ~boxed)[1:-1, 1:-1].any(), "no mark without a box"
    assert marks > 10


def test_mixup_keeps_the_labels_of_both(painted):
    dataset = painted([(96, 96)] * 4)
    added = 0
    for seed in range(20):
        with_partner, without = (
            YOLOXTrainTransform(FULL | {"mixup": chance}, 96, RULE)(dataset, key(0), np.random.default_rng(seed))
            for chance in (1.0, 0.0)
        )
        own = len(without.boxes)
        np.testing.assert_array_equal(with_partner.boxes[:own], without.boxes)
        np.testing.assert_array_equal(with_partner.keypoints[:own], without.keypoints)
        assert len(with_partner.boxes) <= own + 1
        if own:
            added += len(with_partner.boxes) - own
            assert (with_partner.image != without.image).any()
        else:
            np.testing.assert_array_equal(with_partner.image, without.image)
    assert added > 5


def test_half_of_each_picture_is_blended():
    class Flat:
        def __len__(self) -> int:
            return 2

        def load(self, index: int, long_side: int | None = None) -> Sample:
            box = np.array([[0, 0, 64, 64]], np.float32)
            return Sample(np.full((64, 64, 3), (100, 200)[index], np.uint8), box, np.array([index]))

    recipe = {"mosaic": 1.0, "mixup": 1.0, "mosaic_scale": [1, 1], "mixup_scale": [1, 1], "hsv_shift": [0, 0, 0]}
    transform = YOLOXTrainTransform(recipe, 64, RULE)
    levels = set()
    for seed in range(12):
        sample = transform(Flat(), key(0), np.random.default_rng(seed))
        levels |= set(np.unique(sample.image))
        assert sample.classes[-1] in (0, 1) and (sample.boxes[-1] == (0, 0, 64, 64)).all()
    assert {100, 150, 200} <= levels, "the halves of 100 and 100, 100 and 200, 200 and 200"


def test_mixup_looks_for_a_partner_with_objects_but_never_for_ever(painted):
    dataset = Recorder(painted([(96, 96)] * 5), lambda index: index == 0)
    transform = YOLOXTrainTransform(FULL | {"mosaic_scale": [1, 1]}, 96, RULE)
    most = 0
    for seed in range(30):
        dataset.loaded.clear()
        transform(dataset, key(0), np.random.default_rng(seed))
        most = max(most, len(dataset.loaded))
    assert 4 < most <= 4 + MIXUP_TRIES
    dataset = Recorder(painted([(96, 96)] * 5), lambda index: False)
    for seed in range(10):
        assert len(transform(dataset, key(0), np.random.default_rng(seed)).boxes) == 0
    assert len(dataset.loaded) <= 40, "nothing is mixed into a mosaic without objects"


def test_one_picture_is_enough_for_mosaic_and_mixup(painted):
    dataset = painted([(50, 80)])
    for seed in range(10):
        sample = YOLOXTrainTransform(FULL, 96, RULE)(dataset, key(0), np.random.default_rng(seed))
        assert sample.image.shape == (96, 96, 3)


def test_other_pictures_come_from_the_keys_partners(painted):
    dataset = Recorder(painted([(64, 64)] * 9))
    transform = YOLOXTrainTransform(FULL | {"mosaic_scale": [0.4, 0.5]}, 96, RULE)
    for seed in range(40):
        transform(dataset, key(0, partners=(3, 5, 8)), np.random.default_rng(seed))
    assert set(dataset.loaded) == {0, 3, 5, 8}
    for seed in range(40):
        transform(dataset, key(0), np.random.default_rng(seed))
    assert set(dataset.loaded) == set(range(9))


@pytest.mark.parametrize(
    "change", [{"degrees": 0.0}, {"mosaic_scale": [1, 1]}, {"mixup": 0.0}, {"hsv_shift": [0, 9, 0]}]
)
def test_a_key_of_the_recipe_does_not_change_what_others_draw(painted, change):
    # With all of the geometry at rest a mirrored sample shows that the last draw is still the same one.
    dataset = painted([(96, 96)] * 4)
    still = FULL | {
        "degrees": 0,
        "translate": 0,
        "shear": 0,
        "mosaic_scale": [1, 1],
        "hsv_shift": [0, 0, 0],
        "mixup": 0,
    }
    for seed in range(12):
        base = YOLOXTrainTransform(still, 96, RULE)(dataset, key(0), np.random.default_rng(seed))
        other = YOLOXTrainTransform(still | change, 96, RULE)(dataset, key(0), np.random.default_rng(seed))
        np.testing.assert_array_equal(base.boxes, other.boxes)
        assert (base.image == other.image).all() or "hsv_shift" in change
    moving = YOLOXTrainTransform(still | {"degrees": 10.0}, 96, RULE)(dataset, key(0), np.random.default_rng(0))
    assert (moving.image != YOLOXTrainTransform(still, 96, RULE)(dataset, key(0), np.random.default_rng(0)).image).any()


def test_the_data_sets_own_arrays_are_not_changed(painted):
    kept, fresh = painted([(60, 80)]).load(0, long_side=96), painted([(60, 80)]).load(0, long_side=96)
    for name in PARTS:
        getattr(kept, name).setflags(write=False)
    dataset = painted([(60, 80)])
    dataset.load = lambda index, long_side=None: Sample(**vars(kept))
    for seed in range(10):
        YOLOXTrainTransform(FULL | {"mosaic": 0.5}, 96, RULE)(dataset, key(0), np.random.default_rng(seed))
    for name in PARTS:
        np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))


def test_drop_lost_keeps_what_can_be_learnt():
    boxes = np.array([[0, 0, 1, 9], [0, 0, 1.1, 9], [0, 0, 9, 9]], np.float32)
    sample = Sample(np.zeros((9, 9, 3), np.uint8), boxes, np.arange(3))
    assert drop_lost(sample).classes.tolist() == [1, 2]
    sample.keypoints = np.zeros((3, 2, 3), np.float32)
    sample.keypoints[2, 1] = 4, 4, 1
    assert drop_lost(sample).classes.tolist() == [2] and drop_lost(sample).keypoints.shape == (1, 2, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"mosaic": 2},
        {"mixup_pad": 300},
        {"mixup_pad": 0.5},
        {"mosaic_scale": [2, 1]},
        {"hsv_shift": [1]},
        {"shear": -1},
    ],
)
def test_a_wrong_recipe_is_refused_before_any_sample(bad):
    with pytest.raises(ModelError, match=next(iter(bad))):
        YOLOXTrainTransform(FULL | bad, 96, RULE)


def test_absent_keys_have_the_published_defaults(painted):
    dataset = painted([(96, 96)] * 4)
    shared = {name: FULL[name] for name in ("mosaic", "mixup", "degrees", "translate", "shear", "fliplr")}
    one, two = (YOLOXTrainTransform(hyp, 96, RULE)(dataset, key(1), np.random.default_rng(4)) for hyp in (shared, FULL))
    np.testing.assert_array_equal(one.image, two.image)
    assert draw_mixup({}, np.random.default_rng(1)) == draw_mixup(FULL, np.random.default_rng(1))
    assert shift_hsv(one.image, (0, 0, 0)) is one.image
