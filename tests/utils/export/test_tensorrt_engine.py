"""The way to TensorRT, walked with a stand-in for its package: what it is asked for, and what its refusals become."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from models.graph import Graph
from models.spec import parse_spec
from utils.errors import ExportError
from utils.export.exported_graph import NHWC, ExportedGraph
from utils.export.tensorrt_engine import build_engine

MODEL = (
    "{nc: 1, anchors: [[4, 5]], backbone: [[-1, 1, Conv, [8, 3, 8]]], head: [[-1, 1, Detect, [nc, anchors], street]]}"
)


class StandIn:
    """Takes the place of the package; keeps what it is asked for.

    Args:
        shape: of the network's input, -1 for open sides.
        parses: whether it can translate a model.
        builds: whether it can build an engine.
    """

    STRONGLY_TYPED, TF32 = 3, "tf32"

    class Logger:
        ERROR = "error"

        def __init__(self, level: str) -> None: ...

    def __init__(self, shape: tuple[int, ...] = (1, 3, 64, 64), parses: bool = True, builds: bool = True) -> None:
        self.shape, self.parses, self.builds = shape, parses, builds
        self.NetworkDefinitionCreationFlag, self.BuilderFlag = self, self
        self.asked: dict[str, Any] = {}

    def Builder(self, logger: Any) -> StandIn:
        return self

    def create_network(self, flags: int) -> SimpleNamespace:
        self.asked["flags"] = flags
        return SimpleNamespace(get_input=lambda _: SimpleNamespace(shape=self.shape))

    def OnnxParser(self, network: Any, logger: Any) -> SimpleNamespace:
        fault = SimpleNamespace(desc=lambda: "an operator is not known")
        return SimpleNamespace(parse=lambda _: self.parses, get_error=lambda _: fault)

    def create_builder_config(self) -> SimpleNamespace:
        keep = self.asked.__setitem__
        return SimpleNamespace(
            clear_flag=lambda flag: keep("cleared", flag), add_optimization_profile=lambda own: keep("profile", own)
        )

    def create_optimization_profile(self) -> SimpleNamespace:
        return SimpleNamespace(set_shape=lambda name, *ranges: self.asked.__setitem__(name, ranges))

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        return b"engine" if self.builds else None


@pytest.fixture
def form() -> ExportedGraph:
    graph = Graph(parse_spec(yaml.safe_load(MODEL), "tiny.yaml")).eval()
    return ExportedGraph(graph, graph.heads, NHWC)


def built(form: ExportedGraph, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setattr("utils.export.tensorrt_engine.onnx_of_part", lambda part, inputs: model)
    model: Any = SimpleNamespace(SerializeToString=lambda: b"onnx")
    return build_engine(form, (2, 64, 96), model)


def test_numbers_are_those_of_the_onnx_model(form: ExportedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn()
    assert built(form, stand_in, monkeypatch) == b"engine"
    assert stand_in.asked == {"flags": 1 << StandIn.STRONGLY_TYPED, "cleared": StandIn.TF32}


def test_open_sides_have_ranges(form: ExportedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn((-1, -1, -1, 3))
    built(form, stand_in, monkeypatch)
    assert stand_in.asked["images"] == ([1, 32, 32, 3], [2, 64, 96, 3], [4, 128, 192, 3])
    assert "profile" in stand_in.asked


@pytest.mark.parametrize(
    ("stand_in", "said"),
    [
        (StandIn(parses=False), r"row 0 \(Conv from -1\): TensorRT cannot translate this: an operator is not known"),
        (StandIn(builds=False), "tiny.yaml: TensorRT cannot translate the model: the engine could not be built; every"),
    ],
)
def test_a_refusal_is_told(form: ExportedGraph, stand_in: StandIn, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match=said):
        built(form, stand_in, monkeypatch)
