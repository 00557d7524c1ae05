"""Which of our YAMLs of a family a file belongs to: its size is told by a few of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.convert.by_names import Shapes, outputs_of, told_of
from models.spec import ModelSpec, load_spec
from utils.errors import ModelError


@dataclass(frozen=True)
class SizeMarks:
    """Names of the tensors that tell the size of a family's networks, and our YAMLs by size.

    Attributes:
        stems: convolutions whose output channels tell the width; one of them is in the file.
        classes: convolution with as many outputs as there are classes.
        repeated: how the names begin of what lies in the first stage as often as the depth says; a number follows.
        configs: YAML by channels of the stem, repeats in the first stage, and attention.
        attention: what the names of a block's attention hold; nothing where the family has none.
    """

    stems: tuple[str, ...]
    classes: str
    repeated: str
    configs: Mapping[tuple[int, int, bool], str]
    attention: str = ""


def find_shipped(path: object, shapes: Shapes, family: str, marks: SizeMarks) -> ModelSpec:
    """Return the one of ``models/configs`` that tensors of these shapes belong to, with the classes of the file.

    Args:
        path: of the file, for messages.
        shapes: of its tensors by their published names.
        family: for messages.
        marks: of the family.

    Raises:
        ModelError: a tensor that tells the size is missing, or no YAML here has this size.
    """
    stem = next((name for name in marks.stems if name in shapes), marks.stems[0])
    width = outputs_of(path, shapes, stem, family)
    start = marks.repeated
    repeats = len({name.removeprefix(start).split(".")[0] for name in shapes if name.startswith(start)})
    attention = bool(marks.attention) and any(marks.attention in name for name in shapes)
    name = marks.configs.get((width, repeats, attention))
    if name is None:
        raise ModelError(
            f"{path}: is a {family} of a size that no YAML here has ({width:,} channels behind the stem, {repeats:,} "
            f"repeats in the first stage{', attention' if attention else ''}); write its YAML and name it: "
            f"python -m models.convert {path} OUT.safetensors --cfg MODEL.yaml"
        )
    classes = outputs_of(path, shapes, marks.classes, family)
    with told_of(path):
        return load_spec(name).with_values(nc=classes)
