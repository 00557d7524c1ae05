"""Cityscapes: the label table and which mask belongs to which image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.formats.cityscapes import (
    COLOURS,
    NAMES,
    holds_label_ids,
    label_ids_to_train_ids,
)
from data.formats.cityscapes_masks import CityscapesMasks
from data.label_places import FormatMaskFinder


def test_the_table() -> None:
    ids = np.array([[7, 8, 23, 33], [0, 6, 29, 255]], np.uint8)
    assert label_ids_to_train_ids(ids).tolist() == [[0, 1, 10, 18], [255, 255, 255, 255]]
    assert len(NAMES) == len(COLOURS) == 19
    assert (NAMES[10], COLOURS[10]) == ("sky", (70, 130, 180))
    assert NAMES[18] == "bicycle"


def test_masks_are_found_by_city_and_name(tmp_path: Path) -> None:
    images, masks = tmp_path / "leftImg8bit/train", tmp_path / "gtFine/train"
    for name in ("ulm/ulm_0_gtFine_labelIds.png", "ulm/ulm_0_gtFine_color.png", "bdd/b1.png"):
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        (masks / name).write_bytes(b"")
    images.mkdir(parents=True)
    finder = FormatMaskFinder(CityscapesMasks(), [images], masks)
    fine = finder.find(images / "ulm/ulm_0_leftImg8bit.png")
    mixed_in = finder.find(images / "bdd/b1.jpg")
    assert fine == masks / "ulm/ulm_0_gtFine_labelIds.png" and holds_label_ids(fine)
    assert mixed_in == masks / "bdd/b1.png" and not holds_label_ids(mixed_in)
    assert finder.find(images / "ulm/ulm_1_leftImg8bit.png") is None
