"""Crops: the right pixels, never none, and files that stay below their folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.predictions import DetectionResult
from utils.crops import Crop, cut_crops, save_crops


def crop_of(name: str, picture: str = "a.jpg") -> Crop:
    return Crop(np.zeros((4, 6, 3), np.uint8), (0.0, 0.0, 6.0, 4.0), 0.5, 7, name, picture)


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["../../outside", "/etc", "..", ".", "", " ", "a\\b", "x\0y", "con\n"])
def test_a_class_name_cannot_lead_out_of_the_folder(tmp_path, name):
    save_crops(tmp_path / "crops", [crop_of(name), crop_of("car")])
    assert len(written(tmp_path)) == 2
    assert {len(Path(path).parts) for path in written(tmp_path / "crops")} == {2}


def test_classes_whose_folders_are_one_keep_their_files_apart(tmp_path):
    save_crops(tmp_path, [crop_of("a/b"), crop_of("a:b"), crop_of("a_b", "c.png"), crop_of("", "x.y.png")])
    assert written(tmp_path) == ["7/x.y.jpg", "a_b/a.jpg", "a_b/a_2.jpg", "a_b/c.jpg"]


@given(
    st.lists(st.tuples(*[st.floats(-3, 23, width=32) for _ in range(4)]), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_every_crop_has_a_pixel_and_holds_its_box(corners, pad):
    low_high = torch.tensor(corners).view(-1, 2, 2)
    boxes = torch.cat((low_high.amin(1), low_high.amax(1)), 1)
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, 20)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, 12)
    rows, columns = np.mgrid[:12, :20].astype(np.uint8)
    image = np.stack((rows, columns, rows), -1)
    found = DetectionResult(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64))
    for crop, box in zip(cut_crops(image, "a.jpg", found, ["car"], pad), boxes.tolist(), strict=True):
        assert min(crop.image.shape[:2]) >= 1
        top, bottom = crop.image[..., 0].min(), crop.image[..., 0].max() + 1
        left, right = crop.image[..., 1].min(), crop.image[..., 1].max() + 1
        assert crop.image.shape[:2] == (bottom - top, right - left)
        assert left <= min(box[0], 19) and top <= min(box[1], 11) and right >= box[2] and bottom >= box[3]
        assert left >= box[0] - pad - 1 - (box[0] == 20) and right <= max(box[2], box[0] + 1) + pad + 1
