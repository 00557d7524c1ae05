"""Files as YOLOX and mmyolo write them, made from graphs of ours: tensors under their names, and what lies beside."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.convert.name_table import NameTable
from models.convert.yolox_names import MMYOLO, OFFICIAL, OFFICIAL_DARKNET53
from models.graph import Graph
from models.spec import ModelSpec, load_spec, parse_spec

TABLES = {"official": OFFICIAL, "darknet53": OFFICIAL_DARKNET53, "mmyolo": MMYOLO}
SMALL = {"width_multiple": 0.125, "depth_multiple": 0.33}
SIGMAS = ("bbox_head.loss_pose.sigmas", "bbox_head.assigner_oks_calculator.sigmas")
MMENGINE = "mmengine.logging.history_buffer"


def small_spec(cfg: str = "yolox_s", **values: Any) -> ModelSpec:
    """Return a narrow model; its stem has 8 channels."""
    return load_spec(cfg).with_values(**SMALL, **values)


def dense_nano() -> ModelSpec:
    """Return mmyolo's nano: depth-wise but for the Bottlenecks of its CSP blocks."""
    values = dict(load_spec("yolox_nano").values)
    for part in ("backbone", "head"):
        values[part] = [[*row[:2], "C3" if row[2] == "C3DW" else row[2], *row[3:]] for row in values[part]]
    return parse_spec(values, "dense nano")


def filled_graph(spec: ModelSpec) -> Graph:
    """Return a model with weights and statistics of its own, in eval mode."""
    torch.manual_seed(0)
    graph = Graph(spec).eval()
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return graph


def published_state(graph: Graph, table: NameTable) -> OrderedDict[str, Tensor]:
    """Return a graph's tensors under published names, shared ones under each of theirs."""
    names = table.published_names(graph)
    state = OrderedDict((names[name], value.clone()) for name, value in graph.state_dict().items())
    state.update({copy: state[first] for copy, first in table.copied_names(graph).items()})
    return state


def official_file(graph: Graph, table: NameTable = OFFICIAL) -> dict[str, Any]:
    """Return what the official trainer saves."""
    momentum = {0: {"momentum_buffer": torch.zeros(3)}}
    return {
        "start_epoch": 300,
        "model": published_state(graph, table),
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.01, "nesterov": True, "params": [0]}]},
        "best_ap": np.float64(0.405),
        "curr_ap": np.float32(0.4),
    }


@contextmanager
def mmengine() -> Iterator[type]:
    """Let the class of mmengine's logs be pickled; there is no such module before and after. Yields the class."""
    modules = [ModuleType(".".join(MMENGINE.split(".")[: n + 1])) for n in range(3)]
    assert not any(module.__name__ in sys.modules for module in modules)

    class HistoryBuffer:
        """Keeps its statistics by name, methods of its own, so that a pickle has to ask for them."""

        def __init__(self, log: list[float]) -> None:
            self._log_history = np.array(log)
            self._max_length = 1_000_000

        def mean(self) -> float:
            return float(self._log_history.mean())

        def __getstate__(self) -> dict[str, Any]:
            return {**vars(self), "statistics_methods": {"mean": HistoryBuffer.mean}}

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = MMENGINE, "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = MMENGINE, "HistoryBuffer.mean"
    modules[-1].HistoryBuffer = HistoryBuffer
    for module in modules:
        sys.modules[module.__name__] = module
    try:
        yield HistoryBuffer
    finally:
        for module in modules:
            del sys.modules[module.__name__]


def mmyolo_file(
    graph: Graph, buffer: type, classes: tuple[str, ...] | None = None, table: NameTable = MMYOLO
) -> dict[str, Any]:
    """Return what mmengine saves for a model: state dict, meta, logs, optimizer."""
    state = published_state(graph, table)
    for name in SIGMAS if "pose" in graph.heads else ():
        state[name] = torch.full((len(graph.heads["pose"].keypoints),), 0.05)
    meta: dict[str, Any] = {"epoch": 300, "iter": 1, "cfg": "model = dict()", "mmengine_version": "0.7.1"}
    meta["dataset_meta"] = {"palette": [(220, 20, 60)], "dataset_keypoint_weights": np.ones(17, np.float32)}
    if classes is not None:
        meta["dataset_meta"]["classes"] = classes
    hub = {"log_scalars": OrderedDict(loss=buffer([3.0, 2.0])), "runtime_info": OrderedDict(iter=1, seed=np.int64(7))}
    return {"meta": meta, "state_dict": state, "message_hub": hub, "optimizer": {"state": {}, "param_groups": []}}
