"""Cityscapes and BDD100K as they are distributed, by the packaged data YAMLs: folders, names of files, classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.config import CONFIG_FOLDER, load_data_config
from data.dataset import TaskDataset
from data.task_data import DataConfig

SIZE = (40, 60)


def picture(file: Path) -> None:
    """Write a grey picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(file)


def mask(file: Path, *values: int) -> None:
    """Write a mask with a value for each half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    halves = np.repeat(np.array(values, np.uint8), SIZE[1] // len(values))
    Image.fromarray(np.tile(halves, (SIZE[0], 1))).save(file)


def packaged(name: str, folder: Path) -> DataConfig:
    """Load a copy of a packaged data YAML for a set in ``folder``."""
    lines = (CONFIG_FOLDER / name).read_text().splitlines()
    copy = folder / name
    copy.write_text("\n".join(line for line in lines if not line.startswith("path:")))
    return load_data_config(copy)


def rectangle(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """Return the corners of a polygon."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_cityscapes(tmp_path: Path) -> None:
    for split, city in (("train", "ulm"), ("train", "bonn"), ("val", "koeln")):
        stem = f"{split}/{city}/{city}_000000_000019"
        picture(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png")
        mask(tmp_path / f"gtFine/{stem}_gtFine_labelIds.png", 7, 29)
        shapes = [
            ("sky", rectangle(0, 0, 60, 20)),
            ("car", rectangle(-5, 10, 12, 30)),
            ("cargroup", rectangle(1, 1, 9, 9)),
            ("traffic light", rectangle(20, 4, 24, 14)),
            ("train", rectangle(30, 10, 75, 33)),
        ]
        objects = [{"label": label, "polygon": polygon} for label, polygon in shapes]
        file = tmp_path / f"gtFine/{stem}_gtFine_polygons.json"
        file.write_text(json.dumps({"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}))
    config = packaged("cityscapes.yaml", tmp_path)
    boxes, areas = (TaskDataset(config.tasks[task], "train") for task in ("detect", "segment"))
    assert len(boxes) == len(areas) == 2 and "bonn" in boxes.ids[0]
    assert boxes.names[0] == "car" and boxes.names[5] == "traffic light" and boxes.names[9] == "train"
    sample = boxes.load(0)
    assert sample.classes.tolist() == [0, 5, 9]
    assert sample.boxes.round(3).tolist() == [[0, 10, 12, 30], [20, 4, 24, 14], [30, 10, 60, 33]]
    # Label ids 7 and 29 are the road, class 0, and caravans, which are no training class.
    assert areas.names[0] == "road" and areas.load(0).mask[0, [0, -1]].tolist() == [0, 255]


@pytest.mark.parametrize("names", [("pedestrian", "motorcycle", "bicycle"), ("person", "motor", "bike")])
def test_bdd100k(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for split in ("train", "val"):
        for kind in ("100k", "10k"):
            picture(tmp_path / f"images/{kind}/{split}/a.jpg")
        mask(tmp_path / f"labels/sem_seg/masks/{split}/a.png", 13, 255)
        mask(tmp_path / f"labels/drivable/masks/{split}/a.png", 0, 1, 2)
        labels = [
            {"category": name, "box2d": {"x1": 5 * i, "y1": 2, "x2": 5 * i + 9, "y2": 38}}
            for i, name in enumerate((*names, "traffic sign"))
        ]
        labels.append({"category": "lane", "poly2d": [{"vertices": [[0, 0], [9, 9]], "types": "LL", "closed": False}]})
        file = tmp_path / f"labels/det_20/det_{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([{"name": "a.jpg", "labels": labels}]))
    config = packaged("bdd100k.yaml", tmp_path)
    boxes = TaskDataset(config.tasks["detect"], "train")
    assert [boxes.names[k] for k in boxes.load(0).classes] == ["pedestrian", "motorcycle", "bicycle", "traffic sign"]
    assert boxes.load(0).boxes[:, 0].round(3).tolist() == [0, 5, 10, 15]
    assert boxes.report.left_out == {"lanes": 1}
    assert TaskDataset(config.tasks["segment"], "val").load(0).mask[0, [0, -1]].tolist() == [13, 255]
    drivable = TaskDataset(config.for_head("drivable", "segment"), "train")
    assert drivable.names == ["direct", "alternative", "background"]
    assert drivable.load(0).mask[0, [0, 25, -1]].tolist() == [0, 1, 2]
