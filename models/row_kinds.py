"""What rows give each other: feature maps, tokens, memory or queries; a block says which of them it reads."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from models.memory import MemoryWidth, QueryWidth
from models.tokens import TokenWidth

if TYPE_CHECKING:
    from models.spec import RowSpec


class Kind(StrEnum):
    """What a row gives, and a block behind it reads; blocks that read maps may read the image too."""

    IMAGE = "the image"
    MAP = "a feature map"
    TOKENS = "tokens"
    MEMORY = "memory of a deformable encoder"
    QUERIES = "queries of a decoder"


WIDTHS = {TokenWidth: Kind.TOKENS, MemoryWidth: Kind.MEMORY, QueryWidth: Kind.QUERIES}
"""Classes of channel counts that tell a row's kind; a plain number is that of a map."""
GIVEN_BY = {
    Kind.TOKENS: "ViTEmbed, ViTBlock or TokenNorm rows",
    Kind.MEMORY: "a DeformEncoder row",
    Kind.QUERIES: "a TwoStageQueries or LearnedQueries row",
}
MEND = {
    Kind.TOKENS: "put a TokenMap row between",
    Kind.MEMORY: "read one of the maps that the encoder reads",
    Kind.QUERIES: "only a decoder reads them",
}
"""What to do where a block of maps reads something else."""


def kind_of(channels: int) -> Kind:
    """Return what a row gives, told by the class of its channels."""
    return WIDTHS.get(type(channels), Kind.MAP)


def check_kinds(block: type, row: RowSpec, channels: list[int]) -> None:
    """Hold what source rows give against what a block reads (``RowBlock.reads``).

    Args:
        block: class of the row.
        row: it.
        channels: of every source row.

    Raises:
        ValueError: a source row gives what the block cannot read, or there are not as many as it reads; the sentence
            says what to put between.
    """
    reads: tuple[Kind, ...] = getattr(block, "reads", (Kind.MAP,))
    if len(reads) > 1 and len(reads) != len(row.sources):
        listed = " and ".join(reads)
        raise ValueError(f"it reads {listed}, in this order, but 'from' names {len(row.sources)}; name {len(reads)}")
    wanted = reads if len(reads) > 1 else reads * len(row.sources)
    for source, count, kind in zip(row.sources, channels, wanted, strict=True):
        _check_source(source, kind_of(count), kind)


def _check_source(source: int, given: Kind, wanted: Kind) -> None:
    """Refuse what the row ``source`` gives where it is not what a block wants."""
    if source < 0:
        if wanted not in (Kind.IMAGE, Kind.MAP):
            raise ValueError(f"it reads {wanted}, but the image has none; put it behind {GIVEN_BY[wanted]}")
    elif wanted == Kind.IMAGE:
        raise ValueError(f"it reads the image, but row {source} gives {given}; put it first, before other rows")
    elif wanted == Kind.MAP and given != wanted:
        raise ValueError(f"row {source} gives {given}, not a feature map; {MEND[given]}")
    elif given != wanted:
        raise ValueError(f"it reads {wanted}, but row {source} gives {given}; put it behind {GIVEN_BY[wanted]}")
