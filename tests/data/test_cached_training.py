"""Training batches are the same to the last bit with every kind of cache and any number of workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import data.decoded_images as decoded_images
import data.image_cache as image_cache
from data.config import load_data_config
from data.dataset import TaskDataset
from data.decoded_images import make_recent
from data.deliveries import TrainTransform
from data.loader import build_train_loader
from data.sampler import PARTNER_WINDOW
from data.transforms.detection import DetectionTrainTransform
from data.transforms.detr import DETRTrainTransform
from data.transforms.letterbox import LetterboxRule
from data.transforms.segmentation import SegmentationTrainTransform

RECIPE = {"mosaic": 0.8, "mixup": 0.3, "scale": 0.5, "translate": 0.1, "fliplr": 0.5, "hsv_h": 0.01, "hsv_s": 0.5}
SIDE = 96


@pytest.fixture
def jpeg_data(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny set as JPEGs of three times the size, which are decoded at a part of it; no real shared memory."""
    for file in (tiny_data.parent / "images").rglob("*.png"):
        image = cv2.imread(str(file))
        cv2.imwrite(str(file.with_suffix(".jpg")), cv2.resize(image, None, fx=3, fy=3))
        file.unlink()
    for file in (tiny_data.parent / "masks").rglob("*.png"):
        cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file), 0), None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST))
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(image_cache, "SHARED_MEMORY", tmp_path / "shm")
    return tiny_data


def contents(dataset: TaskDataset, transform: TrainTransform, workers: int) -> list[tuple]:
    loader = build_train_loader(dataset, transform, 5, workers, seed=3)
    batches = [batch for number in (0, 1) for batch in loader.batches(number)]
    loader.close()
    tensors = [(b.images, b.boxes, b.classes, *([] if b.masks is None else [b.masks])) for b in batches]
    return [(b.ids, *(t.numpy().tobytes() for t in parts)) for b, parts in zip(batches, tensors, strict=True)]


def detection() -> tuple[TrainTransform, int | None, int | None]:
    return DetectionTrainTransform(RECIPE, SIDE), SIDE, None


def segmentation() -> tuple[TrainTransform, int | None, int | None]:
    transform = SegmentationTrainTransform({}, SIDE, (64, 96))
    return transform, None, transform.largest_side


def detr() -> tuple[TrainTransform, int | None, int | None]:
    hyp = {"resize_sides": [32, 64, 16], "crop_sides": [50, 70], "crop_range": [40, 70], "resize_base": 64}
    transform = DETRTrainTransform(hyp, 64, 16, LetterboxRule("top-left", shrink="antialias", fit="shortest"))
    return transform, None, transform.largest_side


@pytest.mark.parametrize("make", [detection, segmentation, detr])
def test_no_cache_changes_a_batch(jpeg_data: Path, monkeypatch: pytest.MonkeyPatch, make: Callable) -> None:
    transform, long_side, largest = make()
    task = load_data_config(jpeg_data).for_head("", "detect" if make is detection else "segment")
    plain = TaskDataset(task, "train")
    plain.reserve_memory(long_side, largest)
    plain._images.recent = None
    expected = contents(plain, transform, 0)
    # A ring of five pictures for a set of twelve: some are found in it and some have to be decoded again.
    monkeypatch.setattr(decoded_images, "RECENT_SLOTS", 5)
    for cache, workers in ((None, 2), ("ram", 0), ("ram", 2), ("disk", 0)):
        dataset = TaskDataset(task, "train", cache)
        dataset.reserve_memory(long_side, largest)
        assert contents(dataset, transform, workers) == expected, (cache, workers)


def test_the_ring_holds_a_window_of_partners_but_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = np.tile([[64, 64, 3]], (2000, 1))
    assert PARTNER_WINDOW <= make_recent(shapes).slots < 2 * PARTNER_WINDOW
    assert make_recent(shapes[:10]).slots == 10
    monkeypatch.setattr(decoded_images, "RECENT_BYTES", 10 * 64 * 64 * 3 + 5)
    assert make_recent(shapes).slots == 10
