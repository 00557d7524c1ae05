"""Images that a recipe leaves out of training: those without an object, and small ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.dataset import TaskDataset
from data.task_data import TaskData
from data.training_part import TRAINING_PART, LeftOut
from utils.errors import DataError
from utils.recipe import fill_recipe

SIZES = [(64, 48), (31, 80), (32, 32), (90, 90), (80, 20)]
OBJECTS = [2, 1, 0, 1, 0]


@pytest.fixture
def task(tmp_path: Path) -> TaskData:
    """Five images: 0 and 3 are usual ones, 1 is small, 2 has no object, 4 is both."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number, ((height, width), count) in enumerate(zip(SIZES, OBJECTS, strict=True)):
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), np.full((height, width, 3), 9 * number, np.uint8))
        rows = [f"{number % 2} 0.5 0.5 0.{3 + row} 0.4" for row in range(count)]
        (tmp_path / f"labels/{number}.txt").write_text("\n".join(rows))
    splits = {"train": [tmp_path / "images"], "val": [tmp_path / "images"]}
    return TaskData("detect", "detect", "yolo_txt", ["a", "b"], splits)


def names(dataset: TaskDataset) -> list[str]:
    return [Path(name).stem for name in dataset.ids]


@pytest.mark.parametrize(
    ("left_out", "kept"),
    [
        (LeftOut(), "01234"),
        (LeftOut(empty=True), "013"),
        (LeftOut(smaller=32), "023"),
        (LeftOut(empty=True, smaller=32), "03"),
        (LeftOut(smaller=64), "3"),
    ],
)
def test_what_is_left_out_is_counted_and_the_rest_is_whole(task, left_out, kept):
    dataset = TaskDataset(task, "train", for_training=True, left_out=left_out)
    assert names(dataset) == list(kept)
    assert [tuple(size) for size in dataset.sizes] == [SIZES[int(name)] for name in kept]
    for place, name in enumerate(kept):
        sample = dataset.load(place)
        assert sample.image[0, 0, 0] == 9 * int(name) and sample.image.shape[:2] == SIZES[int(name)]
        assert len(sample.boxes) == OBJECTS[int(name)] and (sample.classes == int(name) % 2).all()
    assert len(dataset.boxes) == sum(OBJECTS[int(name)] for name in kept)
    report = dataset.report
    assert report.found + report.background == len(kept) == report.usable
    assert report.untrained_small + report.untrained_images == 5 - len(kept)
    assert report.objects == 4, "as scanned"


def test_the_line_of_the_report(task, capsys):
    TaskDataset(task, "train", for_training=True, left_out=LeftOut(True, 32))
    assert (
        "2 of 5 images usable, 4 objects, 0 background images; not trained on: 1 image without an object, "
        "2 images smaller than the recipe's drop_smaller" in capsys.readouterr().out
    )


def test_testing_leaves_nothing_out(task):
    assert len(TaskDataset(task, "val", left_out=LeftOut(True, 64))) == 5


def test_caches_of_the_whole_set_and_of_its_part_are_kept_apart(task):
    whole, part = (
        TaskDataset(task, "train", "disk", for_training=True, left_out=left_out)
        for left_out in (LeftOut(), LeftOut(True, 32))
    )
    for dataset in (whole, part):
        dataset.reserve_memory(64)
        levels = [dataset.load(place, 64).image[0, 0, 0] for place in range(len(dataset))]
        assert levels == [9 * int(name) for name in names(dataset)]


def test_a_set_of_which_nothing_is_left_says_which_key_to_change(task):
    with pytest.raises(DataError, match=r"all of the 5 images are smaller .*drop_smaller; lower it"):
        TaskDataset(task, "train", for_training=True, left_out=LeftOut(smaller=100))
    for label in (task.splits["train"][0].parent / "labels").glob("*.txt"):
        label.write_text("")
    with pytest.raises(DataError, match=r"none of the 5 images has an object .*drop_empty: false"):
        TaskDataset(task, "train", for_training=True, left_out=LeftOut(empty=True))


def test_a_recipe_says_it():
    assert LeftOut.of({}) == LeftOut() == LeftOut.of(TRAINING_PART)
    assert LeftOut.of(fill_recipe({"drop_empty": True, "drop_smaller": 32}, "here")) == LeftOut(True, 32)
