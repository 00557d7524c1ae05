"""What an exported file tells about itself, checked; see ``utils.export.metadata`` for who writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data.keypoints import KeypointSpec
from data.transforms.letterbox import LetterboxRule
from models.heads.base import Head
from models.object_rules import ObjectRule
from models.row_building import build_rows, name_heads
from models.spec import ModelSpec, parse_spec
from utils.errors import ModelError
from utils.yaml_text import parse_yaml

LAYOUTS = ("NCHW", "NHWC")
CANDIDATES, OBJECTS = "candidates", "objects"
ANSWERS = (CANDIDATES, OBJECTS)
NEEDED = ("yolograph", "heads", "names", "stride", "input", "batch_size", "image_size", "open_axes", "graph")
MOST_TEXT = 10_000_000
"""Characters of one entry; none of ours is nearly as long."""


@dataclass(frozen=True)
class Description:
    """What a file says of itself.

    Attributes:
        path: of the file, for messages.
        spec: the model's rows.
        head_rows: row index of every head that the file has.
        heads: these heads without weights; they turn predictions into results.
        outputs: names of every head's outputs.
        distinct: heads whose every candidate stands for an object of its own.
        names: class names per head.
        stride: height and width of inputs are multiples of it, pixels.
        batch_size: images of a pass; None where any number will do.
        image_size: (height, width) of the input, pixels; None where it may vary.
        input_name: of the input.
        layout: order of the input's axes, one of ``LAYOUTS``.
        answers: ``candidates`` before suppression, or ``objects``, chosen inside by thresholds of the file's own.
        precision: number format of the file's weights, as it says.
        checked: whether the file was held against the model when it was written.
        rules: of ``objects``, how the candidates of every head that finds boxes became objects inside.
    """

    path: Path
    spec: ModelSpec
    head_rows: dict[str, int]
    heads: dict[str, Head]
    outputs: dict[str, tuple[str, ...]]
    distinct: frozenset[str]
    names: dict[str, list[str]]
    stride: int
    batch_size: int | None
    image_size: tuple[int, int] | None
    input_name: str
    layout: str
    answers: str
    precision: str
    checked: bool
    rules: dict[str, ObjectRule]

    @property
    def letterbox(self) -> LetterboxRule:
        """How pictures are placed within the input; fitted into the one size that it has, where it has one."""
        rule = self.spec.input.letterbox
        return rule if self.image_size is None else rule.exactly(self.image_size)


def read_description(metadata: Mapping[str, str], path: Path) -> Description:
    """Check the metadata of a file.

    Args:
        metadata: as they stand in the file; all but ``graph`` and ``yolograph`` are JSON.
        path: of the file.

    Raises:
        ModelError: the file is none of ours, or its metadata do not fit together.
    """
    missing = [key for key in NEEDED if key not in metadata]
    if missing:
        raise ModelError(
            f"{path}: its metadata have no '{missing[0]}', so export.py of this program has not written it; export the "
            "model again, or give its checkpoint"
        )
    told = {key: _plain(metadata, key, path) for key in metadata if key not in ("graph", "yolograph")}
    try:
        return _described(told, metadata["graph"], path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{path}: its metadata do not fit together ({type(error).__name__}: {str(error)[:100]}); export the model "
            "again"
        ) from None


def _plain(metadata: Mapping[str, str], key: str, path: Path) -> Any:
    try:
        text = metadata[key]
        if len(text) > MOST_TEXT:
            raise ValueError("too long")
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: its metadata are damaged, '{key}' is no JSON; export the model again") from None


def _described(told: Mapping[str, Any], graph: str, path: Path) -> Description:
    """Build a description.

    Raises:
        ValueError: a value is none that a file can have.
    """
    where = f"{path} (its metadata 'graph')"
    spec = parse_spec(parse_yaml(graph, where, ModelError), where)
    head_rows, heads = _heads(spec, told)
    batch, (height, width), axes = told["batch_size"], told["image_size"], told["open_axes"]
    for number in (told["stride"], batch, height, width):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{number!r} is no whole number above 0")
    layout, answers = told["input"].get("layout", LAYOUTS[0]), told.get("answers", CANDIDATES)
    for given, known in ((layout, LAYOUTS), (answers, ANSWERS)):
        if given not in known:
            raise ValueError(f"{given!r} is none of {', '.join(known)}")
    return Description(
        path=path,
        spec=replace(spec, source=path.name),
        head_rows=head_rows,
        heads=heads,
        outputs={name: tuple(map(str, told["heads"][name]["outputs"])) for name in heads},
        distinct=frozenset(name for name in heads if told["heads"][name].get("suppression") is False),
        names={name: [str(label) for label in told["names"][name]] for name in heads},
        stride=told["stride"],
        batch_size=None if "batch" in axes else batch,
        image_size=None if {"height", "width"} & set(axes) else (height, width),
        input_name=str(told["input"]["name"]),
        layout=layout,
        answers=answers,
        precision=str(told.get("precision", "float32")),
        checked=told.get("checked", True) is not False,
        rules={name: ObjectRule.from_plain(rule) for name, rule in told.get("objects", {}).items() if name in heads},
    )


def _heads(spec: ModelSpec, told: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, Head]]:
    """Return row index and module of every head that a file has, without memory.

    Raises:
        ValueError: its rows have no such head, or one with other classes or keypoints.
    """
    with torch.device("meta"):
        built = build_rows(spec)
    rows = {name: index for name, index in name_heads(spec, built).items() if name in told["heads"]}
    heads: dict[str, Head] = {name: built[index].module.eval() for name, index in rows.items()}
    absent = [name for name in told["heads"] if name not in heads]
    if absent or not heads:
        raise ValueError(f"its rows have no head '{absent[0][:50]}'" if absent else "it has no heads")
    for name, head in heads.items():
        if len(told["names"][name]) != head.num_classes:
            raise ValueError(f"head '{name}' has {head.num_classes} classes and {len(told['names'][name])} names")
    for name, plain in (told.get("keypoints") or {}).items():
        keypoints = KeypointSpec.from_plain(plain)
        if heads[name].keypoints is None or len(heads[name].keypoints) != len(keypoints):
            raise ValueError(f"head '{name}' does not have {len(keypoints)} keypoints")
        heads[name].keypoints = keypoints
    return rows, heads
