"""A convolution for several levels: one weight, norms of their own, and a folded copy for each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models.layers.activations import using_activation
from models.layers.shared_conv import SharedConv


def make() -> SharedConv:
    torch.manual_seed(0)
    block = SharedConv(4, 6, 3, activation="nn.LeakyReLU(0.01)").eval()
    for norm in block.bn:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.2, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return block


def test_levels_by_the_formula() -> None:
    block, x = make(), torch.randn(2, 4, 5, 6)
    for level, norm in enumerate(block.bn):
        y = F.conv2d(x, block.conv.weight, padding=1)
        y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        assert torch.allclose(block(x, level), torch.where(y > 0, y, 0.01 * y), atol=1e-6)


def test_the_weight_is_there_once_and_hears_of_every_level() -> None:
    block, x = make().train(), torch.randn(2, 4, 5, 6)
    assert next(iter(block.named_parameters()))[0] == "conv.weight"
    assert sum(value.dim() == 4 for value in block.state_dict().values()) == 1
    single = []
    for level in range(3):
        block.zero_grad()
        block(x, level).square().sum().backward()
        single.append(block.conv.weight.grad.clone())
    block.zero_grad()
    sum(block(x, level).square().sum() for level in range(3)).backward()
    assert torch.allclose(block.conv.weight.grad, sum(single), rtol=1e-4, atol=1e-4)


def test_statistics_of_levels_do_not_mix() -> None:
    block = make().train()
    before = [norm.running_mean.clone() for norm in block.bn]
    block(torch.randn(2, 4, 5, 6), 1)
    changed = [not torch.equal(norm.running_mean, old) for norm, old in zip(block.bn, before, strict=True)]
    assert changed == [False, True, False]


def test_the_activation_is_the_models_own_unless_named() -> None:
    with using_activation("nn.ReLU()"):
        assert isinstance(SharedConv(1, 1, 1).act, nn.ReLU)
        assert isinstance(SharedConv(1, 1, 1, activation="nn.Mish()").act, nn.Mish)
