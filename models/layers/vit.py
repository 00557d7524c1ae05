"""A plain vision transformer in rows: ViTEmbed, ViTBlock, ViTBlockPE, TokenNorm, TokenMap.

The network of ViT and DeiT (Dosovitskiy et al., arXiv:2010.11929; Touvron et al., arXiv:2012.12877) with the detection
tokens and the tables behind every block of YOLOS (Fang et al., arXiv:2106.00666).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.drop_path import DropPath
from models.layers.position_tables import (
    INITIAL_STD,
    Positioned,
    PositionTables,
    grid_of,
    new_table,
    sine_entries,
)
from models.registry import Built, ChannelKeepingBlock, RowBlock, Scale, construct, register, single_input, usage
from models.row_kinds import Kind
from models.tokens import Sizes, Tokens, TokenWidth, token_mask
from utils.errors import did_you_mean

NORM_EPS = 1e-6
NOISE, SINES = STARTS = ("noise", "sines")
"""How a table and [DET] tokens begin."""
SINE_STD = 0.7
"""Deviation of sines, which [DET] tokens begin with beside them."""
MOST_PATCH = 256
MOST_DET_TOKENS = 10_000


def _initialise_linear(module: nn.Module) -> None:
    """Give every linear layer of a block truncated normal weights and no bias."""
    for child in module.children():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=INITIAL_STD)
            nn.init.zeros_(child.bias)


def _check_width(c_in: int, width: int) -> None:
    if c_in != width:
        raise ValueError(f"its width is {width}, but the tokens that it reads have {int(c_in)}; write {int(c_in)}")


class TokenRow(ChannelKeepingBlock):
    """A row that reads tokens and gives tokens of the same width and layout; no argument is scaled."""

    reads: ClassVar[tuple[Kind, ...]] = (Kind.TOKENS,)


@register
class ViTEmbed(Positioned, RowBlock):
    """Cut the image into patches, put a [CLS] token in front and [DET] tokens behind, and add positions::

        image -> patches (Conv2d patch x patch, stride patch) -> [CLS], patches row by row, [DET] tokens -> + table

    A strip at the right or bottom that is narrower than a patch is left out. The table is resized bicubically to the
    grid of the image. Pictures of a padded batch get the table of their own grid each, and nothing attends to patches
    of the padding. The width is not scaled.

    Args:
        c_in: channels of the image.
        width: channels of a token.
        patch: side of a patch in pixels.
        det_tokens: how many [DET] tokens there are; 0 for none.
        pe_size: height and width in pixels of the image for which the position table is made.
        start: how weights begin that no file gives: ``noise`` of 0.02 as published, or ``sines`` for training without
            pretrained weights: the table holds sines of row and column, as large as the patches' own values, and the
            [DET] tokens differ as much. Where things are is learnt in fewer steps from these.
    """

    reads: ClassVar[tuple[Kind, ...]] = (Kind.IMAGE,)
    takes_sizes: ClassVar[bool] = True
    no_decay: ClassVar[tuple[str, ...]] = ("pos_embed", "cls_token", "det_tokens")
    """Parameters that a recipe's weight decay may spare though they are no vectors."""

    def __init__(
        self, c_in: int, width: int, patch: int, det_tokens: int, pe_size: list[int], start: str = NOISE
    ) -> None:
        super().__init__()
        if start not in STARTS:
            near = did_you_mean(str(start), STARTS)
            raise ValueError(f"weights start as {' or '.join(STARTS)}, but it says {start!r}.{near}")
        for what, value, least, most in (("width", width, 1, None), ("patch", patch, 1, MOST_PATCH)):
            if value < least or (most is not None and value > most):
                limit = f"from {least} to {most}" if most else f"above {least - 1}"
                raise ValueError(f"the {what} is {limit}, but it is {value}")
        if not 0 <= det_tokens <= MOST_DET_TOKENS:
            raise ValueError(f"the number of [DET] tokens is from 0 to {MOST_DET_TOKENS:,}, but it is {det_tokens}")
        self.layout = TokenWidth(width, patch, 1, det_tokens)
        self.tables = PositionTables(grid_of(pe_size, patch), self.layout)
        self.proj = nn.Conv2d(c_in, width, patch, patch)
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=INITIAL_STD))
        apart = INITIAL_STD if start == NOISE else SINE_STD
        self.det_tokens = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, det_tokens, width), std=apart))
        self.pos_embed = new_table(self.tables.grid, self.layout)
        if start == SINES:
            self._add_sines()

    @torch.no_grad()
    def _add_sines(self) -> None:
        sines = sine_entries(self.tables.grid, int(self.layout))
        self.pos_embed[:, 1 : 1 + len(sines)] += sines.to(self.pos_embed.device)

    def forward(self, image: Tensor, sizes: Sizes | None = None) -> Tokens:
        """Return the tokens of images (B, C, H, W).

        Args:
            image: the batch.
            sizes: height and width of every picture in pixels where the batch is padded at the right and bottom.
        """
        patches = self.proj(image)
        count, grid = patches.shape[0], (patches.shape[2], patches.shape[3])
        grids = self.tables.grids_of(sizes)
        padded = grids is not None and any(own != grid for own in grids)
        positions = self.tables.positions(self.pos_embed, grid, grids if padded else None)
        sequence = (
            self.cls_token.expand(count, -1, -1),
            patches.flatten(2).transpose(1, 2),
            self.det_tokens.expand(count, -1, -1),
        )
        mask = _mask(grids, grid, 1, self.layout.suffix, image.device) if padded else None
        return Tokens(torch.cat(sequence, 1) + positions, grid, 1, self.layout.suffix, mask, sizes)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from the image.

        Raises:
            ValueError: see ``RowBlock.from_row``; the row repeats.
        """
        if number > 1:
            raise ValueError(f"an image is cut into patches once, but the number is {number}; write 1")
        made = construct(cls, single_input(cls, in_channels), *args)
        return Built(made, made.layout)


def _mask(grids: Sizes, grid: tuple[int, int], prefix: int, suffix: int, device: torch.device) -> Tensor:
    if torch.compiler.is_compiling():
        return token_mask(grids, grid, prefix, suffix, device)
    return _kept_mask(grids, grid, prefix, suffix, device)


@lru_cache(maxsize=16)
def _kept_mask(grids: Sizes, grid: tuple[int, int], prefix: int, suffix: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return token_mask(grids, grid, prefix, suffix, device)


@register
class ViTBlock(TokenRow):
    """One block of a vision transformer, normalised before each branch::

        x -> x + proj(attention(qkv(norm1(x)))) -> x + fc2(GELU(fc1(norm2(x))))

    All tokens attend to all others, but for those of a padded batch's padding. ``number`` stacks blocks. In training,
    the recipe's ``drop_path`` leaves out branches. The width is not scaled.

    Args:
        c_in: channels of the tokens that it reads.
        width: channels of a token, those of the row that it reads.
        heads: attention heads; they divide the width.
        mlp_ratio: hidden channels of the second branch, in widths.
    """

    def __init__(self, c_in: int, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        _check_width(c_in, width)
        if heads < 1 or width % heads:
            fitting = [n for n in range(1, width + 1) if width % n == 0]
            near = min(fitting, key=lambda n: (abs(n - heads), n))
            raise ValueError(f"{heads} attention heads do not divide the width {width}; the nearest that do are {near}")
        if not width * mlp_ratio >= 1:
            raise ValueError(f"mlp_ratio leaves no hidden channel: {mlp_ratio} of {width}")
        hidden = int(width * mlp_ratio)
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.drop1, self.drop2 = DropPath(), DropPath()
        _initialise_linear(self)

    def forward(self, x: Tokens) -> Tokens:
        values = x.values
        values = values + self.drop1(self._attend(self.norm1(values), x.mask))
        values = values + self.drop2(self.fc2(F.gelu(self.fc1(self.norm2(values)))))
        return x._replace(values=values)

    def _attend(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return the first branch behind its norm, (B, T, d)."""
        count, length, width = values.shape
        parts = self.qkv(values).view(count, length, 3, self.heads, width // self.heads).unbind(2)
        # Heads are turned to the front in each part alone: so the gradients meet in the layout that qkv wants.
        q, k, v = (part.transpose(1, 2) for part in parts)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).reshape(count, length, width))

    def attention(self, x: Tokens, queries: slice) -> Tensor:
        """Return how much some tokens attend to every token, as this block does when it reads ``x``.

        Args:
            x: what the block reads.
            queries: which tokens, such as ``slice(-100, None)`` for the last hundred.

        Returns:
            (B, heads, q, T) float32; each line adds up to 1.
        """
        values = self.norm1(x.values)
        width = values.shape[-1]
        split = (-1, (self.heads, width // self.heads))
        q = F.linear(values[:, queries], self.qkv.weight[:width], self.qkv.bias[:width])
        k = F.linear(values, self.qkv.weight[width : 2 * width], self.qkv.bias[width : 2 * width])
        q, k = (part.unflatten(*split).transpose(1, 2).float() for part in (q, k))
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if x.mask is not None:
            scores = scores.masked_fill(~x.mask, float("-inf"))
        return scores.softmax(-1)


@register
class ViTBlockPE(Positioned, ViTBlock):
    """ViTBlock with a position table of its own, which is added behind it::

        x -> ViTBlock -> + table

    The table is resized as that of ViTEmbed is, has entries for [CLS] and [DET] tokens too, and begins as noise.

    Args:
        c_in: channels of the tokens that it reads.
        width: channels of a token, those of the row that it reads.
        heads: attention heads; they divide the width.
        mlp_ratio: hidden channels of the second branch, in widths.
        pe_size: height and width in pixels of the image for which the position table is made.
    """

    def __init__(self, c_in: TokenWidth, width: int, heads: int, mlp_ratio: float, pe_size: list[int]) -> None:
        super().__init__(c_in, width, heads, mlp_ratio)
        self.tables = PositionTables(grid_of(pe_size, c_in.patch), c_in)
        self.pos_embed = new_table(self.tables.grid, c_in)

    def forward(self, x: Tokens) -> Tokens:
        out = super().forward(x)
        return out._replace(values=out.values + self.tables.positions_of(self.pos_embed, x))


@register
class TokenNorm(TokenRow):
    """LayerNorm of every token; the last row of a transformer that is normalised before each branch.

    Args:
        c_in: channels of the tokens that it reads.
        width: channels of a token, those of the row that it reads.
        eps: what is added to the variance.
    """

    def __init__(self, c_in: int, width: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        _check_width(c_in, width)
        if not eps > 0:
            raise ValueError(f"eps is above 0, but it is {eps}")
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tokens) -> Tokens:
        return x._replace(values=self.norm(x.values))


@register
class TokenMap(RowBlock):
    """The patches' tokens as a feature map (B, width, rows, columns) for any other row; takes no arguments.

    The map's stride is the patch. Where a batch is padded, what lies beyond a picture is zero.
    """

    reads: ClassVar[tuple[Kind, ...]] = (Kind.TOKENS,)

    def __init__(self, c_in: int) -> None:
        super().__init__()

    def forward(self, x: Tokens) -> Tensor:
        patches = x.patches
        if x.mask is not None:
            inside = x.mask[:, 0, 0, x.prefix : x.mask.shape[-1] - x.suffix, None]
            patches = patches.masked_fill(~inside, 0)
        return patches.unflatten(1, x.grid).permute(0, 3, 1, 2)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one row of tokens; the map has as many channels as they are wide.

        Raises:
            ValueError: there are arguments, or the row repeats.
        """
        c_in = single_input(cls, in_channels)
        if args or number > 1:
            raise ValueError(f"it takes no arguments and does not repeat; write 1 and []; {usage(cls)}")
        return Built(cls(c_in), int(c_in))
