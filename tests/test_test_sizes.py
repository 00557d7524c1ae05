"""test.py --sizes: every size gives what a run at that size gives, in a table, in files and in a picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import write_tiny_set
from tests.test_test import COMMAND, run_test
from tests.tiny_detector import BOTH, write_weights
from tests.tiny_yolos import WITH_AREAS, write_yolos
from utils.logging import start_logging
from utils.size_study import Cost, SizeRow, table_of
from utils.testing import session

COLOURS = {"detect": ["red", "green", "blue"], "segment": ["ground", "red"]}


@pytest.fixture(autouse=True)
def messages() -> None:
    """Start the command's messages before the test: pytest listens to the loggers that it finds when a test begins."""
    start_logging()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of two shapes with boxes, and masks of two classes."""
    folder = tmp_path_factory.mktemp("set")
    path = write_tiny_set(folder, images=6)
    for number in (1, 4):
        for kind in ("images", "masks"):
            tall = folder / kind / "val" / f"{number:03d}.png"
            cv2.imwrite(str(tall), cv2.imread(str(tall), cv2.IMREAD_UNCHANGED)[:, :48])
    for mask in (folder / "masks").rglob("*.png"):
        cv2.imwrite(str(mask), np.minimum(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), 1))
    path.write_text(
        "detect: {train: images/train, val: images/val, names: [red, green, blue]}\n"
        "segment: {train: images/train, val: images/val, masks: masks, names: [ground, red]}\n"
    )
    return path


def arguments(weights: Path, data: Path, project: Path, *more: str) -> list[str]:
    return ["--weights", str(weights), "--data", str(data), "--project", str(project), "--workers", "0", *more]


@pytest.mark.parametrize("kind", ["convolutions", "tokens"])
def test_a_size_gives_what_a_run_at_that_size_gives(kind: str, data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    if kind == "tokens":
        write_yolos(weights, WITH_AREAS, names=COLOURS)
    else:
        write_weights(weights, BOTH, names=COLOURS)
    options = COMMAND.parse_options(arguments(weights, data, tmp_path, "--sizes", "96", "64", "--noplots"))
    rows = COMMAND.test_sizes(options)
    assert [(row.head, row.size) for row in rows] == [
        (head, size) for size in (96, 64) for head in dict.fromkeys(row.head for row in rows)
    ]
    for size in (96, 64):
        single = COMMAND.parse_options(arguments(weights, data, tmp_path, "--img-size", str(size), "--noplots"))
        found = {row.head: row.metrics for row in rows if row.size == size}
        expected = COMMAND.test(single)
        assert set(found) == {"detect", "segment"} == set(expected)
        for head, metrics in expected.items():
            assert found[head] == pytest.approx(metrics, abs=1e-6)
    assert {row.images for row in rows} == {6} and all(min(row.milliseconds.values()) > 0 for row in rows)
    assert rows[0].cost.gflops > rows[-1].cost.gflops > 0
    if kind == "tokens":
        # Four of six pictures are 3:2; [CLS], patches of 16 pixels, 7 [DET] tokens.
        assert [(row.shape, row.cost.tokens) for row in rows if row.head == "detect"] == [
            ((96, 144), 1 + 6 * 9 + 7),
            ((64, 96), 1 + 4 * 6 + 7),
        ]
    else:
        assert {row.cost.tokens for row in rows} == {None}


def test_table_files_and_picture_are_left(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = write_weights(tmp_path / "model.safetensors", BOTH, names=COLOURS)
    code, _, err = run_test(*arguments(weights, data, tmp_path, "--sizes", "64", "32"), cwd=tmp_path)
    assert code == 0, err
    folder = tmp_path / "exp"
    assert sorted(path.name for path in folder.iterdir()) == ["sizes.csv", "sizes.json", "sizes.png"]
    with open(folder / "sizes.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    told = json.loads((folder / "sizes.json").read_text())
    assert (told["split"], told["batch_size"], told["dtype"]) == ("val", 16, "float32")
    assert [(line["head"], int(line["size"])) for line in lines] == [
        (record["head"], record["size"]) for record in told["sizes"]
    ]
    assert {line["tokens"] for line in lines} == {""} and told["sizes"][0]["tokens"] is None
    assert all(float(line["AP"]) >= 0 for line in lines if line["head"] == "detect")
    assert all(line["AP"] == "" and 0 <= float(line["mIoU"]) <= 1 for line in lines if line["head"] == "segment")
    picture = cv2.imread(str(folder / "sizes.png"))
    assert picture is not None and picture.std() > 10
    assert "AP_S" in caplog.text and "mIoU" in caplog.text and "inference ms" in caplog.text


def test_what_is_not_known_is_a_dash() -> None:
    row = SizeRow("detect", 64, (64, 96), 2, Cost(32), {"inference": 1.25, "postprocess": 0.5}, {"AP": 0.5})
    other = SizeRow(
        "detect", 96, (96, 96), 2, Cost(None, 1.5), {"inference": 2.0, "postprocess": 0.5}, {"AP_large": 1.0}
    )
    header, *lines = (line.split() for line in table_of([row, other]).splitlines())
    assert header == ["size", "input", "tokens", "GFLOPs", "AP", "AP_L", "inference", "ms", "postprocess", "ms"]
    assert lines == [
        ["64", "64x96", "32", "-", "0.500", "-", "1.2", "0.5"],
        ["96", "96x96", "-", "1.5", "-", "1.000", "2.0", "0.5"],
    ]


def test_all_candidates_of_a_set_are_measured_unless_a_threshold_is_given(data: Path, tmp_path: Path) -> None:
    weights = write_yolos(tmp_path / "model.safetensors", names=COLOURS)

    def found(*more: str) -> list[dict]:
        name = f"exp{len(list(tmp_path.iterdir()))}"
        options = [*more, "--img-size", "64", "--save-json", "--noplots", "--name", name]
        code, _, err = run_test(*arguments(weights, data, tmp_path, *options), cwd=tmp_path)
        assert code == 0, err
        return json.loads((tmp_path / name / "detect_predictions.json").read_text())

    everything = found()
    assert len(everything) == 6 * 7, "seven tokens, one class each, in six pictures"
    middle = float(np.median([entry["score"] for entry in everything]))
    above = found("--conf-thres", f"{middle:.6f}")
    assert 0 < len(above) < len(everything) and min(entry["score"] for entry in above) >= middle - 1e-4


def test_sizes_that_have_no_memory_leave_the_ones_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_yolos(tmp_path / "model.safetensors", names=COLOURS)
    measure = session.run_head_test

    def fail_at_96(model: Any, name: str, test: Any, *more: Any, **options: Any) -> Any:
        evaluator = measure(model, name, test, *more, **options)
        if (96, 144) in test.inputs:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return evaluator

    monkeypatch.setattr(session, "run_head_test", fail_at_96)
    more = ("--sizes", "64", "96", "--noplots")
    code, _, err = run_test(*arguments(weights, data, tmp_path, *more), cwd=tmp_path)
    assert code == 1 and "no memory for head 'detect' in batches of 16 at 96 pixels" in err
    assert err.strip().count("\n") == 0
    assert [row["size"] for row in json.loads((tmp_path / "exp" / "sizes.json").read_text())["sizes"]] == [64]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--sizes", "0"], "--sizes must be 1 to 16,384 pixels, but is 0"),
        (["--sizes", "64", "20000"], "--sizes must be 1 to 16,384 pixels, but is 20,000"),
        (["--sizes", "64", "32", "64"], "--sizes has 64 more than once"),
        (["--sizes", "64", "--img-size", "64"], "leave --img-size out"),
        (["--sizes", "64", "--base-size", "64"], "leave --base-size out"),
        (["--sizes", "64", "--save-json"], "--save-json writes the results of one size"),
        (["--sizes", "64", "--save-txt"], "--save-txt writes the results of one size"),
    ],
)
def test_mistakes(more: list[str], words: str, tmp_path: Path) -> None:
    code, _, err = run_test(*arguments(tmp_path / "m.safetensors", tmp_path / "d.yaml", tmp_path, *more), cwd=tmp_path)
    assert code == 2 and err.startswith("error: ") and err.strip().count("\n") == 0
    assert words in err
