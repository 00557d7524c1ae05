"""Ids of COCO files for results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.class_map import ClassMap
from data.coco_ids import category_ids, image_ids
from data.task_data import TaskData
from utils.errors import DataError


def task(path: Path, names: list[str], **values: object) -> TaskData:
    return TaskData("detect", "detect", "coco_json", names, {"val": [path.parent]}, annotations={"val": path}, **values)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    categories = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 44, "name": "dog"}]
    path = tmp_path / "instances.json"
    images = [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "below/1.png"}]
    annotations = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2]}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_ids_follow_the_names_of_the_classes(file: Path) -> None:
    assert category_ids(task(file, ["person", "dog"]), "val") == [1, 18]
    renamed = task(file, ["hound"], class_map=ClassMap.same(["dog"]))
    assert category_ids(renamed, "val") == [18]


def test_sets_without_an_annotation_file_or_with_one_class_for_all_have_none(file: Path) -> None:
    assert category_ids(task(file, ["item"], class_map=ClassMap.same(["person", "dog"]).merged()), "val") is None
    assert category_ids(TaskData("detect", "detect", "yolo_txt", ["a"], {"val": [file.parent]}), "val") is None


def test_images_have_the_ids_of_the_file_whatever_they_are_called(file: Path) -> None:
    expected = {str(file.parent / "b.png"): 7, str(file.parent / "below/1.png"): 3}
    assert image_ids(task(file, ["dog"]), "val") == expected
    assert image_ids(TaskData("detect", "detect", "yolo_txt", ["a"], {"val": [file.parent]}), "val") is None


def test_a_file_that_has_gone_is_told(file: Path) -> None:
    data = task(file, ["dog"])
    file.unlink()
    with pytest.raises(DataError, match=r"instances\.json: cannot be read"):
        category_ids(data, "val")
