"""Rows give feature maps or tokens; which of them a block reads."""

from __future__ import annotations

from models.spec import RowSpec
from models.tokens import TokenWidth


def check_kinds(block: type, row: RowSpec, channels: list[int]) -> None:
    """Refuse rows of tokens before a block that reads feature maps, and the other way round.

    Raises:
        ValueError: a source row gives what the block cannot read; the sentence says what to put between.
    """
    for source, count in zip(row.sources, channels, strict=True):
        what = "the image" if source < 0 else f"row {source}"
        gives_tokens = isinstance(count, TokenWidth)
        if getattr(block, "reads_image", False):
            if source >= 0:
                given = "tokens" if gives_tokens else "a feature map"
                raise ValueError(f"it reads the image, but row {source} gives {given}; put it first, before other rows")
        elif getattr(block, "reads_tokens", False) and not gives_tokens:
            given = "has none" if source < 0 else "gives a feature map"
            raise ValueError(f"it reads tokens, but {what} {given}; put it behind ViTEmbed, ViTBlock or TokenNorm rows")
        elif gives_tokens and not getattr(block, "reads_tokens", False):
            raise ValueError(f"{what} gives tokens, not a feature map; put a TokenMap row between")
