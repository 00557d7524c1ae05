"""MS-Block against its formula, branch by branch, and what makes it fast."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.conv import Conv
from models.layers.ms_block import MSBlock
from models.registry import Scale, lookup

Kernel = int | list[int]


def slow_conv(conv: Conv, x: Tensor) -> Tensor:
    """Convolution, BatchNorm and SiLU written out, in float64."""
    weight, norm = conv.conv.weight.double(), conv.bn
    padding = [side // 2 for side in weight.shape[2:]]
    y = F.conv2d(x, weight, padding=padding, groups=conv.conv.groups)
    scale, mean, variance, shift = (
        t.double()[:, None, None] for t in (norm.weight, norm.running_mean, norm.running_var, norm.bias)
    )
    y = (y - mean) / (variance + norm.eps).sqrt() * scale + shift
    return y * torch.sigmoid(y)


def slow_block(block: MSBlock, x: Tensor, kernels: list[Kernel]) -> Tensor:
    hidden = slow_conv(block.in_conv, x.double())
    width = hidden.shape[1] // len(kernels)
    found: list[Tensor] = []
    for i, kernel in enumerate(kernels):
        y = hidden[:, i * width : (i + 1) * width]
        if i:
            y = y + found[-1]
        if kernel != 1:
            for bottleneck in block.mid_convs[i]:
                for conv in (bottleneck.in_conv, bottleneck.mid_conv, bottleneck.out_conv):
                    y = slow_conv(conv, y)
        found.append(y)
    y = slow_conv(block.out_conv, torch.cat(found, 1))
    if isinstance(block.attention, nn.Identity):
        return y
    first, second = block.attention.fc[0].weight.double(), block.attention.fc[2].weight.double()
    return y * torch.sigmoid(torch.relu(y.mean((2, 3)) @ first.T) @ second.T)[:, :, None, None]


def used(block: MSBlock) -> MSBlock:
    """Give every norm the look of a trained one."""
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0, 0.2)
            nn.init.uniform_(norm.running_var, 0.2, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.3)
    return block.eval()


@pytest.mark.parametrize(
    ("kernels", "layers", "down", "attention"),
    [
        ([1, 3, 3], 1, 1, None),
        ([1, 9, 9], 2, 2, None),
        ([1, 5, 5], 1, 1, "se"),
        ([3, 1, [5, 3]], 1, 1, None),
        ([1, 3, 5, 7], 1, 2, None),
        ([3], 1, 1, None),
    ],
)
def test_the_block_by_its_formula(kernels: list[Kernel], layers: int, down: int, attention: str | None) -> None:
    torch.manual_seed(0)
    block = used(MSBlock(8, 20, kernels, layers, 3, 2, down, attention))
    x = torch.randn(2, 8, 11, 13)
    with torch.no_grad():
        assert torch.allclose(block(x), slow_block(block, x, kernels).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("c_in", "c_out", "down", "hidden", "mid"),
    [(43, 86, 1, 129, 86), (345, 691, 1, 1035, 690), (344, 172, 2, 516, 344), (344, 345, 2, 516, 344)],
)
def test_channels_of_the_published_table(c_in: int, c_out: int, down: int, hidden: int, mid: int) -> None:
    with torch.device("meta"):
        block = MSBlock(c_in, c_out, [1, 3, 3], 1, 3, 2, down)
    assert block.in_conv.conv.out_channels == hidden and block.out_conv.conv.in_channels == hidden
    assert block.mid_convs[1][0].mid_conv.conv.groups == mid
    assert isinstance(block.mid_convs[0], nn.Identity)


def test_the_row_repeats_the_block_and_its_branches() -> None:
    built = lookup("MSBlock").from_row([16], 2, [41, [1, 3, 3], 3, 3, 2, 2], Scale(width=0.54, divisor=None))
    assert built.out_channels == 22 and len(built.module) == 2
    assert [block.in_conv.conv.in_channels for block in built.module] == [16, 22]
    assert len(built.module[0].mid_convs[2]) == 3


def test_a_map_in_channels_last_stays_so() -> None:
    block = used(MSBlock(8, 16)).to(memory_format=torch.channels_last)
    x = torch.randn(1, 8, 6, 6).to(memory_format=torch.channels_last)
    seen: list[bool] = []
    for conv in block.modules():
        if isinstance(conv, nn.Conv2d):
            conv.register_forward_hook(
                lambda _, given, y: seen.append(
                    given[0].is_contiguous(memory_format=torch.channels_last)
                    and y.is_contiguous(memory_format=torch.channels_last)
                )
            )
    block(x)
    assert len(seen) == 8 and all(seen)


def test_gradients_reach_the_first_branch_through_all_others() -> None:
    block = used(MSBlock(4, 4, [1, 3, 3]))
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        # Only what the last branch gives counts now.
        block.out_conv.conv.weight[:, : 2 * block.branch] = 0
    block(x).sum().backward()
    rows = block.in_conv.conv.weight.grad.abs().sum((1, 2, 3)).view(3, -1)
    assert (rows > 0).all()
