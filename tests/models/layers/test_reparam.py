"""RepVGG and its form for deployment: equal answers, fewer tensors, whatever the norms are."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.layers.activations import using_activation
from models.layers.per_head import PerHead, split_norms
from models.layers.reparam import RepVGG, RepVGGDeployed, reparameterise
from models.registry import Scale, lookup


def trained(block: nn.Module, seed: int = 1) -> nn.Module:
    """Give every BatchNorm statistics, scale and shift of its own, some scales below zero."""
    generator = torch.Generator().manual_seed(seed)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.5, generator=generator)
            norm.running_var.uniform_(0.05, 2, generator=generator)
            nn.init.normal_(norm.weight, 0.5, 1, generator=generator)
            nn.init.normal_(norm.bias, 0, 0.5, generator=generator)
            norm.eps = 1e-2
    return block.eval()


def linear(block: RepVGG) -> RepVGG:
    """Take the activation out, which would hide what lies below zero."""
    block.act = nn.Identity()
    return block


@settings(max_examples=40, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    keep=st.booleans(),
    stride=st.sampled_from([1, 2, [2, 1]]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_one_convolution_is_the_sum_of_the_branches(
    channels: tuple[int, int], keep: bool, stride: int | list[int], size: tuple[int, int]
) -> None:
    c_in, c_out = channels[0], channels[0] if keep else channels[1]
    block = linear(trained(RepVGG(c_in, c_out, stride))).double()
    x = torch.randn(2, c_in, *size, dtype=torch.float64)
    deployed = block.deployed()
    assert sum(p.numel() for p in deployed.parameters()) == 9 * c_in * c_out + c_out
    torch.testing.assert_close(deployed(x), block(x), rtol=1e-12, atol=1e-12)


def test_the_identity_is_there_only_where_nothing_changes() -> None:
    with_identity = [RepVGG(*args).rbr_identity is not None for args in ((4, 4), (4, 4, 2), (4, 8), (4, 4, (1, 2)))]
    assert with_identity == [True, False, False, False]


def test_every_branch_counts() -> None:
    block = linear(trained(RepVGG(4, 4)))
    x = torch.randn(1, 4, 5, 5)
    whole = block(x)
    parts = block.rbr_dense(x), block.rbr_1x1(x), block.rbr_identity(x)
    torch.testing.assert_close(whole, sum(parts))
    assert all((part - part.mean()).abs().max() > 0.1 for part in parts)


def test_the_block_itself_stays() -> None:
    block = trained(RepVGG(4, 4))
    before = {name: value.clone() for name, value in block.state_dict().items()}
    deployed = block.deployed()
    with torch.no_grad():
        deployed.rbr_reparam.weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    assert isinstance(block, RepVGG) and list(deployed.state_dict()) == ["rbr_reparam.weight", "rbr_reparam.bias"]


def test_activation_mode_format_and_layout_are_taken_over() -> None:
    with using_activation("nn.LeakyReLU(0.1)"):
        block = RepVGG(8, 8).to(torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_(False)
    for mode in (True, False):
        deployed = block.train(mode).deployed()
        assert deployed.training is mode and isinstance(deployed.act, nn.LeakyReLU)
        weight, bias = deployed.rbr_reparam.weight, deployed.rbr_reparam.bias
        assert weight.dtype == bias.dtype == torch.bfloat16 and not (weight.requires_grad or bias.requires_grad)
        assert weight.is_contiguous(memory_format=torch.channels_last)


def test_norms_per_head_give_a_convolution_for_each() -> None:
    (block,) = split_norms([RepVGG(4, 4)], [("cars", "signs")])
    trained(block)
    deployed = block.deployed()
    assert isinstance(deployed.rbr_reparam, PerHead) and deployed.rbr_reparam.heads == ("cars", "signs")
    x, answers = torch.randn(2, 4, 5, 5), []
    for head in ("cars", "signs"):
        deployed.rbr_reparam.selection.name = head
        answers.append(block(x))
        torch.testing.assert_close(deployed(x), answers[-1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*answers)


def test_blocks_are_found_wherever_they_lie() -> None:
    chain = lookup("RepVGG").from_row([4], 3, [8], Scale()).module
    assert isinstance(chain, nn.Sequential) and [block.rbr_dense.conv.in_channels for block in chain] == [4, 8, 8]
    stack = trained(nn.ModuleDict({"chain": chain, "other": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))}))
    plain = copy.deepcopy(stack)
    assert reparameterise(stack) is stack
    assert all(isinstance(block, RepVGGDeployed) for block in stack["chain"])
    assert isinstance(stack["other"][1], nn.BatchNorm2d)
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(stack["chain"](x), plain["chain"](x), rtol=1e-4, atol=1e-5)
    assert isinstance(reparameterise(plain["chain"][0]), RepVGGDeployed)
    again = {name: value.clone() for name, value in stack.state_dict().items()}
    assert all(torch.equal(value, again[name]) for name, value in reparameterise(stack).state_dict().items())


def test_without_memory() -> None:
    with torch.device("meta"):
        deployed = RepVGG(4, 8, 2).eval().deployed()
    assert deployed.rbr_reparam.weight.is_meta and deployed(torch.empty(1, 4, 8, 8, device="meta")).shape == (
        1,
        8,
        4,
        4,
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([8, 0], "the stride is one number above 0"),
        ([8, [1, 2, 3]], "two for height and width, but it is [1, 2, 3]"),
        ([8, "2"], "'stride' should be"),
        ([8, 1, 3], "RepVGG takes [c_out, stride=1]"),
    ],
)
def test_rows_that_do_not_fit(args: list[object], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        lookup("RepVGG").from_row([4], 1, args, Scale())
    assert words in str(caught.value)
