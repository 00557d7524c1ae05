from __future__ import annotations

import os
import random
import signal
from multiprocessing.reduction import ForkingPickler

import cv2
import numpy as np
import pytest
import torch

from data.loader import TestItems, TrainItems, build_test_loader, build_train_loader
from data.samples import Batch, Sample
from data.transforms.detection import DetectionTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from utils.boxes import scale_to_native
from utils.errors import DataError, ModelError, RunError

RECIPE = {"mosaic": 0.7, "mixup": 0.3, "scale": 0.5, "translate": 0.1, "fliplr": 0.5, "hsv_h": 0.01, "hsv_s": 0.5}


class FakeDataset:
    """Random pictures with one box and a mask; some of them cannot be read."""

    task = "detect"

    def __init__(self, count: int = 10, broken: tuple[int, ...] = (), sizes: list[tuple[int, int]] | None = None):
        self.sizes = np.array(sizes or [(30 + 2 * i, 50) for i in range(count)])
        self.broken = broken

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, index: int, long_side: int | None = None) -> Sample:
        if index in self.broken:
            raise DataError(f"{index}.png: the file is cut off; copy it again")
        height, width = self.sizes[index].tolist()
        rng = np.random.default_rng(index)
        image = rng.integers(0, 255, (height, width, 3), np.uint8)
        mask = rng.integers(0, 3, (height, width), np.uint8)
        box = np.array([[5, 5, 25, 25]], np.float32)
        if long_side is not None:
            scale = long_side / max(height, width)
            size = round(width * scale), round(height * scale)
            image, box = cv2.resize(image, size), box * np.float32(scale)
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        return Sample(image=image, boxes=box, classes=np.array([index]), mask=mask, id=f"{index}.png")


def contents(batches) -> list[tuple]:
    return [
        (batch.ids, *(t.numpy().tobytes() for t in (batch.images, batch.boxes, batch.classes, batch.masks)))
        for batch in batches
    ]


def train_loader(workers: int = 0, dataset: FakeDataset | None = None, transform=None, seed: int = 3):
    transform = transform or DetectionTrainTransform(RECIPE, 64)
    return build_train_loader(dataset or FakeDataset(), transform, 4, workers, seed)


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


def die(dataset, key, rng) -> Sample:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_a_clear_error():
    with pytest.raises(RunError, match="--workers"):
        list(train_loader(1, transform=die).batches(0))


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
    for items in (TrainItems(FakeDataset(), DetectionTrainTransform(RECIPE, 64), 0), TestItems(FakeDataset(), 64, 32)):
        assert len(ForkingPickler.dumps(items)) > 100
