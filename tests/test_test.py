"""test.py as a user runs it: tables, files and mistakes."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import load_graph
from tests.conftest import REPO
from utils.errors import run_command
from utils.logging import start_logging


def load_command() -> ModuleType:
    """Import test.py by its path: the standard library has a package of the same name."""
    spec = importlib.util.spec_from_file_location("yolograph_test_command", REPO / "test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMAND = load_command()


@pytest.fixture(autouse=True)
def messages() -> None:
    """Start the command's messages before the test: pytest listens to the loggers that it finds when a test begins."""
    start_logging()


@pytest.fixture
def weights(tiny_model: Path, tmp_path: Path) -> Path:
    """An untrained model with the class names of the tiny set."""
    torch.manual_seed(0)
    graph = load_graph(tiny_model)
    names = {"detect": ["red", "green", "blue"], "segment": ["ground", "red", "green", "blue"]}
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(graph.spec.source, graph.spec.text, names, {"ema": graph.state_dict()}))
    return path


def run_test(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_command(lambda: COMMAND.main([*arguments, "--workers", "0"]))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_both_heads_are_measured_and_drawn(weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    code, _, err = run_test(
        "--weights", str(weights), "--data", str(tiny_data), "--img-size", "96",
        "--save-json", "--save-txt", "--save-conf", cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, err
    folder = tmp_path / "runs/test/exp"
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {f"detect/{name}_curve.png" for name in ("PR", "F1", "P", "R")} <= written
    assert {"detect/confusion_matrix.png", "segment/iou_per_class.png", "segment/mask_confusion_matrix.png"} <= written
    assert {"test_batch0_detect_labels.jpg", "test_batch0_segment_results.jpg"} <= written
    found = json.loads((folder / "detect_predictions.json").read_text())
    labels = sorted((folder / "labels_detect").glob("*.txt"))
    assert len(labels) == 12
    rows = [np.loadtxt(path, ndmin=2) for path in labels]
    assert sum(len(row) for row in rows) == len(found) > 0
    assert all(((row[:, 1:5] >= 0) & (row[:, 1:5] <= 1)).all() for row in rows)
    assert {len(row) for rows_of_image in rows for row in rows_of_image} == {6}


def test_augmentation_and_ensembles_are_measured(
    weights: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    common = ["--data", str(tiny_data), "--img-size", "96", "--noplots", "--workers", "0"]

    def accuracy(*arguments: str) -> float:
        metrics = COMMAND.test(COMMAND.parse_options([*common, *arguments]))
        assert set(metrics) == {"detect", "segment"}
        return metrics["segment"]["accuracy"]

    once = accuracy("--weights", str(weights))
    assert accuracy("--weights", str(weights), "--augment") != once
    assert accuracy("--weights", str(weights), "--tta") != once
    assert accuracy("--weights", str(weights), "--deploy") == pytest.approx(once, abs=0.01)
    # The mean of two equal masks is that mask, to rounding, which an untrained head's even scores show.
    assert accuracy("--weights", str(weights), str(other)) == pytest.approx(once, abs=0.01)


def test_models_of_other_heads_are_refused(weights: Path, tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    tiny_model.write_text("\n".join(row for row in tiny_model.read_text().splitlines() if "SegMask" not in row))
    graph = load_graph(tiny_model)
    other = tmp_path / "other.safetensors"
    names = {"detect": ["red", "green", "blue"]}
    save_checkpoint(other, Checkpoint(graph.spec.source, graph.spec.text, names, {"ema": graph.state_dict()}))
    code, _, err = run_test("--weights", str(weights), str(other), "--data", str(tiny_data), cwd=tmp_path)
    assert code == 2 and err.strip().count("\n") == 0
    assert str(weights) in err and str(other) in err and "only with the same heads" in err
    assert not (tmp_path / "runs").exists()


def test_one_kind_of_data_and_one_split_are_enough(weights: Path, tiny_data: Path, tmp_path: Path, caplog) -> None:
    tiny_data.write_text(tiny_data.read_text().splitlines()[0].replace("train: images/train, ", ""))
    code, _, _ = run_test(
        "--weights", str(weights), "--data", str(tiny_data), "--img-size", "96", "--noplots", cwd=tmp_path
    )
    assert code == 0
    assert "head segment is not tested" in caplog.text


def test_segdata_takes_a_root_folder(weights: Path, tiny_data: Path, tmp_path: Path, caplog) -> None:
    root = tmp_path / "other"
    shutil.copytree(tiny_data.parent / "images", root / "segimages")
    shutil.copytree(tiny_data.parent / "masks", root / "seglabels")
    tiny_data.write_text(tiny_data.read_text().splitlines()[0])
    code, _, err = run_test(
        "--weights", str(weights), "--data", str(tiny_data), "--segdata", str(root),
        "--img-size", "96", "--noplots", cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, err
    assert "segment (val): mIoU" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--weights", "absent.safetensors", "--data", "DATA"], 4, "absent.safetensors"),
        (["--weights", "MODEL", "--data", "absent.yaml"], 3, "absent.yaml"),
        (["--weights", "MODEL", "--data", "DATA", "--task", "test"], 3, "test"),
        (["--weights", "MODEL", "--data", "DATA", "--conf", "2"], 2, "--conf-thres must be in 0..1"),
        (["--weights", "MODEL", "--data", "DATA", "--base-size", "0"], 2, "--base-size must be 1 to 16,384 pixels"),
        (["--weights", "MODEL", "--data", "DATA", "--heads", "pose"], 2, "--heads pose"),
        (["--weights", "MODEL", "--data", "DATA", "--augment", "--tta"], 2, "give one"),
        (["--weights", "MODEL", "--data", "DATA", "--segdata", "nowhere"], 3, "nowhere"),
    ],
)
def test_mistakes(arguments: list[str], code: int, words: str, weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    given = [{"DATA": str(tiny_data), "MODEL": str(weights)}.get(argument, argument) for argument in arguments]
    returned, _, err = run_test(*given, cwd=tmp_path)
    assert returned == code, err
    assert err.startswith("error: ") and err.strip().count("\n") == 0
    assert words in err


def test_segdata_without_a_segmentation_head_is_refused(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    tiny_model.write_text("\n".join(row for row in tiny_model.read_text().splitlines() if "SegMask" not in row))
    graph = load_graph(tiny_model)
    path = tmp_path / "boxes.safetensors"
    save_checkpoint(path, Checkpoint(graph.spec.source, graph.spec.text, graph.names, {"ema": graph.state_dict()}))
    code, _, err = run_test("--weights", str(path), "--data", str(tiny_data), "--segdata", str(tiny_data), cwd=tmp_path)
    assert code == 2
    assert "has no segmentation head" in err


def test_other_class_counts_are_refused(weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    tiny_data.write_text(tiny_data.read_text().replace("[red, green, blue]", "[red, green, blue, more]"))
    code, _, err = run_test("--weights", str(weights), "--data", str(tiny_data), cwd=tmp_path)
    assert code == 3
    assert "4 class names, but the model's head 'detect' tells 3 classes apart" in err
