"""Multi-scale: sizes are a pure function of the step, pictures and boxes move together."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Batch
from models.graph import load_graph
from utils.recipe import DEFAULTS, load_recipe
from utils.training.multi_scale import IntervalScale, MultiScale, build_multi_scale


@given(st.integers(1, 20), st.integers(0, 2**31), st.integers(1, 10_000))
def test_sizes_are_multiples_of_the_stride_within_the_range(units: int, seed: int, step: int) -> None:
    scale = MultiScale(units * 32, 32, seed)
    size = scale.size(step)
    assert size % 32 == 0 and units * 32 * 0.5 - 32 < size <= units * 32 * 1.5 + 32
    assert size == MultiScale(units * 32, 32, seed).size(step)


def test_all_sizes_come() -> None:
    scale = MultiScale(128, 32, 0)
    assert {scale.size(step) for step in range(300)} == {64, 96, 128, 160, 192}


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(0, 6), st.integers(0, 6))
def test_sizes_of_an_interval_are_equal_and_begin_with_the_nominal_one(
    seed: int, interval: int, below: int, above: int
) -> None:
    scale = IntervalScale(416, 32, seed, interval, below, above)
    sizes = [scale.size(step) for step in range(1, 8 * interval + 1)]
    assert sizes[:interval] == [416] * interval
    for first in range(0, len(sizes), interval):
        assert len(set(sizes[first : first + interval])) == 1
    assert all(size % 32 == 0 and 416 - below * 32 <= size <= 416 + above * 32 for size in sizes)
    again = IntervalScale(416, 32, seed, interval, below, above)
    assert [again.size(step) for step in (5, 1, 5)] == [scale.size(5), 416, scale.size(5)]


@pytest.mark.parametrize(("size", "recipe", "sizes"), [(640, "yolox", (480, 800)), (416, "yolox_nano", (320, 640))])
def test_published_ranges(size: int, recipe: str, sizes: tuple[int, int]) -> None:
    options = Namespace(img_size=[size], multi_scale=False, seed=0)
    scale = build_multi_scale(load_recipe(recipe), options, 32)
    assert (scale.smallest, scale.largest) == sizes
    drawn = {scale.size(step) for step in range(1, 6000)}
    assert drawn == set(range(sizes[0], sizes[1] + 1, 32))
    assert scale.size(10) == size and len({scale.size(step) for step in range(11, 21)}) == 1


def test_the_option_overrules_the_recipe_and_no_size_is_below_a_stride() -> None:
    hyp = {**DEFAULTS, "multi_scale_interval": 3, "multi_scale_range": [9, 0]}
    options = Namespace(img_size=[100], multi_scale=False, seed=0)
    assert {build_multi_scale(hyp, options, 32).size(step) for step in range(1, 500)} == {32, 64, 96, 128}
    assert build_multi_scale(DEFAULTS, options, 32) is None
    options.multi_scale = True
    chosen = build_multi_scale(hyp, options, 32)
    assert type(chosen) is MultiScale
    assert {chosen.size(step) for step in range(1, 500)} <= set(range(chosen.smallest, chosen.largest + 1, 32))


def test_boxes_stay_on_their_objects(tiny_model: Path) -> None:
    graph = load_graph(tiny_model)
    images = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    images[:, :, 24:48, 32:80] = 255
    batch = Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        boxes=torch.tensor([[[32.0, 24.0, 80.0, 48.0]]]),
        classes=torch.zeros(1, 1, dtype=torch.int64),
        valid=torch.ones(1, 1, dtype=torch.bool),
        keypoints=torch.tensor([[[[32.0, 24.0, 2.0], [80.0, 48.0, 1.0]]]]),
        ids=["a"],
    )
    scale = MultiScale(96, 32, 0)
    step = next(step for step in range(100) if scale.size(step) == 128)
    resized = scale.resize(graph, batch, step)
    assert resized.images.shape == (1, 3, 128, 128)
    assert resized.images.is_floating_point() and resized.images.max() == pytest.approx(1.0)
    x1, y1, x2, y2 = resized.boxes[0, 0].round().int().tolist()
    assert (x1, y1, x2, y2) == (43, 32, 107, 64)
    assert torch.allclose(resized.keypoints[0, 0, :, :2].flatten(), resized.boxes[0, 0])
    assert resized.keypoints[0, 0, :, 2].tolist() == [2.0, 1.0]
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
