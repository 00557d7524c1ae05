"""ResNet in rows against torchvision's, frozen norms, and what a row may say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from models.fusing import fuse_graph
from models.graph import Graph
from models.layers.conv import ConvGN
from models.layers.frozen_norm import FrozenNorm, normalised
from models.layers.resnet import FrozenStem, ResNetStage, ResNetStem
from models.registry import Scale
from models.spec import parse_spec
from tests.lively import lively
from utils.errors import ModelError

BASIC = {"block": "basic"}


def fill(norm: nn.Module, generator: torch.Generator) -> None:
    """Give the four vectors of a norm values of a trained one."""
    for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
        vector = getattr(norm, name)
        vector.data.copy_(torch.rand(vector.shape, generator=generator) + low)


def trained(name: str) -> nn.Module:
    """Return a network of torchvision with norms that are not neutral, in eval mode."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            fill(module, generator)
    return model


def rows_of(model: nn.Module, stages: list[tuple[int, int, int]], options: dict[str, str]) -> list[nn.Module]:
    """Return our rows with the weights of a network, taken over by name."""
    blocks, width = [FrozenStem(3, 64)], 64
    for channels, count, stride in stages:
        blocks.append(ResNetStage(width, channels, count, stride, **options))
        width = channels
    parts = [{name: t for name, t in model.state_dict().items() if name.split(".")[0] in ("conv1", "bn1")}]
    parts += [getattr(model, f"layer{i}").state_dict() for i in (1, 2, 3, 4)]
    for block, part in zip(blocks, parts, strict=False):
        block.load_state_dict({name: t for name, t in part.items() if not name.endswith("num_batches_tracked")})
    return [block.eval() for block in blocks]


@pytest.mark.parametrize(
    ("name", "stages", "options"),
    [
        ("resnet50", [(256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2)], {}),
        ("resnet18", [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)], BASIC),
    ],
)
def test_rows_have_the_names_and_the_numbers_of_torchvision(name: str, stages: list[Any], options: Any) -> None:
    model, image = trained(name), torch.rand(1, 3, 50, 71)
    x = image
    expected = model.maxpool(model.relu(model.bn1(model.conv1(image))))
    with torch.no_grad():
        for index, row in enumerate(rows_of(model, stages, options)):
            x = row(x)
            expected = expected if index == 0 else getattr(model, f"layer{index}")(expected)
            assert (x - expected).abs().max() < 1e-5 * expected.abs().max()
    assert x.shape == (1, stages[-1][0], 2, 3)


def test_a_batch_norm_that_learns_follows_the_data_like_torchvisions() -> None:
    model = trained("resnet18").train()
    stage = ResNetStage(64, 64, 2, 1, block="basic", norm="batch").train()
    stage.load_state_dict(model.layer1.state_dict())
    x = torch.rand(2, 64, 8, 8)
    assert torch.allclose(stage(x), model.layer1(x), atol=1e-5)
    for (name, ours), theirs in zip(stage.state_dict().items(), model.layer1.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs), name


def pair() -> tuple[nn.Conv2d, FrozenNorm, Tensor]:
    """Return a convolution, a frozen norm that is not neutral, and a map, in float64."""
    torch.manual_seed(0)
    norm = FrozenNorm(6)
    fill(norm, torch.Generator().manual_seed(2))
    return nn.Conv2d(4, 6, 3, 2, 1, bias=False).double(), norm, torch.randn(2, 4, 7, 9, dtype=torch.float64)


def test_a_frozen_norm_is_a_batch_norm_in_eval_mode_with_the_same_gradients() -> None:
    conv, norm, x = pair()
    usual = nn.BatchNorm2d(6, eps=1e-5).eval()
    usual.load_state_dict(norm.state_dict(), strict=False)
    x.requires_grad_()
    gradients = []
    for answer in (normalised(conv, norm, x), norm(conv(x)), usual.double()(conv(x))):
        gradients.append((answer, *torch.autograd.grad(answer.sin().sum(), (x, conv.weight))))
    for found in gradients[:2]:
        for ours, theirs in zip(found, gradients[2], strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)  # the factors are float32


def test_frozen_norms_have_buffers_alone_and_no_count_of_batches() -> None:
    norm = FrozenNorm(4)
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert not list(norm.parameters())


def test_what_never_learns_has_no_gradient_and_what_comes_behind_has_one() -> None:
    stem, stage = FrozenStem(3, 8).train(), ResNetStage(8, 16, 1, 1, frozen=True).train()
    learning = ResNetStage(16, 32, 1, 2).train()
    before = {name: t.clone() for name, t in stage.state_dict().items()}
    learning(stage(stem(torch.rand(1, 3, 32, 32)))).sum().backward()
    assert all(p.grad is None and not p.requires_grad for row in (stem, stage) for p in row.parameters())
    assert all(p.grad is not None for p in learning.parameters())
    assert all(torch.equal(t, before[name]) for name, t in stage.state_dict().items())
    assert all(p.requires_grad for p in ResNetStem(3, 8).parameters())


def test_half_precision_keeps_the_factors_exact() -> None:
    conv, norm, x = pair()
    conv, x = conv.float(), x.float()
    expected = normalised(conv, norm, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = normalised(conv, norm, x)
    assert found.dtype == torch.bfloat16 and (found - expected).abs().max() < 0.05


def graph_of(stages: list[Any], width: float = 1.0) -> Graph:
    """Return a small graph that ends in a head of YOLOX."""
    values = {"nc": 2, "width_multiple": width, "backbone": [[-1, 1, "ResNetStem", [16]], *stages]}
    values["head"] = [[[len(stages)], 1, "YOLOXDetect", ["nc", 8]]]
    return Graph(parse_spec(values, "mine.yaml"))


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_folding_keeps_the_answers(norm: str) -> None:
    torch.manual_seed(0)
    stages = [[-1, 1, "ResNetStage", [32, 2, 2, {"norm": norm}]], [-1, 1, "ConvGN", [32, 3, 2]]]
    graph = lively(graph_of(stages)).eval()
    generator = torch.Generator().manual_seed(3)
    for module in graph.modules():
        if isinstance(module, FrozenNorm):
            fill(module, generator)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = graph(image)["detect"]
        found = fuse_graph(graph)(image)["detect"]
    assert all(torch.allclose(ours, theirs, atol=1e-4) for ours, theirs in zip(found, expected, strict=True))
    left = [type(module).__name__ for row in graph.model[:3] for module in row.modules()]
    assert not {"FrozenNorm", "BatchNorm2d"} & set(left)


def test_channels_of_stages_are_scaled_and_those_of_projections_are_not() -> None:
    graph = graph_of([[-1, 1, "ResNetStage", [64, 1, 2]], [-1, 1, "ConvGN", [64, 1]]], width=0.5)
    assert [row.shapes[0][1] for row in graph.trace[:3]] == [8, 32, 64]
    assert [row.stride for row in graph.trace[:3]] == [4, 8, 8]


def test_a_projection_is_a_convolution_and_a_group_norm() -> None:
    torch.manual_seed(0)
    block = ConvGN(8, 32, 3, 2)
    assert list(block.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert not block[0].bias.any() and block[0].weight.abs().max() <= (6 / (8 * 9 + 32 * 9)) ** 0.5
    x = block(torch.rand(2, 8, 5, 7))
    assert x.shape == (2, 32, 3, 4) and x.flatten(2).mean(-1).abs().max() < 1e-5  # one channel to a group of 32
    assert ConvGN.from_row([8], 1, [36, 1, 1, 4], Scale(width=0.25)).out_channels == 36


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["ResNetStage", [32, 2, 1, {"block": "bottlneck"}]], ("'block' is bottleneck or basic", "Did you mean 'bott")),
        (["ResNetStage", [32, 2, 1, {"norm": "froze"}]], ("'norm' is batch or frozen", "Did you mean 'frozen'?")),
        (["ResNetStage", [32, 2, 1, {"frozen": True, "norm": "batch"}]], ("never learns", "leave out 'frozen'")),
        (["ResNetStage", [32, 2, 1, {"frozen": "yes"}]], ("'frozen' should be bool", "'yes'")),
        (
            ["ResNetStage", [32, 2, 1, {"frosen": True}]],
            ("block, frozen, activation and norm", "Did you mean 'frozen'"),
        ),
        (["ResNetStage", [32, 0]], ("1 block or more",)),
        (["ResNetStage", [32]], ("the number of arguments does not fit", "{block, norm, frozen}")),
        (["ResNetStage", ["big", 2]], ("output channels", "'big'")),
        (["ConvGN", [40, 1, 1]], ("32 groups of channels do not divide 40",)),
        (["ConvGN", [32, 0]], ("the kernel is",)),
        (["Conv", [32, 1, 1, {"norm": "frozen"}]], ("'norm' is written like", "'frozen'")),
    ],
)
def test_a_mistake_is_one_sentence(row: list[Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        graph_of([[-1, 1, *row]])
    text = str(caught.value)
    assert text.startswith(f"mine.yaml, row 1 ({row[0]} from -1): ") and "\n" not in text
    assert all(word in text for word in words), text


def test_blocks_are_counted_by_the_argument() -> None:
    with pytest.raises(ModelError, match=r"row 1 .*number of blocks is its second argument"):
        graph_of([[-1, 2, "ResNetStage", [32, 2]]])


def test_a_quarter_of_the_channels_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match="34 is no multiple of 4"):
        ResNetStage(16, 34, 1)
