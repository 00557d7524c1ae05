"""Weights of any kind: a file of ours or an official one, as a checkpoint or as a model; transfer to another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpoint import Checkpoint, load_checkpoint
from models.convert.official import read_official
from models.graph import Graph, build_rows, with_classes, with_keypoints
from models.heads.base import Head
from models.layers.per_head import PREFIX
from models.layers.reparam import MERGED
from models.row_use import users_of_rows
from models.spec import ModelSpec, parse_spec
from utils.errors import ModelError
from utils.yaml_text import parse_yaml

SNIFFED_BYTES = 512
EXPORTS = (".onnx", ".torchscript", ".engine", ".tflite", ".mlmodel", ".pb")


def load_weights(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours or an official one, told apart by their content; nothing is executed.

    Raises:
        ModelError: the file is missing, damaged, or no checkpoint; the sentence says what it is.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; give the checkpoint in it, such as weights/best.safetensors")
    if not path.is_file():
        raise ModelError(f"{path}: there is no such checkpoint; train one first or give the path of one")
    with open(path, "rb") as file:
        start = file.read(SNIFFED_BYTES)
    if not start:
        raise ModelError(f"{path}: is empty; download or copy it again")
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path}: is a pointer of Git LFS, not the file itself; fetch it with git lfs pull")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path}: is a web page, not a checkpoint; the download failed, get the file again")
    if path.suffix.lower() in EXPORTS:
        raise ModelError(f"{path}: is an exported file; give the checkpoint that it was made from")
    # First of all: the length that a safetensors file begins with can look like the first byte of a pickle.
    if start[8:9] == b"{":
        return load_checkpoint(path)
    if start.startswith((b"PK\x03\x04", b"\x80")) or start[257:262] == b"ustar":
        return read_official(path)
    if path.suffix == ".safetensors":
        return load_checkpoint(path)
    raise ModelError(f"{path}: is neither a .safetensors file nor one of PyTorch; give the path of a checkpoint")


def spec_of(checkpoint: Checkpoint, path: str | Path | None = None) -> ModelSpec:
    """Return the model of a checkpoint, read from its YAML text; with a path, messages name the file it came from."""
    where = f"{path} ({checkpoint.source})" if path else checkpoint.source
    return parse_spec(parse_yaml(checkpoint.graph_yaml, where, ModelError), where)


def build_model(checkpoint: Checkpoint, path: str | Path = "checkpoint") -> Graph:
    """Return the model of a checkpoint on the CPU with its (averaged) weights, in eval mode.

    Raises:
        ModelError: weights and graph do not belong together.
    """
    spec = spec_of(checkpoint, path)
    _require_weights(spec, checkpoint, path)
    graph = Graph(spec)
    graph.spec = replace(spec, source=checkpoint.source)
    for name, head in graph.heads.items():
        names = checkpoint.names.get(name)
        if names is None or len(names) != head.num_classes:
            raise ModelError(f"{path}: its header has no names for the {head.num_classes} classes of the head '{name}'")
        graph.names[name] = list(names)
    _describe_keypoints(graph, checkpoint, path)
    graph.load_state_dict(checkpoint.weights)
    return graph.eval()


def _describe_keypoints(graph: Graph, checkpoint: Checkpoint, path: str | Path) -> None:
    """Tell the heads what their keypoints are; those that the checkpoint does not describe keep the usual ones.

    Raises:
        ModelError: a description belongs to no head, or to one with another number of keypoints.
    """
    for name, keypoints in checkpoint.keypoints.items():
        if name not in graph.heads:
            raise ModelError(f"{path}: its header describes keypoints of a head '{name[:100]}' that the model has not")
        graph.set_keypoints(name, keypoints)


def _require_weights(spec: ModelSpec, checkpoint: Checkpoint, path: str | Path) -> None:
    """Refuse weights of another model before it takes memory, of which a few words of YAML can ask for too much.

    Raises:
        ModelError: a tensor is missing, too many, or of another shape; the sentence names it.
    """
    with torch.device("meta"):
        rows = nn.ModuleDict({"model": nn.ModuleList(made.module for made in build_rows(spec))})
    ours = {name: value.shape for name, value in rows.state_dict().items()}
    theirs = {name: value.shape for name, value in checkpoint.weights.items()}
    names = [*ours, *(name for name in theirs if name not in ours)]
    wrong = next((name for name in names if ours.get(name) != theirs.get(name)), None)
    if wrong is not None and any(f".{MERGED}." in name for name in theirs):
        raise ModelError(
            f"{path}: holds a deployed model, which is for running and not for saving; take the checkpoint that it was "
            "made from, and give --deploy where it runs"
        )
    if wrong is not None:
        here, there = (_sides(shapes[wrong]) if wrong in shapes else "nothing" for shapes in (ours, theirs))
        raise ModelError(
            f"{path}: weights and graph differ: {wrong[:100]!r} is {there} in the weights and {here} in the graph; "
            "take the file of another epoch or copy it again"
        )


def load_model(path: str | Path, device: torch.device | None = None) -> Graph:
    """Return the model of a checkpoint file, ours or official, in eval mode, channels-last, on ``device``."""
    graph = build_model(load_weights(path), path)
    return graph.to(device or torch.device("cpu")).to(memory_format=torch.channels_last)


def graph_for_data(
    checkpoint: Checkpoint, classes: Mapping[str, int], keypoints: Mapping[str, int] | None = None
) -> Graph:
    """Return a fresh model with the checkpoint's rows and the data's numbers of classes and of keypoints."""
    spec = with_classes(spec_of(checkpoint), classes)
    return Graph(with_keypoints(spec, keypoints) if keypoints else spec)


@dataclass
class Transfer:
    """What became of the tensors when weights went over to another model, by the names in that model.

    Attributes:
        copied: taken over.
        other_shape: in both, but of different shape: name, shape in the weights, shape in the model.
        fresh: only in the model; they start anew.
        unused: only in the weights.
        derived: in both, but a matter of the model and not of its weights, such as anchors.
    """

    copied: list[str] = field(default_factory=list)
    other_shape: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The whole account, a line for each tensor that was not simply copied and one for all that were."""
        lines = [f"copied ({len(self.copied)}): {', '.join(self.copied)}"]
        lines += [
            f"other shape: {name}, {_sides(theirs)} there, {_sides(ours)} here"
            for name, theirs, ours in self.other_shape
        ]
        for what, names in (("fresh", self.fresh), ("not used", self.unused), ("the model's own", self.derived)):
            lines += [f"{what}: {name}" for name in names]
        return "\n".join(lines)

    def summary(self) -> str:
        """One line: how many tensors were copied, and the rows of the others."""
        total = len(self.copied) + len(self.other_shape) + len(self.fresh) + len(self.derived)
        parts = [f"{len(self.copied)} of {total} tensors taken over"]
        if self.other_shape:
            shapes = [f"{name} ({_sides(theirs)} -> {_sides(ours)})" for name, theirs, ours in self.other_shape]
            parts.append(f"other shape: {_first(shapes)}")
        for what, names in (("fresh", self.fresh), ("not used", self.unused)):
            if names:
                parts.append(f"{what}: {_first(_by_row(names))}")
        return "; ".join(parts)


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape) or "one number"


def _first(entries: list[str], most: int = 6) -> str:
    return ", ".join(entries[:most]) + (f" and {len(entries) - most} more" if len(entries) > most else "")


def _by_row(names: list[str]) -> list[str]:
    """Return names with those of one row taken together, such as ``model.24.* (7)``."""
    rows: dict[str, list[str]] = {}
    for name in names:
        rows.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return [found[0] if len(found) == 1 else f"{row}.* ({len(found)})" for row, found in rows.items()]


def transfer_weights(graph: Graph, checkpoint: Checkpoint) -> Transfer:
    """Copy the weights of a checkpoint that have a place of the same shape in another model.

    Tensors find each other by name, that is by row. A head finds the head of its name and class, wherever its row is,
    so that a row put in before it does not cost its weights. A head whose class adds to another one's, such as a pose
    head's to a detection head's, shares weights with such a head in either direction, where there is no head of its own
    name and class.

    Norms that one of the two keeps per head (``bn: per-task``) and the other one does not find each other, too: a
    shared norm goes to every head, and a model with one norm takes that of the first head that uses it there.

    Args:
        graph: the model to fill.
        checkpoint: the weights.

    Returns:
        The account of it.
    """
    weights, unused = _by_our_names(checkpoint, graph)
    own = graph.state_dict()
    derived = _derived_names(graph)
    sources = _sources(graph, weights)
    taken = {*own, *sources.values()}
    result = Transfer(unused=unused + [name for name in weights if name not in taken])
    fitting: dict[str, Tensor] = {}
    for name, value in own.items():
        if name in derived:
            result.derived.append(name)
        elif name not in sources:
            result.fresh.append(name)
        elif (found := weights[sources[name]]).shape != value.shape:
            result.other_shape.append((name, tuple(found.shape), tuple(value.shape)))
        else:
            fitting[name] = found
    graph.load_state_dict(fitting, strict=False)
    result.copied = list(fitting)
    return result


def _sources(graph: Graph, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return for every tensor of the graph the name of the weight that it takes, where there is one.

    That is the one of its own name. Norms of single heads and shared ones stand in for each other, see
    ``transfer_weights``; a head that the weights do not know takes the norm of the first that they do.
    """
    per_head: dict[str, dict[str, str]] = {}
    for name in weights:
        plain, head = _without_head(name)
        if head:
            per_head.setdefault(plain, {})[head] = name
    users = users_of_rows(graph.spec, graph.head_rows)
    found: dict[str, str] = {}
    for name in graph.state_dict():
        plain, head = _without_head(name)
        copies = per_head.get(plain, {})
        wanted = [head] if head else users[int(name.split(".")[1])]
        candidates = [name, plain, *(copies[user] for user in wanted if user in copies), *copies.values()]
        source = next((candidate for candidate in candidates if candidate in weights), None)
        if source is not None:
            found[name] = source
    return found


def _without_head(name: str) -> tuple[str, str]:
    """Return a tensor's name without the part that says for which head it is, and that head or nothing."""
    parts = name.split(".")
    heads = [part for part in parts if part.startswith(PREFIX)]
    return ".".join(part for part in parts if part not in heads), heads[0].removeprefix(PREFIX) if heads else ""


def _derived_names(graph: Graph) -> set[str]:
    """Return the names of the heads' buffers that follow from the model's rows."""
    return {
        f"model.{row}.{buffer}" for name, row in graph.head_rows.items() for buffer in graph.heads[name].derived_buffers
    }


def _heirs(theirs: Graph, graph: Graph) -> dict[str, str]:
    """Return for heads of the weights' model the head of ``graph`` that takes their tensors, by name."""
    same = [name for name, head in theirs.heads.items() if type(graph.heads.get(name)) is type(head)]
    heirs = {name: name for name in same}
    for own, head in graph.heads.items():
        givers = [name for name, giver in theirs.heads.items() if name not in heirs and _akin(giver, head)]
        if own not in heirs and len(givers) == 1:
            heirs[givers[0]] = own
    return heirs


def _akin(one: Head, other: Head) -> bool:
    """Return whether the class of one of two heads is derived from that of the other, so that parts share names."""
    return type(one) is not type(other) and (isinstance(one, type(other)) or isinstance(other, type(one)))


def _by_our_names(checkpoint: Checkpoint, graph: Graph) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights under the names that they would have in ``graph``, and names without a counterpart there."""
    with torch.device("meta"):
        theirs = Graph(spec_of(checkpoint))
    ours = set(graph.head_rows.values())
    row_of: dict[str, int | None] = {str(i): None if i in ours else i for i in range(len(theirs.model))}
    heirs = _heirs(theirs, graph)
    for name, row in theirs.head_rows.items():
        row_of[str(row)] = graph.head_rows[heirs[name]] if name in heirs else None
    named: dict[str, Tensor] = {}
    unused: list[str] = []
    for name, value in checkpoint.weights.items():
        first, row, rest = (*name.split(".", 2), "", "")[:3]
        if first != "model" or row_of.get(row) is None:
            unused.append(name)
        else:
            named[f"model.{row_of[row]}.{rest}"] = value
    return named, unused
