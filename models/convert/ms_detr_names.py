"""Tensor names of deformable DETRs as they were published, beside ours: MS-DETR's, Deformable-DETR's, Hugging Face's.

The official programs share their names; those of Hugging Face follow from them word by word. Both write some tensors
twice, because their decoders know the prediction heads too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from models.blank_rows import Rows
from models.convert.pieces import Piece, pieces_of
from models.heads.ms_detr import MSDETRDecoder
from models.layers.conv import ConvGN
from models.layers.deformable_encoder import DeformEncoder
from models.layers.detr_queries import QueryRow, TwoStageQueries
from models.resnet_rows import find_resnet_rows

BODY = "backbone.0.body."
"""How the names of the backbone begin in official files; what follows is torchvision's."""
COUNTER = "num_batches_tracked"
"""What a BatchNorm counts with; frozen ones have none."""
NOT_WEIGHTS = re.compile(r"(.*[._])?total_(params|ops)")
"""Names that a tool leaves behind which counts operations."""
HEADS = ("class_embed", "bbox_embed")


@dataclass(frozen=True)
class Scheme:
    """How a project names the tensors of a deformable DETR.

    Attributes:
        project: who writes these names, for messages.
        marks: names that tell such a network from others.
        names: returns a tensor's name, or those of its three parts, by its name in the official programs.
        own_name: returns the name that a tensor goes by here of one that is written in a file: without what wraps a
            network, and of several names of one tensor the first.
    """

    project: str
    marks: frozenset[str]
    names: Callable[[str], tuple[str, ...]]
    own_name: Callable[[str], str]


def _official_name(name: str) -> str:
    name = re.sub(r"^((module|model)\.)+", "", name)
    name = re.sub(rf"^transformer\.decoder\.(?=({'|'.join(HEADS)})\.)", "", name)
    return name.replace("bbox_embed_o2m.", "bbox_embed.", 1) if name.startswith("bbox_embed_o2m.") else name


def _hugging_face_name(name: str) -> str:
    """Return the name that files have, also for names that newer versions of transformers have in memory."""
    name = re.sub(r"^((module|model)\.)+", "", name)
    name = re.sub(rf"^decoder\.(?=({'|'.join(HEADS)})\.)", "", name)
    if name.startswith(HEADS):
        return name
    name = re.sub(r"^backbone\.(?=model\.)", "backbone.conv_encoder.", name)
    name = name.replace(".self_attn.o_proj.", ".self_attn.out_proj.")
    return f"model.{re.sub(r'[.]mlp[.](?=fc[12][.])', '.', name)}"


WORDS = (
    (re.compile(r"(encoder\.layers\.\d+\.)norm1\."), r"\1self_attn_layer_norm."),
    (re.compile(r"(encoder\.layers\.\d+\.)norm2\."), r"\1final_layer_norm."),
    (re.compile(r"(decoder\.layers\.\d+\.)cross_attn\."), r"\1encoder_attn."),
    (re.compile(r"(decoder\.layers\.\d+\.)norm1\."), r"\1encoder_attn_layer_norm."),
    (re.compile(r"(decoder\.layers\.\d+\.)norm2\."), r"\1self_attn_layer_norm."),
    (re.compile(r"(decoder\.layers\.\d+\.)norm3\."), r"\1final_layer_norm."),
    (re.compile(r"(coder\.layers\.\d+\.)linear([12])\."), r"\1fc\2."),
    (re.compile(r"query_embed\."), "query_position_embeddings."),
)
"""What Hugging Face calls parts of the transformer."""
PACKED = re.compile(r"(.*\.self_attn\.)in_proj_(weight|bias)")
"""Queries, keys and values, which it has apart."""
RESNET_WORDS = (
    (re.compile(r"^conv1\."), "embedder.embedder.convolution."),
    (re.compile(r"^bn1\."), "embedder.embedder.normalization."),
    (re.compile(r"^layer(\d+)\.(\d+)\.conv(\d+)\."), r"encoder.stages.<\1>.layers.\2.layer.<\3>.convolution."),
    (re.compile(r"^layer(\d+)\.(\d+)\.bn(\d+)\."), r"encoder.stages.<\1>.layers.\2.layer.<\3>.normalization."),
    (re.compile(r"^layer(\d+)\.(\d+)\.downsample\.0\."), r"encoder.stages.<\1>.layers.\2.shortcut.convolution."),
    (re.compile(r"^layer(\d+)\.(\d+)\.downsample\.1\."), r"encoder.stages.<\1>.layers.\2.shortcut.normalization."),
)
"""What the ResNets of Hugging Face call their parts, which they count from 0 where torchvision counts from 1."""


def hugging_face_resnet_name(name: str) -> str:
    """Return what a ResNet of Hugging Face calls a tensor of torchvision's."""
    for pattern, words in RESNET_WORDS:
        name = pattern.sub(words, name)
    return re.sub(r"<(\d+)>", lambda number: str(int(number[1]) - 1), name)


def _hugging_face_names(name: str, backbone: Callable[[str], str]) -> tuple[str, ...]:
    """Return the names of a tensor or of its three parts by its official name."""
    if name.startswith(BODY):
        return (f"model.backbone.conv_encoder.model.{backbone(name.removeprefix(BODY))}",)
    if name.startswith(HEADS):
        return (name,)
    name = name.removeprefix("transformer.")
    for pattern, words in WORDS:
        name = pattern.sub(words, name)
    if packed := PACKED.fullmatch(name):
        return tuple(f"model.{packed[1]}{part}_proj.{packed[2]}" for part in "qkv")
    return (f"model.{name}",)


def _hugging_face(project: str, backbone: Callable[[str], str]) -> Scheme:
    return Scheme(
        project=project,
        marks=frozenset(("model.level_embed", f"model.backbone.conv_encoder.model.{backbone('conv1.weight')}")),
        names=lambda name: _hugging_face_names(name, backbone),
        own_name=_hugging_face_name,
    )


OFFICIAL = Scheme(
    project="the official programs",
    marks=frozenset(("transformer.level_embed", f"{BODY}conv1.weight")),
    names=lambda name: (name,),
    own_name=_official_name,
)
HUGGING_FACE = _hugging_face("Hugging Face", lambda name: name)
HUGGING_FACE_RESNET = _hugging_face("Hugging Face", hugging_face_resnet_name)
SCHEMES = (OFFICIAL, HUGGING_FACE, HUGGING_FACE_RESNET)


def find_scheme(names: Iterable[str]) -> Scheme | None:
    """Return how the tensors of a deformable DETR are named; None where they are of another network."""
    names = list(names)
    return next((scheme for scheme in SCHEMES if scheme.marks <= {scheme.own_name(name) for name in names}), None)


@dataclass(frozen=True)
class DetrRows:
    """Rows of a deformable DETR in a graph, by number.

    Attributes:
        stem: of the backbone.
        stages: of the backbone, in order.
        projections: what the encoder reads, from fine to coarse.
        encoder: the deformable encoder.
        queries: what the decoder begins with.
        decoder: the head.
    """

    stem: int
    stages: tuple[int, ...]
    projections: tuple[int, ...]
    encoder: int
    queries: int
    decoder: int

    def prefixes(self) -> Iterator[tuple[int, str]]:
        """Yield every row before the queries, and how the official names of its tensors begin."""
        yield self.stem, BODY
        yield from ((row, f"{BODY}layer{number}.") for number, row in enumerate(self.stages, 1))
        yield from ((row, f"input_proj.{level}.") for level, row in enumerate(self.projections))
        yield self.encoder, "transformer."


def find_rows(graph: Rows) -> DetrRows:
    """Return where the parts of a deformable DETR lie.

    Raises:
        ValueError: the graph is another network; the sentence says what is different.
    """
    kinds = (ConvGN, DeformEncoder, QueryRow, MSDETRDecoder)
    found = {kind: [i for i, module in enumerate(graph.model) if isinstance(module, kind)] for kind in kinds}
    for kind in kinds[1:]:
        if len(found[kind]) != 1:
            raise ValueError(f"it has {len(found[kind])} rows of the kind {kind.__name__}, not one")
    backbone = find_resnet_rows(graph)
    if not backbone:
        raise ValueError("it has not one ResNet")
    (encoder,), (queries,), (decoder,) = (found[kind] for kind in kinds[1:])
    projections = graph.spec.rows[encoder].sources
    if sorted(projections) != found[ConvGN]:
        raise ValueError("its encoder does not read all ConvGN rows, and nothing else")
    return DetrRows(backbone[0], tuple(backbone[1:]), projections, encoder, queries, decoder)


def official_names(graph: Rows) -> dict[str, str]:
    """Return the official name of every tensor of a deformable DETR, by ours.

    Raises:
        ValueError: the graph is another network; the sentence says what is different.
    """
    rows = find_rows(graph)
    prefixes = {str(row): prefix for row, prefix in rows.prefixes()}
    layers = len(graph.model[rows.decoder].layers)
    found = {}
    for name in graph.state_dict():
        _, row, rest = name.split(".", 2)
        if row in prefixes:
            part = f"encoder.{rest}" if int(row) == rows.encoder and rest.startswith("layers.") else rest
            found[name] = prefixes[row] + part
        elif int(row) == rows.queries:
            found[name] = _queries_name(rest, layers)
        elif int(row) == rows.decoder:
            found[name] = _decoder_name(rest)
        else:
            raise ValueError(f"nothing there is its row {row}")
    return found


def _queries_name(rest: str, layers: int) -> str:
    """Return the official name of a tensor of the row of queries, whose heads come behind those of the decoder."""
    part, _, leaf = rest.partition(".")
    if part == "class_embed":
        return f"class_embed.{layers}.{leaf}"
    if part == "bbox_embed":
        return f"bbox_embed.{layers}.layers.{leaf}"
    return rest if part == "query_embed" else f"transformer.{rest}"


def _decoder_name(rest: str) -> str:
    part, _, leaf = rest.partition(".")
    if part == "bbox_embed":
        number, _, leaf = leaf.partition(".")
        return f"bbox_embed.{number}.layers.{leaf}"
    return f"transformer.decoder.{rest}" if part == "layers" else rest


def pieces(graph: Rows, scheme: Scheme) -> list[Piece]:
    """Return every tensor of a deformable DETR as a project stores it, each once.

    Args:
        graph: on any device, also without memory.
        scheme: the project's names.

    Raises:
        ValueError: see ``official_names``.
    """
    state = graph.state_dict()
    found = []
    for name, official in official_names(graph).items():
        if not name.endswith(COUNTER):
            found += pieces_of(name, tuple(state[name].shape), scheme.names(official))
    return found


def published_state(graph: Rows, scheme: Scheme) -> dict[str, Tensor]:
    """Return the tensors of a deformable DETR under all names that a project writes them by.

    Raises:
        ValueError: see ``official_names``.
    """
    state = graph.state_dict()
    found = {piece.name: piece.of(state) for piece in pieces(graph, scheme)}
    return found | {copy: found[name] for copy, name in copied_names(graph, scheme).items()}


def copied_names(graph: Rows, scheme: Scheme) -> dict[str, str]:
    """Return the names by which a project writes tensors again, with the name of each that it repeats.

    Raises:
        ValueError: see ``official_names``.
    """
    rows = find_rows(graph)
    head, is_two_stage = graph.model[rows.decoder], isinstance(graph.model[rows.queries], TwoStageQueries)
    names = [name for name in official_names(graph).values() if name.startswith(HEADS)]
    found = {} if head.box_refine else _repeated(names, len(head.layers))
    known = {name: name for name in names} | found
    decoder = "transformer.decoder." if scheme is OFFICIAL else "model.decoder."
    for part, is_known in (("class_embed.", is_two_stage), ("bbox_embed.", head.box_refine)):
        found |= {f"{decoder}{name}": first for name, first in known.items() if is_known and name.startswith(part)}
    if head.own_classes:
        own = [name for name in known if name.startswith("bbox_embed.") and int(name.split(".")[1]) < len(head.layers)]
        found |= {name.replace("bbox_embed", "bbox_embed_o2m", 1): known[name] for name in own}
    return found


def _repeated(names: Iterable[str], layers: int) -> dict[str, str]:
    """Return the names of heads that all layers share in the layers behind the first, and those in the first."""
    found = {}
    for name in names:
        part, number, leaf = name.split(".", 2)
        found |= {f"{part}.{n}.{leaf}": name for n in range(1, layers)} if number == "0" else {}
    return found
