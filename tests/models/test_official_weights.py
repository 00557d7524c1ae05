"""Official weights, read from their original files, give the numbers that were published for them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.config import load_data_config
from data.dataset import TaskDataset
from data.images import read_image
from data.prepare.coco128 import prepare_coco128
from models.anchor_points import flatten_levels
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from models.weights import load_model
from tests.conftest import REPO
from utils.boxes import xyxy_to_xywh
from utils.stage_clock import StageClock
from utils.validation import build_tests, run_head_test

YOLOX_NANO = "yolox_nano_coco_from_onnx.pth"
OFFICIAL = {"yolov5n_v6.2_v7.0.pt": "yolov5n_v62", "yolov5n_v6.0.pt": "yolov5n_v60"}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_weights_compute_the_published_numbers(name: str, shared: Path) -> None:
    folder = shared / "data" / "weights"
    graph = load_model(folder / name)
    assert len(graph.names["detect"]) == 80 and graph.names["detect"][5] == "bus"
    images = torch.from_numpy(np.random.RandomState(0).rand(1, 3, 320, 320).astype(np.float32))
    with torch.no_grad():
        found = graph.heads["detect"].predict(graph(images)["detect"], (320, 320))
    rows = torch.cat((xyxy_to_xywh(found.boxes), found.objectness[..., None], found.scores), -1)[0, ::25].numpy()
    published = np.load(folder / "expected_raw.npz")[OFFICIAL[name]]
    np.testing.assert_allclose(rows, published, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_weights_find_the_published_objects(name: str, shared: Path) -> None:
    published = json.loads((shared / "data" / "weights" / "expected_detections.json").read_text())
    graph = load_model(shared / "data" / "weights" / name)
    predictor = Predictor(graph, {"detect": 640}, PostprocessOptions(), torch.device("cpu"), None, StageClock(STAGES))
    for picture, expected in published[Path(name).stem]["images"].items():
        image = read_image(shared / "data" / "images" / f"{picture}.jpg")
        assert predictor.input_shapes(image) == (tuple(expected["net_input_hw"]),)
        found = predictor([image])[0]["detect"]
        rows = torch.cat((found.boxes, found.scores[:, None], found.classes[:, None].float()), 1)
        torch.testing.assert_close(rows, torch.tensor(expected["boxes_xyxy_score_class"]), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("name", "published"), [("yolov5n_v6.2_v7.0.pt", (0.355, 0.553)), ("yolov5n_v6.0.pt", (0.302, 0.464))]
)
def test_official_weights_reach_the_published_precision(
    name: str, published: tuple[float, float], shared: Path, tmp_path: Path
) -> None:
    """AP and AP50 on 128 training images of COCO at 640 px, known to three decimals."""
    graph = load_model(shared / "data" / "weights" / name)
    data = prepare_coco128(shared / "data" / "coco128", tmp_path / "coco128").yaml
    config = load_data_config(data, splits=("val",))
    dataset = TaskDataset(config.for_head("detect", "detect"), "val")
    tests = build_tests(graph, {"detect": dataset}, 640, 640, 16, 0)
    found = run_head_test(graph, "detect", tests["detect"], torch.device("cpu"), None).compute()
    assert (found["AP"], found["AP50"]) == pytest.approx(published, abs=0.002)


def test_official_yolox_computes_the_published_numbers(shared: Path) -> None:
    folder = shared / "data" / "weights"
    graph = load_model(folder / YOLOX_NANO)
    assert graph.spec.source == "yolox_nano.yaml" and graph.names["detect"][5] == "bus"
    images = torch.from_numpy(np.random.RandomState(0).rand(1, 3, 320, 320).astype(np.float32)) * 255
    with torch.no_grad():
        found = graph.heads["detect"].predict(graph(images)["detect"], (320, 320))
    rows = torch.cat((xyxy_to_xywh(found.boxes), found.objectness[..., None], found.scores), -1)[0, ::25].numpy()
    published = np.load(folder / "expected_raw.npz")["yolox_nano"]
    np.testing.assert_allclose(rows, published, rtol=1e-4, atol=1e-5)


def test_official_yolox_computes_what_its_export_does(shared: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install -r requirements-export.txt")
    folder = shared / "data" / "weights"
    images = np.random.RandomState(1).rand(1, 3, 416, 416).astype(np.float32) * 255
    session = onnxruntime.InferenceSession(folder / "yolox_nano_coco.onnx", providers=["CPUExecutionProvider"])
    published = session.run(None, {session.get_inputs()[0].name: images})[0]
    with torch.no_grad():
        raw = flatten_levels(load_model(folder / YOLOX_NANO)(torch.from_numpy(images))["detect"])
    ours = torch.cat((raw[..., :4], raw[..., 4:].sigmoid()), -1).numpy()
    np.testing.assert_allclose(ours, published, rtol=1e-3, atol=1e-4)


def test_official_yolox_finds_the_published_objects(shared: Path) -> None:
    published = json.loads((shared / "data" / "weights" / "expected_detections.json").read_text())
    graph = load_model(shared / "data" / "weights" / YOLOX_NANO)
    predictor = Predictor(graph, {"detect": 416}, PostprocessOptions(), torch.device("cpu"), None, StageClock(STAGES))
    for picture, expected in published["yolox_nano"]["images"].items():
        image = read_image(shared / "data" / "images" / f"{picture}.jpg")
        assert predictor.input_shapes(image) == (tuple(expected["net_input_hw"]),)
        found = predictor([image])[0]["detect"]
        rows = torch.cat((found.boxes, found.scores[:, None], found.classes[:, None].float()), 1)
        wanted = torch.tensor(expected["boxes_xyxy_score_class"])
        # The original does not clip to the picture; we do.
        wanted[:, 0:4:2].clamp_(0, image.shape[1])
        wanted[:, 1:4:2].clamp_(0, image.shape[0])
        torch.testing.assert_close(rows, wanted, atol=0.01, rtol=0)


def test_official_yolox_reaches_the_published_precision(shared: Path, tmp_path: Path) -> None:
    """AP and AP50 on 128 training images of COCO at 416 px, as a user measures them."""
    data = prepare_coco128(shared / "data" / "coco128", tmp_path / "coco128").yaml
    command = [sys.executable, str(REPO / "test.py"), "--weights", str(shared / "data" / "weights" / YOLOX_NANO)]
    command += ["--data", str(data), "--img-size", "416", "--iou-thres", "0.65", "--device", "cpu", "--noplots"]
    done = subprocess.run([*command, "--workers", "0"], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    found = re.search(r"AP50 (\S+)  AP (\S+)", done.stdout + done.stderr)
    assert (float(found[2]), float(found[1])) == pytest.approx((0.340, 0.523), abs=0.002)
