"""Masks from boxes with a stand-in for the package: one look per picture, RGB, native pixels, and every mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import utils.masks_from_boxes
from models.predictions import DetectionResult, MaskResult, PoseResult
from tests.stand_in_segment_anything import Sam, install, write_sam_weights
from tests.tiny_poses import CRANE
from utils.errors import ModelError, UsageError
from utils.masks_from_boxes import load_segment_anything, with_masks

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def objects(*boxes: tuple[float, ...]) -> DetectionResult:
    count = len(boxes)
    return DetectionResult(torch.tensor(boxes).reshape(-1, 4), torch.ones(count), torch.arange(count))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_sam_weights(tmp_path / "sam.pth")


def test_every_object_gets_the_mask_of_its_box(weights, monkeypatch):
    predictors = install(monkeypatch)
    outline = load_segment_anything(weights, None, CPU)
    boxes = torch.tensor([[10.0, 10, 30, 20], [40, 5, 50, 35]])
    masks = outline(IMAGE, boxes)
    assert masks.shape == (2, 40, 60) and masks.dtype == torch.bool
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        found = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        assert max(abs(int(a) - b) for a, b in zip(found, (x1, y1, x2, y2), strict=True)) <= 1
    [predictor] = predictors.made
    np.testing.assert_array_equal(predictor.images[0], IMAGE)
    assert predictor.batches == [2]


def test_the_weights_of_the_file_are_in_the_model(tmp_path, monkeypatch):
    predictors = install(monkeypatch)
    torch.manual_seed(1)
    model = Sam(1024)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "l.pth")
    load_segment_anything(tmp_path / "l.pth", "vit_l", CPU)
    [predictor] = predictors.made
    assert torch.equal(predictor.model.mask_decoder.weight, model.mask_decoder.weight)


def test_many_boxes_of_a_large_picture_go_in_parts(weights, monkeypatch):
    predictors = install(monkeypatch)
    monkeypatch.setattr(utils.masks_from_boxes, "AT_ONCE", 3 * 1024**2)
    masks = load_segment_anything(weights, None, CPU)(IMAGE, torch.rand(7, 4) * 30)
    assert masks.shape == (7, 40, 60)
    assert predictors.made[0].batches == [3, 3, 1] and len(predictors.made[0].images) == 1


def test_all_heads_share_one_look_and_keep_what_they_have(weights, monkeypatch):
    predictors = install(monkeypatch)
    areas = MaskResult(torch.zeros(40, 60, dtype=torch.uint8))
    pose = PoseResult(
        torch.tensor([[5.0, 5, 20, 30]]), torch.ones(1), torch.zeros(1).long(), torch.rand(1, 5, 3), CRANE
    )
    results = {"cars": objects((1, 1, 9, 9), (20, 20, 30, 30)), "areas": areas, "pose": pose, "signs": objects()}
    found = with_masks(IMAGE, results, load_segment_anything(weights, None, CPU))
    assert list(found) == list(results) and found["areas"] is areas
    assert [len(found[head].masks) for head in ("cars", "pose", "signs")] == [2, 1, 0]
    assert isinstance(found["pose"], PoseResult) and found["pose"].keypoints is pose.keypoints
    assert found["pose"].masks[0, 17, 12] and not found["pose"].masks[0, 17, 40]
    assert predictors.made[0].batches == [3] and results["cars"].masks is None


def test_a_picture_without_objects_is_not_looked_at():
    def never(image, boxes):
        raise AssertionError("asked without a box")

    found = with_masks(IMAGE, {"cars": objects()}, never)
    assert found["cars"].masks.shape == (0, 40, 60)


def wrong_shape(path: Path) -> None:
    state = Sam(768).state_dict()
    torch.save({**state, "mask_decoder.weight": torch.zeros(9, 9)}, path)


@pytest.mark.parametrize(
    ("make", "size", "kind", "words"),
    [
        (lambda path: None, None, ModelError, "sam.pth: there is no such file; get the weights"),
        (lambda path: path.write_bytes(b""), None, ModelError, "sam.pth: is empty"),
        (lambda path: path.write_bytes(b"not weights"), None, ModelError, "sam.pth"),
        (lambda path: path.write_bytes(b"PK\x03\x04 not weights"), None, ModelError, "sam.pth"),
        (lambda path: torch.save([1, 2], path), None, ModelError, "holds no weights of Segment Anything"),
        (lambda path: torch.save({"a": torch.zeros(3)}, path), None, ModelError, "(vit_b, vit_l, vit_h)"),
        (write_sam_weights, "vit_h", UsageError, "--sam-size vit_h: "),
        (wrong_shape, None, ModelError, "mask_decoder.weight has another shape (9x9 there, 2x3 here)"),
    ],
)
def test_wrong_files_are_one_sentence(tmp_path, monkeypatch, make, size, kind, words):
    install(monkeypatch)
    make(tmp_path / "sam.pth")
    with pytest.raises(kind) as caught:
        load_segment_anything(tmp_path / "sam.pth", size, CPU)
    assert words in str(caught.value) and "sam.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_would_run_code_does_not(tmp_path, monkeypatch):
    install(monkeypatch)

    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it_ran",)

    torch.save({"image_encoder.pos_embed": torch.zeros(1, 2, 2, 768), "x": Hostile()}, tmp_path / "sam.pth")
    with pytest.raises(ModelError, match=r"sam\.pth"):
        load_segment_anything(tmp_path / "sam.pth", None, CPU)
    assert not (tmp_path / "it_ran").exists()


def test_the_missing_package_is_named_with_its_pip_line(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(UsageError, match=r"--sam needs the package segment_anything.*pip install segment_anything"):
        load_segment_anything(weights, None, CPU)
