"""The mask evaluator against published numbers, at the edges, and in its outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data.samples import Placement, Sample, collate
from models.predictions import MaskResult
from utils.errors import DataError
from utils.metrics import EVALUATORS
from utils.metrics.mask_evaluator import MaskEvaluator

PARITY = Path(__file__).parents[2] / "parity" / "fixtures"
PUBLISHED = json.loads((PARITY / "metrics_miou.json").read_text())
ARRAYS = np.load(PARITY / "metrics_miou.npz")


def evaluated(maps: np.ndarray, masks: np.ndarray, names: list[str]) -> MaskEvaluator:
    evaluator = MaskEvaluator(names)
    h, w = masks.shape[1:]
    samples = [Sample(np.zeros((32, 32, 3), np.uint8), mask=m, id="a.png", placement=Placement(h, w)) for m in masks]
    evaluator.update([MaskResult(torch.from_numpy(one)) for one in maps], collate(samples))
    return evaluator


@pytest.mark.parametrize("case", PUBLISHED["cases"], ids=lambda case: str(case["case"]))
def test_equals_published_numbers(case):
    maps, target = ARRAYS[f"case{case['case']}_argmax"], ARRAYS[f"case{case['case']}_target"]
    masks = np.where(target < 0, 255, target).astype(np.uint8)
    evaluator = evaluated(maps, masks, [str(c) for c in range(case["classes"])])
    intersection, union = evaluator.intersections_unions()
    np.testing.assert_array_equal(intersection, ARRAYS[f"case{case['case']}_intersection"])
    np.testing.assert_array_equal(union, ARRAYS[f"case{case['case']}_union"])
    metrics = evaluator.compute()
    assert metrics["miou_all"] == pytest.approx(case["miou"], abs=1e-12)
    assert metrics["accuracy"] == pytest.approx(case["pixel_accuracy"], abs=1e-12)
    np.testing.assert_allclose([row["IoU"] for row in evaluator.per_class()], case["iou"], rtol=1e-12)
    assert evaluator.matrix().sum() == case["labelled"]
    assert evaluator.matrix().trace() == case["correct"]


def test_absent_classes_count_in_miou_all_only():
    masks = np.array([[[0, 0, 1, 255]]], np.uint8)
    metrics = evaluated(np.array([[[0, 0, 1, 3]]], np.uint8), masks, list("abcd")).compute()
    assert metrics == {"mIoU": 1.0, "accuracy": 1.0, "miou_all": 0.5}
    # A class that is only predicted is present, with IoU 0.
    evaluator = evaluated(np.array([[[0, 2, 1, 3]]], np.uint8), masks, list("abcd"))
    assert evaluator.compute()["mIoU"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert evaluator.fitness() == evaluator.compute()["mIoU"]
    assert evaluator.per_class()[0] == {"name": "a", "pixels": 2, "IoU": 0.5, "accuracy": 0.5}


def test_nothing_to_measure_is_zero(tmp_path):
    evaluator = MaskEvaluator(["a", "b"])
    assert evaluator.compute() == {"mIoU": 0.0, "accuracy": 0.0, "miou_all": 0.0}
    assert evaluator.table() and all(path.stat().st_size for path in evaluator.plot(tmp_path))
    ignored = evaluated(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 255, np.uint8), ["a", "b"])
    assert ignored.compute() == {"mIoU": 0.0, "accuracy": 0.0, "miou_all": 0.0}


def test_images_of_different_sizes_and_parts_of_a_test_add_up():
    rng = np.random.default_rng(0)
    sizes = [(5, 7), (9, 4), (1, 1), (30, 20)]
    maps = [rng.integers(0, 3, size).astype(np.uint8) for size in sizes]
    masks = [rng.choice([0, 1, 2, 255], size).astype(np.uint8) for size in sizes]
    flat = evaluated(
        np.concatenate([one.ravel() for one in maps])[None, None],
        np.concatenate([one.ravel() for one in masks])[None, None],
        list("abc"),
    )
    parts = [evaluated(one[None], mask[None], list("abc")) for one, mask in zip(maps, masks, strict=True)]
    joined = MaskEvaluator(list("abc"))
    for part in parts:
        joined.merge(part.state())
    np.testing.assert_array_equal(joined.matrix(), flat.matrix())
    assert joined.compute() == flat.compute()


def test_class_without_a_name_and_wrong_size_are_told():
    with pytest.raises(DataError, match=r"a\.png holds class 7 but there are only 2 names"):
        evaluated(np.zeros((1, 2, 2), np.uint8), np.array([[[0, 1], [7, 255]]], np.uint8), ["a", "b"])
    with pytest.raises(DataError, match=r"mask of a\.png is 3x2 pixels but its image 2x2"):
        evaluated(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8), ["a", "b"])


def test_table_and_plots(tmp_path):
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 3, (2, 20, 20)).astype(np.uint8)
    evaluator = evaluated(
        np.where(rng.random(masks.shape) < 0.7, masks, 0).astype(np.uint8), masks, ["road", "car", "sky", "x"]
    )
    lines = evaluator.table().splitlines()
    assert lines[1].split()[:2] == ["all", "800"] and len(lines) == 6 and len({len(line) for line in lines}) == 1
    assert [path.name for path in evaluator.plot(tmp_path)] == ["iou_per_class.png", "mask_confusion_matrix.png"]
    assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir())


def test_registered():
    assert EVALUATORS["masks"] is MaskEvaluator
