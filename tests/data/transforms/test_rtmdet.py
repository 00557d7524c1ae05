from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample_key import SampleKey
from data.samples import Sample
from data.transforms.hsv_shift import shift_hsv
from data.transforms.rtmdet import RTMDET_AUGMENTATION, TRIES, RTMDetTrainTransform, neighbours
from tests.data.fake_dataset import FakeDataset, contents, train_loader
from tests.data.recorder import Recorder
from tests.data.smooth_dataset import SmoothDataset
from utils.errors import ModelError

FULL = {**RTMDET_AUGMENTATION, "mosaic": 1.0, "mixup": 1.0, "fliplr": 0.5}
STILL = FULL | {"mosaic": 0.0, "mixup": 0.0, "fliplr": 0.0, "hsv_shift": [0, 0, 0], "resize_range": [1.0, 1.0]}
SIZES = [(60, 80), (80, 60), (64, 64), (30, 90), (50, 50)]
PARTS = ("image", "boxes", "classes", "keypoints", "mask")


class FlatDataset:
    """Every picture has one level of grey, its own, and one object that fills it."""

    levels = (30, 70, 150, 190, 230, 250)

    def __len__(self) -> int:
        return len(self.levels)

    def load(self, index: int, long_side: int | None = None) -> Sample:
        side = long_side or 64
        image = np.full((side, side, 3), self.levels[index], np.uint8)
        return Sample(image, np.array([[0, 0, side, side]], np.float32), np.array([index]), id=str(index))


def key(index: int, **more) -> SampleKey:
    return SampleKey(0, index, **more)


def make(hyp: dict, dataset, sample_key: SampleKey, seed: int, side: int = 96) -> Sample:
    return RTMDetTrainTransform(hyp, side)(dataset, sample_key, np.random.default_rng(seed))


@pytest.mark.parametrize("hyp", [{}, FULL, FULL | {"resize_range": [0.1, 2.0]}, FULL | {"mosaic": 0.5, "mixup": 0.5}])
@pytest.mark.parametrize("closed", [False, True])
def test_every_sample_is_square_and_its_labels_lie_inside(painted, hyp, closed):
    dataset, transform = painted(SIZES), RTMDetTrainTransform(hyp, 96)
    objects = 0
    for index, seed in itertools.product(range(len(dataset)), range(6)):
        sample = transform(dataset, key(index, mosaic=not closed), np.random.default_rng(seed))
        assert sample.image.shape == (96, 96, 3) and sample.image.dtype == np.uint8
        assert sample.mask.shape == (96, 96) and sample.placement is None and sample.id.endswith(".png")
        assert len(sample.boxes) == len(sample.classes) == len(sample.keypoints)
        assert sample.boxes.dtype == np.float32 and sample.classes.dtype == np.int64
        assert (sample.boxes >= 0).all() and (sample.boxes <= 96).all()
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        labelled = sample.keypoints[sample.keypoints[..., 2] > 0]
        assert (labelled[:, :2] >= 0).all() and (labelled[:, :2] <= 96).all()
        assert (sample.keypoints[..., 2] > 0).any(1).all()
        objects += len(sample.boxes)
    assert objects > 25


@pytest.mark.parametrize("task", ["detect", "pose", "segment"])
def test_the_same_seed_and_key_give_the_same_sample_whatever_came_before(task):
    dataset, transform = SmoothDataset(task), RTMDetTrainTransform(FULL, 96, [(0, 1)])
    fresh = [RTMDetTrainTransform(FULL, 96, [(0, 1)])(dataset, key(i), key(i).generator(5)) for i in range(7)]
    for index in reversed(range(7)):
        one = transform(dataset, key(index), key(index).generator(5))
        for name in PARTS:
            np.testing.assert_array_equal(getattr(one, name), getattr(fresh[index], name))
        assert (one.image != transform(dataset, key(index), key(index).generator(6)).image).any()


@pytest.mark.parametrize("size", [(48, 96), (96, 48), (96, 96)])
def test_a_single_picture_is_mirrored_before_it_is_padded_to_the_right_and_below(painted, size):
    dataset = painted([size])
    sample = make(STILL | {"fliplr": 1.0}, dataset, key(0, mosaic=False), 0)
    native = dataset.load(0, 96)
    height, width = size
    np.testing.assert_array_equal(sample.image[:height, :width], native.image[:, ::-1])
    np.testing.assert_array_equal(sample.mask[:height, :width], native.mask[:, ::-1])
    assert (sample.image[height:] == 114).all() and (sample.image[:, width:] == 114).all()
    assert (sample.mask[height:] == 255).all() and (sample.mask[:, width:] == 255).all()
    x1, y1, x2, y2 = native.boxes[0]
    np.testing.assert_allclose(sample.boxes, [[width - x2, y1, width - x1, y2]])


def test_the_last_stage_is_resize_crop_colour_flip_and_pad():
    """The whole of it against plain steps in the published order, with whatever was drawn found by trial."""
    dataset = SmoothDataset("detect", sizes=[(90, 120)])
    hyp = FULL | {"resize_range": [0.5, 2.0]}
    for seed in range(6):
        sample = make(hyp, dataset, key(0, mosaic=False), seed)
        numbers = np.random.default_rng(seed)
        numbers.random(2)
        first = numbers.random((TRIES, 9))[0]
        mirrored = numbers.random(2)[1] < 0.5
        unit, chance = numbers.uniform(-1, 1, 3), numbers.random(3)
        shifts = tuple(int(u * r) if c < 0.5 else 0 for u, r, c in zip(unit, (5, 30, 30), chance, strict=True))
        picture = dataset.load(0, int(96 * (0.5 + 1.5 * first[2])))
        height, width = (min(side, 96) for side in picture.image.shape[:2])
        x, y = (int(first[3 + i] * (picture.image.shape[1 - i] - (width, height)[i] + 1)) for i in (0, 1))
        crop = shift_hsv(picture.image[y : y + height, x : x + width], shifts)
        expected = np.full((96, 96, 3), 114, np.uint8)
        expected[:height, :width] = crop[:, ::-1] if mirrored else crop
        np.testing.assert_array_equal(sample.image, expected)


def test_a_closed_mosaic_is_a_single_picture(painted):
    dataset = Recorder(painted([(96, 96)] * 5))
    for seed in range(6):
        sample = make(FULL | {"resize_range": [0.3, 0.9]}, dataset, key(2, mosaic=False), seed)
        assert len(sample.boxes) == 1 and sample.id == "2.png"
    assert dataset.loaded == [2] * 6


def test_a_rectangular_batch_has_its_shape(painted):
    dataset = Recorder(painted([(64, 96)] * 3))
    sample = make(FULL, dataset, key(1, shape=(96, 160)), 0, side=128)
    assert sample.image.shape == (96, 160, 3) and set(dataset.loaded) == {1}


def test_canvas_grey_takes_part_in_the_colour_shift_and_padding_does_not():
    dataset = FlatDataset()
    hyp = FULL | {"mixup": 0.0, "resize_range": [0.25, 0.25], "hsv_shift": [0, 0, 60]}
    levels = set()
    for seed in range(20):
        sample = make(hyp, dataset, key(0), seed)
        assert (sample.image[48:] == 114).all() and (sample.image[:, 48:] == 114).all()
        levels |= set(np.unique(sample.image[:48, :48, 0]).tolist())
    assert len(levels) > 20, "four tiles and the grey, each at many levels"


def test_mixup_blends_a_second_sample_in_and_keeps_the_labels_of_both():
    dataset, blends = FlatDataset(), set()
    hyp = STILL | {"mixup": 1.0, "mixup_beta": 10_000.0}
    for seed in range(40):
        sample = make(hyp, dataset, key(1), seed)
        assert sample.classes[0] == 1 and len(sample.boxes) == 2 and sample.id == "1"
        second = int(sample.classes[1])
        expected = (dataset.levels[1] + dataset.levels[second]) / 2
        assert np.abs(sample.image.astype(float) - expected).max() <= 5
        blends.add(second)
    assert blends == set(range(6)), "itself among them"


def test_shares_of_mixup_follow_the_beta_distribution():
    class Two(FlatDataset):
        levels = (0, 200)

    levels = []
    for seed in range(300):
        sample = make(STILL | {"mixup": 1.0, "mixup_beta": 32.0}, Two(), key(0), seed, side=32)
        levels += [sample.image[0, 0, 0] / 200] if sample.classes[1] == 1 else []
    assert len(levels) > 100
    # The variance of Beta(32, 32) is 1 / (4 * 65).
    assert np.mean(levels) == pytest.approx(0.5, abs=0.02) and np.std(levels) == pytest.approx(0.062, rel=0.2)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_what_mixup_adds_leaves_the_first_sample_as_it_is(chance):
    dataset = SmoothDataset("pose")
    for seed in range(8):
        mixed, alone = (make(FULL | {"mixup": c}, dataset, key(3), seed) for c in (chance, 0.0))
        own = len(alone.boxes)
        np.testing.assert_array_equal(mixed.boxes[:own], alone.boxes)
        np.testing.assert_array_equal(mixed.keypoints[:own], alone.keypoints)
        assert (mixed.image != alone.image).any() == bool(chance)


def test_mixed_masks_are_ignored_where_they_disagree():
    dataset = SmoothDataset("segment")
    for seed in range(6):
        mixed, alone = (make(FULL | {"mixup": c}, dataset, key(3), seed) for c in (1.0, 0.0))
        assert ((mixed.mask == alone.mask) | (mixed.mask == 255)).all()


@given(st.data())
def test_neighbours_are_the_last_ones_up_to_the_sample_around_the_circle(data):
    partners = tuple(data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=12, unique=True)))
    place, count = data.draw(st.integers(0, len(partners) - 1)), data.draw(st.integers(1, 15))
    found = neighbours(key(partners[place], partners=partners), count)
    assert len(found) == min(count, len(partners)) and partners[place] in found
    if count < len(partners):
        assert [*found] == [partners[(place - back) % len(partners)] for back in reversed(range(count))]


def test_other_pictures_come_from_shortly_before(painted):
    dataset, partners = Recorder(painted([(64, 64)] * 12)), (7, 3, 5, 8, 0, 11, 2)
    # All of the canvas is seen, so there is always an object.
    hyp = FULL | {"mosaic_cache": 3, "mixup_cache": 2, "mixup": 0.0, "resize_range": [0.4, 0.5]}
    for seed in range(40):
        make(hyp, dataset, key(8, partners=partners), seed)
    assert set(dataset.loaded) == {3, 5, 8}
    dataset.loaded.clear()
    for seed in range(40):
        make(hyp | {"mosaic": 0.0, "mixup": 1.0}, dataset, key(8, partners=partners), seed)
    assert set(dataset.loaded) == {5, 8}
    for seed in range(60):
        make(FULL, dataset, key(8), seed)
    assert set(dataset.loaded) == set(range(12)), "without partners all of the set"


@pytest.mark.parametrize("mosaic", [True, False])
def test_where_nothing_is_left_another_sample_is_drawn(mosaic):
    dataset = Recorder(SmoothDataset("detect", sizes=[(96, 96)] * 6), lambda index: index == 3)
    found = set()
    for seed in range(30):
        sample = make(FULL | {"mixup": 0.0}, dataset, key(0, mosaic=mosaic, partners=(0, 1, 3)), seed)
        found.add(len(sample.boxes) > 0)
    assert found == {True} or found == {True, False}
    assert set(dataset.loaded) == {0, 1, 3}


def test_a_set_without_objects_gives_samples_without_objects_in_bounded_time(painted):
    dataset = Recorder(painted([(64, 64)] * 5), lambda index: False)
    assert len(make(FULL, dataset, key(1), 0).boxes) == 0
    assert len(dataset.loaded) <= 2 * 4 * TRIES
    dataset.loaded.clear()
    assert make(FULL, dataset, key(1, mosaic=False), 0).image.shape == (96, 96, 3)
    assert len(dataset.loaded) == TRIES


def test_one_picture_is_enough(painted):
    for seed in range(8):
        assert make(FULL, painted([(50, 80)]), key(0), seed).image.shape == (96, 96, 3)


@pytest.mark.parametrize("change", [{"resize_range": [0.9, 0.9]}, {"mixup": 1.0}, {"hsv_shift": [0, 0, 9]}])
def test_a_key_of_the_recipe_does_not_change_what_others_draw(painted, change):
    dataset = painted([(96, 96)] * 4)
    hyp = STILL | {"fliplr": 0.5}
    base, other = ([make(h, dataset, key(1), seed) for seed in range(12)] for h in (hyp, hyp | change))
    if "resize_range" in change:
        base, other = ([sample.boxes[0, 0] > 30 for sample in samples] for samples in (base, other))
        assert base == other, "mirrored in the same samples"
    else:
        for ours, theirs in zip(base, other, strict=True):
            np.testing.assert_array_equal(ours.boxes, theirs.boxes[: len(ours.boxes)])


def test_marks_follow_mirrors_and_windows_and_pairs_trade_places(painted):
    dataset, seen = painted([(96, 96), (60, 96), (96, 70), (96, 96)]), 0
    transform = RTMDetTrainTransform(FULL | {"mixup": 0.0, "hsv_shift": [0, 0, 0]}, 96, [(0, 1)])
    for seed in range(25):
        sample = transform(dataset, key(seed % 4), np.random.default_rng(seed))
        bright = sample.image[..., 0] > 180
        for (x1, y1, x2, y2), points in zip(sample.boxes, sample.keypoints, strict=True):
            inner = bright[int(y1) + 2 : int(y2) - 1, int(x1) + 2 : int(x2) - 1]
            assert inner.all()
            if min(x1, y1) > 0 and max(x2, y2) < 96:
                left, right = points[0], points[1]
                assert not (left[2] and right[2]) or left[0] < right[0]
                seen += bool(left[2] and right[2])
        inside = cv2.erode((sample.mask == 1).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert bright[inside].all() and ((sample.mask == 1) == bright).mean() > 0.97
    assert seen > 10


def test_the_data_sets_own_arrays_are_not_changed(painted):
    kept, fresh = painted([(60, 80)]).load(0, long_side=96), painted([(60, 80)]).load(0, long_side=96)
    for name in PARTS:
        getattr(kept, name).setflags(write=False)
    dataset = painted([(60, 80)])
    dataset.load = lambda index, long_side=None: replace(kept)
    for seed in range(10):
        make(FULL | {"mosaic": 0.5}, dataset, key(0), seed)
        make(FULL, dataset, key(0, mosaic=False), seed)
    for name in PARTS:
        np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))


@pytest.mark.parametrize(
    "bad",
    [
        {"mosaic": 2},
        {"mixup": -1},
        {"resize_range": [2, 1]},
        {"resize_range": [0, 1]},
        {"mosaic_cache": 0},
        {"mixup_cache": 2.5},
        {"mixup_beta": 0},
        {"hsv_shift": [1]},
    ],
)
def test_a_wrong_recipe_is_refused_before_any_sample(bad):
    with pytest.raises(ModelError, match=next(iter(bad))):
        RTMDetTrainTransform(FULL | bad, 96)


def test_workers_processes_and_resumed_runs_make_the_same_batches():
    dataset = FakeDataset(30, broken=(4,))

    def loader(workers: int = 0, **options):
        return train_loader(workers, dataset, RTMDetTrainTransform(FULL, 64), closing_batch=10, **options)

    whole = contents(itertools.islice(loader().stream(), 16))
    assert contents(itertools.islice(loader(2).stream(), 16)) == whole
    for first in (3, 9, 12):
        assert contents(itertools.islice(loader(2).stream(first), 16 - first)) == whole[first:]
    halves = [itertools.islice(loader(share=(rank, 2)).stream(), 16) for rank in (0, 1)]
    assert [a.ids + b.ids for a, b in zip(*halves, strict=True)] == [batch[0] for batch in whole]
