"""Attention over pixels against the formula written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.layers.transformer import C3TR, TransformerBlock, TransformerLayer
from models.spec import load_spec
from models.table import tabulate_model


def attention(layer: TransformerLayer, x: Tensor, heads: int) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) V of tokens (B, N, C) with the two projections in a row, heads side by side."""
    split = layer.ma.in_proj_weight.chunk(3), layer.ma.in_proj_bias.chunk(3)
    q, k, v = (
        ((x @ own.weight.T) @ weight.T + bias).unflatten(-1, (heads, -1))
        for own, weight, bias in zip((layer.q, layer.k, layer.v), *split, strict=True)
    )
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
    mixed = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).flatten(2)
    return mixed @ layer.ma.out_proj.weight.T + layer.ma.out_proj.bias


@pytest.mark.parametrize("training", [True, False])
def test_layer_by_its_formula(training: bool) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(8, 4).train(training)
    x = torch.randn(2, 12, 8)
    y = attention(layer, x, 4) + x
    assert torch.allclose(layer(x), y @ layer.fc1.weight.T @ layer.fc2.weight.T + y, atol=1e-5)
    assert layer.q.bias is None and layer.fc1.bias is None


def test_block_adds_a_learned_position_and_keeps_pixels_in_place() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(8, 8, 4, 2)
    x = torch.randn(2, 8, 3, 5)
    tokens = torch.stack([x[:, :, row, column] for row in range(3) for column in range(5)], 1)
    tokens = block.tr(tokens + tokens @ block.linear.weight.T + block.linear.bias)
    y = block(x)
    assert y.shape == x.shape
    assert torch.allclose(y[:, :, 1, 2], tokens[:, 7], atol=1e-5)
    assert block.conv is None and TransformerBlock(8, 16).conv is not None


def test_every_pixel_sees_every_other() -> None:
    block = TransformerBlock(8, 8).eval()
    x = torch.randn(1, 8, 4, 4, requires_grad=True)
    block(x)[0, 0, 0, 0].backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_heads_have_to_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="4 attention heads do not divide 6 channels"):
        C3TR(8, 12)


def test_operations_are_counted_without_the_attention_module() -> None:
    """Per pixel: three convolutions of C3 with their norms, the position map and five maps of the layer."""
    rows = {name: tabulate_model(load_spec(name), (128, 128))[8].flops for name in ("yolov5s", "yolov5s-transformer")}
    pixels, c = 4 * 4, 256
    bottleneck = 2 * (c * c + 9 * c * c) + 2 * 8 * c
    linear = 2 * 6 * c * c
    assert rows["yolov5s"] - rows["yolov5s-transformer"] == pixels * (bottleneck - linear)
