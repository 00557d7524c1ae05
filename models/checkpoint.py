"""Our checkpoint: one ``.safetensors`` file, tensors plus plain values as JSON in its header. Loading executes nothing.

Tensor names: ``model/NAME``, ``ema/NAME``, ``optimizer/KEY/NAME``, ``criterion/HEAD/NAME``, ``rng/torch``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from models.graph import Graph, with_classes
from models.spec import parse_spec
from utils.errors import ModelError, RunError
from utils.files import atomic_write

FORMAT_VERSION = 1
HEADER_KEY = "yolograph"


@dataclass
class Checkpoint:
    """A model, and for a run that can go on everything else it needs.

    Attributes:
        source: name of the model YAML.
        graph_yaml: the model's YAML text.
        names: class names of every head.
        tensors: groups of tensors by group name, see the file's first lines.
        progress: plain values: epoch, best fitness, recipe, options ...
    """

    source: str
    graph_yaml: str
    names: dict[str, list[str]]
    tensors: dict[str, dict[str, Tensor]]
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged weights where the file has them, else the plain ones."""
        return self.tensors.get("ema") or self.tensors["model"]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file is either the old one or the new one, never a part.

    Raises:
        RunError: a weight is not finite, so the file on disk is kept as it is.
    """
    for group in ("model", "ema"):
        tensors = {n: t for n, t in checkpoint.tensors.get(group, {}).items() if t.is_floating_point()}
        bad = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
        if bad is not None:
            raise RunError(
                f"{path}: not saved, because the weight {bad} is not finite; lower lr0 or the gains and resume"
            )
    header = {
        "format": FORMAT_VERSION,
        "source": checkpoint.source,
        "graph": checkpoint.graph_yaml,
        "names": checkpoint.names,
        "progress": checkpoint.progress,
    }
    flat = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()
        for group, tensors in checkpoint.tensors.items()
        for name, tensor in tensors.items()
    }
    atomic_write(path, save(flat, metadata={HEADER_KEY: json.dumps(header)}))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        ModelError: the file is missing, damaged, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(
            f"{path}: there is no such checkpoint; train one first or give the path of a .safetensors file"
        )
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: checkpoints are .safetensors files, and this is a '{path.suffix}' file")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, ValueError, OSError) as error:
        raise ModelError(f"{path}: is damaged or not a safetensors file ({error}); copy or download it again") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: has no yolograph header of format {FORMAT_VERSION}, so the model it belongs to is unknown"
        )
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        group, _, rest = name.partition("/")
        tensors.setdefault(group, {})[rest] = tensor
    return Checkpoint(header["source"], header["graph"], header["names"], tensors, header["progress"])


def build_model(checkpoint: Checkpoint, path: str | Path = "checkpoint") -> Graph:
    """Return the model of a checkpoint on the CPU with its (averaged) weights, in eval mode.

    Raises:
        ModelError: weights and graph do not belong together.
    """
    graph = Graph(parse_spec(yaml.safe_load(checkpoint.graph_yaml), checkpoint.source))
    graph.names = {name: list(names) for name, names in checkpoint.names.items()}
    try:
        missing, unexpected = graph.load_state_dict(checkpoint.weights, strict=False)
    except RuntimeError as error:
        # PyTorch lists every tensor of another shape on a line of its own, below a headline.
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{path}: weights and graph differ: {reason}") from None
    if missing or unexpected:
        raise ModelError(f"{path}: weights and graph differ, for instance at {(missing + unexpected)[0]}")
    return graph.eval()


def load_model(path: str | Path, device: torch.device | None = None) -> Graph:
    """Return the model of a checkpoint file in eval mode, channels-last, on ``device``."""
    graph = build_model(load_checkpoint(path), path)
    return graph.to(device or torch.device("cpu")).to(memory_format=torch.channels_last)


def graph_for_data(checkpoint: Checkpoint, classes: Mapping[str, int]) -> Graph:
    """Return a fresh model with the checkpoint's rows and the data's numbers of classes."""
    return Graph(with_classes(parse_spec(yaml.safe_load(checkpoint.graph_yaml), checkpoint.source), classes))


def transfer_weights(graph: Graph, weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Copy weights of equal name and shape into a model.

    Args:
        graph: the model to fill.
        weights: state dict of another model.

    Returns:
        Names that were copied, and names of the model that were not.
    """
    own = graph.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in own and own[name].shape == tensor.shape and not name.endswith("anchors")
    }
    graph.load_state_dict(fitting, strict=False)
    return sorted(fitting), sorted(set(own) - set(fitting))
