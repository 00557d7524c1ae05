"""Context and fusion blocks against formulas written out here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.graph import Graph
from models.layers.segmentation import ASPP, FFM, RFB1, RFB2, ASPPs
from models.registry import RowBlock
from models.spec import parse_spec
from utils.errors import ModelError


def test_ffm_by_its_formula() -> None:
    block = FFM(8, 4).eval()
    x = torch.randn(2, 8, 5, 7)
    f = block.convblk(x)
    pooled = f.mean((2, 3), keepdim=True)
    attention = torch.sigmoid(
        F.conv2d(F.silu(F.conv2d(pooled, block.channel_attention[1].weight)), block.channel_attention[3].weight)
    )
    assert torch.allclose(block(x), f * attention + f, atol=1e-6)
    assert torch.equal(block([x[:, :3], x[:, 3:]]), block(x)) and torch.equal(block([x]), block(x))


def ffm_model(sources: Any) -> dict[str, Any]:
    """Return a model with FFM as its last row but one; rows 0 to 3 have strides 2, 4, 4, 8."""
    backbone = [[-1, 1, "Conv", [c, 3, s]] for c, s in ((8, 2), (8, 2), (16, 1), (16, 2))]
    head = [[sources, 1, "FFM", [24, 1, 3]], [[-1], 1, "Detect", [2, [[8, 8, 16, 16]]]]]
    return {"backbone": backbone, "head": head}


@pytest.mark.parametrize(("sources", "channels"), [([1, 2], 24), (-1, 16), ([3], 16)])
def test_ffm_as_a_row_reads_one_row_or_several(sources: Any, channels: int) -> None:
    graph = Graph(parse_spec(ffm_model(sources), "x"))
    assert graph.model[4].convblk.conv.in_channels == channels
    assert graph(torch.zeros(2, 3, 64, 64))["detect"][0].shape[1] == 2


def test_ffm_names_the_rows_whose_sizes_differ() -> None:
    with pytest.raises(ModelError, match=r"row 4 \(FFM from \[2, 3\]\): inputs differ in stride"):
        Graph(parse_spec(ffm_model([2, 3]), "x"))


def test_rfb2_is_a_cascade_and_pools_its_last_map() -> None:
    block = RFB2(8, 4, map_reduce=2, dilations=(2, 3), global_pool=True).eval()
    x = torch.randn(1, 8, 9, 9)
    x0 = block.branch0(x)
    x1 = block.branch1(x0)
    x2 = block.branch2(x1)
    pooled = block.branch4(x2).expand(-1, -1, 9, 9)
    assert torch.allclose(block(x), block.ConvLinear(torch.cat((x0, x1, x2, block.branch3(x), pooled), 1)), atol=1e-6)
    assert block.branch1[0].dilation == (2, 2) and block.branch2[0].dilation == (3, 3)


@pytest.mark.parametrize("global_pool", [True, False])
def test_rfb1_branches_are_parallel(global_pool: bool) -> None:
    block = RFB1(8, 4, 2, (3, 5, 7), global_pool).eval()
    x = torch.randn(1, 8, 9, 9)
    branches = [block.branch0, block.branch1, block.branch2, block.branch3]
    maps = [branch(x) for branch in branches]
    if global_pool:
        maps.append(block.branch4(x).expand(-1, -1, 9, 9))
    assert torch.allclose(block(x), block.Fusion(torch.cat(maps, 1)), atol=1e-6)
    assert [branch[1].conv.kernel_size[0] for branch in branches] == [3, 3, 3, 5]
    assert [branch[2].dilation[0] for branch in branches[1:]] == [3, 5, 7]


def test_aspps_narrows_before_it_dilates() -> None:
    block = ASPPs(8, 4, (2, 3, 4), True, 4).eval()
    x = torch.randn(1, 8, 9, 9)
    pooled = block.branch4(x).expand(-1, -1, 9, 9)
    maps = [block.branch0(x), block.branch1(x), block.branch2(x), block.branch3(x), pooled]
    assert torch.allclose(block(x), block.ConvLinear(torch.cat(maps, 1)), atol=1e-6)
    assert [branch[1].dilation[0] for branch in (block.branch1, block.branch2, block.branch3)] == [2, 3, 4]
    assert block.branch1[1].in_channels == 2 and block.branch0[1].conv.kernel_size == (3, 3)


def test_aspp_without_the_global_branch_has_four() -> None:
    block = ASPP(12, 8, (3, 6, 9), global_pool=False, map_reduce=3)
    assert block.branch4 is None and block.ConvLinear.conv.in_channels == 16


@pytest.mark.parametrize(
    ("block", "arguments", "words"),
    [
        (ASPP, (8, 8, (3, 6)), "3 numbers above 0"),
        (ASPPs, (8, 8, (3, 6, 0)), "3 numbers above 0"),
        (RFB1, (8, 8, 9), "from 1 to the 8 input channels"),
        (RFB2, (8, 8, 4, (1, 2, 3)), "2 numbers above 0"),
        (RFB2, (8, 8, 0), "from 1 to the 8 input channels"),
    ],
)
def test_branches_that_do_not_fit_are_refused(block: type[RowBlock], arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        block(*arguments)
