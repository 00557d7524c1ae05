"""A model that a format cannot hold: the message names the row and what it fails at."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import Tensor, nn

from models.graph import Graph
from models.spec import parse_spec
from utils.errors import ExportError
from utils.export.exported_graph import ExportedGraph
from utils.export.failing_row import cannot_hold, reason_of
from utils.export.metadata import NONE
from utils.export.onnx_model import build_onnx, onnx_of_part
from utils.export.openvino_model import build_openvino
from utils.export.torchscript_file import build_torchscript

MODEL = """
nc: 3
width_multiple: 0.125
anchors: [[4, 5, 8, 10, 13, 9]]
backbone:
  - [-1, 1, Conv, [64, 3, 8]]
  - [-1, 1, nn.Hardswish, []]
head:
  - [-1, 1, Detect, [nc, anchors], street]
"""
SHAPE = (1, 32, 32)


def exported() -> ExportedGraph:
    graph = Graph(parse_spec(yaml.safe_load(MODEL), "tiny.yaml")).eval()
    return ExportedGraph(graph, graph.heads)


def never_recorded(x: Tensor) -> Tensor:
    if torch.jit.is_tracing():
        raise TypeError("it looks at numbers")
    return x


def failing(part: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Stand for a program that knows no activation of this name."""
    if any(isinstance(module, nn.Hardswish) for module in part.modules()):
        raise RuntimeError("no such activation\nat line 3")
    return part(*inputs)


def test_the_exporter_of_onnx() -> None:
    form = exported()
    form.model.model[1].forward = torch.special.bessel_j0
    with pytest.raises(ExportError, match=r"tiny.yaml, row 1 \(nn.Hardswish from -1\): the ONNX exporter .*bessel_j0"):
        build_onnx(form, SHAPE)


def test_a_recording() -> None:
    form = exported()
    form.model.model[1].forward = never_recorded
    with pytest.raises(ExportError, match=r"row 1 \(nn.Hardswish from -1\): TorchScript .*: it looks at numbers$"):
        build_torchscript(form, SHAPE, NONE)


def test_the_decoding_of_a_head() -> None:
    form = exported()
    head = form.model.heads["street"]
    predict = head.predict
    head.predict = lambda raw, size: [never_recorded(raw[0]), predict(raw, size)][1]
    with pytest.raises(ExportError, match=r"row 2 \(Detect from -1\), its decoding: TorchScript .*looks at numbers"):
        build_torchscript(form, SHAPE, NONE)


def test_a_row_that_does_not_even_run() -> None:
    form = exported()
    form.model.model[1].forward = lambda x: x @ x.new_ones(5)
    with pytest.raises(ExportError, match=r"row 1 \(nn.Hardswish from -1\): TorchScript .*size mismatch"):
        build_torchscript(form, SHAPE, NONE)


def test_a_program_behind_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: object) -> object:
        raise RuntimeError("no such operator")

    form = exported()
    monkeypatch.setattr("utils.export.openvino_model._translated", refuse)
    monkeypatch.setattr("utils.export.openvino_model.onnx_of_part", failing)
    with pytest.raises(ExportError, match=r"row 0 \(Conv from -1\): OpenVINO cannot translate this: no such operator"):
        build_openvino(form, SHAPE, SimpleNamespace(metadata_props=[]))


def test_the_first_row_that_fails_is_told() -> None:
    error = cannot_hold("A program", exported(), SHAPE, failing, RuntimeError("something"))
    assert str(error) == (
        "tiny.yaml, row 1 (nn.Hardswish from -1): A program cannot translate this: no such activation"
    )


def test_a_fault_of_no_single_row_is_told_as_it_is() -> None:
    run: Callable[..., object] = lambda part, inputs: part(*inputs)  # noqa: E731
    error = cannot_hold("A program", exported(), SHAPE, run, RuntimeError("too large"))
    assert "tiny.yaml: A program cannot translate the model: too large; every row alone can be" in str(error)


def test_rows_are_tried_with_their_own_inputs() -> None:
    shapes = []
    cannot_hold("A", exported(), SHAPE, lambda _, inputs: shapes.append(inputs[0].shape), RuntimeError())
    assert shapes == [(1, 3, 32, 32), (1, 8, 4, 4), (1, 8, 4, 4), (1, 3, 4, 4, 8)]


def test_a_part_becomes_onnx() -> None:
    model = onnx_of_part(nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),))
    assert [node.op_type for node in model.graph.node] == ["Conv"]


def test_the_reason_is_what_began_it() -> None:
    try:
        try:
            raise ValueError("first.\nsecond")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        assert reason_of(error) == "first"
    assert reason_of(KeyError()) == "KeyError"
