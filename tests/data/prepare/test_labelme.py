"""A labelme folder becomes a data set of boxes and masks that trains."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.config import load_data_config
from data.dataset import TaskDataset
from data.formats.mask_png import read_mask
from data.prepare.__main__ import main
from tests.train_runs import SMALL, results_of, run_train
from utils.errors import DataError, UsageError

HEIGHT, WIDTH = 60, 80
COUNT = 10
CAR = ("car", "rectangle", [[30, 50], [10, 30]])
ROAD = ("road", "polygon", [[0, 40], [80, 40], [80, 60], [0, 60]])
BUS = ("bus", "polygon", [[40, 30], [60, 30], [60, 50], [40, 50]])
NOT_COUNTED = ("__ignore__", "polygon", [[0, 55], [80, 55], [80, 60], [0, 60]])


def annotate(root: Path, name: str, *shapes: tuple) -> None:
    image = root / f"{name}.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    entries = [
        {"label": label, "shape_type": kind, "points": points, "group_id": None, "flags": {}, **(more or [{}])[0]}
        for label, kind, points, *more in shapes
    ]
    text = {"version": "5.1.1", "flags": {}, "shapes": entries, "imagePath": image.name, "imageData": None}
    image.with_suffix(".json").write_text(json.dumps({**text, "imageHeight": HEIGHT, "imageWidth": WIDTH}))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "street"
    for i in range(COUNT):
        annotate(root, f"{'day/' * (i % 2)}{i}", CAR, ROAD, BUS, NOT_COUNTED)
    return root


def prepare(source: Path, out: Path, *options: str) -> dict:
    main(["labelme", "--source", str(source), "--out", str(out), *options])
    return load_data_config(out / f"{out.name}.yaml").tasks


def test_rectangles_become_boxes_and_polygons_masks(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = prepare(source, tmp_path / "out")
    assert tasks["detect"].names == ["car"] and tasks["segment"].names == ["background", "bus", "road"]
    train = TaskDataset(tasks["detect"], "train")
    assert len(train) == 8 and len(TaskDataset(tasks["segment"], "val")) == 2
    np.testing.assert_allclose(train.load(0).boxes, [[10, 30, 30, 50]], atol=1e-4)
    # Later shapes lie on top; what does not count is on top of everything here.
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[40:] = 2
    expected[30:50, 40:60] = 1
    expected[55:] = 255
    masks = sorted((tmp_path / "out/masks").rglob("*.png"))
    assert len(masks) == COUNT and all(np.array_equal(read_mask(mask), expected) for mask in masks)
    printed = capsys.readouterr().out
    assert "drew 2 of 10 pictures for val (seed 0)" in printed
    assert "pixels of train: background 68.2 %, bus 9.1 %, road 22.7 %" in printed


def test_one_command_makes_a_set_that_trains(source: Path, tiny_model: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", "--polygon-boxes", "bus", "--val-share", "0.4")
    data = ["--data", str(tmp_path / "out/out.yaml")]
    run_train("--cfg", str(tiny_model), *data, "--epochs", "1", *SMALL, cwd=tmp_path)
    (row,) = results_of(tmp_path / "runs/train/exp")
    assert float(row["train/detect_box"]) > 0 and float(row["train/segment_seg"]) > 0


def test_classes_are_joined_and_polygons_give_boxes_where_asked(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = prepare(source, tmp_path / "one", "--classes", "vehicle=car,bus,tram", "ground=road")
    assert tasks["detect"].names == ["vehicle"] and tasks["segment"].names == ["background", "vehicle", "ground"]
    assert "WARNING: no object is called 'tram'." in capsys.readouterr().out
    tasks = prepare(source, tmp_path / "two", "--polygon-boxes")
    assert tasks["detect"].names == ["bus", "car", "road"]
    tasks = prepare(source, tmp_path / "three", "--polygon-boxes", "bus")
    assert tasks["detect"].names == ["bus", "car"]
    boxes = TaskDataset(tasks["detect"], "val").load(0).boxes
    np.testing.assert_allclose(boxes, [[10, 30, 30, 50], [40, 30, 60, 50]], atol=1e-4)
    tasks = prepare(source, tmp_path / "four", "--classes", "bus")
    assert set(tasks) == {"segment"}
    assert "10 objects of the class 'car' left out" in capsys.readouterr().out


def test_the_draw_depends_on_the_seed_alone(source: Path, tmp_path: Path) -> None:
    def drawn(name: str, *options: str) -> list[str]:
        prepare(source, tmp_path / name, "--val-share", "0.3", *options)
        return sorted(path.name for path in (tmp_path / name / "images/val").rglob("*.png"))

    first = drawn("one")
    assert len(first) == 3 and first == drawn("two") != drawn("three", "--seed", "1")


def test_what_cannot_be_used_is_counted(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(source, "round", ("car", "circle", [[5, 5], [9, 9]]), ("car", "rectangle", [[5, 5], [5, 9]]))
    annotate(source, "bare")
    annotate(source, "cut", CAR)
    annotate(source, "marked", (*CAR, {"flags": {"crowd": True}}), ("__ignore__", *CAR[1:]))
    (source / "bare.json").unlink()
    (source / "cut.png").write_bytes(b"\x89PNG")
    prepare(source, tmp_path / "out")
    printed = capsys.readouterr().out
    for line in (
        "1 pictures that are missing or cannot be read left out: cut.png",
        "1 pictures without labels left out: bare.png",
        "1 circles left out",
        "1 boxes without area within their picture left out",
        "1 crowds have no box, because labels cannot mark them",
        "1 areas called __ignore__ left out; only polygons beside masks of classes are ignored",
    ):
        assert line in printed.splitlines()
    (label,) = (tmp_path / "out/labels").rglob("marked.txt")
    assert label.read_text() == ""


def test_a_rectangle_that_is_grouped_with_a_polygon_is_a_box_too(source: Path, tmp_path: Path) -> None:
    for i in range(2):
        part = ("bus", "polygon", BUS[2], {"group_id": 1})
        annotate(source / "grouped", str(i), ("bus", "rectangle", [[38, 28], [60, 50]], {"group_id": 1}), part)
    tasks = prepare(source / "grouped", tmp_path / "out")
    assert tasks["detect"].names == ["bus"] and tasks["segment"].names == ["background", "bus"]
    np.testing.assert_allclose(TaskDataset(tasks["detect"], "train").load(0).boxes, [[38, 28, 60, 50]], atol=1e-4)


def test_mistakes_are_one_sentence_and_leave_nothing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="nowhere: no such folder; give --source"):
        prepare(tmp_path / "nowhere", out)
    with pytest.raises(UsageError, match=r"--polygon-boxes has 'bsu', which is no class. Did you mean 'bus'"):
        prepare(source, out, "--polygon-boxes", "bsu")
    with pytest.raises(UsageError, match=r"--val-share 1\.0 is no share"):
        prepare(source, out, "--val-share", "1")
    with pytest.raises(DataError, match=r"no picture has a rectangle or a polygon that can be used; .*'tram'"):
        prepare(source, out, "--classes", "tram")
    annotate(source, "alone/a", CAR)
    with pytest.raises(DataError, match="the only picture; --val-share needs two or more"):
        prepare(source / "alone", out)
    (source / "0.json").write_text("{")
    with pytest.raises(DataError, match=r"0\.json: broken JSON at line 1"):
        prepare(source, out)
    for file in source.rglob("*.json"):
        file.unlink()
    with pytest.raises(DataError, match="no picture has a JSON file of its name beside it"):
        prepare(source, out)
    assert os.listdir(tmp_path) == ["street"]
