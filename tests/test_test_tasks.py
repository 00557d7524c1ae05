"""test.py: its tasks, its report, one class of objects, labels with results, tiles, several looks and models."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.dataset import TaskDataset
from tests.conftest import write_tiny_set
from tests.test_test import COMMAND, run_test
from tests.tiny_detector import AREAS_ALONE, BOTH, write_weights
from utils import size_study
from utils.command_lines.testing import parse_options
from utils.errors import DataError
from utils.logging import start_logging
from utils.metrics import BoxEvaluator

NAMES = {"detect": ["red", "green", "blue"], "segment": ["ground", "red"]}


@pytest.fixture(autouse=True)
def messages() -> None:
    """Start the command's messages before the test: pytest listens to the loggers that it finds when a test begins."""
    start_logging()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small pictures with boxes of three classes, and masks of two."""
    folder = tmp_path_factory.mktemp("set")
    path = write_tiny_set(folder, images=4)
    for mask in (folder / "masks").rglob("*.png"):
        cv2.imwrite(str(mask), np.minimum(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), 1))
    path.write_text(path.read_text().replace("[ground, red, green, blue]", "[ground, red]"))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "first.safetensors", BOTH, names=NAMES)


def run(weights: list[Path], data: Path, project: Path, *more: str) -> Path:
    """Run test.py, which has to end well, and return its folder."""
    number = len(list(project.glob("run*")))
    given = ["--weights", *map(str, weights), "--data", str(data), "--project", str(project), "--name", f"run{number}"]
    sizes = [] if {"--sizes", "--img-size"} & set(more) else ["--img-size", "64"]
    code, _, err = run_test(*given, *sizes, *more, cwd=project)
    assert code == 0, err
    return project / f"run{number}"


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def metrics(folder: Path) -> dict[str, dict[str, float]]:
    return {name: report["metrics"] for name, report in results(folder)["heads"].items()}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_all_heads_are_in_one_table_and_one_file(weights: Path, data: Path, tmp_path: Path, caplog: Any) -> None:
    folder = run([weights], data, tmp_path, "--border", "3", "--noplots")
    assert files(folder) == {"results.json"}
    told = results(folder)
    assert (told["task"], told["split"], told["border"], told["weights"]) == ("val", "val", 3, [str(weights)])
    detect, segment = (told["heads"][name] for name in ("detect", "segment"))
    assert (detect["images"], detect["conf_thres"]) == (4, 0.001) and not any(detect["images_left_out"].values())
    assert {"AP", "AP50", "AP_small", "P", "R"} <= set(detect["metrics"])
    assert "AP_large" not in detect["metrics"], "no label is that large"
    assert [row["name"] for row in detect["per_class"]] == NAMES["detect"]
    assert all(row["labels"] == 4 and row["AP_large"] is None and row["AP_small"] >= 0 for row in detect["per_class"])
    assert {"mIoU", "mIoU_inner"} <= set(segment["metrics"]) and segment["per_class"][0]["IoU_inner"] is not None
    assert all(spent > 0 for spent in segment["ms_per_image"].values())
    lines = caplog.text.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if "all heads (val)" in line) + 1 :][:3]
    header, *rows = (line.split() for line in table)
    assert header[:3] == ["head", "task", "images"] and [row[0] for row in rows] == ["segment", "detect"]
    assert "AP_L" not in header and rows[1][header.index("mIoU")] == rows[0][header.index("AP_S")] == "-"
    assert rows[0][header.index("mIoU_inner")] == f"{segment['metrics']['mIoU_inner']:.3f}"
    assert "mIoU_inner" not in metrics(run([weights], data, tmp_path, "--border", "0", "--noplots"))["segment"]


def test_speed_is_that_of_every_model_by_itself(weights: Path, data: Path, tmp_path: Path, caplog: Any) -> None:
    other = write_weights(tmp_path / "other.safetensors", AREAS_ALONE, names=NAMES)
    folder = run([weights, other], data, tmp_path, "--task", "speed", "--batch-size", "1")
    assert files(folder) == {"results.json"}
    models = results(folder)["models"]
    assert {name: list(model["heads"]) for name, model in models.items()} == {
        "first": ["segment", "detect"],
        "other": ["segment"],
    }
    first = models["first"]
    assert (first["iou_thres"], first["heads"]["detect"]["conf_thres"], first["split"]) == (0.45, 0.25, "val")
    stages = first["heads"]["detect"]["ms_per_image"]
    assert list(stages) == ["load", "move", "inference", "postprocess", "evaluate"]
    assert all(spent > 0 for spent in stages.values())
    lines = [line.split() for line in caplog.text.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["first"]] == ["segment", "detect"]
    assert ["other", "segment", "64x64", "4"] in [line[:4] for line in lines]


def test_a_study_compares_models(weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It has a test of its own and takes longer than all the rest.
    monkeypatch.setattr(size_study, "plot_sizes", lambda records, metrics, folder: folder / "sizes.png")
    other = write_weights(tmp_path / "other.safetensors", BOTH, names=NAMES, seed=5)
    folder = run([weights, other], data, tmp_path, "--task", "study", "--sizes", "32", "64", "--heads", "segment")
    assert files(folder) == {"sizes.csv", "sizes.json", "study.png"}
    with open(folder / "sizes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["size"]) for row in rows] == [
        (model, size) for model in ("first", "other") for size in ("32", "64")
    ]
    alone = metrics(run([other], data, tmp_path, "--img-size", "32", "--noplots"))
    assert float(rows[2]["mIoU"]) == pytest.approx(alone["segment"]["mIoU"], abs=1e-6)
    assert float(rows[2]["mIoU"]) != pytest.approx(float(rows[0]["mIoU"]), abs=1e-6)
    picture = cv2.imread(str(folder / "study.png"))
    assert picture is not None and picture.std() > 10


def test_tasks_have_their_own_defaults() -> None:
    given = ["--weights", "a.pt", "b.pt", "--data", "d.yaml"]
    study = parse_options([*given, "--task", "study"])
    assert study.sizes == [256, 384, 512, 640, 768, 896, 1024, 1152, 1280, 1408, 1536] and study.split == "val"
    assert study.models == {"a": "a.pt", "b": "b.pt"} and study.iou_thres == 0.6
    speed = parse_options([*given, "--task", "speed", "--iou-thres", "0"])
    assert (speed.split, speed.iou_thres, speed.conf_thres, speed.sizes) == ("val", 0, None, None)
    same = parse_options(["--weights", "one/best.pt", "two/best.pt", "--data", "d.yaml", "--task", "speed"])
    assert list(same.models) == ["one/best.pt", "two/best.pt"]


def test_one_class_is_measured_whatever_the_classes_are(weights: Path, data: Path, tmp_path: Path) -> None:
    many = data.with_name("many.yaml")
    many.write_text(data.read_text().replace("[red, green, blue]", "[red, green, blue, more]"))
    folder = run([weights], many, tmp_path, "--single-cls", "--save-json", "--save-txt", "--noplots")
    report = results(folder)["heads"]["detect"]
    assert [(row["name"], row["labels"]) for row in report["per_class"]] == [("item", 12)]
    found = json.loads((folder / "detect_predictions.json").read_text())
    assert {entry["category_id"] for entry in found} == {0} and len(found) > 12
    kept = np.concatenate([np.loadtxt(path, ndmin=2) for path in (folder / "labels_detect").glob("*.txt")])
    assert len(kept) == len(found) and (kept[:, 0] == 0).all()
    separate = json.loads(
        (run([weights], data, tmp_path, "--save-json", "--noplots") / "detect_predictions.json").read_text()
    )
    assert {entry["category_id"] for entry in separate} == {0, 1, 2}
    best = {image: max(e["score"] for e in separate if e["image_id"] == image) for image in range(4)}
    assert best == {image: max(e["score"] for e in found if e["image_id"] == image) for image in range(4)}


def test_results_have_the_ids_of_the_annotation_file(weights: Path, data: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found = json.loads(
        (run([weights], data, tmp_path, "--save-json", "--noplots") / "detect_predictions.json").read_text()
    )
    images = [{"id": 70 - number, "file_name": f"{number:03d}.png"} for number in range(4)]
    # An untrained model finds none of the real objects, so some of what it finds are labels.
    annotations = [
        {
            **{"id": number, "image_id": 70 - entry["image_id"], "category_id": 5 + 2 * entry["category_id"]},
            **{"bbox": entry["bbox"], "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0},
        }
        for number, entry in enumerate(found[::7], 1)
    ]
    categories = [{"id": 5 + 2 * index, "name": name} for index, name in enumerate(NAMES["detect"])]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    listed = tmp_path / "coco.yaml"
    pictures = data.parent / "images/val"
    listed.write_text(
        f"detect: {{train: {pictures}, val: {pictures}, annotations: {{train: {truth}, val: {truth}}}, "
        "names: [red, green, blue]}"
    )
    folder = run([weights], listed, tmp_path, "--save-json", "--noplots", "--heads", "detect")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "detect_predictions.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] > 0.05
    assert metrics(folder)["detect"]["AP"] == pytest.approx(evaluation.stats[0], abs=1e-3)
    one = json.loads(
        (
            run([weights], listed, tmp_path, "--save-json", "--noplots", "--single-cls") / "detect_predictions.json"
        ).read_text()
    )
    assert {entry["image_id"] for entry in one} == {67, 68, 69, 70} and {entry["category_id"] for entry in one} == {0}


def test_what_cannot_be_written_is_said_before_the_test(weights: Path, data: Path, tmp_path: Path) -> None:
    given = ["--project", str(tmp_path), "--img-size", "64", "--save-json"]
    both = data.with_name("both.yaml")
    both.write_text(data.read_text().replace("val: images/val", "val: [images/val, images/train]"))
    code, _, err = run_test("--weights", str(weights), "--data", str(both), *given, cwd=tmp_path)
    assert code == 3 and "train/000.png and" in err and "would both be image '0'" in err
    assert not list(tmp_path.rglob("results.json"))
    areas = write_weights(tmp_path / "areas.safetensors", AREAS_ALONE, names=NAMES)
    code, _, err = run_test("--weights", str(areas), "--data", str(data), *given, cwd=tmp_path)
    assert code == 2 and "--save-json writes objects, and what is tested finds none (segment)" in err


def test_what_was_measured_stays_where_the_disk_is_too_full_for_more(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, path: Path, ids: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(BoxEvaluator, "coco_json", full)
    given = ["--weights", str(weights), "--data", str(data), "--project", str(tmp_path), "--img-size", "64"]
    code, _, err = run_test(*given, "--save-json", "--noplots", cwd=tmp_path)
    assert code == 1 and "detect_predictions.json: No space left on device" in err
    assert "AP" in metrics(tmp_path / "exp")["detect"]


def test_labels_are_written_with_what_was_found_beside_them(weights: Path, data: Path, tmp_path: Path) -> None:
    options = ("--heads", "detect", "--noplots", "--conf-thres", "0.3")
    folder = run([weights], data, tmp_path, *options, "--save-hybrid", "--save-conf")
    for image in range(4):
        labels = np.loadtxt(data.parent / f"labels/val/{image:03d}.txt", ndmin=2)
        rows = np.loadtxt(folder / f"labels_detect/{image:03d}.txt", ndmin=2)
        np.testing.assert_allclose(rows[: len(labels), :5], labels, atol=1e-4)
        assert (rows[: len(labels), 5] == 1).all() and 0.3 <= rows[len(labels) :, 5].min() < 1
    # What is measured is the model, not the labels.
    assert metrics(folder) == metrics(run([weights], data, tmp_path, *options))


def test_tiles_as_large_as_pictures_change_nothing_and_smaller_ones_do(
    weights: Path, data: Path, tmp_path: Path
) -> None:
    plain = metrics(run([weights], data, tmp_path, "--noplots", "--img-size", "96"))
    large = run([weights], data, tmp_path, "--noplots", "--img-size", "96", "--tile", "96", "0")
    assert results(large)["tile"] == [96, 0] and results(large)["heads"]["detect"]["images"] == 4
    assert metrics(large)["segment"] == plain["segment"]
    # Boxes meet twice, first those of a tile, then those of the picture, clipped to it.
    assert metrics(large)["detect"]["AP50"] == pytest.approx(plain["detect"]["AP50"], abs=0.02)
    small = run([weights], data, tmp_path, "--img-size", "96", "--tile", "48", "0.25")
    assert metrics(small)["segment"] != plain["segment"] and metrics(small)["detect"] != plain["detect"]
    assert "test_batch2_detect_results.jpg" in files(small)


@pytest.mark.parametrize("looks", ["--augment", "--tta"])
def test_several_models_look_several_times(looks: str, weights: Path, data: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.safetensors"
    same.write_bytes(weights.read_bytes())
    once = metrics(run([weights], data, tmp_path, "--noplots"))
    alone = metrics(run([weights], data, tmp_path, "--noplots", looks))
    both = run([weights, same], data, tmp_path, "--noplots", looks)
    assert results(both)["passes"] == (3 if looks == "--augment" else 6)
    # Every box is there twice, and one suppresses the other; the mean of two equal masks is that mask, to rounding.
    assert metrics(both)["detect"] == pytest.approx(alone["detect"], abs=1e-6)
    assert metrics(both)["segment"]["accuracy"] == pytest.approx(alone["segment"]["accuracy"], abs=0.01)
    assert alone["segment"] != once["segment"]


def test_unreadable_images_are_counted(
    weights: Path, tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_set(tmp_path / "broken", images=3)
    listed = tmp_path / "broken/tiny.yaml"
    listed.write_text(listed.read_text().splitlines()[0])
    (tmp_path / "broken/images/val/001.png").write_bytes(b"no picture")
    load = TaskDataset.load

    def load_but_the_last(dataset: TaskDataset, index: int, *more: Any, **options: Any) -> Any:
        if index == len(dataset) - 1:
            raise DataError(f"{dataset.ids[index]}: gone while it was read")
        return load(dataset, index, *more, **options)

    monkeypatch.setattr(TaskDataset, "load", load_but_the_last)
    for more in ((), ("--tile", "64", "0.2")):
        report = results(run([weights], listed, tmp_path, "--noplots", *more))["heads"]["detect"]
        # One was found by the scan, the other one while it ran.
        assert (report["images"], report["images_left_out"]["unreadable"]) == (1, 2)
    assert caplog.text.count("gone while it was read") == 2


def test_tiles_of_nothing_readable_are_an_error(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(dataset: TaskDataset, index: int, *more: Any) -> Any:
        raise DataError(f"{dataset.ids[index]}: gone while it was read")

    monkeypatch.setattr(TaskDataset, "load", gone)
    given = ["--weights", str(weights), "--data", str(data), "--project", str(tmp_path), "--img-size", "64"]
    code, _, err = run_test(*given, "--tile", "64", "0.2", cwd=tmp_path)
    assert code == 3 and "000.png: gone while it was read" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--task", "speed", "--save-json"], "leave --save-json out"),
        (["--task", "speed", "--sizes", "64"], "for several there is --task study"),
        (["--task", "study", "--img-size", "64"], "--task study measures every head at each of its sizes"),
        (["--task", "study", "--save-hybrid"], "leave it or --task study out"),
        (["--task", "study", "--tile", "64", "0.2"], "--tile has a size of its own"),
        (["--tile", "64", "0.2", "--pad", "0.5"], "give one"),
        (["--tile", "64", "2"], "--tile"),
        (["--pad", "inf"], "--pad must be 0 to 16 strides, but is inf"),
        (["--pad", "nan"], "--pad must be 0 to 16 strides, but is nan"),
        (["--border", "101"], "--border must be 0 to 100 pixels, but is 101"),
        (["--border", "-1"], "--border must be 0 to 100 pixels, but is -1"),
        (["--save-conf"], "give both"),
    ],
)
def test_mistakes(more: list[str], words: str, tmp_path: Path) -> None:
    code, _, err = run_test("--weights", "m.safetensors", "--data", "d.yaml", *more, cwd=tmp_path)
    assert code == 2 and err.startswith("error: ") and err.strip().count("\n") == 0
    assert words in err


def test_one_model_twice_is_refused(tmp_path: Path) -> None:
    code, _, err = run_test("--weights", "m.pt", "m.pt", "--data", "d.yaml", "--task", "speed", cwd=tmp_path)
    assert code == 2 and "m.pt is given twice" in err
    assert COMMAND.parse_options(["--weights", "m.pt", "m.pt", "--data", "d.yaml"]).split == "val"
