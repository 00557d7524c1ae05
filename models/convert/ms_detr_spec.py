"""The model YAML that tensors of a deformable DETR belong to: sizes come from the tensors, the rest from the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from models.convert.by_names import Shapes, told_of
from models.convert.label_classes import Classes
from models.convert.ms_detr_facts import DetrFacts
from models.convert.ms_detr_names import BODY, Scheme
from models.convert.resnet_sizes import Stage, backbone_rows, measure_stages
from models.spec import ModelSpec, load_spec, parse_spec
from models.yaml_numbers import LARGEST_NUMBER
from utils.errors import ModelError

SHIPPED = ("ms-detr-r50-300", "ms-detr-r50-pp-300", "ms-detr-r50-pp-900", "ms-detr-r50-a-300", "deformable-detr-r50")
HEADS, QUERIES = 8, 300
"""Of all published models that do not say it."""
MANY_QUERIES, MANY_ANSWERS = 900, 300
DROPOUT = 0.1
MOST_LAYERS = 1000
MAP_AXES, TABLE_AXES = 4, 2


@dataclass(frozen=True)
class Projection:
    """What brings a map to the width of the transformer.

    Attributes:
        c_in: channels of the map.
        kernel: side of the convolution; one larger than 1 halves the map.
    """

    c_in: int
    kernel: int


@dataclass(frozen=True)
class DetrSizes:
    """What the tensors of a deformable DETR tell.

    Attributes:
        stem: channels of the backbone's stem.
        stages: of the backbone.
        projections: of the levels, from fine to coarse.
        width: channels of a token.
        layers: of encoder and decoder.
        samples: places that all heads of a query look at in encoder and decoder, over all levels.
        hidden: channels inside the layers of encoder and decoder.
        labels: of a class head.
        two_stage: whether queries are proposals of the encoder.
        table: rows and columns of the table of queries; None where there is none.
        aux_ffn: whether one-to-many supervision has a network of its own in every layer.
        own_classes: whether it has class heads of its own.
        box_refine: whether every layer has its own box head, and moves the boxes.
    """

    stem: int
    stages: tuple[Stage, ...]
    projections: tuple[Projection, ...]
    width: int
    layers: tuple[int, int]
    samples: tuple[int, int]
    hidden: tuple[int, int]
    labels: int
    two_stage: bool
    table: tuple[int, int] | None
    aux_ffn: bool
    own_classes: bool
    box_refine: bool


def measure(path: object, shapes: Shapes, scheme: Scheme, box_refine: bool) -> DetrSizes:
    """Return the sizes that tensors tell.

    Args:
        path: of the file, for messages.
        shapes: of its tensors by their names there.
        scheme: of these names.
        box_refine: what is known of it already.

    Raises:
        ModelError: one that tells a size is missing or has other axes.
    """

    def shape(official: str, axes: int) -> tuple[int, ...]:
        name = scheme.names(official)[0]
        found = shapes.get(name)
        if found is None or len(found) != axes or min(found) < 1:
            what = "is missing" if found is None else f"has not {axes} axes"
            raise ModelError(
                f"{path}: has names of {scheme.project}, but {name}, which tells its size, {what}; copy or download "
                "the file again"
            )
        return found

    def has(official: str) -> bool:
        return scheme.names(official)[0] in shapes

    parts = [f"transformer.{part}coder.layers" for part in ("en", "de")]
    attention = [
        f"{parts[0]}.0.self_attn.attention_weights.weight",
        f"{parts[1]}.0.cross_attn.attention_weights.weight",
    ]
    levels, width = shape("transformer.level_embed", TABLE_AXES)
    labels = shape("class_embed.0.weight", TABLE_AXES)[0]
    if labels > LARGEST_NUMBER:
        raise ModelError(
            f"{path}: its heads have {labels:,} labels, and {LARGEST_NUMBER:,} is the most; take another file"
        )
    maps = [shape(f"input_proj.{level}.0.weight", MAP_AXES) for level in range(min(levels, MOST_LAYERS))]
    layers = [_count(path, part, lambda n, p=part: has(f"{p}.{n}.linear1.weight")) for part in parts]
    stem, stages = measure_stages(path, lambda name: shapes.get(scheme.names(f"{BODY}{name}")[0]))
    table = "query_embed.weight"
    return DetrSizes(
        stem=stem,
        stages=stages,
        projections=tuple(Projection(found[1], found[2]) for found in maps),
        width=width,
        layers=(layers[0], layers[1]),
        samples=(shape(attention[0], TABLE_AXES)[0], shape(attention[1], TABLE_AXES)[0]),
        hidden=tuple(shape(f"{part}.0.linear1.weight", TABLE_AXES)[0] for part in parts),
        labels=labels,
        two_stage=has("transformer.enc_output.weight"),
        table=shape(table, TABLE_AXES) if has(table) else None,
        aux_ffn=has(f"{parts[1]}.0.linear3.weight"),
        own_classes=has("class_embed_o2m.0.weight"),
        box_refine=box_refine,
    )


def _count(path: object, part: str, has: Callable[[int], bool]) -> int:
    """Return how many layers there are, counted from 0.

    Raises:
        ModelError: there is none, or there are too many.
    """
    found = next((n for n in range(MOST_LAYERS + 1) if not has(n)), None)
    if not found:
        what = "no layer" if found == 0 else f"more than {MOST_LAYERS:,} layers"
        raise ModelError(f"{path}: has {what} called {part}, where 1 to {MOST_LAYERS:,} are known; download it again")
    return found


def spec_of_sizes(path: object, sizes: DetrSizes, facts: DetrFacts, classes: Classes) -> ModelSpec:
    """Return the model of given sizes: one of ``models/configs/ms_detr``, or one like them.

    Args:
        path: of the file, for messages.
        sizes: what its tensors tell.
        facts: what else is known.
        classes: of the head.

    Raises:
        ModelError: heads or points can neither be read nor concluded, or no YAML can have these sizes.
    """
    queries = sizes.table[0] if sizes.table is not None else facts.queries or QUERIES
    base = load_spec(_nearest(sizes, facts, queries)).values
    dropout = facts.dropout if facts.dropout is not None else float(base["dropout"])
    values = {**base, "nc": sizes.labels, "queries": queries, "dim": sizes.width}
    values |= {"ffn": sizes.hidden[0], "dropout": dropout}
    values["backbone"] = backbone_rows(sizes.stem, sizes.stages)
    values["head"] = list(_head_rows(path, sizes, facts, queries))
    name = f"ms_detr_d{sizes.width}_q{queries}"
    with told_of(path):
        plain = parse_spec(values, f"{name}.yaml")
        alike = (other for other in map(load_spec, SHIPPED) if _rows(other) == _rows(plain))
        source = next((other.source for other in alike), plain.source)
        return parse_spec(_with_classes(values, classes), source)


def _rows(spec: ModelSpec) -> list[tuple[Any, ...]]:
    """Return what the rows say, with the labels of the published heads."""
    rows = spec.with_values(nc=1).rows
    return [(row.sources, row.module, row.number, row.args) for row in rows]


def _nearest(sizes: DetrSizes, facts: DetrFacts, queries: int) -> str:
    """Return the YAML whose input and recipe such a model takes."""
    supervision = _supervision(sizes, facts)
    if supervision == "none":
        return "deformable-detr-r50"
    if supervision == "a":
        return "ms-detr-r50-a-300"
    if not _is_mixed_selection(sizes):
        return "ms-detr-r50-300"
    return "ms-detr-r50-pp-900" if queries >= MANY_QUERIES else "ms-detr-r50-pp-300"


def _supervision(sizes: DetrSizes, facts: DetrFacts) -> str:
    """Return the variant of one-to-many supervision; a Deformable-DETR has the names of a (c) without its network."""
    if sizes.own_classes:
        return "a"
    return "c" if sizes.aux_ffn or facts.mixed else "none"


def _is_mixed_selection(sizes: DetrSizes) -> bool:
    return sizes.two_stage and sizes.table is not None


def _head_rows(path: object, sizes: DetrSizes, facts: DetrFacts, queries: int) -> Iterator[list[Any]]:
    """Yield the rows behind the backbone."""
    first, levels = len(sizes.stages) + 1, len(sizes.projections)
    ones = sum(projection.kernel == 1 for projection in sizes.projections)
    last = len(sizes.stages)
    for level, projection in enumerate(sizes.projections):
        source = last - ones + 1 + level if level < ones else last if level == ones else first + level - 1
        yield [source, 1, "ConvGN", ["dim", projection.kernel, 1 if projection.kernel == 1 else 2]]
    encoder = first + levels
    heads, points = _heads_and_points(path, sizes, facts)
    tail = ["ffn", "dropout"]
    yield [list(range(first, encoder)), 1, "DeformEncoder", ["dim", sizes.layers[0], heads, points[0], *tail]]
    mixed = _is_mixed_selection(sizes)
    chosen = ["nc", "queries", *([{"mixed_selection": True}] if mixed else [])]
    yield [encoder, 1, "TwoStageQueries", chosen] if sizes.two_stage else [encoder, 1, "LearnedQueries", ["queries"]]
    hidden = "ffn" if sizes.hidden[1] == sizes.hidden[0] else sizes.hidden[1]
    layout = ["nc", "dim", sizes.layers[1], heads, points[1], hidden, "dropout"]
    yield [[encoder, encoder + 1], 1, "MSDETRDecoder", [*layout, _decoder_options(sizes, facts, queries)]]


def _heads_and_points(path: object, sizes: DetrSizes, facts: DetrFacts) -> tuple[int, list[int]]:
    """Return attention heads, and the points of one in a level in encoder and decoder.

    Raises:
        ModelError: the tensors do not have so many heads.
    """
    heads = facts.heads or HEADS
    together = heads * len(sizes.projections)
    if sizes.width % heads or any(samples % together for samples in sizes.samples):
        raise ModelError(
            f"{path}: its attention has no {heads} heads, and nothing says how many it has; lay its config.json beside "
            f"it, or write its YAML and name it: python -m models.convert {path} OUT.safetensors --cfg MODEL.yaml"
        )
    return heads, [samples // together for samples in sizes.samples]


def _decoder_options(sizes: DetrSizes, facts: DetrFacts, queries: int) -> dict[str, Any]:
    """Return the options of the head that differ from what it does without being told."""
    supervision = _supervision(sizes, facts)
    twice = _is_mixed_selection(sizes) if facts.look_forward_twice is None else facts.look_forward_twice
    top_k = facts.top_k or (MANY_ANSWERS if queries >= MANY_QUERIES else None)
    options: dict[str, Any] = {"supervision": supervision}
    options |= {"order": "self_first"} if supervision == "none" else {}
    options |= {"aux_ffn": True} if sizes.aux_ffn else {}
    options |= {"look_forward_twice": True} if twice else {}
    options |= {} if sizes.box_refine else {"box_refine": False}
    options |= {} if top_k in (None, 100) else {"top_k": top_k}
    return options | ({} if facts.nms is None else {"nms": facts.nms})


def _with_classes(values: dict[str, Any], classes: Classes) -> dict[str, Any]:
    """Return a YAML with the classes of a file, in every row that has class heads."""
    values = {**values, "nc": len(classes.names)}
    if classes.ids is None:
        return values
    rows = [_with_ids(row) if "nc" in row[3] else row for row in values["head"]]
    return {**values, "category_ids": classes.ids, "head": rows}


def _with_ids(row: list[Any]) -> list[Any]:
    args = row[3]
    options = args[-1] if isinstance(args[-1], dict) else {}
    plain = args[:-1] if options else args
    return [*row[:3], [*plain, {**options, "category_ids": "category_ids"}]]
