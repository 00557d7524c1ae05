"""Rows of a vision transformer against the formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.vit import TokenMap, TokenNorm, ViTBlock, ViTBlockPE, ViTEmbed
from models.registry import Scale
from models.tokens import Tokens, TokenWidth
from tests.models.tiny_vision_transformer import enlarge_weights, tiny_transformer

LAYOUT = TokenWidth(24, 16, 1, 5)
BLOCK = [f"{layer}.{leaf}" for layer in ("norm1", "qkv", "proj", "norm2", "fc1", "fc2") for leaf in ("weight", "bias")]


def tokens(masked: bool = False) -> Tokens:
    """Return two pictures of 3x4 patches, of which the second has 2x4 where they are masked."""
    torch.manual_seed(1)
    values = torch.randn(2, 1 + 12 + 5, 24)
    if not masked:
        return Tokens(values, (3, 4), 1, 5)
    mask = torch.ones(2, 1, 1, 18, dtype=torch.bool)
    mask[1, ..., 9:13] = False
    return Tokens(values, (3, 4), 1, 5, mask, ((48, 64), (32, 64)))


def norm(x: Tensor, layer: nn.LayerNorm, eps: float = 1e-6) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * layer.weight + layer.bias


def block_by_its_formula(block: ViTBlock, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what a block makes of tokens, head by head, and its attention (B, heads, T, T)."""
    size = x.shape[-1] // block.heads
    q, k, v = (norm(x, block.norm1) @ block.qkv.weight.T + block.qkv.bias).chunk(3, -1)
    mixed, weights = [], []
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, 0], -math.inf)
        weights.append(scores.softmax(-1))
        mixed.append(weights[-1] @ v[..., part])
    x = x + torch.cat(mixed, -1) @ block.proj.weight.T + block.proj.bias
    hidden = norm(x, block.norm2) @ block.fc1.weight.T + block.fc1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + hidden @ block.fc2.weight.T + block.fc2.bias, torch.stack(weights, 1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
def test_block_by_its_formula(heads: int, masked: bool) -> None:
    torch.manual_seed(0)
    block = ViTBlock(LAYOUT, 24, heads, 2.0)
    enlarge_weights(block)
    x = tokens(masked)
    wanted, weights = block_by_its_formula(block, x.values, x.mask)
    found = block(x)
    assert torch.allclose(found.values, wanted, atol=1e-4)
    assert found[1:] == x[1:]
    assert block.fc1.out_features == 48 and list(block.state_dict()) == BLOCK
    for queries in (slice(-5, None), slice(0, 1), slice(2, 9)):
        attention = block.attention(x, queries)
        assert torch.allclose(attention, weights[:, :, queries], atol=1e-5)
        assert torch.allclose(attention.sum(-1), torch.ones(()), atol=1e-5)


def test_a_block_with_a_table_adds_it_behind() -> None:
    torch.manual_seed(0)
    block = ViTBlockPE(LAYOUT, 24, 2, 4.0, [70, 64])  # a grid of 4x4
    enlarge_weights(block)
    assert block.pos_embed.shape == (1, 1 + 16 + 5, 24)
    assert sorted(block.state_dict()) == sorted([*BLOCK, "pos_embed"])
    x = tokens()
    table = block.pos_embed
    middle = table[:, 1:-5].transpose(1, 2).unflatten(2, (4, 4))
    middle = F.interpolate(middle, (3, 4), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    wanted = block_by_its_formula(block, x.values, None)[0] + torch.cat((table[:, :1], middle, table[:, -5:]), 1)
    assert torch.allclose(block(x).values, wanted, atol=1e-4)


def test_patches_lie_row_by_row_behind_the_class_token() -> None:
    """A strip narrower than a patch is left out."""
    torch.manual_seed(0)
    embed = ViTEmbed(3, 8, 4, 2, [8, 12])
    assert list(embed.state_dict()) == ["cls_token", "det_tokens", "pos_embed", "proj.weight", "proj.bias"]
    image = torch.randn(2, 3, 11, 13)
    found = embed(image)
    assert (found.grid, found.prefix, found.suffix, found.mask, found.sizes) == ((2, 3), 1, 2, None, None)
    bare = found.values - embed.pos_embed
    for row in range(2):
        for column in range(3):
            patch = image[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            wanted = patch.flatten(1) @ embed.proj.weight.flatten(1).T + embed.proj.bias
            assert torch.allclose(bare[:, 1 + 3 * row + column], wanted, atol=1e-5)
    assert torch.allclose(bare[:, 0], embed.cls_token[0, 0], atol=1e-6)
    assert torch.allclose(bare[:, -2:], embed.det_tokens, atol=1e-6)
    assert torch.equal(found.last, found.values[:, -2:]) and torch.equal(found.patches, found.values[:, 1:-2])


def test_how_weights_begin() -> None:
    torch.manual_seed(0)
    layout = TokenWidth(64, 16, 1, 20)
    block, embed = ViTBlockPE(layout, 64, 4, 4.0, [128, 128]), ViTEmbed(3, 64, 16, 20, [128, 128])
    drawn = [block.qkv.weight, block.proj.weight, block.fc1.weight, block.fc2.weight, block.pos_embed]
    for weight in (*drawn, embed.pos_embed, embed.det_tokens):
        assert abs(weight.std().item() - 0.02) < 0.002 and abs(weight.mean().item()) < 0.002
    assert 0 < embed.cls_token.std() < 0.04
    assert not any(getattr(block, name).bias.any() for name in ("qkv", "proj", "fc1", "fc2", "norm1", "norm2"))
    assert (block.norm1.weight == 1).all() and block.norm1.eps == block.norm2.eps == 1e-6
    assert embed.proj.weight.std() > 0.01 and embed.proj.bias.any()
    assert embed.no_decay == ("pos_embed", "cls_token", "det_tokens") and not hasattr(block, "no_decay")


def test_number_stacks_blocks() -> None:
    """A single block has no number in its names; widths and heads are never scaled."""
    scale = Scale(depth=0.5, width=0.25)
    stacked = ViTBlock.from_row([LAYOUT], 3, [24, 2, 4.0], scale)
    assert isinstance(stacked.out_channels, TokenWidth) and stacked.out_channels == 24
    assert list(stacked.module.state_dict())[:2] == ["0.norm1.weight", "0.norm1.bias"] and len(stacked.module) == 3
    single = ViTBlock.from_row([LAYOUT], 1, [24, 2], scale)
    assert list(single.module.state_dict()) == BLOCK
    embed = ViTEmbed.from_row([3], 1, [330, 16, 100, [512, 864]], scale)
    assert embed.out_channels == 330 and embed.module.pos_embed.shape == (1, 1829, 330)


def test_positions_start_as_noise_or_as_sines_of_row_and_column() -> None:
    torch.manual_seed(0)
    plain = ViTEmbed(3, 64, 16, 20, [96, 128])
    assert plain.pos_embed.abs().max() < 0.1 and plain.det_tokens.abs().max() < 0.1
    embed = ViTEmbed(3, 64, 16, 20, [96, 128], "sines")
    table = embed.pos_embed[0, 1:49].view(6, 8, 64).detach()
    rows, columns = table[..., :32], table[..., 32:]
    assert (rows - rows[:, :1]).abs().max() < 0.2 < (rows[1:] - rows[:-1]).abs().amax(-1).min()
    assert (columns - columns[:1]).abs().max() < 0.2 < (columns[:, 1:] - columns[:, :-1]).abs().amax(-1).min()
    assert embed.pos_embed[0, :1].abs().max() < 0.1 and embed.pos_embed[0, 49:].abs().max() < 0.1
    assert 0.5 < embed.det_tokens.std() < 0.9
    assert ViTEmbed(3, 10, 4, 0, [8, 12], "sines").pos_embed.shape == (1, 7, 10)
    with pytest.raises(ValueError, match=r"'sine'.*Did you mean 'sines'"):
        ViTEmbed(3, 64, 16, 20, [96, 128], "sine")


def test_norm_of_every_token() -> None:
    torch.manual_seed(0)
    row = TokenNorm(LAYOUT, 24, 1e-3)
    nn.init.normal_(row.norm.weight)
    x = tokens()
    assert torch.allclose(row(x).values, norm(x.values, row.norm, 1e-3), atol=1e-5)
    assert list(row.state_dict()) == ["norm.weight", "norm.bias"]


def test_a_map_of_the_patches_is_zero_beyond_a_picture() -> None:
    x = tokens(masked=True)
    x.values[1, 9:13] = math.nan
    found = TokenMap(LAYOUT)(x)
    assert found.shape == (2, 24, 3, 4)
    assert torch.equal(found[0, :, 2, 1], x.values[0, 1 + 2 * 4 + 1])
    assert torch.equal(found[1, :, 1, 3], x.values[1, 1 + 4 + 3]) and not found[1, :, 2].any()


def test_every_parameter_learns() -> None:
    graph = tiny_transformer().train()
    raw = graph(torch.rand(2, 3, 64, 96))
    (raw["detect"].logits.square().sum() + raw["detect"].boxes.sum() + raw["segment"][0].square().sum()).backward()
    for name, parameter in graph.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_types(dtype: torch.dtype) -> None:
    """By autocast the answers stay near those of float32; wholly converted models run too."""
    graph = tiny_transformer()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        exact = graph(images, heads=("detect",))["detect"]
        with torch.autocast("cpu", dtype):
            found = graph(images, heads=("detect",))["detect"]
        assert (found.boxes - exact.boxes).abs().max() < 0.1
        converted = graph.to(dtype)(images.to(dtype), heads=("detect",))["detect"]
        assert (converted.boxes - exact.boxes).abs().max() < 0.1
