"""YOLOv8 as the ultralytics package pickles it: stand-ins of its classes, with the names that its files have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.convert.official import read_official
from models.convert.ultralytics import MARK, YOLOV8, find_spec
from models.graph import Graph
from models.spec import load_spec
from models.weights import build_model, load_weights
from tests.models.convert.published_yolox import filled_graph, published_state
from tests.models.convert.test_yolox import assert_same_model
from utils.errors import ModelError

MODULE = "ultralytics.nn.tasks"


class Part(nn.Module):
    """Any module of a network; only names and tensors count."""


@contextmanager
def package(*classes: str) -> Iterator[dict[str, type]]:
    """Let classes of the package be pickled; there is no such package before and after. Yields them by name."""
    modules = [ModuleType(".".join(MODULE.split(".")[: n + 1])) for n in range(3)]
    assert not any(module.__name__ in sys.modules for module in modules)
    made = {name: type(name, (Part,), {"__module__": MODULE}) for name in classes}
    vars(modules[-1]).update(made)
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield made
    finally:
        for module in modules:
            del sys.modules[module.__name__]


def network(kind: type, state: dict[str, Tensor], names: dict[int, str]) -> nn.Module:
    """Return a module of that class whose state dict is the given one."""
    root = kind()
    for name, value in state.items():
        *path, last = name.split(".")
        inner: nn.Module = root
        for part in path:
            if part not in dict(inner.named_children()):
                inner.add_module(part, nn.Module())
            inner = inner.get_submodule(part)
        inner.register_buffer(last, value)
    root.names, root.yaml = names, {"nc": len(names), "scale": "n"}
    return root


def saved_state(graph: Graph) -> dict[str, Tensor]:
    return {**published_state(graph, YOLOV8), MARK: torch.arange(16.0).view(1, 16, 1, 1)}


@pytest.mark.parametrize("half", [False, True])
def test_a_pickled_network_computes_the_same(half: bool, tmp_path: Path) -> None:
    graph = filled_graph(load_spec("yolov8_n").with_values(nc=2))
    if half:
        graph.half().float()
    with package("DetectionModel") as classes:
        model = network(classes["DetectionModel"], saved_state(graph), {0: "cat", 1: "dog"})
        saved = {"epoch": -1, "ema": None, "model": model.half() if half else model, "train_args": {"imgsz": 640}}
        torch.save(saved, tmp_path / "yolov8n.pt")
    checkpoint = load_weights(tmp_path / "yolov8n.pt")
    loaded = build_model(checkpoint)
    assert_same_model(loaded, graph)
    assert loaded.names == {"detect": ["cat", "dog"]} and loaded.spec.source == "yolov8_n.yaml"
    about = checkpoint.progress["converted"]
    assert about["family"] == "YOLOv8 (ultralytics)" and about["left out"] == MARK


@pytest.mark.parametrize("size", "nsmlx")
def test_every_size_is_found(size: str) -> None:
    with torch.device("meta"):
        state = published_state(Graph(load_spec(f"yolov8_{size}")), YOLOV8)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert find_spec("x.pt", shapes, YOLOV8).source == f"yolov8_{size}.yaml"


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_state_dict_is_enough(prefix: str, tmp_path: Path) -> None:
    graph = filled_graph(load_spec("yolov8_n"))
    torch.save({f"{prefix}{name}": value for name, value in saved_state(graph).items()}, tmp_path / "x.pt")
    loaded = build_model(load_weights(tmp_path / "x.pt"))
    assert_same_model(loaded, graph)
    assert loaded.names["detect"][0] == "person"


@pytest.mark.parametrize(
    ("kind", "state", "sentence"),
    [
        ("SegmentationModel", {MARK: torch.zeros(1)}, "holds a SegmentationModel of the ultralytics package"),
        ("DetectionModel", {"model.23.dfl.conv.weight": torch.zeros(1)}, "ultralytics package that is no YOLOv8"),
        ("DetectionModel", {MARK: torch.zeros(1)}, r"model\.0\.conv\.weight, which tells its size, is missing"),
    ],
)
def test_other_networks_are_refused(kind: str, state: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with package(kind) as classes:
        torch.save({"ema": network(classes[kind], state, {0: "a"})}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=rf"^\S+x\.pt: .*{sentence}"):
        load_weights(tmp_path / "x.pt")


def test_raw_weights_are_none_of_its(tmp_path: Path) -> None:
    torch.save({"model": {MARK: torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"x\.pt: has no raw weights"):
        read_official(tmp_path / "x.pt", raw=True)
