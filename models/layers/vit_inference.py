"""Blocks of a vision transformer for running alone: the same numbers in less time and memory.

Nothing is kept for a backward pass, so sums are made in place and the large inner values of all blocks share their
memory. And where only the tokens behind the patches are read afterwards, as by a detection head, the last block has
no need of the others: it reads keys and values of all, but asks, projects and answers for those alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.vit import ViTBlock, ViTBlockPE
from models.tokens import Tokens
from utils.tracing import is_traced


class InferenceBlocks(nn.Module):
    """Transformer blocks one after the other, without a backward pass::

        tokens -> block -> ... -> block -> all tokens, or those behind the patches alone

    Args:
        blocks: in order, in eval mode; they stay what they are.
        suffix_alone: whether to answer with the tokens behind the patches only. The last block has no table of its own
            then.
    """

    def __init__(self, blocks: Sequence[ViTBlock], suffix_alone: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.suffix_alone = suffix_alone

    def forward(self, x: Tokens) -> Tokens:
        """Return all tokens, or with ``suffix_alone`` a sequence of those behind the patches and nothing else."""
        whole = list(self.blocks)[: -1 if self.suffix_alone else None]
        if _in_place(x.values, self.blocks[0].proj.weight):
            x = _run_in_place(whole, x)
        else:
            for block in whole:
                x = block(x)
        return answer_for_suffix(self.blocks[-1], x) if self.suffix_alone else x


def _in_place(values: Tensor, weight: Tensor) -> bool:
    """Return whether memory may be written over: no gradient, no recording, no automatic choice of formats."""
    recording = is_traced() or torch.is_grad_enabled()
    return not recording and not torch.is_autocast_enabled(values.device.type) and values.dtype == weight.dtype


def _run_in_place(blocks: Sequence[ViTBlock], x: Tokens) -> Tokens:
    """Run blocks on a copy of the tokens, which each of them adds to."""
    if not blocks:
        return x
    count, length, width = x.values.shape
    values = x.values.clone(memory_format=torch.contiguous_format)
    rows = values.view(count * length, width)
    # The widest of what a block makes; queries, keys and values are no longer needed when the hidden channels come.
    room = rows.new_empty(len(rows) * max(max(3 * width, block.fc1.out_features) for block in blocks))
    for block in blocks:
        _add_attention(block, rows, (count, length), x.mask, room)
        _add_mlp(block, rows, room)
        if isinstance(block, ViTBlockPE):
            values += block.tables.positions_of(block.pos_embed, x)
    return x._replace(values=values)


def _add_attention(block: ViTBlock, rows: Tensor, shape: tuple[int, int], mask: Tensor | None, room: Tensor) -> None:
    """Add the first branch to tokens (B * T, d) of ``shape`` (B, T)."""
    qkv = _linear_into(room, block.norm1(rows), block.qkv).view(*shape, 3, block.heads, -1).transpose(1, 3)
    out = F.scaled_dot_product_attention(*qkv.unbind(2), attn_mask=mask)
    _add_linear(rows, out.transpose(1, 2).reshape(rows.shape), block.proj)


def _add_mlp(block: ViTBlock, rows: Tensor, room: Tensor) -> None:
    """Add the second branch to tokens (B * T, d)."""
    hidden = _linear_into(room, block.norm2(rows), block.fc1)
    _add_linear(rows, torch.ops.aten.gelu_(hidden), block.fc2)


def _linear_into(room: Tensor, x: Tensor, layer: nn.Linear) -> Tensor:
    """Return what a linear layer makes of (n, c_in), at the beginning of ``room``."""
    out = room[: len(x) * layer.out_features].view(len(x), layer.out_features)
    return torch.addmm(layer.bias, x, layer.weight.t(), out=out)


def _add_linear(rows: Tensor, x: Tensor, layer: nn.Linear) -> None:
    """Add what a linear layer makes of (n, c_in) to ``rows``, without a place for it in between."""
    rows += layer.bias
    rows.addmm_(x, layer.weight.t())


def answer_for_suffix(block: ViTBlock, x: Tokens) -> Tokens:
    """Return what a block makes of the tokens behind the patches, as a sequence of these alone.

    Args:
        block: without a table of its own.
        x: all tokens, some of them behind the patches.
    """
    values = block.norm1(x.values)
    width, split = values.shape[-1], (-1, (block.heads, -1))
    last = values[:, values.shape[1] - x.suffix :]
    query = F.linear(last, block.qkv.weight[:width], block.qkv.bias[:width]).unflatten(*split)
    others = F.linear(values, block.qkv.weight[width:], block.qkv.bias[width:])
    key, value = others.unflatten(-1, (2, block.heads, -1)).unbind(2)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=x.mask)
    answers = x.last + block.proj(out.transpose(1, 2).flatten(2))
    answers = answers + block.fc2(F.gelu(block.fc1(block.norm2(answers))))
    return Tokens(answers, (0, 0), 0, x.suffix, None, x.sizes)
