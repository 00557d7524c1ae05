"""The constants of BatchNorm: what a model says of all its rows, what a row says for itself, and who keeps them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.checkpoint import Checkpoint, save_checkpoint
from models.fusing import fuse_graph
from models.graph import Graph
from models.layers.normalisation import NormRule
from models.spec import load_spec, parse_spec
from models.weights import load_model
from utils.ema import ModelEma

ROWS: dict[str, Any] = {
    "nc": 2,
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "SPPF", [8, 5, {"norm": {"eps": 0.25, "momentum": 0.5}}]],
        [-1, 2, "Conv", [8, 3, 2, {"norm": "norms", "activation": "nn.ReLU()"}]],
    ],
    "head": [[[2], 1, "YOLOXDetect", ["nc", 8]]],
    "norms": {"eps": 0.125},
}
MODEL = {"eps": 1.0e-5, "momentum": 0.1}


def graph_of(**keys: Any) -> Graph:
    torch.manual_seed(0)
    return Graph(parse_spec({**copy.deepcopy(ROWS), **keys}, "model.yaml"))


def constants(module: nn.Module) -> set[tuple[float, float]]:
    return {(norm.eps, norm.momentum) for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)}


def test_without_the_key_they_are_those_of_yolov5() -> None:
    graph = graph_of()
    assert constants(graph.model[0]) == constants(graph.model[3]) == {(1e-3, 0.03)}
    assert NormRule() == NormRule(1e-3, 0.03)


def test_a_row_differs_from_the_model() -> None:
    graph = graph_of(norm=MODEL)
    assert [constants(row) for row in graph.model] == [{(1e-5, 0.1)}, {(0.25, 0.5)}, {(0.125, 0.1)}, {(1e-5, 0.1)}]
    acts = [type(row.act) for row in graph.model[2]]
    assert acts == [nn.ReLU, nn.ReLU] and isinstance(graph.model[0].act, nn.SiLU)
    assert graph.spec.rows[1].args == [8, 5] and parse_spec(graph.spec.values, "model.yaml") == graph.spec


def test_only_what_is_said_changes() -> None:
    assert constants(graph_of(norm={"eps": 0.5}).model[0]) == {(0.5, 0.03)}
    assert constants(graph_of(norm={"momentum": 1}).model[0]) == {(1e-3, 1.0)}


def test_norms_per_head_have_them_too() -> None:
    head = [[[2], 1, "YOLOXDetect", ["nc", 8], "a"], [[2], 1, "YOLOXDetect", ["nc", 8], "b"]]
    graph = graph_of(norm=MODEL, bn="per-task", head=head)
    assert constants(graph.model[1]) == {(0.25, 0.5)} and constants(graph.model[0]) == {(1e-5, 0.1)}


def test_a_checkpoint_carries_them(tmp_path: Path) -> None:
    """Nothing but the file is needed, and what is folded, averaged or copied answers with the same constants."""
    graph = graph_of(norm=MODEL).eval()
    for norm in graph.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.001, 0.01)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint("model.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    loaded = load_model(path)
    assert [constants(row) for row in loaded.model] == [constants(row) for row in graph.model]
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = graph(image)["detect"][0]
        assert torch.equal(ModelEma(graph).module(image)["detect"][0], expected)
        wrong = copy.deepcopy(graph)
        NormRule(1e-3, 0.03).apply(wrong.model[0])
        assert not torch.allclose(wrong(image)["detect"][0], expected, rtol=1e-3)
        assert torch.allclose(fuse_graph(loaded)(image)["detect"][0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["yoloms_xs", "yoloms_s_se", "yoloms", "yoloms_xs_psp"])
def test_yolo_ms_differs_in_its_pyramid_pooling_alone(name: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(name))
    (pooling,) = [row.index for row in graph.spec.rows if row.module == "SPPF"]
    assert constants(graph.model[pooling]) == {(1e-3, 0.03)}
    for index, row in enumerate(graph.model):
        if index != pooling:
            assert constants(row) <= {(1e-5, 0.1)}
