"""The real sets go through the formats, and what their README counts is still there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.config import load_data_config
from data.convert.__main__ import main
from data.formats.mask_png import read_mask
from data.prepare.camvid import DETECT_NAMES, SEGMENT_NAMES
from data.scan import LabelIndex
from data.split_index import open_split


def index_of(folder: Path, task: str = "detect", split: str = "train") -> LabelIndex:
    return open_split(load_data_config(folder / f"{folder.name}.yaml", [split]).tasks[task], split).index


def check_same(found: LabelIndex, expected: LabelIndex) -> None:
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1e-6)


def in_order(keypoints: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return both beside each other, sorted by boxes."""
    rows = np.hstack([boxes, keypoints]).astype(np.float64)
    return rows[np.lexsort(rows[:, :4].round(4).T)]


def folders(images: Path, labels: Path) -> list[str]:
    return ["--images", str(images), "--labels", str(labels)]


def test_blood_cells(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bccd = shared / "data/bccd"
    one, two = tmp_path / "one", tmp_path / "two"
    names = ["--names", "RBC", "WBC", "Platelets"]
    given = [*folders(bccd / "JPEGImages", bccd / "Annotations"), *names]
    main(["--from", "voc", *given, "--to", "coco", "--out", str(one)])
    assert "2 boxes without area within their picture left out" in capsys.readouterr().out
    expected = index_of(one)
    assert np.bincount(expected.classes).tolist() == [4155 - 2, 372, 361] and len(expected.kept) == 364
    main(["--data", str(one / "one.yaml"), "--to", "yolo", "--out", str(two)])
    check_same(index_of(two), expected)


@pytest.mark.parametrize("name", ["voc", "labelme", "coco"])
def test_coco128(name: str, shared: Path, tmp_path: Path) -> None:
    coco128 = shared / "data/coco128"
    there, back = tmp_path / "there", tmp_path / "back"
    given = folders(coco128 / "images/train2017", coco128 / "labels/train2017")
    names = ["--names", str(coco128 / "classes.txt")]
    main(["--from", "yolo", *given, *names, "--to", name, "--out", str(there)])
    main(["--data", str(there / "there.yaml"), "--to", "yolo", "--out", str(back), *names])
    found = index_of(back)
    assert (len(found.kept), len(found.classes), len(np.unique(found.classes))) == (128, 929, 71)
    assert (np.diff(found.offsets) == 0).sum() == 2
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(coco128 / "images")
    (root / "labels").symlink_to(coco128 / "labels")
    listed = [line for line in (coco128 / "classes.txt").read_text().splitlines() if line]
    (root / "root.yaml").write_text(f"detect: {{train: images/train2017, names: {listed}}}")
    check_same(found, index_of(root))


def test_polygons_of_coco128(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco128 = shared / "data/coco128"
    given = folders(coco128 / "images/train2017", coco128 / "labels_polygons/train2017")
    names = ["--names", *(f"c{i}" for i in range(91))]
    main(["--from", "yolo", *given, *names, "--to", "coco", "--out", str(tmp_path / "coco")])
    main(["--data", str(tmp_path / "coco/coco.yaml"), "--to", "yolo", "--out", str(tmp_path / "yolo")])
    printed = capsys.readouterr().out
    found, between = index_of(tmp_path / "yolo"), index_of(tmp_path / "coco")
    assert len(found.classes) == 746
    check_same(found, between)
    assert "lost" not in printed and "left out" not in printed


def test_persons_of_coco(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mini = shared / "data/coco_keypoints_mini"
    given = folders(mini / "train2017", mini / "annotations/person_keypoints_train2017.json")
    main(["--from", "coco", *given, "--to", "yolo", "--out", str(tmp_path / "yolo")])
    assert "5 crowds left out, which yolo cannot mark" in capsys.readouterr().out
    main(["--from", "coco", *given, "--to", "coco", "--out", str(tmp_path / "coco")])
    pose, persons = index_of(tmp_path / "yolo", "pose"), index_of(tmp_path / "coco", "pose")
    assert len(persons.classes) == 147 and int(persons.crowd.sum()) == 5
    assert int((pose.keypoints[..., 2] > 0).any(1).sum()) == 86
    # A COCO file has its own order of pictures.
    kept = persons.keypoints[~persons.crowd].reshape(142, -1), persons.boxes[~persons.crowd]
    np.testing.assert_allclose(in_order(pose.keypoints.reshape(142, -1), pose.boxes), in_order(*kept), atol=1e-6)
    instances = folders(mini / "val2017", mini / "annotations/instances_val2017.json")
    main(["--from", "coco", *instances, "--to", "voc", "--out", str(tmp_path / "voc"), "--split", "val"])
    assert len(index_of(tmp_path / "voc", split="val").classes) == 292 - 2


def test_camvid(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camvid = shared / "data/camvid"
    names = ["--names", *SEGMENT_NAMES, "--ignore", "11"]
    given = ["--from", "mask_png", *folders(camvid / "images/val", camvid / "masks/val"), *names]
    outlined = ["--to", "coco", "--least-area", "50", "--classes", *DETECT_NAMES]
    main([*given, *outlined, "--out", str(tmp_path / "a")])
    assert np.bincount(index_of(tmp_path / "a").classes).tolist() == [374, 158, 195, 201]
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((camvid / "images/val").iterdir())[::20]:
        (few / path.name).symlink_to(path)
    given = ["--from", "mask_png", *folders(few, camvid / "masks/val"), *names]
    main([*given, "--to", "mask_colour", "--out", str(tmp_path / "b")])
    main(["--data", str(tmp_path / "b/b.yaml"), "--to", "mask_png", "--out", str(tmp_path / "c")])
    main([*given, "--to", "labelme", "--out", str(tmp_path / "d")])
    back = ["--to", "mask_png", "--rest", "ignore", "--names", *SEGMENT_NAMES]
    main(["--data", str(tmp_path / "d/d.yaml"), *back, "--out", str(tmp_path / "e")])
    for path in few.iterdir():
        before = read_mask(camvid / f"masks/val/{path.stem}.png")
        for result in "ce":
            after = read_mask(tmp_path / result / f"masks/train/{path.stem}.png")
            np.testing.assert_array_equal(after, np.where(before == 11, 255, before))
    capsys.readouterr()
    road = ["--classes", "road=Road", "sidewalk=Pavement", "sky=Sky", "car=Car"]
    main(["--data", str(tmp_path / "c/c.yaml"), "--to", "cityscapes_masks", "--out", str(tmp_path / "f"), *road])
    assert "pixels of the class 'Tree' are ignored now" in capsys.readouterr().out
    data = load_data_config(tmp_path / "f/f.yaml").tasks["segment"]
    assert data.format == "cityscapes" and len(data.names) == 19
