"""The model YAML that tensors of a YOLOS belong to: sizes come from the tensors, the rest from what is beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.convert.by_names import Shapes, told_of
from models.convert.label_classes import Classes
from models.convert.yolos_names import NUMBER, Scheme
from models.layers.position_tables import grid_of
from models.spec import ModelSpec, load_spec, parse_spec
from models.yaml_numbers import LARGEST_NUMBER
from utils.errors import ModelError

Size = tuple[int, int]
SHIPPED = ("yolos-ti", "yolos-s", "yolos-s-dwr", "yolos-b", "yolos-s-pe")
HEAD_WIDTH = 64
"""Channels of an attention head in all published models but one."""
ODD_HEADS = {330: 6}
"""That one, by its width."""
MOST_BLOCKS = 1000
PATCH_AXES = 4


@dataclass(frozen=True)
class Facts:
    """What a file, or another one beside it, says of a model that its tensors do not tell.

    Attributes:
        heads: attention heads.
        pe_size: height and width in pixels of the picture for which the first position table is made.
        mid_pe_size: the same of the tables between blocks.
        labels: names of the labels.
    """

    heads: int | None = None
    pe_size: Size | None = None
    mid_pe_size: Size | None = None
    labels: Sequence[str] | None = None


@dataclass(frozen=True)
class Sizes:
    """What the tensors of a vision transformer tell.

    Attributes:
        width: channels of a token.
        patch: side of a patch in pixels.
        blocks: how many there are.
        hidden: channels of the inner layer of a block.
        length: entries of the position table.
        det_tokens: [DET] tokens; 0 for a model that classifies pictures.
        mid_length: entries of each table between blocks; None where there are none.
        labels: of the head, without that of no object; 0 where it has none of this kind.
    """

    width: int
    patch: int
    blocks: int
    hidden: int
    length: int
    det_tokens: int
    mid_length: int | None
    labels: int


def measure(path: object, shapes: Shapes, scheme: Scheme, is_yolos: bool = True) -> Sizes:
    """Return the sizes that tensors tell.

    Args:
        path: of the file, for messages.
        shapes: of its tensors by their names there.
        scheme: of these names.
        is_yolos: whether it has [DET] tokens and a head.

    Raises:
        ModelError: one that tells a size is missing or has other axes.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        found = shapes.get(name)
        if found is None or len(found) != axes or min(found) < 1:
            what = "is missing" if found is None else f"has not {axes} axes"
            raise ModelError(
                f"{path}: has names of {scheme.project}, but {name}, which tells its size, {what}; copy or download "
                "the file again"
            )
        return found

    start, end = scheme.block["fc1"][0].split(NUMBER)
    numbers = {name[len(start) :].removesuffix(f"{end}.weight") for name in shapes if name.startswith(start)}
    blocks = sum(number.isdecimal() for number in numbers)
    if not 1 <= blocks <= MOST_BLOCKS:
        raise ModelError(
            f"{path}: has {blocks:,} blocks, where 1 to {MOST_BLOCKS:,} are known; copy or download the file again"
        )
    width, _, patch, _ = shape(f"{scheme.embed['proj']}.weight", PATCH_AXES)
    hidden, _ = shape(f"{scheme.block['fc1'][0].replace(NUMBER, '0')}.weight", 2)
    labels = shape(f"{scheme.head['class_mlp']}.2.weight", 2)[0] - 1 if is_yolos else 0
    if labels > LARGEST_NUMBER:
        raise ModelError(
            f"{path}: its head has {labels:,} labels, and {LARGEST_NUMBER:,} is the most; take another file"
        )
    tables = scheme.tables in shapes
    return Sizes(
        width=width,
        patch=patch,
        blocks=blocks,
        hidden=hidden,
        length=shape(scheme.embed["pos_embed"], 3)[1],
        det_tokens=shape(scheme.embed["det_tokens"], 3)[1] if is_yolos else 0,
        mid_length=shape(scheme.tables, 4)[2] if tables and is_yolos else None,
        labels=labels,
    )


def spec_of_sizes(path: object, sizes: Sizes, facts: Facts, classes: Classes) -> ModelSpec:
    """Return the model of given sizes: one of ``models/configs/yolos``, or one like them.

    Args:
        path: of the file, for messages.
        sizes: what its tensors tell.
        facts: what else is known.
        classes: of the head.

    Raises:
        ModelError: heads or the sizes of tables can neither be read nor concluded, or no YAML can have these sizes.
    """
    shipped = {name: load_spec(name) for name in SHIPPED}
    heads = facts.heads or _heads(path, sizes)
    alike = [spec.values for spec in shipped.values() if spec.values["width"] == sizes.width]
    known = [tuple(values["pe_size"]) for values in (*alike, *(spec.values for spec in shipped.values()))]
    pe_size = _pe_size(path, sizes, sizes.length, facts.pe_size, known)
    mid = None
    if sizes.mid_length is not None:
        mid = _pe_size(path, sizes, sizes.mid_length, facts.mid_pe_size or facts.pe_size, [pe_size, *known])
    values = {**_nearest(sizes), "nc": len(classes.names), "width": sizes.width, "heads": heads}
    values |= {"det_tokens": sizes.det_tokens, "pe_size": list(pe_size)}
    if mid not in (None, pe_size):
        values["mid_pe_size"] = list(mid)
    values["backbone"] = _rows(sizes, "mid_pe_size" if "mid_pe_size" in values else "pe_size")
    values["head"] = [[-1, 1, "YOLOSDetect", ["nc"] if classes.ids is None else ["nc", classes.ids]]]
    with told_of(path):
        spec = parse_spec(values, f"yolos_w{sizes.width}_n{sizes.blocks}.yaml")
        for name, other in shipped.items():
            if _backbone(other) == _backbone(spec):
                return parse_spec(values, f"{name}.yaml")
        return spec


def _backbone(spec: ModelSpec) -> list[tuple[Any, ...]]:
    """Return what the rows before the head say."""
    return [(row.module, row.number, row.args) for row in spec.rows[:-1]]


def _nearest(sizes: Sizes) -> dict[str, Any]:
    """Return the YAML whose input and recipe a model of this size takes."""
    return load_spec("yolos-ti" if sizes.mid_length is None and sizes.width <= 192 else "yolos-s").values


def _heads(path: object, sizes: Sizes) -> int:
    if sizes.width in ODD_HEADS:
        return ODD_HEADS[sizes.width]
    if sizes.width % HEAD_WIDTH:
        raise ModelError(
            f"{path}: its tokens have {sizes.width:,} channels, which do not tell how many attention heads there are; "
            "lay its config.json beside it, or write its YAML and name it: "
            f"python -m models.convert {path} OUT.safetensors --cfg MODEL.yaml"
        )
    return sizes.width // HEAD_WIDTH


def _pe_size(path: object, sizes: Sizes, length: int, said: Size | None, known: Sequence[Size]) -> Size:
    """Return the size of the picture that a table of so many entries is made for.

    Raises:
        ModelError: it is not what the file says, or nothing says it.
    """
    patches = length - 1 - sizes.det_tokens
    for size in [said] if said is not None else known:
        if min(size) >= sizes.patch and math.prod(grid_of(size, sizes.patch)) == patches:
            return size
    if said is not None:
        raise ModelError(
            f"{path}: its position table has {patches:,} patches, but it is said to be made for pictures of "
            f"{said[0]}x{said[1]} pixels; take both from the same model"
        )
    raise ModelError(
        f"{path}: its position table has {patches:,} patches, and nothing says of how many rows and columns; lay its "
        "config.json beside it, or write its YAML and name it: "
        f"python -m models.convert {path} OUT.safetensors --cfg MODEL.yaml"
    )


def _rows(sizes: Sizes, tables: str) -> list[list[Any]]:
    """Return the rows before the head."""
    block = ["width", "heads", _ratio(sizes)]
    rows: list[list[Any]] = [[-1, 1, "ViTEmbed", ["width", sizes.patch, "det_tokens", "pe_size"]]]
    plain = sizes.blocks if sizes.mid_length is None else 1
    if sizes.blocks > plain:
        rows.append([-1, sizes.blocks - plain, "ViTBlockPE", [*block, tables]])
    return [*rows, [-1, plain, "ViTBlock", block], [-1, 1, "TokenNorm", ["width", 1e-6]]]


def _ratio(sizes: Sizes) -> float:
    """Return the ratio of inner channels to outer ones, from which a block gets exactly the inner ones."""
    ratio = sizes.hidden / sizes.width
    return ratio if int(sizes.width * ratio) == sizes.hidden else (sizes.hidden + 0.5) / sizes.width


def published_facts(args: Mapping[str, Any]) -> Facts:
    """Return what the official program's options say, which its checkpoints hold."""
    return Facts(
        pe_size=as_size(args.get("init_pe_size")),
        mid_pe_size=as_size(args.get("mid_pe_size")),
    )


def as_size(value: Any) -> Size | None:
    """Return a height and a width in pixels, from two whole numbers or one; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    whole = isinstance(value, list | tuple) and len(value) == 2 and all(type(n) is int and 0 < n < 2**31 for n in value)
    return (value[0], value[1]) if whole else None
