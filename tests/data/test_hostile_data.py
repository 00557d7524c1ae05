"""Data made to mislead: pipes instead of files, links in circles, names that lead elsewhere, NUL characters."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data import folder_walk
from data.annotations import ClassList, MaskClasses
from data.config import load_data_config
from data.convert.__main__ import main as convert
from data.formats.bdd100k import Bdd100kObjects
from data.formats.coco_objects import CocoObjects
from data.formats.inner_names import leads_outside
from data.formats.mask_png import MaskFinder
from data.formats.registry import MASK_FORMATS, PICTURE_FORMATS
from data.image_list import list_images
from data.images import read_image
from data.split_index import open_split
from tests.data.hostile_readers import claiming_png
from utils.errors import DataError

SIZE = (32, 32)
OUTSIDE = ["../a.png", "x/../../a.png", "/etc/a.png", "\\\\host\\a.png", "..\\a.png", "C:\\a.png", "c:a.png", ".."]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and links as POSIX has them")


@pytest.fixture(autouse=True)
def not_forever() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def stop(*_: object) -> None:
        raise TimeoutError("a reader waits or runs without end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set of two pictures with boxes."""
    for folder in ("images", "labels", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"set/images/{name}.png"), np.zeros((*SIZE, 3), np.uint8))
        (tmp_path / f"set/labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    return tmp_path / "set"


def fault_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3
    return str(caught.value)


def opened(root: Path, block: str) -> object:
    """Open the training split of a data YAML with one block."""
    (root / "set.yaml").write_text(block)
    return [open_split(task, "train") for task in load_data_config(root / "set.yaml", ["train"]).tasks.values()]


@pytest.mark.parametrize("form", PICTURE_FORMATS.values(), ids=PICTURE_FORMATS)
def test_a_pipe_is_no_label_file(form: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    message = fault_of(form.read, tmp_path / "pipe", SIZE, ClassList(["a"]))
    assert message == f"{tmp_path}/pipe: is a pipe, a socket or a device, not a file; remove it"


@pytest.mark.parametrize("form", MASK_FORMATS.values(), ids=MASK_FORMATS)
def test_a_pipe_is_no_mask(form: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in fault_of(form.read, tmp_path / "pipe", MaskClasses(["a"], ((1, 1, 1),)))


def test_pipes_and_devices_in_a_set(root: Path) -> None:
    os.mkfifo(root / "pipe.json")
    os.mkfifo(root / "pipe.txt")
    assert "pipe.json: is a pipe" in fault_of(
        opened, root, "detect: {train: images, annotations: {train: pipe.json}, names: [a]}"
    )
    assert "pipe.txt: neither a folder, a .txt list" in fault_of(opened, root, "detect: {train: pipe.txt, names: [a]}")
    assert "is a pipe" in fault_of(CocoObjects().read, root / "pipe.json", [root])
    assert "is a pipe" in fault_of(CocoObjects().read, Path("/dev/zero"), [root])
    os.mkfifo(root / "images/c.png")
    assert "c.png: is a pipe" in fault_of(read_image, root / "images/c.png")
    (split,) = opened(root, "detect: {train: images, names: [a]}")
    assert len(split.index.kept) == 2 and "c.png: is a pipe" in split.index.report.reasons[0]
    (root / "labels/a.txt").unlink()
    os.mkfifo(root / "labels/a.txt")
    # A label file that cannot be read does not make its picture one without objects.
    assert "a.txt: is a pipe" in fault_of(opened, root, "detect: {train: images, names: [a]}")


def test_a_link_back_has_no_end(root: Path) -> None:
    (root / "images/deep").mkdir()
    (root / "images/deep/back").symlink_to(root / "images")
    message = fault_of(list_images, [root / "images"])
    assert message.startswith(f"{root}/images/deep/back: is a link back to {root}/images, around ")
    (root / "masks/back").symlink_to("..")
    assert "masks/back: is a link back" in fault_of(MaskFinder, "train", [root / "images"], root / "masks")


def test_links_to_each_other_have_no_end(root: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        (root / f"pool/{name}").mkdir(parents=True)
        (root / f"pool/{name}/on").symlink_to(root / f"pool/{other}")
    (root / "images/in").symlink_to(root / "pool/one")
    assert "images/in/on/on: is a link back" in fault_of(list_images, [root / "images"])


def test_links_that_multiply_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_walk, "MOST_FOLDERS", 40)
    for level in range(8):
        (root / f"pool/{level}").mkdir(parents=True)
        for name in ("x", "y"):
            (root / f"pool/{level}/{name}").symlink_to(root / f"pool/{level + 1}")
    (root / "pool/8").mkdir()
    assert "holds more than 40 folders, links included" in fault_of(list_images, [root / "pool/0"])


def test_one_folder_behind_two_links_is_listed_under_both(root: Path) -> None:
    for name in ("one", "two"):
        (root / f"all/{name}").parent.mkdir(exist_ok=True)
        (root / f"all/{name}").symlink_to(root / "images")
    assert len(list_images([root / "all"])) == 4


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_inside_label_files_stay_below_the_pictures(name: str, root: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    coco = {"images": [{"id": 1, "file_name": name}], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    (root / "coco.json").write_text(json.dumps(coco))
    assert leads_outside(name)
    assert "which leads out of the folder of images" in fault_of(
        CocoObjects().read, root / "coco.json", [root / "images"]
    )
    block = "detect: {train: images, annotations: {train: coco.json}}"
    assert "which leads out of the folder of images" in fault_of(opened, root, block)
    (root / "bdd.json").write_text(json.dumps([{"name": name, "labels": []}]))
    assert "outside the folder of images" in fault_of(Bdd100kObjects().read, root / "bdd.json", [root / "images"])


@pytest.mark.parametrize("name", ["a..b.png", "x/a.png", "...png", "./a.png", "a b/c..d"])
def test_other_names_are_fine(name: str) -> None:
    assert not leads_outside(name)


def test_lists_may_name_pictures_anywhere_and_results_stay_in_their_folder(root: Path, tmp_path: Path) -> None:
    # Where a set lies is said by the one who lists it; only what is written has to stay where it was asked for.
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_text(f"../images/a.png\n{root}/images/b.png\n")
    (root / "set.yaml").write_text("detect: {train: lists/train.txt, names: [a]}")
    convert(["--data", str(root / "set.yaml"), "--to", "voc", "--out", str(tmp_path / "new/out")])
    written = [file for file in (tmp_path / "new").rglob("*") if file.is_file()]
    assert len([file for file in written if file.suffix == ".xml"]) == 2
    assert all(file.is_relative_to(tmp_path / "new/out") for file in written)
    assert sorted(path.name for path in root.iterdir()) == ["images", "labels", "lists", "masks", "set.yaml"]


@pytest.mark.parametrize(
    "block",
    [
        'detect: {train: "ima\\0ges", names: [a]}',
        'detect: {train: images, labels: "a\\0b", names: [a]}',
        'detect: {train: images, names: ["a\\0b"]}',
        'segment: {train: images, masks: "m\\0", names: [a]}',
        'path: "\\0"\ndetect: {train: images, names: [a]}',
    ],
)
def test_a_nul_character_in_a_data_yaml(root: Path, block: str) -> None:
    assert "holds a NUL character, which no name and no path has" in fault_of(opened, root, block)


def test_a_nul_character_in_lists_and_label_files(root: Path) -> None:
    (root / "list.txt").write_bytes(b"images/a.png\nimages/b\0.png\n")
    message = fault_of(opened, root, "detect: {train: list.txt, names: [a]}")
    assert "list.txt, line 2: holds a NUL character" in message
    (root / "labels/a.txt").write_bytes(b"0 0.5 0.5\0 0.5 0.5\n")
    assert "labels/a.txt:1: " in fault_of(opened, root, "detect: {train: images, names: [a]}")
    coco = {"images": [{"id": 1, "file_name": "a\0.png"}], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    (root / "coco.json").write_text(json.dumps(coco))
    assert "which no file can have" in fault_of(CocoObjects().read, root / "coco.json", [root / "images"])


def test_a_picture_that_claims_too_much_is_left_out_and_named(root: Path) -> None:
    (root / "images/c.png").write_bytes(claiming_png())
    (split,) = opened(root, "detect: {train: images, names: [a]}")
    assert len(split.index.kept) == 2
    assert [reason.split(": ")[1] for reason in split.index.report.reasons] == [
        "the image claims more than the 178 million pixels that are read; cut it into pieces or scale it down"
    ]


def test_what_is_refused_leaves_nothing_behind(root: Path) -> None:
    coco = {"images": [{"id": 1, "file_name": "../a.png"}], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    (root / "coco.json").write_text(json.dumps(coco))
    given = ["--from", "coco", "--images", str(root / "images"), "--labels", str(root / "coco.json"), "--to", "yolo"]
    assert "leads out of the folder" in fault_of(convert, [*given, "--out", str(root / "out")])
    assert sorted(path.name for path in root.iterdir()) == ["coco.json", "images", "labels", "masks"]
