"""The four commands take an official checkpoint as it is, as a user would give it to them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import detect
import export
import train
from models.checkpoint import load_checkpoint
from models.graph import Graph
from models.spec import load_spec, parse_spec
from models.weights import load_weights
from tests.conftest import REPO
from tests.models.convert.pickled_models import checkpoint_dict, foreign_modules, pickled_model
from tests.models.convert.published_yolox import filled_graph, official_file, small_spec
from utils.errors import ModelError
from utils.yaml_text import parse_yaml

COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow and shallow YOLOv5s in half precision with three classes, pickled as the original does it."""
    torch.manual_seed(0)
    spec = load_spec("yolov5s").with_values(width_multiple=0.125, depth_multiple=0.1, nc=3)
    graph = Graph(spec)
    graph.names["detect"] = COLOURS
    for conv in graph.heads["detect"].m:
        torch.nn.init.constant_(conv.bias, 1.0)
    path = tmp_path_factory.mktemp("official") / "yolov5narrow.pt"
    with foreign_modules():
        torch.save(checkpoint_dict(pickled_model(graph).half()), path)
    return path


def yaml_values(path: Path) -> dict:
    """Return the YAML values of the model in a checkpoint."""
    return parse_yaml(load_weights(path).graph_yaml, path.name, ModelError)


def test_train_starts_from_it(official: Path, tiny_data: Path, tmp_path: Path) -> None:
    small = ["--img-size", "96", "--batch-size", "4", "--workers", "0", "--noplots", "--epochs", "1", "--noval"]
    with contextlib.chdir(tmp_path):
        train.main(["--weights", str(official), "--data", str(tiny_data), "--noautoanchor", *small])
    run = tmp_path / "runs/train/exp"
    last = load_checkpoint(run / "weights/last.safetensors")
    assert last.names == {"detect": COLOURS}
    account = (run / "transfer.txt").read_text()
    assert account.startswith(f"{official}\ncopied (312): model.0.conv.weight")
    assert "the model's own: model.24.anchors" in account


def test_train_starts_from_an_official_yolox(tiny_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "yolox_narrow.pth"
    torch.save(official_file(filled_graph(small_spec())), path)
    small = ["--img-size", "96", "--batch-size", "4", "--workers", "0", "--noplots", "--epochs", "1", "--noval"]
    with contextlib.chdir(tmp_path):
        train.main(["--weights", str(path), "--data", str(tiny_data), *small])
    run = tmp_path / "runs/train/exp"
    assert load_checkpoint(run / "weights/last.safetensors").names == {"detect": COLOURS}
    first, copied, *others = (run / "transfer.txt").read_text().splitlines()
    assert first == f"{path} (YOLOX (the official YOLOX), yolox_w0.125_n1.yaml)" and copied.startswith("copied (456): ")
    assert len(others) == 6 and all("other shape: model.24.cls_preds." in line for line in others)


def test_another_model_takes_over_what_fits(official: Path, tiny_data: Path, tmp_path: Path) -> None:
    values = dict(yaml_values(official))
    values["n_segcls"] = 4
    values["head"] = [*values["head"][:-1], [[16], 1, "SegMaskBase", ["n_segcls", 1, 64, False]], values["head"][-1]]
    cfg = tmp_path / "both.yaml"
    cfg.write_text(parse_spec(values, "both.yaml").text)
    small = ["--img-size", "96", "--batch-size", "4", "--workers", "0", "--noplots", "--epochs", "1", "--noval"]
    with contextlib.chdir(tmp_path):
        train.main(["--weights", str(official), "--cfg", str(cfg), "--data", str(tiny_data), "--noautoanchor", *small])
    account = (tmp_path / "runs/train/exp/transfer.txt").read_text()
    assert "model.25.m.0.weight" in account.splitlines()[1]
    assert any(line.startswith("fresh: model.24.m.0.") for line in account.splitlines())


def test_test_measures_it(official: Path, tiny_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(REPO / "test.py"), "--weights", str(official), "--data", str(tiny_data)]
    done = subprocess.run(
        [*command, "--img-size", "96", "--workers", "0", "--noplots", "--device", "cpu"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "detect (val): P " in done.stdout


def test_detect_draws_with_it(official: Path, tiny_data: Path, tmp_path: Path) -> None:
    source = tiny_data.parent / "images/val/000.png"
    with contextlib.chdir(tmp_path):
        detect.main(["--weights", str(official), "--source", str(source), "--img-size", "96", "--conf", "0.01"])
    assert (tmp_path / "runs/detect/exp/000.png").is_file()


def test_export_translates_it(official: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs pip install -r requirements-export.txt")
    target = tmp_path / "x.onnx"
    with contextlib.chdir(tmp_path):
        export.main(["--weights", str(official), "--img-size", "64", "--output", str(target)])
    assert target.stat().st_size > 10_000
