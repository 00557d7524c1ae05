"""MS-DETR++ with suppression as files: the whole model without GridSample, and what such a file says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export import export, parse_options
from models.weights import load_model
from tests.tiny_ms_detr import SMALLEST, write_ms_detr
from utils.export.agreement import compare, onnx_runner
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import NONE, describe
from utils.export.token_choices import choosing_rows
from utils.export.torchscript_file import build_torchscript, torchscript_runner

SIZE = (40, 56)
QUERIES = 40
"""Of 47 tokens."""
TEXT = (
    SMALLEST.replace("queries: 12", f"queries: {QUERIES}")
    .replace("[nc, queries]", "[nc, queries, {mixed_selection: true}]")
    .replace("aux_ffn: true", "aux_ffn: true, nms: 0.6")
)
NOISE = {"noise": np.random.default_rng(5).integers(0, 256, (1, 3, *SIZE), np.uint8)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ms_detr(tmp_path_factory.mktemp("model") / "pp.safetensors", TEXT)


@pytest.fixture
def module(weights: Path) -> ExportedGraph:
    graph = load_model(weights)
    return ExportedGraph(graph, graph.heads)


def test_a_whole_model_is_exported_without_grid_sample(weights: Path, module: ExportedGraph) -> None:
    import onnx

    size = ["--img-size", *map(str, SIZE)]
    [path] = export(parse_options(["--weights", str(weights), *size, "--attention", "gather"]))
    model = onnx.load(path)
    assert {"TopK", "Gather"} <= {node.op_type for node in model.graph.node}
    assert "GridSample" not in {node.op_type for node in model.graph.node}
    found = compare(onnx_runner(path), module, NOISE)
    assert {name: each.shape for name, each in found.items()} == {
        "detect_boxes": (1, QUERIES, 4),
        "detect_scores": (1, QUERIES, 3),
        "detect_tokens": (1, QUERIES),
    }
    assert max(each.relative for each in found.values()) < 1e-4
    with torch.no_grad():
        [row] = choosing_rows(module.model).values()
        row.query_embed.weight[:2] = row.query_embed.weight[:2].flip(0)
    turned = compare(onnx_runner(path), module, NOISE)
    assert turned["detect_tokens"].relative < 1e-4 < turned["detect_scores"].relative, "two contents changed places"


def test_a_torchscript_file_tells_its_choice(module: ExportedGraph, tmp_path: Path) -> None:
    (tmp_path / "pp.torchscript").write_bytes(build_torchscript(module, (1, *SIZE), NONE))
    found = compare(torchscript_runner(tmp_path / "pp.torchscript"), module, NOISE)
    assert found["detect_tokens"].shape == (1, QUERIES)
    assert max(each.relative for each in found.values()) < 1e-4


def test_a_file_says_at_which_overlap_boxes_are_suppressed(module: ExportedGraph) -> None:
    told = json.loads(describe(module, module.output_names(), (1, *SIZE), NONE)["heads"])
    assert told["detect"] == {
        "task": "detect",
        "outputs": ["detect_boxes", "detect_scores", "detect_tokens"],
        "suppression": {"iou": 0.6, "within": "class"},
        "best_pairs": 100,
    }
