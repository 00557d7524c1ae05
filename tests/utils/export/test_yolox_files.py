"""Models without anchors as ONNX files: equal to the model, at one size and at any."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from data.keypoints import KeypointSpec
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph, with_keypoints
from models.spec import ModelSpec, load_spec, parse_spec
from tests.lively import lively
from utils.export.agreement import compare_onnx, judge
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import ALL, NONE
from utils.export.onnx_model import build_onnx

TWO_POINTS = KeypointSpec(("left", "right"), (1, 0), (0.05, 0.05), ((0, 1),))
# The rows and heads of yolox_pose_tiny and yolov8_n_ms at two levels: with open sides, every row takes its time.
OPEN_SIDES = {
    "poses": """
nc: 1
nkpt: 17
depth_multiple: 0.33
input: {channels: BGR, scale: 1, letterbox: top-left, square: true, pad: 114}
backbone:
  - [-1, 1, Focus, [64, 3]]
  - [-1, 1, Conv, [128, 3, 4]]
  - [-1, 1, C3, [128]]  # 2: 1/8
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, SPP, [256, [5, 9, 13]]]  # 4: 1/16
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 2], 1, Concat, [1]]
  - [-1, 1, C3, [128, False]]  # 7: 1/8
  - [[7, 4], 1, YOLOXPose, [nc, 256, nkpt]]
""",
    "ms blocks": """
nc: 80
backbone:
  - [-1, 1, Conv, [80, 3, 4]]
  - [-1, 1, Conv, [160, 3, 2]]
  - [-1, 1, MSBlock, [160, [1, 5, 5], 1, 3, 2, 1]]  # 2: 1/8
  - [-1, 1, RepVGG, [320, 2]]
  - [-1, 1, SPPF, [320, 5]]  # 4: 1/16
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 2], 1, Concat, [1]]
  - [-1, 1, MSBlock, [160, [1, 3, 3], 1, 3, 2, 2]]  # 7: 1/8
  - [[7, 4], 1, YOLOv8Head, [nc]]
""",
}


def spec_of(name: str, **values: object) -> ModelSpec:
    """Return a model of the zoo, or a small one of the same rows, with other values."""
    spec = parse_spec(yaml.safe_load(OPEN_SIDES[name]), f"{name}.yaml") if name in OPEN_SIDES else load_spec(name)
    return spec.with_values(**values)


def module_of(name: str) -> ExportedGraph:
    """Return a model as it is exported, narrow, and its every output dependent on its input."""
    torch.manual_seed(0)
    spec = spec_of(name, width_multiple=0.0625, depth_multiple=0.1)
    graph = Graph(with_keypoints(spec, {"pose": 2})).eval()
    if graph.keypoints:
        graph.set_keypoints("pose", TWO_POINTS)
    for norm in graph.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1)
    first = graph.model[0].conv
    first.bn.running_var.fill_(2e4)  # pixels come as 0 to 255
    return ExportedGraph(fuse_graph(graph), graph.heads)


def images(batch: int, height: int, width: int) -> dict[str, np.ndarray]:
    return {"noise": np.random.default_rng(7).integers(0, 256, (batch, 3, height, width), np.uint8)}


@pytest.mark.parametrize(("name", "dynamic"), [("yolox_nano", False), ("poses", True)])
def test_a_file_answers_as_the_model(name: str, dynamic: bool, tmp_path: Path) -> None:
    module = module_of(name)
    model = build_onnx(module, (2, 64, 96), ALL if dynamic else NONE)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for shape in ((2, 64, 96), (1, 128, 32)) if dynamic else ((2, 64, 96),):
        with torch.inference_mode():
            found = module(torch.from_numpy(images(*shape)["noise"]))
        # A file whose answers do not depend on the picture would agree as well.
        assert all(values.std() > 0 for values in found.values())
        judge(compare_onnx(path, module, images(*shape)), 1e-4)
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.key in ("heads", "keypoints")}
    if name == "yolox_nano":
        assert told["heads"]["detect"]["outputs"] == ["detect_boxes", "detect_scores", "detect_objectness"]
        assert "keypoints" not in told
    else:
        assert "pose_keypoints" in told["heads"]["pose"]["outputs"]
        assert KeypointSpec.from_plain(told["keypoints"]["pose"]) == TWO_POINTS


@pytest.mark.parametrize(("name", "dynamic"), [("yolov6_t", False), ("ms blocks", True)])
def test_a_deployed_file_answers_as_the_model(name: str, dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = spec_of(name, width_multiple=0.125, depth_multiple=0.1)
    graph = lively(Graph(spec)).eval()
    with torch.no_grad():
        for conv in (module for name, module in graph.named_modules() if "cls_preds" in name):
            if isinstance(conv, nn.Conv2d) and conv.bias is not None:
                conv.bias.zero_()  # scores of a fresh head lie too near to 0 to show anything
    module = ExportedGraph(graph, graph.heads)
    model = build_onnx(
        ExportedGraph(deploy_graph(copy.deepcopy(graph)), graph.heads), (2, 64, 96), ALL if dynamic else NONE
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for shape in ((2, 64, 96), (1, 128, 32)) if dynamic else ((2, 64, 96),):
        judge(compare_onnx(path, module, images(*shape)), 1e-4)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["deployed"]) is True
    assert json.loads(told["heads"])["detect"]["outputs"] == ["detect_boxes", "detect_scores"]
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert norms == []
