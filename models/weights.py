"""Weights of any kind: a file of ours or an official one, as a checkpoint or as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from models.checkpoint import Checkpoint, is_checkpoint, load_checkpoint
from models.convert.hugging_face import CONFIG, weights_in_folder
from models.convert.matching import shape_text
from models.convert.official import read_official
from models.convert.weight_file import is_safetensors
from models.exported.paths import require_no_export
from models.fusing import deploy_graph
from models.graph import Graph, build_rows, with_classes, with_keypoints
from models.layers.reparam import MERGED
from models.spec import ModelSpec, parse_spec
from utils.errors import ModelError, UsageError
from utils.yaml_text import parse_yaml

SNIFFED_BYTES = 512
STARTS = {
    "vision transformer": ("vision transformer", "neither [DET] tokens nor a head", "yolos-s"),
    "ResNet": ("ResNet", "no detection head", "ms-detr-r50-300"),
}
"""What a start for training is called, what it lacks, and a model that it can begin, by how its family begins."""


def load_weights(path: str | Path, grid: Sequence[int] | None = None) -> Checkpoint:
    """Read a checkpoint of ours or an official one, told apart by their content; nothing is executed.

    Args:
        path: of the file, or of a folder as Hugging Face's transformers writes it.
        grid: rows and columns of patches of the position table of a vision transformer that classifies pictures, where
            it is no square; other weights say that themselves.

    Raises:
        ModelError: the file is missing, damaged, or no checkpoint; the sentence says what it is.
        UsageError: a grid is given with other weights, or it is none.
    """
    if grid is None:
        return _read(Path(path), None)
    if min(grid) < 1:
        raise UsageError(f"--pretrained-grid is rows and columns of patches, 1 or more each, not {grid[0]} {grid[1]}")
    checkpoint = _read(Path(path), (grid[0], grid[1]))
    if "grid" not in checkpoint.progress.get("converted", {}):
        raise UsageError(
            f"--pretrained-grid is for a vision transformer that classifies pictures, and {path} is none; leave it out"
        )
    return checkpoint


def _read(path: Path, grid: tuple[int, int] | None) -> Checkpoint:
    if (path / CONFIG).is_file():
        path = weights_in_folder(path)
    if path.is_dir():
        require_no_export(path)
        raise ModelError(f"{path}: is a folder; give the checkpoint in it, such as weights/best.safetensors")
    if not path.is_file():
        raise ModelError(f"{path}: there is no such checkpoint; train one first or give the path of one")
    with open(path, "rb") as file:
        start = file.read(SNIFFED_BYTES)
    if not start:
        raise ModelError(f"{path}: is empty; download or copy it again")
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path}: is a pointer of Git LFS, not the file itself; fetch it with git lfs pull")
    require_no_export(path)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path}: is a web page, not a checkpoint; the download failed, get the file again")
    # First of all: the length that a safetensors file begins with can look like the first byte of a pickle.
    if is_safetensors(start):
        return load_checkpoint(path) if is_checkpoint(path) else read_official(path, grid=grid)
    if start.startswith((b"PK\x03\x04", b"\x80")) or start[257:262] == b"ustar":
        return read_official(path, grid=grid)
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
    _require_whole(checkpoint, path)
    spec = spec_of(checkpoint, path)
    _require_weights(spec, checkpoint, path)
    graph = Graph(spec).eval()
    if checkpoint.is_deployed:
        deploy_graph(graph)
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


def _require_whole(checkpoint: Checkpoint, path: str | Path | None = None) -> None:
    """Refuse a start for training where a model is wanted.

    Raises:
        ModelError: it is one.
    """
    if checkpoint.is_start:
        path = path or checkpoint.progress["converted"]["from"]
        family = checkpoint.progress["converted"]["family"]
        what, lacks, cfg = next(said for start, said in STARTS.items() if family.startswith(start))
        raise ModelError(
            f"{path}: is a {what} that classifies pictures and has {lacks}; it can begin a training: python train.py "
            f"--weights {path} --cfg {cfg}"
        )


def _blank(spec: ModelSpec, is_deployed: bool) -> nn.Module:
    """Return the rows of a model without memory."""
    with torch.device("meta"):
        if is_deployed:
            return deploy_graph(Graph(spec).eval())
        return nn.ModuleDict({"model": nn.ModuleList(made.module for made in build_rows(spec))})


def require_trained_form(checkpoint: Checkpoint, path: str | Path | None = None) -> None:
    """Refuse a model in its form for deployment where one is wanted that can be trained or written for others.

    Raises:
        ModelError: it is one.
    """
    if checkpoint.is_deployed:
        raise ModelError(
            f"{path or checkpoint.source}: holds a deployed model, which is for running alone; take the checkpoint "
            "that it was made from"
        )


def _require_weights(spec: ModelSpec, checkpoint: Checkpoint, path: str | Path) -> None:
    """Refuse weights of another model before it takes memory, of which a few words of YAML can ask for too much.

    Raises:
        ModelError: a tensor is missing, too many, or of another shape; the sentence names it.
    """
    ours = {name: value.shape for name, value in _blank(spec, checkpoint.is_deployed).state_dict().items()}
    theirs = {name: value.shape for name, value in checkpoint.weights.items()}
    names = [*ours, *(name for name in theirs if name not in ours)]
    wrong = next((name for name in names if ours.get(name) != theirs.get(name)), None)
    if wrong is not None and any(f".{MERGED}." in name for name in theirs):
        raise ModelError(
            f"{path}: holds a deployed model, which is for running and not for saving; take the checkpoint that it was "
            "made from, and give --deploy where it runs"
        )
    if wrong is not None:
        here, there = (shape_text(shapes[wrong]) if wrong in shapes else "nothing" for shapes in (ours, theirs))
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
    """Return a fresh model with the checkpoint's rows and the data's numbers of classes and of keypoints.

    Raises:
        ModelError: the checkpoint is only a start for the training of another model.
    """
    _require_whole(checkpoint)
    require_trained_form(checkpoint)
    spec = with_classes(spec_of(checkpoint), classes)
    return Graph(with_keypoints(spec, keypoints) if keypoints else spec)
