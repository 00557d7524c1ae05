"""Multi-scale: sizes are a pure function of the step, pictures and boxes move together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Batch
from models.graph import load_graph
from utils.training.multi_scale import MultiScale


@given(st.integers(1, 20), st.integers(0, 2**31), st.integers(1, 10_000))
def test_sizes_are_multiples_of_the_stride_within_the_range(units: int, seed: int, step: int) -> None:
    scale = MultiScale(units * 32, 32, seed)
    size = scale.size(step)
    assert size % 32 == 0 and units * 32 * 0.5 - 32 < size <= units * 32 * 1.5 + 32
    assert size == MultiScale(units * 32, 32, seed).size(step)


def test_all_sizes_come() -> None:
    scale = MultiScale(128, 32, 0)
    assert {scale.size(step) for step in range(300)} == {64, 96, 128, 160, 192}


def test_boxes_stay_on_their_objects(tiny_model: Path) -> None:
    graph = load_graph(tiny_model)
    images = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    images[:, :, 24:48, 32:80] = 255
    batch = Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        boxes=torch.tensor([[[32.0, 24.0, 80.0, 48.0]]]),
        classes=torch.zeros(1, 1, dtype=torch.int64),
        valid=torch.ones(1, 1, dtype=torch.bool),
        ids=["a"],
    )
    scale = MultiScale(96, 32, 0)
    step = next(step for step in range(100) if scale.size(step) == 128)
    resized = scale.resize(graph, batch, step)
    assert resized.images.shape == (1, 3, 128, 128)
    assert resized.images.is_floating_point() and resized.images.max() == pytest.approx(1.0)
    x1, y1, x2, y2 = resized.boxes[0, 0].round().int().tolist()
    assert (x1, y1, x2, y2) == (43, 32, 107, 64)
    assert resized.images[0, 0, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() == pytest.approx(1.0)
    assert resized.images[0, 0, : y1 - 2].max() == 0 and resized.images[0, 0, :, x2 + 2 :].max() == 0


def test_the_nominal_size_changes_nothing(tiny_model: Path) -> None:
    graph, scale = load_graph(tiny_model), MultiScale(96, 32, 0)
    batch = Batch(
        torch.zeros(1, 3, 96, 96, dtype=torch.uint8),
        torch.zeros(1, 0, 4),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.zeros(1, 0, dtype=torch.bool),
    )
    step = next(step for step in range(100) if scale.size(step) == 96)
    assert scale.resize(graph, batch, step) is batch
