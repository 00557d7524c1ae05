"""detect.py, test.py and Python with an exported file as the weights: the same files and figures as with its model."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.api import load
from models.exported.model import RUNTIMES
from models.exported.paths import TORCHSCRIPT
from models.exported.torchscript_file import TorchScriptFile
from models.predictions import PostprocessOptions
from tests.conftest import TINY_MODEL, write_tiny_set
from tests.detect_runs import caller, files_below, read_labels
from tests.exported_files import SHAPE, module_of, write_torchscript
from tests.test_test import run_test
from tests.tiny_detector import write_picture, write_weights
from utils.benchmark import main as benchmark
from utils.errors import UsageError
from utils.export.torchscript_file import with_told

NAMES = {"detect": ["red", "green", "blue"], "segment": ["ground", "red", "green", "blue"]}
Measured = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, its file of one size that all pictures of ``tiny/tiny.yaml`` have, and one that chooses objects."""
    folder = tmp_path_factory.mktemp("exported")
    weights = write_weights(folder / "tiny.safetensors", TINY_MODEL, NAMES, spread=20.0, bias=0.0)
    write_tiny_set(folder / "tiny", images=5)
    write_torchscript(folder / "tiny.torchscript", module_of(weights))
    write_torchscript(folder / "objects.torchscript", module_of(weights, PostprocessOptions(conf=0.4, max_det=7)))
    return folder


@pytest.fixture
def test_run(folder: Path, tmp_path: Path) -> Measured:
    """Run test.py on the set and return what it has measured, or its message."""

    def measure(weights: str, *options: str) -> Any:
        data = str(folder / "tiny/tiny.yaml")
        arguments = (
            "--weights",
            str(folder / weights),
            "--data",
            data,
            "--noplots",
            "--name",
            weights,
            "--exist-ok",
            *options,
        )
        code, _, err = run_test(*arguments, cwd=tmp_path)
        found = tmp_path / "runs/test" / weights
        if code:
            return err
        return {path.name: json.loads(path.read_text()) for path in found.glob("*.json")}

    return measure


def test_detecting_writes_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = []

    class Opened(TorchScriptFile):
        """Takes note of how many threads it opens for."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            at_once.append(given[2])

    monkeypatch.setitem(RUNTIMES, TORCHSCRIPT, Opened)
    pictures = tmp_path / "pictures"
    for seed in range(3):
        write_picture(pictures / f"{seed}.png", SHAPE[1:], seed)
    call = caller(tmp_path / "runs", folder / "tiny.safetensors", capsys)
    options = (
        "--img-size",
        "96",
        "--save-txt",
        "--save-conf",
        "--save-mask",
        "--nosave",
        "--batch-size",
        "2",
        "--workers",
        "2",
    )
    written = {}
    for name in ("tiny.safetensors", "tiny.torchscript"):
        code, _, err = call(pictures, *options, "--name", name, model=folder / name)
        assert code == 0, err
        written[name] = tmp_path / "runs" / name
    expected, found = written.values()
    assert files_below(found) == files_below(expected)
    for seed in range(3):
        labels = read_labels(expected / f"labels/{seed}.txt")
        assert len(labels) == 5
        np.testing.assert_allclose(read_labels(found / f"labels/{seed}.txt"), labels, atol=2e-3)
        masks = [(path / f"masks/{seed}.png").read_bytes() for path in (expected, found)]
        assert masks[0] == masks[1]
    assert at_once == [2]


def test_detecting_says_what_a_file_does_otherwise(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    picture = write_picture(tmp_path / "a.png", (50, 40))
    file = tmp_path / "objects.torchscript"
    file.write_bytes(with_told((folder / file.name).read_bytes(), "precision", '"float16"'))
    call = caller(tmp_path / "runs", file, capsys)
    with caplog.at_level(logging.INFO, "yolograph"):
        code, _, err = call(picture, "--save-txt", "--conf-thres", "0.2")
    assert code == 0, err
    assert "takes inputs of 64 x 96 pixels, whatever --img-size says" in caplog.text
    assert "takes 2 pictures at a time, full or not; --batch-size 1 leaves places empty" in caplog.text
    assert "objects.torchscript on cpu in float16, heads" in caplog.text
    assert "has chosen the objects of 'detect' itself: confidence 0.4, overlap 0.45, at most 7 of a" in caplog.text
    for options, words in (
        (("--explain", "2"), "--explain looks at the rows of a model"),
        (("--augment",), "--augment and --tta change pictures"),
        (("--half",), "--half: "),
        (("--deploy",), "--deploy: "),
    ):
        code, _, err = call(picture, *options)
        assert code == 2 and err.count("\n") == 1 and words in err and "objects.torchscript" in err


def test_testing_measures_the_same(test_run: Measured) -> None:
    options = ("--img-size", "96", "--batch-size", "3", "--save-json")
    expected, found = (test_run(name, *options) for name in ("tiny.safetensors", "tiny.torchscript"))
    ours, theirs = found["detect_predictions.json"], expected["detect_predictions.json"]
    assert len(ours) == len(theirs) > 100
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine["image_id"] == yours["image_id"] and mine["score"] == pytest.approx(yours["score"], abs=1e-4)
    for head in ("detect", "segment"):
        ours, theirs = (each["results.json"]["heads"][head]["metrics"] for each in (found, expected))
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert found["results.json"]["heads"]["segment"]["metrics"]["mIoU"] > 0


def test_a_test_takes_the_size_of_the_file(test_run: Measured) -> None:
    found = test_run("tiny.torchscript")["results.json"]
    assert {head["size"] for head in found["heads"].values()} == {96}
    assert "--sizes: " in test_run("tiny.torchscript", "--sizes", "64", "96")
    assert "--pad: this model's inputs have one size" in test_run("tiny.torchscript", "--pad", "0.5")
    speeds = test_run("tiny.torchscript", "--task", "speed")["results.json"]["models"]
    assert list(speeds) == ["tiny"]


def test_python_takes_files_too(folder: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.png", SHAPE[1:])
    settings = {"size": 96, "conf": 0.4, "max_det": 7, "device": "cpu"}
    model, file = (load(folder / name, **settings) for name in ("tiny.safetensors", "tiny.torchscript"))
    [expected], [found] = model(picture), file(picture)
    torch.testing.assert_close(found.heads["detect"].boxes, expected.heads["detect"].boxes, rtol=1e-4, atol=1e-2)
    assert file.device == torch.device("cpu") and file.to("cpu") is file
    with pytest.raises(UsageError, match=r"^augment and tta change pictures"):
        file(picture, augment=True)
    file.half = True
    with pytest.raises(UsageError, match=r"^half: "):
        file(picture)


def test_the_table_of_formats(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = [str(folder / name) for name in ("tiny.safetensors", "tiny.torchscript", "objects.torchscript")]
    quick = ["--imgsz", "64", "96", "--device", "cpu", "--warmup", "1", "--iterations", "3", "--repeat", "2"]
    data = ["--data", str(folder / "tiny/tiny.yaml"), "--workers", "0", "--batch-size", "2"]
    benchmark(["--weights", *weights, *quick, *data, "--json", str(tmp_path / "table.json")])
    lines = capsys.readouterr().out.strip().splitlines()[-4:]
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["format"] for row in rows] == ["checkpoint", "torchscript", "torchscript"]
    assert lines[0].split()[:7] == ["file", "format", "precision", "input", "MB", "segment", "mIoU"]
    for row, line, path in zip(rows, lines[1:], weights, strict=True):
        assert row["input"] == [2, 64, 96] and row["weights"] == path and Path(path).name in line
        assert row["megabytes"] == pytest.approx(Path(path).stat().st_size / 1e6, abs=1e-4)
        assert row["network_ms"] > 0 and 0 < row["ms_p5"] <= row["ms"] <= row["ms_p95"]
        assert f"{row['ms']:.1f}" in line and f"{row['metrics']['segment mIoU']:.4f}" in line
    model, file, _ = (row["metrics"] for row in rows)
    assert file == pytest.approx(model, abs=1e-3) and model["segment mIoU"] > 0


def test_the_table_exports_what_it_is_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--imgsz", "64", "96", "--device", "cpu", "--warmup", "0", "--iterations", "1", "--repeat", "1"]
    before = files_below(folder)
    benchmark(["--weights", str(folder / "tiny.safetensors"), "--formats", "torchscript", *quick])
    assert [line.split()[1] for line in capsys.readouterr().out.strip().splitlines()[-2:]] == [
        "checkpoint",
        "torchscript",
    ]
    assert files_below(folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cfg", "yolov5n.yaml", "--data", "coco128.yaml"], "--cfg has random weights"),
        (["--weights", "a.onnx", "--formats", "onnx"], "--formats exports one checkpoint"),
        (["--weights", "a.pt", "a.pt"], "names a.pt twice"),
        (["--weights", "a.pt", "b.pt", "--fuse"], "--fuse: models of the table"),
        (["--weights", "a.onnx", "b.xml", "--deploy"], "--deploy is for checkpoints, and a.onnx is in its last form"),
        (["--weights", "a.onnx", "--dtype", "bfloat16"], "--dtype bfloat16 is for checkpoints"),
        (["--weights", "a.pt", "--segdata", "masks"], "--segdata stands in place of"),
        (["--weights", "a.pt", "--workers", "-1"], "--workers must be 0 or more"),
    ],
)
def test_options_of_the_table_that_do_not_fit(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        benchmark(arguments)
