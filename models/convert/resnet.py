"""ResNets that classify pictures, torchvision's, timm's and Hugging Face's: where the training of a DETR begins.

What such a file has becomes a checkpoint that is a start for training and no model for use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from models.blank_rows import BlankRows
from models.checkpoint import Checkpoint
from models.convert.by_names import told_of
from models.convert.matching import require_matching
from models.convert.ms_detr_names import COUNTER, hugging_face_resnet_name
from models.convert.records import StoredTensor
from models.convert.resnet_sizes import backbone_rows, measure_stages
from models.convert.weight_file import WeightFile
from models.resnet_rows import find_resnet_rows
from models.spec import load_spec, parse_spec

Names = Callable[[str], str]
PROJECTS: tuple[tuple[str, Names], ...] = (
    ("torchvision or timm", lambda name: name),
    ("Hugging Face", hugging_face_resnet_name),
    ("Hugging Face", lambda name: f"resnet.{hugging_face_resnet_name(name)}"),
)
"""Who writes names, and how a tensor is called there by its name in torchvision."""
NOT_TAKEN = re.compile(rf"(fc|classifier|head)\..*|.*\.{COUNTER}|.*total_(params|ops)")
"""Names of what classifies, and of what a frozen norm has not."""
CFG = "ms-detr-r50-300"
"""The model whose rows behind the backbone stand in for those of the model that takes the tensors over."""


def find_names(names: Iterable[str]) -> tuple[str, Names] | None:
    """Return who wrote the tensors of a ResNet, and how they are named; None where they are of another network."""
    names = set(names)
    marks = ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.0.downsample.1.running_var")
    return next((found for found in PROJECTS if {found[1](mark) for mark in marks} <= names), None)


def convert(file: WeightFile, stored: Mapping[str, StoredTensor], project: str, names: Names) -> Checkpoint:
    """Return what a ResNet has of a deformable DETR.

    Args:
        file: where its tensors lie.
        stored: they by their names there.
        project: who wrote them.
        names: returns the name of a tensor there by its name in torchvision.

    Raises:
        ModelError: a tensor is missing, too many or of another shape; the sentence names it.
    """
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    stem, stages = measure_stages(file.path, lambda name: shapes.get(names(name)))
    values = {**load_spec(CFG).values, "backbone": backbone_rows(stem, stages)}
    with told_of(file.path):
        rows = BlankRows(parse_spec(values, f"resnet_{'-'.join(str(stage.blocks) for stage in stages)}.yaml"))
    theirs = _their_names(rows, names)
    taken = {name: shape for name, shape in shapes.items() if not NOT_TAKEN.fullmatch(name)}
    own = rows.state_dict()
    wanted = {their: tuple(own[name].shape) for name, their in theirs.items()}
    require_matching(file.path, rows.spec.source, taken, wanted)
    state = {name: file.tensor(stored[their]).float() for name, their in theirs.items()}
    left_out = [name for name in stored if name not in taken and not name.endswith(COUNTER)]
    said = {"from": file.path.name, "family": f"ResNet ({project})", "sha256": file.sha256()}
    said |= {"tensors": f"{len(state)} of {len(stored)}"}
    said |= {"left out": ", ".join(left_out)} if left_out else {}
    classes = {name: [str(i) for i in range(head.num_classes)] for name, head in rows.heads.items()}
    return Checkpoint(rows.spec.source, rows.spec.text, classes, {"model": state}, {"converted": said}, is_start=True)


def _their_names(rows: BlankRows, names: Names) -> dict[str, str]:
    """Return the name of every tensor of the backbone there, by ours."""
    found = {}
    for number, row in enumerate(find_resnet_rows(rows)):
        prefix = f"layer{number}." if number else ""
        for part in rows.model[row].state_dict():
            found[f"model.{row}.{part}"] = names(f"{prefix}{part}")
    return found
