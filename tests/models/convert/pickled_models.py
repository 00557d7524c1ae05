"""Whole-model files as YOLOv5 writes them, made from graphs of ours: classes under its names that exist only here."""

from __future__ import annotations

import io
import struct
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from models.graph import Graph
from models.heads.base import Head
from models.heads.detect import Detect

FOREIGN = ("models.common", "models.experimental", "models.yolo")


@contextmanager
def foreign_modules() -> Iterator[None]:
    """Let classes under YOLOv5's module names be pickled; there are no such modules before and after."""
    for name in FOREIGN:
        assert name not in sys.modules
        sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        for name in FOREIGN:
            del sys.modules[name]


def foreign_class(module: str, name: str) -> type[nn.Module]:
    """Return the class of that name, made on first use."""
    home = sys.modules[module]
    if not hasattr(home, name):
        setattr(home, name, type(name, (nn.Module,), {"__module__": module}))
    return getattr(home, name)


def as_foreign(module: nn.Module) -> nn.Module:
    """Return a module with every class of ours replaced by one of YOLOv5's names, tensors and attributes kept."""
    ours = type(module).__module__.startswith("models.")
    kind = type(module)
    if ours:
        kind = foreign_class("models.yolo" if isinstance(module, Head) else "models.common", kind.__name__)
    other = kind.__new__(kind)
    nn.Module.__init__(other)
    kept = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    other.__dict__.update(kept)
    for name, parameter in module.named_parameters(recurse=False):
        other.register_parameter(name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    for name, buffer in module.named_buffers(recurse=False):
        other.register_buffer(name, buffer.clone())
    for name, child in module.named_children():
        other.add_module(name, as_foreign(child))
    return other


def pickled_model(graph: Graph, names: Any = None, kind: str = "Model", anchor_grid: bool = False) -> nn.Module:
    """Return what YOLOv5 would pickle for a graph.

    Args:
        graph: the model.
        names: class names as the original keeps them; None for those of the detection head.
        kind: ``Model`` or a later release's ``DetectionModel``.
        anchor_grid: whether the head has the second anchor buffer of v5.0.
    """
    whole = foreign_class("models.yolo", kind)()
    rows = [as_foreign(row) for row in graph.model]
    for row, spec in zip(rows, graph.spec.rows, strict=True):
        row.i, row.f, row.type = spec.index, spec.written, f"models.common.{spec.module}"
    whole.model = nn.Sequential(*rows)
    for row, own in zip(rows, graph.model, strict=True):
        if isinstance(own, Detect):
            strides = torch.tensor(own.strides, dtype=torch.float32)
            row.stride = strides
            if anchor_grid:
                pixels = own.anchors * strides.view(-1, 1, 1)
                row.register_buffer("anchor_grid", pixels.view(len(strides), 1, -1, 1, 1, 2))
    whole.yaml = {**graph.spec.values, "ch": 3}
    whole.yaml_file = graph.spec.source
    whole.names = graph.names["detect"] if names is None else names
    whole.nc = graph.heads["detect"].num_classes
    whole.stride = torch.tensor([8.0, 16.0, 32.0])
    return whole


def checkpoint_dict(model: nn.Module, **entries: Any) -> dict[str, Any]:
    """Return the dictionary around a model, as ``strip_optimizer`` leaves it."""
    about = {"epoch": -1, "best_fitness": None, "ema": None, "updates": None, "optimizer": None, "wandb_id": None}
    return {**about, "model": model, **entries}


def save_as_tar(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors by name in the tar layout of PyTorch before 0.1.10."""
    storages, described = io.BytesIO(), io.BytesIO()
    kinds = {torch.float32: "Float", torch.int64: "Long"}
    _number(storages, len(tensors))
    _number(described, len(tensors))
    for index, tensor in enumerate(tensors.values()):
        flat, name = tensor.contiguous().flatten(), kinds[tensor.dtype]
        storages.write(_pickle(f"I{index}\nS'cpu'\nctorch\n{name}Storage\nt."))
        storages.write(struct.pack("<q", flat.numel()) + flat.numpy().tobytes())
        described.write(_pickle(f"I{100 + index}\nI{index}\nctorch\n{name}Tensor\nt."))
        described.write(struct.pack("<ii", tensor.dim(), 0))
        described.write(struct.pack(f"<{2 * tensor.dim() + 1}q", *tensor.shape, *tensor.stride(), 0))
    storages.write(b"].")
    entries = "".join(f"S'{name}'\nP{100 + index}\ns" for index, name in enumerate(tensors))
    root = "}" + entries.replace("P", "I").replace("\ns", "\nQs") + "."
    with tarfile.open(path, "w") as archive:
        for name, data in (
            ("sys_info", b"}."),
            ("pickle", root.encode()),
            ("tensors", described.getvalue()),
            ("storages", storages.getvalue()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _pickle(text: str) -> bytes:
    return b"(" + text.encode()


def _number(file: io.BytesIO, number: int) -> None:
    file.write(f"I{number}\n.".encode())
