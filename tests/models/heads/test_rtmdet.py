"""The head of YOLO-MS: shared convolutions, norms of levels, decoding against a slow loop, and what its row says."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from data.samples import Placement
from models.fusing import fuse_graph
from models.graph import Graph
from models.heads.rtmdet import RTMDetHead
from models.layers.shared_conv import SharedConv
from models.layers.sync_norm import synchronise_norms
from models.predictions import PostprocessOptions
from models.registry import Scale, lookup
from models.spec import parse_spec
from utils.distributed import World
from utils.ema import ModelEma
from utils.optimizer import parameter_groups

STRIDES = [8, 16, 32]
SIZES = [(8, 12), (4, 6), (2, 3)]
VALUES = {
    "nc": 3,
    "norm": {"eps": 1.0e-5, "momentum": 0.1},
    "backbone": [
        [-1, 1, "Conv", [8, 3, 4]],
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [8, 3, 2]],
    ],
    "head": [[[1, 2, 3], 1, "RTMDetHead", ["nc"]]],
}


def head_of(stacked: int = 2) -> RTMDetHead:
    """Return a small head in eval mode."""
    torch.manual_seed(0)
    head = RTMDetHead([8, 8, 8], 3, stacked).eval()
    head.set_strides(STRIDES)
    return head


def graph_of(**keys: object) -> Graph:
    """Return a small model, its head's weights large enough to be seen, its norms as if trained."""
    torch.manual_seed(0)
    graph = Graph(parse_spec({**copy.deepcopy(VALUES), **keys}, "model.yaml"))
    for module in graph.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 1.5)
    return graph.eval()


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)


def flat(raw: list[Tensor]) -> Tensor:
    return torch.cat([level.flatten() for level in raw])


def features(count: int = 2) -> list[Tensor]:
    """Return maps of a 64 x 96 image."""
    return [torch.randn(count, 8, *size) for size in SIZES]


def test_channels_are_distances_and_classes() -> None:
    head = head_of()
    assert [tuple(x.shape) for x in head(features())] == [(2, 7, *size) for size in SIZES]
    with torch.no_grad():
        for level in range(3):
            for conv, values in ((head.reg_preds[level], [1, 2, 3, 4]), (head.cls_preds[level], [5, 6, 7])):
                conv.weight.zero_()
                conv.bias.copy_(torch.tensor(values) + 10.0 * level)
        for level, x in enumerate(head(features())):
            assert torch.equal(x, (torch.arange(1.0, 8.0) + 10 * level).view(1, 7, 1, 1).expand_as(x))


def test_towers_are_shared_by_levels_but_neither_norms_nor_predictions_are() -> None:
    head, maps = head_of(), features()
    before = head(maps)

    def changed() -> list[tuple[bool, bool]]:
        after = head(maps)
        pairs = [(a != b).any(0).any(-1).any(-1) for a, b in zip(before, after, strict=True)]
        return [(bool(pair[:4].any()), bool(pair[4:].any())) for pair in pairs]

    with torch.no_grad():
        head.cls_convs[1].conv.weight.mul_(2)
        assert changed() == [(False, True)] * 3
        head.cls_convs[1].conv.weight.div_(2)
        head.reg_convs[0].bn[1].weight.mul_(2)
        assert changed() == [(False, False), (True, False), (False, False)]


@pytest.mark.parametrize("stacked", [1, 2, 3])
def test_the_forward_pass_written_out(stacked: int) -> None:
    head, maps = head_of(stacked), features()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        for level, (raw, x) in enumerate(zip(head(maps), maps, strict=True)):
            for tower, preds, found in (
                (head.reg_convs, head.reg_preds, raw[:, :4]),
                (head.cls_convs, head.cls_preds, raw[:, 4:]),
            ):
                y = x
                for block in tower:
                    y = nn.functional.leaky_relu(block.bn[level](block.conv(y)), 0.01)
                assert torch.allclose(preds[level](y), found, atol=1e-6)


def test_a_fresh_head() -> None:
    head = head_of()
    for level in range(3):
        assert torch.allclose(head.cls_preds[level].bias, torch.tensor(-math.log(99)), atol=1e-6)
        assert not head.reg_preds[level].bias.any()
    for conv in head.modules():
        if isinstance(conv, nn.Conv2d):
            assert 0.005 < conv.weight.std() < 0.02 and abs(conv.weight.mean()) < 0.005


def decode_slowly(raw: list[Tensor], image: int) -> list[list[float]]:
    """Return x1 y1 x2 y2 and class probabilities cell by cell, as the formula is written."""
    found = []
    for x, stride in zip(raw, STRIDES, strict=True):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                left, top, right, bottom, *logits = x[image, :, row, column].tolist()
                px, py = column * stride, row * stride
                box = [px - left * stride, py - top * stride, px + right * stride, py + bottom * stride]
                found.append([*box, *(1 / (1 + math.exp(-logit)) for logit in logits)])
    return found


def test_decoding_by_the_formula() -> None:
    torch.manual_seed(1)
    raw = [torch.randn(2, 7, *size) * 1.5 for size in SIZES]
    found = head_of().predict(raw, (64, 96))
    assert found.objectness is None
    for image in range(2):
        expected = torch.tensor(decode_slowly(raw, image))
        assert torch.allclose(found.boxes[image], expected[:, :4], rtol=1e-5, atol=1e-3)
        assert torch.allclose(found.scores[image], expected[:, 4:], atol=1e-6)


def test_half_precision_is_decoded_in_float32() -> None:
    raw = [torch.full((1, 7, *size), 30000.0, dtype=torch.float16) for size in SIZES]
    found = head_of().predict(raw, (64, 96))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert torch.isfinite(found.boxes).all() and found.boxes.max() > 9e5


def test_leaving_a_level_out() -> None:
    head, raw = head_of(), [torch.randn(1, 7, *size) for size in SIZES]
    whole = head.predict(raw, (64, 96)).boxes
    counts = [rows * columns for rows, columns in SIZES]
    assert torch.equal(head.predict_without("finest", raw, (64, 96)).boxes, whole[:, counts[0] :])
    assert torch.equal(head.predict_without("coarsest", raw, (64, 96)).boxes, whole[:, : -counts[2]])


def test_objects_come_back_in_native_pixels_by_their_class_probability() -> None:
    """Boxes with their sides exchanged, which negative distances can give, are nobody's objects and do no harm."""
    raw = [torch.full((1, 7, *size), -20.0) for size in SIZES]
    raw[0][0, :, 2, 3] = torch.tensor([1.0, 1.0, 2.0, 1.0, 3.0, -20.0, -20.0])
    raw[1][0, :, 1, 1] = torch.tensor([-2.0, -2.0, -2.0, -2.0, -20.0, 2.0, -20.0])
    head, place = head_of(), Placement(height=32, width=48, scale_x=2.0, scale_y=2.0)
    (result,) = head.postprocess(head.predict(raw, (64, 96)), PostprocessOptions(), [place])
    assert torch.allclose(result.boxes[0], torch.tensor([8.0, 4.0, 20.0, 12.0]))
    assert torch.allclose(result.scores[0], torch.tensor(3.0).sigmoid()) and result.classes[0] == 0


def test_a_folded_head_has_a_convolution_for_every_level() -> None:
    graph = graph_of()
    with torch.no_grad():
        expected = flat(graph(images())["detect"])
        kept = {name: value.clone() for name, value in graph.state_dict().items()}
        fused = fuse_graph(fuse_graph(copy.deepcopy(graph)))
        assert torch.allclose(flat(fused(images())["detect"]), expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    convs = [block.conv for block in fused.modules() if isinstance(block, SharedConv)]
    assert len(convs) == 4 and all(len(each) == 3 for each in convs)
    assert not torch.equal(convs[0][0].weight, convs[0][1].weight)
    assert all(torch.equal(graph.state_dict()[name], value) for name, value in kept.items())


def test_shared_weights_are_optimised_and_averaged_once() -> None:
    graph = graph_of().train()
    groups = parameter_groups(graph)
    named = [name for group in groups.values() for name in group]
    assert len(named) == len(set(named)) == len(list(graph.parameters()))
    shared = [name for name in named if "_convs." in name and name.endswith("conv.weight")]
    assert len(shared) == 4 and all(name in groups["decay"] for name in shared)
    ema = ModelEma(graph, decay=0.5, tau=1e-9)
    (name, *_) = shared
    before = ema.module.state_dict()[name].clone()
    with torch.no_grad():
        graph.get_parameter(name).add_(1.0)
    ema.update()
    assert torch.allclose(ema.module.state_dict()[name], before + 0.5, atol=1e-6)


def test_rows_that_run_again_give_the_same_gradients() -> None:
    graph, found = graph_of().train(), []
    for graph.recompute in (False, True):
        graph.zero_grad()
        for module in graph.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        flat(graph(images())["detect"]).square().sum().backward()
        means = [module.running_mean for module in graph.modules() if isinstance(module, nn.BatchNorm2d)]
        found.append(torch.cat([*(p.grad.flatten() for p in graph.parameters()), *means]).clone())
    assert found[0].abs().sum() > 0 and torch.equal(found[0], found[1])


def test_norms_per_head_leave_the_head_alone() -> None:
    rows = [[[1, 2, 3], 1, "RTMDetHead", ["nc"], name] for name in ("cars", "signs")]
    graph = graph_of(bn="per-task", head=rows)
    with torch.no_grad():
        expected = [flat(graph(images(), heads=[name])[name]) for name in ("cars", "signs")]
        fused = fuse_graph(copy.deepcopy(graph))
        for name, values in zip(("cars", "signs"), expected, strict=True):
            assert torch.allclose(flat(fused(images(), heads=[name])[name]), values, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*expected)


def test_norms_of_all_levels_can_be_synchronised() -> None:
    graph = graph_of()
    count = sum(isinstance(module, nn.BatchNorm2d) for module in graph.modules())
    assert synchronise_norms(graph, World(size=2)) == count == 4 + 2 * 2 * 3
    kinds = {type(norm) for block in graph.modules() if isinstance(block, SharedConv) for norm in block.bn}
    assert nn.BatchNorm2d not in kinds


def test_one_level_is_enough_and_channels_are_those_of_the_rows() -> None:
    head = lookup("RTMDetHead").from_row([40], 1, [5], Scale(width=0.5)).module
    assert head.cls_convs[0].conv.out_channels == 40 and len(head.cls_convs[0].bn) == 1
    assert head.cls_preds[0].out_channels == head.num_classes == 5
    assert isinstance(head.reg_convs[1].act, nn.LeakyReLU) and head.reg_convs[1].act.negative_slope == 0.01


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "takes [num_classes, stacked=2, activation=nn.LeakyReLU(0.01)]"),
        ([80, 2, "nn.SiLU()", 1], "takes [num_classes, stacked=2"),
        (["nc"], "'num_classes' should be int, but it is 'nc'"),
        ([0], "the number of classes is above 0, but it is 0"),
        ([80, 2.5], "'stacked' should be int, but it is 2.5"),
        ([80, 2, None], "'activation' should be str, but it is None"),
    ],
)
def test_rows_that_do_not_fit(args: list[object], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        lookup("RTMDetHead").from_row([16, 16, 16], 1, args, Scale())
    assert words in str(caught.value)
