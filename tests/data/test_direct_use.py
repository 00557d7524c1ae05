"""Labels of every format used without conversion: the same index, the same training, sources, maps of classes."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from data.annotations import AnnotatedPicture, ClassList, MaskClasses, make_objects
from data.config import load_data_config
from data.dataset import TaskDataset
from data.formats.registry import MASK_FORMATS, PICTURE_FORMATS, SPLIT_FORMATS
from data.split_index import open_split
from data.task_data import TaskData
from train import main as train
from utils.errors import DataError

NAMES = ["car", "pedestrian", "traffic light"]
CLASSES = ClassList(NAMES)
SPLITS = ("train", "val")


def pictures(root: Path, split: str, count: int = 4, seed: int = 0) -> list[AnnotatedPicture]:
    """Return pictures of odd sizes with boxes at odd places, some over the edge, one picture without any."""
    rng = np.random.default_rng([seed, len(split)])
    found = []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(61, 101, 2))
        file = root / "images" / split / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(file)
        corners = rng.integers(-5, 40, (0 if number == 1 else 3, 2))
        boxes = np.hstack([corners, corners + rng.integers(12, 70, corners.shape)]).astype(float)
        objects = make_objects([NAMES[i] for i in rng.integers(0, 3, len(boxes))], boxes)
        found.append(AnnotatedPicture(file, file.name, (height, width), objects))
    return found


def write_labels(root: Path, split: str, annotated: list[AnnotatedPicture]) -> None:
    """Write the labels of a split in every format of objects."""
    images = root / "images" / split
    for name, form in PICTURE_FORMATS.items():
        for picture in annotated:
            place = form.label_file(picture.image, images, root / name / split)
            place.parent.mkdir(parents=True, exist_ok=True)
            names = ["person" if n == "pedestrian" and name == "cityscapes" else n for n in picture.objects.names]
            form.write(place, replace(picture, objects=replace(picture.objects, names=names)), CLASSES)
    for name, form in SPLIT_FORMATS.items():
        form.write(root / f"{name}_{split}.json", annotated, CLASSES)


@pytest.fixture(scope="module")
def every_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose labels lie beside each other in all formats of objects."""
    root = tmp_path_factory.mktemp("direct")
    for split in SPLITS:
        write_labels(root, split, pictures(root, split))
    return root


def task(root: Path, name: str = "detect", **block: object) -> TaskData:
    """Return the data of a block of one task, with the splits train and val below ``images`` unless it says others."""
    splits = {split: f"images/{split}" for split in SPLITS}
    file = root / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(root), name: {**splits, **block}}))
    return load_data_config(file).tasks[name]


def block_of(form: str) -> dict[str, object]:
    """Return the keys that read a format from ``every_format``."""
    if form in SPLIT_FORMATS:
        return {"format": form, "names": NAMES, "annotations": {split: f"{form}_{split}.json" for split in SPLITS}}
    if form == "yolo":
        return {"names": NAMES, "labels": "yolo"}
    places = {"format": form, "labels": {split: f"{form}/{split}" for split in SPLITS}}
    if form == "cityscapes":
        # Its word for people is another one, and so is the order of its classes.
        return places | {"classes": {"car": "car", "pedestrian": ["person"], "traffic light": ["traffic light"]}}
    return places | {"names": NAMES}


@pytest.mark.parametrize("form", [*PICTURE_FORMATS, *SPLIT_FORMATS])
def test_every_format_gives_the_index_of_the_converted_labels(every_format: Path, form: str) -> None:
    converted, direct = task(every_format, **block_of("yolo")), task(every_format, **block_of(form))
    assert direct.names == NAMES
    for split in SPLITS:
        expected, found = open_split(converted, split).index, open_split(direct, split).index
        for part in ("kept", "sizes", "offsets", "classes", "boxes", "keypoints"):
            first, second = getattr(expected, part), getattr(found, part)
            assert first.dtype == second.dtype and first.tobytes() == second.tobytes(), part
        assert found.report.objects == expected.report.objects == 9
        again = open_split(direct, split).index
        assert again.boxes.tobytes() == found.boxes.tobytes() and again.report == found.report


def test_training_on_any_format_is_training_on_the_converted_labels(
    every_format: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "detector.yaml"
    model.write_text(tiny_model.read_text().replace("  - [[2], 1, SegMaskBase, [n_segcls, 1, 64, False]]\n", ""))
    losses = {}
    for form in ("yolo", "voc", "coco"):
        task(every_format, **block_of(form))
        train(
            f"--cfg {model} --data {every_format}/data.yaml --epochs 1 --batch-size 2 --img-size 64 --workers 0 "
            f"--device cpu --seed 3 --noautoanchor --noplots --noval --project {tmp_path} --name {form}".split()
        )
        with (tmp_path / form / "results.csv").open() as file:
            losses[form] = [
                {name: float(value) for name, value in row.items() if name.startswith("train/")}
                for row in csv.DictReader(file)
            ]
    assert len(losses["yolo"][0]) == 3 and all(value > 0 for value in losses["yolo"][0].values())
    assert losses["voc"] == losses["yolo"] and losses["coco"] == losses["yolo"]
