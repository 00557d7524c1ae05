from __future__ import annotations

import numpy as np
import pytest
import torch

from data.device_pictures import load_pictures
from data.sample_key import SampleKey
from data.transforms.batched_segmentation import SegmentationBatches
from data.transforms.segmentation import SegmentationTrainTransform
from tests.data.smooth_dataset import SmoothDataset


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_a_plan_draws_what_the_transform_of_single_samples_draws(strength):
    dataset = SmoothDataset("segment")
    transform = SegmentationTrainTransform({"fliplr": 0.5, "seg_jitter": [0.4, 0, 0.4, strength]}, 96, (64, 80))
    pictures = load_pictures(dataset, transform.largest_side, enlarge=False, masks=True, device=torch.device("cpu"))
    keys = [SampleKey(0, i % 7) for i in range(20)]
    whole, single = ([np.random.default_rng(seed) for seed in range(20)] for _ in range(2))
    plan = SegmentationBatches(transform, pictures).plan(keys, whole)
    for key, rng in zip(keys, single, strict=True):
        transform(dataset, key, rng)
    assert [rng.random() for rng in whole] == [rng.random() for rng in single]
    assert plan.arrays["kinds"].shape == (20, 3 if strength else 2)
