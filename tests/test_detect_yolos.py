"""detect.py and the Python interface with a transformer: pictures of any shape, a video, batches, several looks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.api import load
from tests.detect_runs import Call, caller, files_below, read_labels
from tests.tiny_detector import make_picture, write_picture
from tests.tiny_yolos import WITH_AREAS, write_yolos

SHAPES = {"square": (64, 64), "landscape": (60, 90), "portrait": (90, 60), "wide": (30, 120)}
LABELS = ("--save-txt", "--save-conf", "--conf-thres", "0.01", "--max-det", "100")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yolos(tmp_path_factory.mktemp("model") / "yolos.safetensors", WITH_AREAS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of four shapes, two of them twice in a row."""
    folder = tmp_path_factory.mktemp("photos")
    for number, shape in enumerate(("square", "landscape", "landscape", "portrait", "portrait", "wide")):
        write_picture(folder / f"{number}_{shape}.png", SHAPES[shape], seed=number)
    return folder


@pytest.fixture
def call(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(tmp_path, weights, capsys)


def test_results_of_every_shape_are_those_of_any_batch_size(call: Call, photos: Path, tmp_path: Path) -> None:
    for size in (1, 4):
        code, out, err = call(photos, *LABELS, "--save-mask", "--batch-size", size, "--name", f"batch{size}")
        assert code == 0, err
        # 64 pixels are the short side; the long one follows the picture, up to 1.67 times as long.
        for name, shape in (("0_square", "64x64"), ("1_landscape", "64x96"), ("3_portrait", "96x64")):
            assert f"{name}.png: {shape}," in out
    alone, together = tmp_path / "batch1", tmp_path / "batch4"
    assert files_below(alone) == files_below(together) and len(files_below(alone)) == 6 * 4
    for path in sorted((alone / "labels").iterdir()):
        np.testing.assert_allclose(read_labels(together / "labels" / path.name), read_labels(path), atol=2e-5)
        assert len(read_labels(path)) == 7, "every token stands for itself, however much two of them overlap"
    for path in sorted((alone / "masks").glob("*.png")):
        assert (cv2.imread(str(path)) != cv2.imread(str(together / "masks" / path.name))).mean() < 0.01


def test_a_video_has_results_for_every_frame(call: Call, tmp_path: Path) -> None:
    source = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
    for number in range(5):
        writer.write(make_picture((64, 96), seed=number))
    writer.release()
    code, out, err = call(source, *LABELS, "--batch-size", 2)
    assert code == 0, err
    assert "64x96, 5 frames" in out
    assert len(list((tmp_path / "exp" / "labels").iterdir())) == 5
    assert (tmp_path / "exp" / "drive.mp4").is_file()


@pytest.mark.parametrize(("option", "most"), [("--augment", 3 * 7), ("--tta", 6 * 7)])
def test_several_looks_meet_by_suppression(option: str, most: int, call: Call, photos: Path, tmp_path: Path) -> None:
    source = photos / "1_landscape.png"
    counts = {}
    for iou in ("1", "0.3"):
        code, _, err = call(source, *LABELS, option, "--iou-thres", iou, "--nosave", "--name", f"iou{iou}")
        assert code == 0, err
        counts[iou] = len(read_labels(tmp_path / f"iou{iou}" / "labels" / "1_landscape.txt"))
    assert counts["0.3"] < counts["1"] == most, "looks find the same objects, so what they find together is suppressed"


def test_models_answer_together(call: Call, photos: Path, tmp_path: Path, weights: Path) -> None:
    other = write_yolos(tmp_path / "other" / "yolos.safetensors", WITH_AREAS, seed=1)
    code, _, err = call(photos, *LABELS, "--nosave", "--batch-size", 2, "--weights", weights, other)
    assert code == 0, err
    assert 7 < len(read_labels(tmp_path / "exp" / "labels" / "0_square.txt")) <= 14


def test_python_gives_what_the_command_gives(call: Call, photos: Path, weights: Path, tmp_path: Path) -> None:
    code, _, err = call(photos, *LABELS, "--nosave")
    assert code == 0, err
    model = load(weights, device="cpu", conf=0.01, size=64, batch_size=3)
    results = model(sorted(photos.iterdir()))
    assert results[1].input_shape == "64x96" and results[3].input_shape == "96x64"
    for result, table in zip(results, results.xywhn, strict=True):
        rows = read_labels(tmp_path / "exp" / "labels" / f"{Path(result.name).stem}.txt")
        # Written are class, box and confidence, the given ones are box, confidence and class.
        np.testing.assert_allclose(rows, torch.roll(table, 1, 1).numpy(), atol=2e-5)
