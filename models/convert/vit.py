"""Vision transformers that classify pictures (DeiT, timm's ViT, MAE, those of Hugging Face): where a YOLOS begins.

What such a file has of a YOLOS becomes a checkpoint that is a start for training and no model for use. Its position
table keeps its own grid; ``models.transfer`` resizes it to that of the model that takes it over.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.convert.by_names import told_of
from models.convert.hugging_face import config_beside, facts_of_config
from models.convert.label_classes import Classes
from models.convert.matching import require_matching
from models.convert.pieces import Piece, our_state
from models.convert.records import StoredTensor
from models.convert.weight_file import WeightFile
from models.convert.yolos_names import NUMBER, VIT_SCHEMES, Scheme, backbone_pieces
from models.convert.yolos_spec import Facts, Sizes, measure, spec_of_sizes
from models.graph import Graph
from utils.errors import ModelError

LOGGER = logging.getLogger("yolograph")

Grid = tuple[int, int]
KINDS = ("vit", "deit", "vit_mae")
DET_TOKENS = 100
"""Of the YOLOS that a file is taken for a part of; it has none itself."""
NO_PART = re.compile(
    r"(head|head_dist|classifier|cls_classifier|distillation_classifier|pooler|(\w+\.)?pooler|pre_logits|fc_norm|decoder)"
    r"(_\w+)?(\..*)?"
    r"|(\w+\.)?(embeddings\.)?(dist_token|distillation_token|mask_token)|(decoder|mask)_\w+(\..*)?"
)
"""Names of what a YOLOS has no use for: what classifies, and what pictures were restored with before."""
SHOWN = 3


def find_scheme(names: Iterable[str]) -> Scheme | None:
    """Return how the tensors of a vision transformer are named; None where they are of another network."""
    names = set(names)
    for scheme in VIT_SCHEMES:
        marks = {scheme.embed["pos_embed"], f"{scheme.embed['proj']}.weight"}
        marks.add(f"{scheme.block['fc1'][0].replace(NUMBER, '0')}.weight")
        if marks <= names:
            return scheme
    return None


def convert(
    file: WeightFile, stored: Mapping[str, StoredTensor], scheme: Scheme, grid: Grid | None = None
) -> Checkpoint:
    """Return what a vision transformer has of a YOLOS.

    Args:
        file: where its tensors lie.
        stored: they by their names there.
        scheme: of these names.
        grid: rows and columns of patches of its position table, where it is no square.

    Raises:
        ModelError: a tensor is missing or of another shape, or the grid of the table is unknown or another one.
    """
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    sizes = measure(file.path, shapes, scheme, is_yolos=False)
    config = config_beside(file.path) if scheme is not VIT_SCHEMES[0] else None
    facts = Facts() if config is None else facts_of_config(config, *KINDS)
    if grid is None and facts.pe_size is not None:
        grid = (facts.pe_size[0] // sizes.patch, facts.pe_size[1] // sizes.patch)
    grid, extra = table_grid(file.path, sizes.length, grid)
    with torch.device("meta"):
        graph = _blank(file.path, sizes, grid, facts)
    found = [piece for piece in backbone_pieces(graph, scheme) if piece.name in stored]
    table = next(piece for piece in found if piece.name == scheme.embed["pos_embed"])
    _require_shapes(file.path, graph.spec.source, shapes, [piece for piece in found if piece is not table])
    state = read_whole(file, stored, found)
    (ours,) = table.ours
    # The entry of a distillation token comes behind that of [CLS]; YOLOS drops the first of the two.
    state[ours] = state[ours][:, extra:]
    taken = {piece.name for piece in found}
    left_out = [name for name in stored if name not in taken]
    _tell_of_unknown(file.path, left_out)
    said = {"from": file.path.name, "family": f"vision transformer ({scheme.project})", "sha256": file.sha256()}
    said |= {"tensors": f"{len(found)} of {len(stored)}", "grid": f"{grid[0]}x{grid[1]}"}
    said |= {"left out": ", ".join(left_out)} if left_out else {}
    spec = graph.spec
    names = {name: ["object"] for name in graph.heads}
    return Checkpoint(spec.source, spec.text, names, {"model": state}, {"converted": said}, is_start=True)


def table_grid(path: object, length: int, grid: Grid | None) -> tuple[Grid, int]:
    """Return rows and columns of a position table, and how many entries too many it has in front.

    Args:
        path: of the file, for messages.
        length: entries of the table: [CLS], with models that were distilled one more, and the patches.
        grid: what is said of it; None takes it for a square.

    Raises:
        ModelError: it has another number of entries.
    """
    for extra in (0, 1):
        patches = length - 1 - extra
        side = math.isqrt(max(patches, 0))
        if patches > 0 and patches == (side * side if grid is None else grid[0] * grid[1]):
            return (side, side) if grid is None else grid, extra
    if grid is None:
        raise ModelError(
            f"{path}: its position table has {length:,} entries, which is not 1 or 2 more than a square of patches; "
            "say how many rows and columns it has: --pretrained-grid ROWS COLUMNS"
        )
    raise ModelError(
        f"{path}: its position table has {length:,} entries, which is not 1 or 2 more than {grid[0]}x{grid[1]} "
        "patches; give the grid that it was trained with: --pretrained-grid ROWS COLUMNS"
    )


def _blank(path: object, sizes: Sizes, grid: Grid, facts: Facts) -> Graph:
    """Return the YOLOS that a vision transformer is a part of, without memory."""
    length = 1 + grid[0] * grid[1] + DET_TOKENS
    sizes = replace(sizes, det_tokens=DET_TOKENS, length=length, labels=1)
    pe_size = (grid[0] * sizes.patch, grid[1] * sizes.patch)
    # Nothing here depends on the number of heads, which the model has that takes the tensors over.
    facts = Facts(heads=facts.heads or 1, pe_size=pe_size)
    with told_of(path):
        return Graph(spec_of_sizes(path, sizes, facts, Classes(["object"])))


def _require_shapes(path: object, source: str, shapes: Mapping[str, tuple[int, ...]], found: list[Piece]) -> None:
    wanted = {piece.name: piece.shape for piece in found}
    require_matching(path, source, {name: shapes[name] for name in wanted}, wanted)


def read_whole(file: WeightFile, stored: Mapping[str, StoredTensor], found: list[Piece]) -> dict[str, Tensor]:
    """Return our tensors of the pieces found; those of which a third is missing are left out."""
    parts: dict[str, int] = {}
    for piece in found:
        parts[piece.ours[0]] = parts.get(piece.ours[0], 0) + 1
    whole = [piece for piece in found if piece.third is None or parts[piece.ours[0]] == 3]
    return our_state(whole, lambda name: file.tensor(stored[name]).float())


def _tell_of_unknown(path: object, left_out: list[str]) -> None:
    unknown = [name for name in left_out if not NO_PART.fullmatch(name)]
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        LOGGER.warning(
            "%s: %s%s have no place in a YOLOS and are left out; what they did to the tokens is lost",
            *(path, ", ".join(unknown[:SHOWN]), more),
        )
