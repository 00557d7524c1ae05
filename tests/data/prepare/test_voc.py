"""The VOC preparation: splits, classes, what is left out and counted, whole results only, the real set's counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.config import load_data_config
from data.dataset import TaskDataset
from data.formats.voc_xml import Annotation, write_annotation
from data.prepare.voc import VocOptions, prepare_voc
from utils.errors import DataError, UsageError

REPO = Path(__file__).resolve().parents[3]
WIDTH, HEIGHT = 80, 60
Objects = list[tuple[str, list[float]]]


def add(root: Path, name: str, objects: Objects, size: tuple[int, int] | None = (HEIGHT, WIDTH), hard: int = 0) -> None:
    """Write a picture and its annotation; the first ``hard`` objects are difficult."""
    picture, xml = root / f"JPEGImages/{name}.jpg", root / f"Annotations/{name}.xml"
    for file in (picture, xml):
        file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(picture)
    boxes = np.array([box for _, box in objects], np.float64).reshape(-1, 4)
    write_annotation(xml, Annotation([n for n, _ in objects], boxes, np.arange(len(objects)) < hard, size))


def lists(root: Path, **names: str) -> None:
    folder = root / "ImageSets/Main"
    folder.mkdir(parents=True, exist_ok=True)
    for split, listed in names.items():
        (folder / f"{split}.txt").write_text("\n".join(listed.split()) + "\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "cats"
    add(root, "a", [("dog", [10, 6, 50, 36]), ("cat", [0, 0, 80, 60])])
    add(root, "b.1", [("cat", [20, 15, 40, 30])])
    add(root, "c", [])
    add(root, "d", [("bird", [40, 30, 60, 45])])
    lists(root, train="a b.1", val="c", test="d")
    return root


def test_the_result_is_a_data_set(source: Path, tmp_path: Path) -> None:
    done = prepare_voc(source, tmp_path / "out" / "pets")
    assert done.yaml == tmp_path / "out/pets/pets.yaml" and done.notes == []
    assert (done.names, done.images) == (["bird", "cat", "dog"], {"train": 2, "val": 1, "test": 1})
    assert {split: boxes.tolist() for split, boxes in done.boxes.items()} == {
        "train": [0, 2, 1],
        "val": [0, 0, 0],
        "test": [1, 0, 0],
    }
    data = load_data_config(done.yaml, splits=("train", "val", "test")).for_head("detect", "detect")
    assert data.names == ["bird", "cat", "dog"]
    train = TaskDataset(data, "train")
    np.testing.assert_allclose(train.load(0).boxes, [[10, 6, 50, 36], [0, 0, 80, 60]], atol=1e-3)
    assert train.load(0).classes.tolist() == [2, 1] and train.load(1).classes.tolist() == [1]
    assert len(TaskDataset(data, "val").load(0).boxes) == 0
    assert os.listdir(tmp_path / "out") == ["pets"]
    assert (tmp_path / "out/pets/images/train/a.jpg").samefile(source / "JPEGImages/a.jpg")


def test_names_give_the_order_and_leave_other_classes_out(source: Path, tmp_path: Path) -> None:
    done = prepare_voc(source, tmp_path / "out", VocOptions(names=["dog", "cta", "cat"]))
    assert done.names == ["dog", "cta", "cat"] and done.boxes["train"].tolist() == [1, 0, 2]
    assert done.notes == [
        "1 objects of classes that --names lacks left out: bird 1",
        "WARNING: no object is called 'cta'.",
    ]
    with pytest.raises(DataError, match=r"no training picture holds an object .*: bird 1, cat 2, dog 1; .* 'cat'"):
        prepare_voc(source, tmp_path / "other", VocOptions(names=["CAT"]))
    assert not (tmp_path / "other").exists()


def test_what_is_left_out_or_changed_is_counted(source: Path, tmp_path: Path) -> None:
    box = [10, 10, 20, 20]
    add(source, "clip", [("cat", [-3, 10, 20, 20]), ("cat", [70, 50, 99, 99]), ("cat", [5, 5, 5, 9])])
    add(source, "sizeless", [("cat", box)], size=None)
    add(source, "other", [("cat", box)], size=(WIDTH, HEIGHT))
    add(source, "bare", [("cat", box)])
    add(source, "cut", [("cat", box)])
    (source / "Annotations/bare.xml").unlink()
    (source / "JPEGImages/cut.jpg").write_bytes(b"\xff\xd8\xff")
    lists(source, train="a clip sizeless other bare cut gone ../../../etc/passwd a", val="c a")
    done = prepare_voc(source, tmp_path / "out")
    assert done.images["train"] == 4
    assert done.notes == [
        "2 pictures of train.txt are not in JPEGImages: gone, ../../../etc/passwd",
        "WARNING: 1 pictures are in train and in val: a",
        "1 pictures without annotation left out: bare",
        "1 unreadable pictures left out: cut",
        "1 annotations give another size than their picture, whose own was taken: other",
        "1 annotations give no size; their pictures' was taken",
        "2 boxes reached over the edge of their picture and were clipped",
        "1 boxes without area left out",
    ]
    assert all(note in str(done) for note in done.notes)
    data = load_data_config(done.yaml).for_head("detect", "detect")
    boxes = {sample.id: sample.boxes for sample in map(TaskDataset(data, "train").load, range(4))}
    clipped = next(value for name, value in boxes.items() if "clip" in name)
    np.testing.assert_allclose(clipped, [[0, 10, 20, 20], [70, 50, 80, 60]], atol=1e-3)


def test_difficult_objects_stay_unless_dropped(source: Path, tmp_path: Path) -> None:
    add(source, "a", [("dog", [1, 1, 9, 9]), ("cat", [1, 1, 9, 9])], hard=1)
    assert prepare_voc(source, tmp_path / "kept").boxes["train"].tolist() == [0, 2, 1]
    done = prepare_voc(source, tmp_path / "dropped", VocOptions(drop_difficult=True))
    assert done.names == ["bird", "cat"] and done.boxes["train"].tolist() == [0, 2]
    assert done.notes == ["1 difficult objects left out"]


def test_corners_that_count_from_one(source: Path, tmp_path: Path) -> None:
    add(source, "a", [("dog", [1, 1, 80, 60])])
    done = prepare_voc(source, tmp_path / "out", VocOptions(one_based=True))
    assert (tmp_path / "out/labels/train/a.txt").read_text().split() == [
        "2",
        "0.50000000",
        "0.50000000",
        *["1.00000000"] * 2,
    ]
    assert done.notes == []


@pytest.mark.parametrize(
    ("listed", "images"),
    [
        ({"trainval": "a b.1 c", "val": "c", "test": "d"}, {"train": 2, "val": 1, "test": 1}),
        ({"trainval": "a b.1 c", "train": "a"}, {"train": 1, "val": 2}),
        ({"trainval": "a b.1 c d", "train": "a", "val": "c"}, {"train": 1, "val": 1}),
        ({"trainval": "a b.1"}, {"train": 2}),
        ({"train": "a", "test": "d"}, {"train": 1, "test": 1}),
        ({"train": "a.jpg b.1.JPG", "val": "c"}, {"train": 2, "val": 1}),
    ],
)
def test_splits_that_are_there_are_taken(source: Path, tmp_path: Path, listed: dict, images: dict) -> None:
    for file in (source / "ImageSets/Main").iterdir():
        file.unlink()
    lists(source, **listed)
    done = prepare_voc(source, tmp_path / "out")
    assert done.images == images
    assert ("no list for val; --val-share 0.2 draws one" in str(done)) == ("val" not in images)


def test_lists_with_a_column_of_flags(source: Path, tmp_path: Path) -> None:
    (source / "ImageSets/Main/train.txt").write_text("a  1\nb.1 -1\n")
    assert prepare_voc(source, tmp_path / "out").images["train"] == 2


def test_pictures_in_folders_of_their_own(source: Path, tmp_path: Path) -> None:
    add(source, "2024/may/e", [("cat", [1, 1, 9, 9])])
    lists(source, train="a 2024/may/e")
    done = prepare_voc(source, tmp_path / "out")
    assert (tmp_path / "out/labels/train/2024/may/e.txt").is_file()
    assert len(TaskDataset(load_data_config(done.yaml).for_head("detect", "detect"), "train")) == 2
    add(source, "images/f", [])
    with pytest.raises(DataError, match="a folder below JPEGImages is called images; rename it"):
        prepare_voc(source, tmp_path / "other")


def test_a_seeded_draw_stands_in_for_a_missing_list(source: Path, tmp_path: Path) -> None:
    for i in range(16):
        add(source, f"x{i:02}", [("cat", [1, 1, 9, 9])])
    for file in (source / "ImageSets/Main").iterdir():
        file.unlink()

    def drawn(name: str, **options: float) -> list[str]:
        prepare_voc(source, tmp_path / name, VocOptions(**options))
        return sorted(os.listdir(tmp_path / name / "images/val"))

    first = drawn("one", val_share=0.25)
    assert len(first) == 5 and len(os.listdir(tmp_path / "one/images/train")) == 15
    assert first == drawn("two", val_share=0.25) != drawn("three", val_share=0.25, seed=1)
    assert len(drawn("few", val_share=0.001)) == 1
    lists(source, trainval="a b.1 c x01 x02", test="d")
    done = prepare_voc(source, tmp_path / "listed", VocOptions(val_share=0.4))
    assert done.images == {"train": 3, "val": 2, "test": 1}
    assert "drew 2 of the training pictures for val (seed 0)" in done.notes
    lists(source, val="c")
    with pytest.raises(UsageError, match=r"val\.txt lists the pictures for validation; leave --val-share out"):
        prepare_voc(source, tmp_path / "never", VocOptions(val_share=0.4))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"names": ["a", "b", "a"]}, "--names holds 'a' twice"),
        ({"val_share": 1.0}, "--val-share 1.0 is no share"),
        ({"val_share": float("nan")}, "--val-share nan is no share"),
        ({"seed": -1}, "--seed -1 is below 0"),
    ],
)
def test_options_that_make_no_sense(options: dict, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        VocOptions(**options)


def test_a_wrong_source_is_explained(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"nowhere/JPEGImages: no such folder; give --source a folder that holds"):
        prepare_voc(tmp_path / "nowhere", out)
    with pytest.raises(DataError, match=r"JPEGImages: no such folder; give --source .*/cats$"):
        prepare_voc(tmp_path, out)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(source / "JPEGImages/a.png")
    with pytest.raises(DataError, match=r"a\.png: a\.jpg has the same name; one annotation cannot serve both"):
        prepare_voc(source, out)
    (source / "JPEGImages/a.png").unlink()
    (source / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"train\.txt: not a text file"):
        prepare_voc(source, out)
    (source / "ImageSets/Main/train.txt").unlink()
    with pytest.raises(DataError, match=r"ImageSets/Main: no train\.txt or trainval\.txt .* --val-share 0\.2 to draw"):
        prepare_voc(source, out)
    assert sorted(os.listdir(tmp_path)) == ["cats"]


def test_a_failure_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    (source / "Annotations/d.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"d\.xml, line 1: is not valid XML"):
        prepare_voc(source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["cats"]


def test_the_command(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data.prepare", "voc", "--source", str(source), "--names", "cat", "dog", "bird"]
    where = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(REPO)}}
    first = subprocess.run(command, capture_output=True, text=True, **where)
    assert first.returncode == 0, first.stderr
    assert "wrote datasets/cats/cats.yaml" in first.stdout and (tmp_path / "datasets/cats/cats.yaml").is_file()
    second = subprocess.run(command, capture_output=True, text=True, **where)
    assert second.returncode == 2 and second.stderr.startswith("error: --out") and second.stderr.count("\n") == 1


def test_the_real_set_has_the_published_counts(shared: Path, tmp_path: Path) -> None:
    done = prepare_voc(shared / "data/bccd", tmp_path / "bccd", VocOptions(names=["RBC", "WBC", "Platelets"]))
    assert done.images == {"train": 205, "val": 87, "test": 72}
    assert sum(done.boxes.values()).tolist() == [4155 - 2, 372, 361]
    assert done.notes == ["2 boxes without area left out"]
    data = load_data_config(done.yaml).for_head("detect", "detect")
    report = TaskDataset(data, "train").report
    assert (report.objects, report.duplicates, report.degenerate) == (int(done.boxes["train"].sum()), 0, 0)
