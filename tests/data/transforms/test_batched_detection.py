from __future__ import annotations

import numpy as np
import pytest
import torch

from data.device_pictures import load_pictures
from data.sample_key import SampleKey
from data.transforms.batched_detection import DetectionBatches
from data.transforms.batched_segmentation import SegmentationBatches
from data.transforms.detection import DetectionTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from tests.data.smooth_dataset import SmoothDataset
from utils.errors import DataError, UsageError

CPU = torch.device("cpu")


def test_a_rectangular_key_is_refused_in_one_sentence():
    pictures = load_pictures(SmoothDataset(), 96, enlarge=True, masks=False, device=CPU)
    masked = load_pictures(SmoothDataset("segment"), 96, enlarge=False, masks=True, device=CPU)
    for batches in (
        DetectionBatches(DetectionTrainTransform({}, 96), pictures),
        SegmentationBatches(SegmentationTrainTransform({}, 64, (64, 64)), masked),
    ):
        with pytest.raises(UsageError, match=r"--cache device .*--rect.*--cache ram$"):
            batches.plan([SampleKey(0, 1, shape=(64, 96))], [np.random.default_rng(0)])


def test_flip_pairs_of_other_data_are_refused_at_the_start():
    pictures = load_pictures(SmoothDataset("pose"), 96, enlarge=True, masks=False, device=CPU)
    with pytest.raises(DataError, match="flip_pairs"):
        DetectionBatches(DetectionTrainTransform({"fliplr": 0.5, "flip_pairs": [[0, 9]]}, 96), pictures)
    DetectionBatches(DetectionTrainTransform({"flip_pairs": [[0, 9]]}, 96), pictures)


def test_a_plan_draws_what_the_transform_of_single_samples_draws():
    """Both leave the generator at the same place, so nothing that is drawn is missing or too much."""
    recipe = {"mosaic": 0.6, "mixup": 0.5, "scale": 0.5, "fliplr": 0.5, "hsv_s": 0.5}
    dataset, transform = SmoothDataset(), DetectionTrainTransform(recipe, 96)
    batches = DetectionBatches(transform, load_pictures(dataset, 96, enlarge=True, masks=False, device=CPU))
    keys = [SampleKey(0, i % 7, mosaic=i % 5 > 0, partners=(1, 2, 5) if i % 2 else ()) for i in range(20)]
    whole, single = ([np.random.default_rng(seed) for seed in range(20)] for _ in range(2))
    batches.plan(keys, whole)
    for key, rng in zip(keys, single, strict=True):
        transform(dataset, key, rng)
    assert [rng.random() for rng in whole] == [rng.random() for rng in single]
