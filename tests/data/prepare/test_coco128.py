"""The coco128 preparation: counted, linked, found by its packaged data YAML."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.config import CONFIG_FOLDER, load_data_config
from data.prepare import coco128
from data.prepare.coco128 import data_yaml, prepare_coco128
from utils.errors import DataError
from utils.yaml_text import parse_yaml, read_yaml


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "source"
    for kind in ("images", "labels"):
        (root / kind / "train2017").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(root / f"images/train2017/{i}.jpg")
    (root / "labels/train2017/0.txt").write_text("79 .5 .5 .2 .2\n0 .5 .5 .4 .4\n")
    (root / "labels/train2017/1.txt").write_text("5 .5 .5 .2 .2\n")
    monkeypatch.setattr(coco128, "IMAGES", 3)
    monkeypatch.setattr(coco128, "BOXES", 3)
    return root


def test_pictures_are_linked_and_labels_copied(source: Path, tmp_path: Path) -> None:
    done = prepare_coco128(source, tmp_path / "out/coco128")
    assert done.images == {"train": 3} and "128" in done.yaml.name and str(done).count("\n") == 2
    out = tmp_path / "out/coco128"
    assert (out / "images/train2017/1.jpg").samefile(source / "images/train2017/1.jpg")
    assert sorted(os.listdir(out / "labels/train2017")) == ["0.txt", "1.txt"]
    assert not (out / "labels/train2017/0.txt").samefile(source / "labels/train2017/0.txt")
    data = load_data_config(done.yaml).for_head("detect", "detect")
    assert data.splits["train"] == data.splits["val"] == [out / "images/train2017"]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda root: (root / "images/train2017/2.jpg").unlink(),
            "holds 2 pictures and 3 boxes, but coco128 has 3 and 3",
        ),
        (lambda root: (root / "labels/train2017/1.txt").unlink(), "holds 3 pictures and 2 boxes"),
        (
            lambda root: (root / "labels/train2017/1.txt").write_text("80 .5 .5 .2 .2"),
            r"1\.txt:1: class 80 is out of ra",
        ),
        (lambda root: (root / "images/train2017/2.jpg").write_bytes(b""), r"2\.jpg: the image has zero bytes"),
        (lambda root: (root / "labels").rename(root / "labels_"), "labels/train2017: no such folder; give --source"),
    ],
)
def test_another_set_is_refused(source: Path, tmp_path: Path, spoil: object, fault: str) -> None:
    spoil(source)
    with pytest.raises(DataError, match=fault):
        prepare_coco128(source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["source"]


def test_the_written_yaml_is_the_packaged_one() -> None:
    packaged = read_yaml(CONFIG_FOLDER / "coco128.yaml", DataError)
    assert parse_yaml(data_yaml("../../datasets/coco128"), "written", DataError) == packaged
    names = packaged["detect"]["names"]
    assert len(set(names)) == 80
    assert [names[i] for i in (0, 2, 9, 16, 60, 79)] == [
        "person",
        "car",
        "traffic light",
        "dog",
        "dining table",
        "toothbrush",
    ]


def test_the_real_set_is_taken(shared: Path, tmp_path: Path) -> None:
    done = prepare_coco128(shared / "data/coco128", tmp_path / "coco128")
    assert done.images == {"train": 128} and done.boxes["train"].tolist() == [929]
    names = (shared / "data/coco128/classes.txt").read_text().strip().split("\n")
    assert load_data_config(done.yaml).for_head("detect", "detect").names == names
