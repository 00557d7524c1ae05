"""Folding BatchNorm into convolutions: the same answers, the published counts, and what stays."""

from __future__ import annotations

import copy

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.fusing import fold, fuse_graph
from models.graph import Graph
from models.layers.conv import Conv
from models.layers.csp import BottleneckCSP
from models.spec import CONFIG_ROOT, load_spec, parse_spec
from tests.lively import lively

# The other sizes have the rows of one that is here, and depth and width are set below.
CONFIGS = sorted(
    path.stem
    for path in CONFIG_ROOT.rglob("*.yaml")
    if path.stem[:7] not in ("yolov5m", "yolov5l", "yolov5x")
    and path.stem not in {"yolov5n", "yolov5n6", "yolov5n_v5", "yolov5-panet"}
    and path.stem not in {f"yolox{kind}_{size}" for kind in ("", "_pose") for size in ("tiny", *"mlx")}
    and path.stem not in {"yoloms_s", "yoloms_s_se", "yoloms", "yoloms_se"}
    and path.stem not in {"yolov6_n", "yolov6_s", *(f"yolov8_{size}" for size in "smlx")}
    # No norm follows a convolution there; how their blocks are fused is in test_fusing_tokens.py.
    and path.stem[:6] != "yolos-"
    # Norms of a ResNet are in layers/test_resnet.py.
    and path.parent.name != "ms_detr"
)
PUBLISHED = {
    "yolov5s_v5": 7_266_973,
    "yolov5x_v5": 87_730_285,
    "yolov5n": 1_867_405,
    "yolov5s": 7_225_885,
    "yolov5s6_v5": 12_653_596,
    "yolov5-p7_v5": 143_889_339,
    "yolov5-fpn_v5": 50_234_109,
    "yolov5-panet_v5": 47_790_077,
    "yolov5s-transformer_v5": 7_267_741,
    "yolov3": 61_922_845,
    "yolov3-tiny": 8_849_182,
    # The published count has the numbers of the 16 bins among the parameters.
    "yolov8_n": 3_151_904 - 16,
}
SMALL = {"depth_multiple": 0.33, "width_multiple": 0.125}


def graph_of(rows: str) -> Graph:
    """Return a graph in eval mode with the given backbone rows and a head on the last one."""
    count = len(yaml.safe_load(rows))
    text = f"nc: 2\nanchors: [[8, 8]]\nbackbone: {rows}\nhead: [[[{count - 1}], 1, Detect, [nc, anchors]]]"
    torch.manual_seed(0)
    return lively(Graph(parse_spec(yaml.safe_load(text), "rows.yaml"))).eval()


def raw_outputs(graph: Graph, size: int = 64) -> list[Tensor]:
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return [output for levels in graph(images).values() for output in levels]


def relative(expected: Tensor, found: Tensor) -> float:
    return ((expected - found).abs().max() / expected.abs().max()).item()


def norms(module: nn.Module) -> list[str]:
    return [name for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d)]


def behind_convolutions(names: list[str]) -> list[str]:
    """Leave out the norms that are a branch of their own, of which ``deploy_graph`` makes convolutions."""
    return [name for name in names if not name.endswith("rbr_identity")]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_answers_as_before(name: str) -> None:
    torch.manual_seed(0)
    graph = lively(Graph(load_spec(name).with_values(**SMALL))).eval()
    size = 2 * graph.stride
    before = raw_outputs(graph, size)
    assert all(output.std() > 0 for output in before)
    count = len(behind_convolutions(norms(graph)))
    assert fuse_graph(graph) is graph
    assert len(behind_convolutions(norms(graph))) < 0.2 * count
    for expected, found in zip(before, raw_outputs(graph, size), strict=True):
        assert relative(expected, found) < 1e-4


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_count_is_the_published_one(name: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(name)).eval()
    fuse_graph(graph)
    assert sum(parameter.numel() for parameter in graph.parameters()) == PUBLISHED[name]


def test_bare_pairs_in_the_branches_of_a_head_are_folded() -> None:
    lab = fuse_graph(lively(Graph(load_spec("yolov5s_city_seg_lab").with_values(**SMALL))).eval())
    assert norms(lab) == []


def test_folding_again_changes_nothing() -> None:
    graph = fuse_graph(graph_of("[[-1, 1, Conv, [16, 3, 2]], [-1, 1, C3, [16]]]"))
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    after = fuse_graph(graph).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_mode_is_refused() -> None:
    graph = graph_of("[[-1, 1, Conv, [16, 3, 2]]]").train()
    with pytest.raises(ValueError, match="eval mode only"):
        fuse_graph(graph)
    assert len(norms(graph)) == 1


def test_a_norm_that_follows_the_batch_stays() -> None:
    graph = graph_of("[[-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 1]]]")
    graph.model[1].bn.train()
    graph.model[0].bn = nn.BatchNorm2d(16, track_running_stats=False).eval()
    assert norms(fuse_graph(graph)) == ["model.0.bn", "model.1.bn"]


def test_norms_elsewhere_stay() -> None:
    graph = graph_of("[[-1, 1, nn.Conv2d, [16, 3, 2]], [-1, 1, nn.BatchNorm2d, []], [-1, 1, BottleneckCSP, [16]]]")
    fuse_graph(graph)
    assert norms(graph) == ["model.1", "model.2.bn"]
    assert isinstance(graph.model[2], BottleneckCSP)


def test_only_direct_neighbours_are_folded() -> None:
    graph = graph_of("[[-1, 1, Conv, [16, 3, 2]]]")
    pre_activated = nn.Sequential(nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 16, 1))
    activated = nn.Sequential(nn.Conv2d(16, 16, 1), nn.SiLU(), nn.BatchNorm2d(16))
    pairs = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 16, 2), nn.BatchNorm2d(16))
    graph.model.append(lively(nn.Sequential(pre_activated, activated, pairs).eval()))
    x = torch.randn(1, 16, 6, 6)
    before = graph.model[-1](x)
    assert norms(fuse_graph(graph)) == ["model.2.0.0", "model.2.1.2"]
    torch.testing.assert_close(graph.model[-1](x), before, rtol=1e-5, atol=1e-5)


def test_layout_and_kind_of_the_weights_stay() -> None:
    graph = graph_of("[[-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [32, 3, 2]]]").to(memory_format=torch.channels_last)
    conv = graph.model[1].conv.requires_grad_(False)
    fuse_graph(graph)
    assert graph.model[1].conv is conv
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert conv.weight.dtype == conv.bias.dtype == torch.float32
    assert not conv.bias.requires_grad and graph.model[0].conv.bias.requires_grad


def test_a_copy_may_be_folded_while_the_model_goes_on_learning() -> None:
    graph = graph_of("[[-1, 1, Conv, [16, 3, 2]]]")
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    fuse_graph(copy.deepcopy(graph))
    assert isinstance(graph.model[0], Conv)
    assert all(torch.equal(tensor, graph.state_dict()[name]) for name, tensor in before.items())


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    transposed=st.booleans(),
    bias=st.booleans(),
    affine=st.booleans(),
    dilation=st.integers(1, 2),
)
def test_a_folded_convolution_is_the_pair(
    groups: int, widths: tuple[int, int], transposed: bool, bias: bool, affine: bool, dilation: int
) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    channels = [groups * width for width in widths]
    conv = kind(*channels, 3, stride=2, padding=1, groups=groups, bias=bias, dilation=dilation).double()
    norm = nn.BatchNorm2d(channels[1], eps=1e-3, affine=affine).double().eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.01, 2)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, channels[0], 9, 7, dtype=torch.float64)
    expected = norm(conv(x))
    fold(conv, norm)
    torch.testing.assert_close(conv(x), expected, rtol=1e-10, atol=1e-10)
