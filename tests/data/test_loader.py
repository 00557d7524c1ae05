from __future__ import annotations

import itertools
import os
import random
import time
from multiprocessing.reduction import ForkingPickler

import cv2
import numpy as np
import pytest
import torch

from data.config import load_data_config
from data.dataset import TaskDataset
from data.deliveries import TestBatchMaker, TrainBatchMaker
from data.loader import build_test_loader, build_train_loader
from data.samples import Batch, Sample, collate
from data.transforms.detection import DetectionTrainTransform
from data.transforms.letterbox import LetterboxRule
from data.transforms.segmentation import SegmentationTrainTransform
from tests.data.fake_dataset import RECIPE, FakeDataset, contents, train_loader
from utils.boxes import scale_to_native
from utils.errors import DataError, ModelError


def first_of(stream, count: int) -> list[tuple]:
    return contents(itertools.islice(stream, count))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [0, 2, 4])
def test_a_stream_is_pass_after_pass(workers, first):
    alone = train_loader()
    expected = [batch for number in range(4) for batch in contents(alone.batches(number))]
    assert first_of(train_loader(workers).stream(first), 12 - first) == expected[first:]


class CountingDataset(FakeDataset):
    """Counts in shared memory how many pictures were loaded."""

    def __init__(self, count: int = 10):
        super().__init__(count)
        self.loaded = torch.zeros(len(self), dtype=torch.int64).share_memory_()

    def load(self, index: int, long_side: int | None = None) -> Sample:
        self.loaded[index] += 1
        return super().load(index, long_side)


def settled(dataset: CountingDataset) -> int:
    """Return how many pictures were loaded once no more are."""
    before, still = -1, 0
    while still < 5:
        time.sleep(0.1)
        total = int(dataset.loaded.sum())
        before, still = total, still + 1 if total == before else 0
    return before


def test_workers_work_ahead_across_the_end_of_a_pass():
    dataset = CountingDataset()
    stream = train_loader(1, dataset, DetectionTrainTransform({}, 64)).stream()
    for _ in range(3):
        next(stream)
    # Ten pictures of the pass that is over, and two batches of the next one.
    assert settled(dataset) == 18


def test_with_image_weights_workers_wait_for_those_of_the_next_pass():
    dataset = CountingDataset()
    loader = train_loader(1, dataset, DetectionTrainTransform({}, 64))
    loader.set_image_weights(np.eye(10)[2])
    stream = loader.stream()
    assert {name for _ in range(3) for name in next(stream).ids} == {"2.png"}
    assert settled(dataset) == 10
    loader.set_image_weights(np.eye(10)[6])
    assert {name for _ in range(3) for name in next(stream).ids} == {"6.png"}
    assert dataset.loaded.tolist() == [0, 0, 10, 0, 0, 0, 10, 0, 0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_weighted_run_goes_on_in_the_middle_of_a_pass(workers):
    weights = [np.arange(10), np.arange(10)[::-1], np.ones(10)]
    loader = train_loader(workers)
    loader.set_image_weights(weights[0])
    stream, whole, saved = loader.stream(), [], {}
    for number in range(9):
        whole += first_of(stream, 1)
        if number in (1, 5):
            loader.set_image_weights(weights[1 + number // 4])
        saved[number + 1] = loader.image_weights
    assert len({ids for ids, *_ in ((tuple(batch[0]),) for batch in whole)}) == 9
    for start in range(1, 9):
        resumed = train_loader(workers)
        resumed.image_weights = saved[start]
        again, found = resumed.stream(start), []
        for number in range(start, 9):
            found += first_of(again, 1)
            if number in (1, 5):
                resumed.set_image_weights(weights[1 + number // 4])
        assert found == whole[start:]


def test_a_run_that_goes_on_between_two_passes_can_still_weigh_the_second():
    # As one does that was ended after the last batch of an epoch and before its validation.
    loader, resumed = train_loader(), train_loader()
    for each in (loader, resumed):
        each.set_image_weights(np.ones(10), 0)
    stream, again = loader.stream(), resumed.stream(len(resumed))
    first_of(stream, len(loader))
    for each in (loader, resumed):
        each.set_image_weights(np.eye(10)[6])
    second = first_of(stream, 1)
    assert set(second[0][0]) == {"6.png"}
    assert first_of(again, 1) == second
    assert resumed.image_weights.keys() == loader.image_weights.keys()


def test_weights_that_come_too_late_are_refused():
    loader = train_loader()
    loader.stream()
    with pytest.raises(ValueError, match="before the first stream"):
        loader.set_image_weights(np.ones(10))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("rect", [None, (64, 32)])
def test_two_halves_are_the_whole_batch_and_an_empty_half_is_an_empty_batch(workers, rect):
    dataset = FakeDataset(9)  # one picture is left for the last batch
    whole = train_loader(0, dataset, rect=rect).stream()
    halves = [train_loader(workers, dataset, rect=rect, share=(rank, 2)).stream() for rank in (0, 1)]
    empty = 0
    for _ in range(6):
        batch, *parts = (next(stream) for stream in (whole, *halves))
        assert [name for part in parts for name in part.ids] == batch.ids
        for name in ("images", "masks"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
        for name in ("boxes", "classes"):  # every batch pads its own objects
            objects = torch.cat([getattr(part, name)[part.valid] for part in parts])
            assert torch.equal(objects, getattr(batch, name)[batch.valid])
        empty += sum(len(part) == 0 for part in parts)
        for part in parts:
            assert part.images.shape[1:] == batch.images.shape[1:] and part.images.dtype == torch.uint8
            assert part.images.is_contiguous(memory_format=torch.channels_last)
            assert len(part.to(torch.device("cpu"))) == len(part.ids) == len(part)
    assert empty == 2


def test_an_empty_batch_keeps_every_field_that_a_full_one_has():
    keypoints = np.zeros((2, 17, 3), np.float32)
    sample = Sample(np.zeros((32, 48, 3), np.uint8), np.zeros((2, 4), np.float32), np.zeros(2, np.int64), keypoints)
    empty = collate([sample]).without_samples()
    assert [empty.images.shape, empty.boxes.shape, empty.keypoints.shape] == [(0, 3, 32, 48), (0, 2, 4), (0, 2, 17, 3)]
    assert empty.masks is None and empty.ids == [] and empty.placements is None and len(empty) == 0
    assert empty.classes.dtype == torch.int64 and empty.valid.dtype == torch.bool


def test_rectangular_batches_have_the_shape_of_their_images():
    dataset = FakeDataset(sizes=[(30, 60)] * 4 + [(60, 60)] * 4 + [(60, 30)] * 4)
    loader = train_loader(2, dataset, DetectionTrainTransform(RECIPE, 64), rect=(64, 32))
    shapes = [[tuple(batch.images.shape[2:]) for batch in loader.batches(number)] for number in range(6)]
    assert {tuple(sorted(found)) for found in shapes} == {((32, 64), (64, 32), (64, 64))}
    assert len({tuple(found) for found in shapes}) > 1


def test_mosaic_ends_with_the_closing_batch():
    recipe = DetectionTrainTransform({"mosaic": 1.0}, 64)
    mixed, single, closing = (
        first_of(train_loader(0, transform=transform, closing_batch=closing).stream(), 6)
        for transform, closing in ((recipe, None), (recipe, 0), (recipe, 4))
    )
    assert all(one != other for one, other in zip(mixed, single, strict=True))
    assert closing == mixed[:4] + single[4:]


def test_one_corrupt_picture_among_a_thousand_is_counted_and_named(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(1000):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.jpg"), rng.integers(0, 255, (16, 16, 3), np.uint8))
    broken = tmp_path / "images" / "500.jpg"
    (tmp_path / "data.yaml").write_text("detect: {train: images, names: [thing]}")
    data = load_data_config(tmp_path / "data.yaml", ("train",)).tasks["detect"]
    dataset = TaskDataset(data, "train")
    broken.write_bytes(broken.read_bytes()[:200])  # it breaks after the scan, as in a run of days
    loader = train_loader(2, dataset, DetectionTrainTransform({}, 32), batch_size=100)
    batches = list(itertools.islice(loader.stream(), 20))
    assert [len(batch) for batch in batches] == [100] * 20
    assert len(loader.skipped) == 1 and str(broken) in loader.skipped[0]
    assert all(batch.masks is None and batch.keypoints is None for batch in batches)


@pytest.mark.parametrize("transform", [None, SegmentationTrainTransform({}, 96, (64, 80))], ids=["detect", "segment"])
def test_the_content_does_not_depend_on_the_number_of_workers(transform):
    alone, two = train_loader(0, transform=transform), train_loader(2, transform=transform)
    for epoch in (0, 1):
        expected = contents(alone.batches(epoch))
        assert len(expected) == len(alone) == 3
        assert contents(two.batches(epoch)) == expected


def test_epochs_and_seeds_differ():
    assert contents(train_loader().batches(0)) != contents(train_loader().batches(1))
    assert contents(train_loader().batches(0)) != contents(train_loader(seed=4).batches(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_training_goes_on_at_any_batch_even_after_an_abandoned_epoch(workers):
    whole = contents(train_loader().batches(2))
    loader = train_loader(workers)
    for start in (0, 1, 2, 3):
        next(loader.batches(0))
        assert contents(loader.batches(2, start)) == whole[start:]


def test_workers_live_on_between_epochs():
    loader = train_loader(2, transform=note_process)
    first, second = ({sample_id for batch in loader.batches(epoch) for sample_id in batch.ids} for epoch in (0, 1))
    assert first == second and str(os.getpid()) not in first and len(first) == 2


def note_process(dataset, key, rng) -> Sample:
    return Sample(image=np.zeros((8, 8, 3), np.uint8), id=str(os.getpid()))


def test_global_random_numbers_are_neither_read_nor_moved():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    expected = contents(train_loader().batches(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]
    torch.manual_seed(9), np.random.seed(9), random.seed(9)
    assert contents(train_loader().batches(0)) == expected


def test_images_are_uint8_channels_last():
    batch = next(train_loader().batches(0))
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (4, 3, 64, 64)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_replaced_and_reported_once(workers):
    loader = train_loader(workers, FakeDataset(broken=(4,)), transform=DetectionTrainTransform({"mosaic": 1.0}, 64))
    for epoch in (0, 1):
        batches = list(loader.batches(epoch))
        assert sum(len(batch) for batch in batches) == 10
        assert loader.skipped == ["4.png: the file is cut off; copy it again"]
        assert not any((batch.classes[batch.valid] == 4).any() for batch in batches)


def test_replacements_do_not_depend_on_workers():
    loaders = [train_loader(workers, FakeDataset(broken=(4, 5))) for workers in (0, 2)]
    assert contents(loaders[0].batches(0)) == contents(loaders[1].batches(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_data_sets_own_sentence_arrives_when_nothing_can_be_read(workers):
    loader = train_loader(workers, FakeDataset(3, broken=(0, 1, 2)))
    with pytest.raises(DataError, match=r"^\d\.png: the file is cut off; copy it again$"):
        list(loader.batches(0))


def refuse(dataset, key, rng) -> Sample:
    raise ModelError("recipe key 'x' is wrong: give a number")


@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_keep_their_kind_and_words(workers):
    with pytest.raises(ModelError, match=r"^recipe key 'x' is wrong: give a number$"):
        list(train_loader(workers, transform=refuse).batches(0))


def stumble(dataset, key, rng) -> Sample:
    raise ValueError("a defect of the program")


@pytest.mark.parametrize("workers", [0, 1])
def test_defects_of_the_program_are_not_hidden(workers):
    try:
        list(train_loader(workers, transform=stumble).batches(0))
    except ValueError as error:
        # Without its traceback: DataLoader ties that into a cycle, and would wait 5 s for its workers inside the next
        # garbage collection.
        caught = error.with_traceback(None)
    assert "a defect of the program" in str(caught)


def test_an_empty_data_set_is_refused():
    empty = FakeDataset(0, sizes=[])
    with pytest.raises(DataError, match="'detect' is empty"):
        build_train_loader(empty, refuse, 4, 0, 0)
    with pytest.raises(DataError, match="'detect' is empty"):
        build_test_loader(empty, 64, 4, 32, 0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("rect", [True, False])
def test_testing_visits_every_image_once_with_its_way_back(workers, rect):
    dataset = FakeDataset()
    loader = build_test_loader(dataset, 64, 4, 32, workers, rect=rect)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == 3
        assert sorted(i for batch in batches for i in batch.ids) == sorted(f"{i}.png" for i in range(10))
        for batch in batches:
            check_way_back(batch, dataset)
            if not rect:
                assert batch.images.shape[2:] == (64, 64)


def check_way_back(batch: Batch, dataset: FakeDataset) -> None:
    assert batch.images.shape[2] % 32 == 0 and batch.images.shape[3] % 32 == 0 and batch.masks is None
    for i, name in enumerate(batch.ids):
        native = dataset.load(int(name.removesuffix(".png")))
        boxes = scale_to_native(batch.boxes[i][batch.valid[i]], batch.placements[i])
        np.testing.assert_allclose(boxes.numpy(), native.boxes, atol=1e-3)
        np.testing.assert_array_equal(batch.native_masks[i].numpy(), native.mask)


def test_equal_images_get_the_smallest_rectangle():
    loader = build_test_loader(FakeDataset(sizes=[(90, 160)] * 5), 160, 2, 32, 0, pad=0.0)
    assert {tuple(batch.images.shape[2:]) for batch in loader} == {(96, 160)}


@pytest.mark.parametrize("workers", [0, 2])
def test_testing_leaves_unreadable_images_out_and_reports_them(workers):
    loader = build_test_loader(FakeDataset(broken=(0, 1, 2, 3, 7)), 64, 4, 32, workers)
    ids = [i for batch in loader for i in batch.ids]
    assert sorted(ids) == ["4.png", "5.png", "6.png", "8.png", "9.png"]
    assert sorted(loader.skipped) == [f"{i}.png: the file is cut off; copy it again" for i in (0, 1, 2, 3, 7)]


def test_testing_stops_when_nothing_can_be_read():
    with pytest.raises(DataError, match="the file is cut off"):
        list(build_test_loader(FakeDataset(2, broken=(0, 1)), 64, 4, 32, 0))


def test_workers_can_also_be_spawned():
    # Spawning sends the items to a new interpreter, which forking does not need.
    for items in (
        TrainBatchMaker(FakeDataset(), DetectionTrainTransform(RECIPE, 64), 0),
        TestBatchMaker(FakeDataset(), 64, 32),
    ):
        assert len(ForkingPickler.dumps(items)) > 100


def test_the_models_letterbox_decides_where_test_pictures_lie():
    rule = LetterboxRule("top-left", square=True, pad=9)
    sizes = [(30, 50), (50, 30), (40, 40)]
    batches = list(build_test_loader(FakeDataset(sizes=sizes), 64, 2, 32, workers=0, letterbox=rule))
    assert [batch.ids for batch in batches] == [["0.png", "1.png"], ["2.png"]], "in the data set's own order"
    assert all(batch.images.shape[2:] == (64, 64) for batch in batches)
    assert (batches[0].images[0, :, 38:] == 9).all() and (batches[0].images[1, :, :, 38:] == 9).all()
    spots = [spot for batch in batches for spot in batch.placements]
    assert [(spot.left, spot.top, spot.scale_x, spot.scale_y) for spot in spots] == [
        (0, 0, scale, scale) for scale in (1.28, 1.28, 1.6)
    ]
