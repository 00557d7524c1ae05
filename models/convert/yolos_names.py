"""Tensor names of YOLOS as they were published, beside ours: the official program's, and Hugging Face's.

They store some tensors in other pieces than we do: both have all tables between blocks in one tensor, and Hugging Face
has queries, keys and values apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from models.convert.pieces import Piece, Shape, pieces_of
from models.graph import Graph
from models.heads.yolos import YOLOSDetect
from models.token_rows import TokenRows, find_token_rows

NUMBER = "{n}"


@dataclass(frozen=True)
class Scheme:
    """How a project names the tensors of a YOLOS.

    Attributes:
        project: who writes these names, for messages.
        embed: of the patch embedding, by our names of its parts.
        block: of a block, where ``{n}`` is its number; three names where queries, keys and values are apart.
        tables: of all tables between blocks, which are one tensor.
        norm: of the last norm.
        head: of the head's two networks, by our names of them.
    """

    project: str
    embed: Mapping[str, str]
    block: Mapping[str, tuple[str, ...]]
    tables: str
    norm: str
    head: Mapping[str, str]


def _official(prefix: str, project: str) -> Scheme:
    """Return the names of the official program, which are those of DeiT behind a prefix."""
    inner = {"norm1": "norm1", "qkv": "attn.qkv", "proj": "attn.proj", "norm2": "norm2"}
    inner |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    return Scheme(
        project=project,
        embed={
            "cls_token": f"{prefix}cls_token",
            "det_tokens": f"{prefix}det_token",
            "pos_embed": f"{prefix}pos_embed",
            "proj": f"{prefix}patch_embed.proj",
        },
        block={ours: (f"{prefix}blocks.{NUMBER}.{theirs}",) for ours, theirs in inner.items()},
        tables=f"{prefix}mid_pos_embed",
        norm=f"{prefix}norm",
        head={"class_mlp": "class_embed.layers", "box_mlp": "bbox_embed.layers"},
    )


def _hugging_face(prefix: str, project: str = "Hugging Face") -> Scheme:
    """Return the names of models of transformers, which differ in how they begin."""
    block = f"{prefix}encoder.layer.{NUMBER}"
    return Scheme(
        project=project,
        embed={
            "cls_token": f"{prefix}embeddings.cls_token",
            "det_tokens": f"{prefix}embeddings.detection_tokens",
            "pos_embed": f"{prefix}embeddings.position_embeddings",
            "proj": f"{prefix}embeddings.patch_embeddings.projection",
        },
        block={
            "norm1": (f"{block}.layernorm_before",),
            "qkv": tuple(f"{block}.attention.attention.{part}" for part in ("query", "key", "value")),
            "proj": (f"{block}.attention.output.dense",),
            "norm2": (f"{block}.layernorm_after",),
            "fc1": (f"{block}.intermediate.dense",),
            "fc2": (f"{block}.output.dense",),
        },
        tables=f"{prefix}encoder.mid_position_embeddings",
        norm=f"{prefix}layernorm",
        head={"class_mlp": "class_labels_classifier.layers", "box_mlp": "bbox_predictor.layers"},
    )


OFFICIAL = _official("backbone.", "the official YOLOS")
HUGGING_FACE = _hugging_face("vit.")
SCHEMES = (OFFICIAL, HUGGING_FACE)
VIT_SCHEMES = (_official("", "DeiT, timm or MAE"), *(_hugging_face(start) for start in ("vit.", "deit.", "")))
"""Of vision transformers that classify pictures, whose names are the same but for how they begin."""


def pieces(graph: Graph, scheme: Scheme) -> list[Piece]:
    """Return every tensor of a YOLOS as a project stores it.

    Args:
        graph: on any device, also without memory.
        scheme: the project's names.

    Raises:
        ValueError: the graph is another network; the sentence says what is different.
    """
    rows = find_token_rows(graph)
    if rows is None or len(rows.norms) != 1:
        raise ValueError("it is no chain of one ViTEmbed, ViTBlocks, one TokenNorm and a YOLOSDetect")
    found = list(_pieces(graph, rows, scheme))
    used = {name for piece in found for name in piece.ours}
    other = next((name for name in graph.state_dict() if name not in used), None)
    if other is not None:
        raise ValueError(f"nothing there is its row {other.split('.')[1]}")
    torn = next((row for row in graph.spec.rows if row.sources[-1] != row.index - 1), None)
    if torn is not None:
        raise ValueError(f"its row {torn.index} does not read the row before it")
    tables = next((piece.ours for piece in found if piece.stacked), ())
    if tables and [name.removesuffix(".pos_embed") for name in tables] != list(rows.blocks[:-1]):
        raise ValueError("tables are behind all blocks but the last there, or behind none")
    if len({graph.get_parameter(name).shape for name in tables}) > 1:
        raise ValueError("its tables between blocks differ in size, and there they are one tensor")
    return found


def backbone_pieces(graph: Graph, scheme: Scheme) -> list[Piece]:
    """Return the tensors that a YOLOS may have from a vision transformer for classification."""
    rows = find_token_rows(graph)
    found = [] if rows is None else list(_pieces(graph, rows, scheme))
    missing = (scheme.embed["det_tokens"], scheme.tables, *scheme.head.values())
    return [piece for piece in found if not piece.name.startswith(missing)]


def _pieces(graph: Graph, rows: TokenRows, scheme: Scheme) -> Iterator[Piece]:
    heads = [f"model.{i}" for i in graph.head_rows.values() if isinstance(graph.model[i], YOLOSDetect)]
    places = {**dict(rows.parts()), **dict.fromkeys(heads, "head")}
    tables: dict[str, Shape] = {}
    for name, value in graph.state_dict().items():
        module = next((module for module in places if name.startswith(f"{module}.")), None)
        if module is None:
            continue
        part, *rest = name.removeprefix(f"{module}.").split(".")
        kind, _, number = places[module].partition(" ")
        shape = tuple(value.shape)
        if kind == "norm":
            yield Piece(".".join((scheme.norm, *rest)), shape, (name,))
        elif kind != "block":
            yield Piece(".".join((getattr(scheme, kind)[part], *rest)), shape, (name,))
        elif part == "pos_embed":
            tables[name] = shape
        else:
            theirs = [".".join((start.replace(NUMBER, number), *rest)) for start in scheme.block[part]]
            yield from pieces_of(name, shape, theirs)
    for shape in list(tables.values())[:1]:
        yield Piece(scheme.tables, (len(tables), *shape), tuple(tables), stacked=True)


def published_state(graph: Graph, scheme: Scheme) -> dict[str, Tensor]:
    """Return the tensors of a YOLOS under a project's names.

    Raises:
        ValueError: see ``pieces``.
    """
    state = graph.state_dict()
    return {piece.name: piece.of(state) for piece in pieces(graph, scheme)}
