"""A tiny checkpoint and the files that export.py makes of it, built straight away and without its check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.fusing import fuse_graph
from models.predictions import PostprocessOptions
from models.weights import load_model
from tests.tiny_detector import write_weights
from utils.export.exported_graph import NCHW, ExportedGraph
from utils.export.metadata import ALL, NONE, OpenAxes
from utils.export.objects_graph import ObjectsGraph
from utils.export.onnx_model import build_onnx
from utils.export.openvino_model import METADATA
from utils.export.torchscript_file import build_torchscript

SHAPE = (2, 64, 96)
"""Batch size, height and width of files of one size."""


def write_checkpoint(folder: Path) -> Path:
    """Write a model of boxes and areas that is differently sure of many objects."""
    return write_weights(folder / "tiny.safetensors", spread=20.0, bias=0.0)


def module_of(
    weights: Path, objects: PostprocessOptions | None = None, layout: str = NCHW, heads: Sequence[str] | None = None
) -> ExportedGraph:
    """Return what is written of a checkpoint."""
    graph = fuse_graph(load_model(weights))
    names = graph.heads if heads is None else heads
    return ExportedGraph(graph, names, layout) if objects is None else ObjectsGraph(graph, names, objects, layout)


def write_torchscript(path: Path, module: ExportedGraph, shape: tuple[int, int, int] = SHAPE) -> Path:
    """Record a model; takes a fraction of the time that ONNX does."""
    path.write_bytes(build_torchscript(module, shape, NONE))
    return path


def write_onnx_and_openvino(folder: Path, module: ExportedGraph, axes: OpenAxes = ALL) -> tuple[Path, Path | None]:
    """Translate a model once, for both; no folder of OpenVINO's where that is not installed."""
    model = build_onnx(module, (1, *SHAPE[1:]), axes)
    path = folder / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        import openvino
    except ImportError:
        return path, None
    translated = openvino.Core().read_model(model=model.SerializeToString())
    for entry in model.metadata_props:
        translated.set_rt_info(entry.value, [METADATA, entry.key])
    openvino.save_model(translated, folder / "tiny_openvino" / "tiny.xml", compress_to_fp16=False)
    return path, folder / "tiny_openvino"
