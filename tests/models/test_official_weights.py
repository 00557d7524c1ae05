"""Official weights, read from their original files, give the numbers that were published for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data.config import load_data_config
from data.dataset import TaskDataset
from data.images import read_image
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from models.weights import load_model
from utils.boxes import xyxy_to_xywh
from utils.stage_clock import StageClock
from utils.validation import build_tests, run_head_test

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
    data = {"path": str(shared / "data" / "coco128"), "names": graph.names["detect"]}
    data |= {"train": "images/train2017", "val": "images/train2017"}
    (tmp_path / "coco128.yaml").write_text(yaml.safe_dump(data))
    config = load_data_config(tmp_path / "coco128.yaml", splits=("val",))
    dataset = TaskDataset(config.for_head("detect", "detect"), "val")
    tests = build_tests(graph, {"detect": dataset}, 640, 640, 16, 0)
    found = run_head_test(graph, "detect", tests["detect"], torch.device("cpu"), None).compute()
    assert (found["AP"], found["AP50"]) == pytest.approx(published, abs=0.002)
