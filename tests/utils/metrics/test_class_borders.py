"""Pixels near borders between classes, and the measure that leaves them out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.samples import Placement, Sample, collate
from models.predictions import MaskResult
from utils.errors import DataError
from utils.metrics.class_borders import IGNORED, near_borders
from utils.metrics.mask_evaluator import MaskEvaluator

NAMES = ["road", "car", "sky"]


def evaluated(maps: np.ndarray, masks: np.ndarray, border: int) -> MaskEvaluator:
    evaluator = MaskEvaluator(NAMES, border=border)
    place = Placement(*masks.shape[1:])
    samples = [Sample(np.zeros((8, 8, 3), np.uint8), mask=mask, id="a.png", placement=place) for mask in masks]
    evaluator.update([MaskResult(torch.from_numpy(one)) for one in maps], collate(samples))
    return evaluator


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 7, IGNORED])),
    st.integers(1, 4),
)
def test_a_pixel_is_near_where_its_surroundings_have_two_classes(mask: np.ndarray, width: int) -> None:
    near = near_borders(mask, width)
    for row, column in np.ndindex(mask.shape):
        around = mask[max(row - width, 0) : row + width + 1, max(column - width, 0) : column + width + 1]
        assert near[row, column] == (len(set(around[around != IGNORED].tolist())) > 1)


def test_what_lies_near_is_left_out_of_one_measure_and_kept_in_the_other() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 40, 50), np.uint8)
    masks[:, 10:30, 15:45] = 1
    masks[1:, :6], masks[2, 34:] = 2, IGNORED
    maps = np.where(rng.random(masks.shape) < 0.2, rng.integers(0, 3, masks.shape), np.minimum(masks, 2))
    maps = maps.astype(np.uint8)
    both, plain = evaluated(maps, masks, 3), evaluated(maps, masks, 0)
    np.testing.assert_array_equal(both.matrix(), plain.matrix())
    far = np.where([near_borders(mask, 3) for mask in masks], IGNORED, masks).astype(np.uint8)
    alone = evaluated(maps, far, 0)
    np.testing.assert_array_equal(both.inner_matrix(), alone.matrix())
    assert 0 < alone.matrix().sum() < plain.matrix().sum()
    assert both.compute() == {**plain.compute(), "mIoU_inner": alone.compute()["mIoU"]}
    for row, own in zip(both.per_class(), alone.per_class(), strict=True):
        assert row["IoU_inner"] == own["IoU"]
    joined = MaskEvaluator(NAMES, border=3)
    joined.merge(both.state())
    joined.merge(evaluated(maps[:1], masks[:1], 3).state())
    assert joined.inner_matrix().sum() > both.inner_matrix().sum()


def test_errors_along_an_outline_lower_the_full_measure_alone() -> None:
    masks = np.zeros((1, 40, 40), np.uint8)
    masks[:, 10:30, 10:30] = 1
    wider = np.zeros_like(masks)
    wider[:, 8:32, 8:32] = 1
    metrics = evaluated(wider, masks, 5).compute()
    assert metrics["mIoU_inner"] == 1 and metrics["mIoU"] < 0.85


def test_where_all_lies_near_there_is_nothing_to_measure() -> None:
    masks = np.indices((1, 9, 9)).sum(0).astype(np.uint8) % 2
    evaluator = evaluated(masks, masks, 2)
    metrics = evaluator.compute()
    assert (metrics["mIoU"], metrics["mIoU_inner"]) == (1, -1)
    lines = evaluator.table().splitlines()
    assert lines[0].split()[-1] == "IoU_inner" and lines[1].split()[-1] == "-" and "at most 2 rows" in lines[-1]
    assert "IoU_inner" not in evaluated(masks, masks, 0).table()


def test_a_class_without_a_name_is_told_with_borders_too() -> None:
    with pytest.raises(DataError, match=r"a\.png holds class 7 but there are only 3 names"):
        evaluated(np.zeros((1, 2, 2), np.uint8), np.array([[[0, 1], [7, 255]]], np.uint8), 2)
