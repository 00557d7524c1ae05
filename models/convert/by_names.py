"""From the tensors of a file under a project's names to a checkpoint of ours, whichever family the network is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.convert.matching import load_matching
from models.convert.merged_blocks import MERGED_PARTS, branches_of, merged_blocks
from models.convert.mmengine_file import written_class_names
from models.convert.name_table import NameTable
from models.convert.records import StoredTensor
from models.convert.weight_file import WeightFile
from models.graph import Graph
from models.layers.reparam import RepVGG
from models.spec import ModelSpec
from utils.errors import ModelError
from utils.yaml_text import read_yaml

Shapes = Mapping[str, tuple[int, ...]]

COCO_DATA = Path(__file__).resolve().parents[2] / "data" / "configs" / "coco128.yaml"
"""Where COCO's class names are."""


@contextmanager
def told_of(path: object) -> Iterator[None]:
    """Let a fault of a YAML that was made for a file name the file, too."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def outputs_of(path: object, shapes: Shapes, name: str, family: str) -> int:
    """Return the output channels of a convolution that tells the size of a network.

    Raises:
        ModelError: it is missing, or no convolution.
    """
    shape = shapes.get(name)
    if shape is None or len(shape) != 4 or shape[0] < 1:
        what = "is missing" if shape is None else "is no convolution's"
        raise ModelError(
            f"{path}: has names of {family}, but {name}, which tells its size, {what}; copy or download the file again"
        )
    return shape[0]


def convert_by_names(
    file: WeightFile,
    stored: Mapping[str, StoredTensor],
    table: NameTable,
    spec: ModelSpec,
    class_names: Sequence[str] | None = None,
) -> Checkpoint:
    """Return the checkpoint of a network whose tensors have a project's names.

    Args:
        file: where the tensors lie.
        stored: they by those names, constants included.
        table: of the project and the family.
        spec: the model they belong to.
        class_names: those that the file holds; None looks where files of mmengine have them.

    Raises:
        ModelError: a tensor is missing, too many, or of another shape, or shared ones differ; the sentence names it.
    """
    left_out = [name for name in stored if table.is_constant(name)]
    stored = {name: tensor for name, tensor in stored.items() if not table.is_constant(name)}
    with told_of(file.path), torch.device("meta"):
        # Without memory of its own: a shape in a file can ask for more of it than the file has tensors for.
        graph = Graph(spec)
    try:
        names, copies = table.published_names(graph), table.copied_names(graph)
    except KeyError as error:
        raise ModelError(
            f"{file.path}: {spec.source} is not laid out as a {table.family} of {table.project}: nothing there is its "
            f"row {error.args[0]}; leave --cfg out, or name one of models/configs that is"
        ) from None
    stored = _without_copies(file, stored, copies)
    blocks, made = _merged_blocks(file, stored, graph, names)
    stored = {name: tensor for name, tensor in stored.items() if name not in blocks}
    state = load_matching(file, graph, spec.source, stored, names, made)
    graph.load_state_dict(state, assign=True)
    said: dict[str, Any] = {"from": file.path.name, "family": f"{_family(graph, table)} ({table.project})"}
    said |= {"sha256": file.sha256(), "tensors": f"all {len(state)}"}
    once = list(dict.fromkeys(copies.values()))
    for key, listed in (("left out", left_out), ("stored once", once), ("made branches of", blocks)):
        said |= {key: ", ".join(listed)} if listed else {}
    written = written_class_names(file.root) if class_names is None else class_names
    classes = {name: _class_names(head, written) for name, head in graph.heads.items()}
    return Checkpoint(spec.source, spec.text, classes, {"model": state}, {"converted": said})


def _without_copies(
    file: WeightFile, stored: Mapping[str, StoredTensor], copies: Mapping[str, str]
) -> dict[str, StoredTensor]:
    """Return the tensors without those that only repeat another one.

    Raises:
        ModelError: one is missing, or is not equal to that other one.
    """
    for copy, first in copies.items():
        if copy not in stored:
            raise ModelError(f"{file.path}: {copy} is missing, where {first} is written again; download the file again")
        if first in stored and not equal_tensors(file, stored[copy], stored[first]):
            raise ModelError(
                f"{file.path}: {copy} and {first} are one tensor of the network, but differ in the file; take another "
                "file"
            )
    return {name: tensor for name, tensor in stored.items() if name not in copies}


def _merged_blocks(
    file: WeightFile, stored: Mapping[str, StoredTensor], graph: Graph, names: Mapping[str, str]
) -> tuple[list[str], dict[str, Tensor]]:
    """Return the tensors of blocks that were re-parameterised, and those of their branches in their place."""
    wanted = {names[name]: tuple(value.shape) for name, value in graph.state_dict().items()}
    blocks, made = merged_blocks(stored, wanted), {}
    eps = {}
    for name, module in graph.named_modules():
        if isinstance(module, RepVGG):
            weight = "rbr_dense.conv.weight"
            eps[names[f"{name}.{weight}"].removesuffix(f".{weight}")] = module.rbr_dense.bn.eps
    for block in blocks:
        made |= branches_of(file, stored, block, wanted, eps[block])
    return [block + part for block in blocks for part in MERGED_PARTS], made


def equal_tensors(file: WeightFile, one: StoredTensor, other: StoredTensor) -> bool:
    """Return whether two tensors of a file are equal, or the same one."""
    return one == other or (one.shape == other.shape and torch.equal(file.tensor(one), file.tensor(other)))


def _family(graph: Graph, table: NameTable) -> str:
    pose = any(head.task == "pose" for head in graph.heads.values())
    return f"{table.family}-Pose" if pose else table.family


def _class_names(head: Any, written: Sequence[str]) -> list[str]:
    """Return the class names of a head: those in the file, else COCO's where their number is COCO's, else numbers."""
    count = head.num_classes
    if len(written) == count:
        return list(written)
    if head.task == "pose" and count == 1:
        return ["person"]
    coco = read_yaml(COCO_DATA, ModelError)["detect"]["names"]
    return list(coco) if count == len(coco) else [str(i) for i in range(count)]
