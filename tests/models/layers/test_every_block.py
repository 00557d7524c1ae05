"""Every block that a YAML row can name: shape, gradients, the meta device, and a place in this file's table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.heads.base import Head
from models.registry import Built, Scale, lookup, registered

HEIGHT, WIDTH = 12, 20
EXAMPLES: dict[str, tuple[list[int], list[Any], int, float]] = {
    "ARM": ([8], [16], 16, 1),
    "ASPP": ([8], [16], 16, 1),
    "ASPPs": ([8], [16], 16, 1),
    "Attention": ([8], [2], 8, 1),
    "Bottleneck": ([8], [16], 16, 1),
    "BottleneckCSP": ([8], [16], 16, 1),
    "C2f": ([8], [16], 16, 1),
    "C3": ([8], [16], 16, 1),
    "C3DW": ([8], [16], 16, 1),
    "C3Ghost": ([8], [16], 16, 1),
    "C3SPP": ([8], [16], 16, 1),
    "C3TR": ([8], [16], 16, 1),
    "C3x": ([8], [16], 16, 1),
    "Concat": ([8, 4], [1], 12, 1),
    "Contract": ([8], [2], 32, 0.5),
    "Conv": ([8], [16, 3, 2], 16, 0.5),
    "ConvGN": ([8], [32, 3, 2], 32, 0.5),
    "CrossConv": ([8], [16, 3, 2], 16, 0.5),
    "DAPPM": ([8], [16, 8], 16, 1),
    "DWConv": ([8], [16, 3], 16, 1),
    "DWConvPair": ([8], [16, 3, 2], 16, 0.5),
    "DWConvTranspose2d": ([8], [16, 2, 2], 16, 2),
    "Expand": ([8], [2], 2, 2),
    "FFM": ([8, 4], [16, 2], 16, 1),
    "FReLU": ([8], [], 8, 1),
    "Focus": ([8], [16, 3], 16, 0.5),
    "GhostBottleneck": ([8], [16, 3, 2], 16, 0.5),
    "GhostConv": ([8], [16, 3, 2], 16, 0.5),
    "MSBlock": ([8], [16, [1, 3, 5], 2, 3, 2, 1, "se"], 16, 1),
    "MixConv2d": ([8], [8], 8, 1),
    "PyramidPooling": ([8], [], 16, 1),
    "RFB1": ([8], [16, 4, [3, 5, 7], True], 16, 1),
    "RFB2": ([8], [16, 4, [2, 3], True], 16, 1),
    "RepVGG": ([8], [16, 2], 16, 0.5),
    "SE": ([8], [4], 8, 1),
    "SPP": ([8], [16], 16, 1),
    "SPPF": ([8], [16], 16, 1),
    "Sum": ([8, 8, 8], [3, True], 8, 1),
    "TransformerBlock": ([8], [16, 4, 2], 16, 1),
}
"""Name: channels of the sources, arguments, output channels, output size as a factor of the input size."""


def build(name: str, number: int = 1) -> Built:
    """Return the block of a row of the table above."""
    in_channels, args, _, _ = EXAMPLES[name]
    return lookup(name).from_row(in_channels, number, args, Scale())


def run(name: str, block: nn.Module, inputs: list[Tensor]) -> Tensor:
    """Hand the sources over as a graph does."""
    return block(inputs if len(inputs) > 1 or getattr(block, "same_size_inputs", False) else inputs[0])


def test_the_table_has_every_block_of_the_project() -> None:
    own = {
        name for name in registered() if not name.startswith("nn.") and lookup(name).__module__.startswith("models.")
    }
    blocks = {name for name in own if not issubclass(lookup(name), Head)}
    others = {"ViTEmbed", "ViTBlock", "ViTBlockPE", "TokenNorm", "TokenMap"}  # see test_vit.py
    others |= {"FrozenStem", "ResNetStem", "ResNetStage"}  # see test_resnet.py
    others |= {"DeformEncoder", "TwoStageQueries", "LearnedQueries"}  # see their own files
    assert blocks - others == set(EXAMPLES) and others <= blocks


def check_gradients(name: str, built: Built, shape: tuple[int, ...]) -> None:
    """Run a block on two images, forward and backward."""
    inputs = [torch.randn(2, channels, HEIGHT, WIDTH, requires_grad=True) for channels in EXAMPLES[name][0]]
    y = run(name, built.module.train(), inputs)
    assert y.shape == shape and built.out_channels == shape[1]
    (y * torch.randn_like(y)).sum().backward()
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in inputs)
    for parameter_name, parameter in built.module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("name", EXAMPLES)
def test_shape_and_gradient_of_every_parameter(name: str) -> None:
    _, _, c_out, factor = EXAMPLES[name]
    check_gradients(name, build(name), (2, c_out, int(HEIGHT * factor), int(WIDTH * factor)))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in ("Concat", "Sum", "Contract", "Expand")])
def test_repeated_blocks(name: str) -> None:
    """The second one reads what the first one gives, so strides multiply; blocks that repeat inside stay one."""
    _, _, c_out, factor = EXAMPLES[name]
    c_out = 32 if name == "PyramidPooling" else c_out
    check_gradients(name, build(name, 2), (2, c_out, int(HEIGHT * factor**2), int(WIDTH * factor**2)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_shape_is_known_without_memory(name: str) -> None:
    in_channels, _, c_out, factor = EXAMPLES[name]
    with torch.device("meta"):
        block = build(name).module.eval()
        inputs = [torch.empty(1, channels, HEIGHT, WIDTH) for channels in in_channels]
    y = run(name, block, inputs)
    assert y.is_meta and y.shape == (1, c_out, HEIGHT * factor, WIDTH * factor)


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_image_is_not_changed_by_another(name: str) -> None:
    """In eval mode an image's output is the same alone and in a batch."""
    torch.manual_seed(0)
    block = build(name).module.eval()
    inputs = [torch.randn(2, channels, HEIGHT, WIDTH) for channels in EXAMPLES[name][0]]
    with torch.no_grad():
        both, second = run(name, block, inputs), run(name, block, [x[1:] for x in inputs])
    assert torch.allclose(both[1:], second, atol=1e-5)


CONV = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
NORM = [name.removeprefix("bn.") for name in CONV[1:]]


def names(*parts: str) -> list[str]:
    """Write state-dict names out: ``cv1*`` is a Conv block, ``bn~`` a BatchNorm, anything else is itself."""
    written = []
    for part in parts:
        if part.endswith("*"):
            written += [f"{part[:-1]}.{name}" for name in CONV]
        elif part.endswith("~"):
            written += [f"{part[:-1]}.{name}" for name in NORM]
        else:
            written.append(part)
    return written


LAYER = ["q.weight", "k.weight", "v.weight", "ma.in_proj_weight", "ma.in_proj_bias", "ma.out_proj.weight"]
LAYER += ["ma.out_proj.bias", "fc1.weight", "fc2.weight"]
LINEAR = ["linear.weight", "linear.bias"]
BOTTLENECK, GHOST = ["cv1*", "cv2*"], ["conv.0.cv1*", "conv.0.cv2*", "conv.2.cv1*", "conv.2.cv2*"]
STATE: dict[str, list[str]] = {
    "Bottleneck": names(*BOTTLENECK),
    "BottleneckCSP": names("cv1*", "cv2.weight", "cv3.weight", "cv4*", "bn~", "m.0.cv1*", "m.0.cv2*"),
    "C2f": names("cv1*", "cv2*", "m.0.cv1*", "m.0.cv2*"),
    "C3": names("cv1*", "cv2*", "cv3*", "m.0.cv1*", "m.0.cv2*"),
    "C3DW": names("cv1*", "cv2*", "cv3*", "m.0.cv1*", "m.0.cv2.dconv*", "m.0.cv2.pconv*"),
    "C3Ghost": names("cv1*", "cv2*", "cv3*", *(f"m.0.{part}" for part in GHOST)),
    "C3TR": names("cv1*", "cv2*", "cv3*", *(f"m.{part}" for part in [*LINEAR, *(f"tr.0.{p}" for p in LAYER)])),
    "C3x": names("cv1*", "cv2*", "cv3*", "m.0.cv1*", "m.0.cv2*"),
    "CrossConv": names("cv1*", "cv2*"),
    "DWConvPair": names("dconv*", "pconv*"),
    "DWConvTranspose2d": ["weight", "bias"],
    "Focus": names("conv*"),
    "GhostBottleneck": names(*GHOST[:2], "conv.1*", *GHOST[2:], "shortcut.0*", "shortcut.1*"),
    "GhostConv": names("cv1*", "cv2*"),
    "MSBlock": names(
        "in_conv*",
        *(f"mid_convs.{b}.{i}.{part}*" for b in (1, 2) for i in (0, 1) for part in ("in_conv", "mid_conv", "out_conv")),
        "out_conv*",
        "attention.fc.0.weight",
        "attention.fc.2.weight",
    ),
    "MixConv2d": names("m.0.weight", "m.1.weight", "bn~"),
    "RepVGG": names("rbr_dense*", "rbr_1x1*"),
    "SPP": names("cv1*", "cv2*"),
    "SPPF": names("cv1*", "cv2*"),
    "Sum": ["w"],
    "TransformerBlock": names("conv*", *LINEAR, *(f"tr.{i}.{part}" for i in (0, 1) for part in LAYER)),
    "Attention": names("W.1*", "W.2*"),
    "ARM": names("conv*", "channel_attention.1*"),
    "RFB1": names(
        *(f"branch0.{i}*" for i in (0, 1)),
        *(f"branch{b}.{part}" for b in (1, 2, 3) for part in ("0*", "1*", "2.weight", "3~")),
        "branch4.1*",
        "Fusion*",
    ),
    "ASPPs": names(
        *(f"branch0.{i}*" for i in (0, 1)),
        *(f"branch{b}.{part}" for b in (1, 2, 3) for part in ("0*", "1.weight", "2~")),
        "branch4.1*",
        "ConvLinear*",
    ),
    "DAPPM": names(
        *(f"scale{s}.{part}" for s in (1, 2, 3, 4) for part in ("1~", "3.weight")),
        "scale0.0~",
        "scale0.2.weight",
        *(f"process{s}.{part}" for s in (1, 2, 3, 4) for part in ("0~", "2.weight")),
        *(f"{name}.{part}" for name in ("compression", "shortcut") for part in ("0~", "2.weight")),
    ),
}
"""Published names of the tensors of one block, in their order."""


@pytest.mark.parametrize("name", STATE)
def test_state_has_the_published_names_in_order(name: str) -> None:
    assert list(build(name).module.state_dict()) == STATE[name]


@pytest.mark.parametrize("name", ["BottleneckCSP", "C3", "C3DW", "C3Ghost", "C3TR", "C3x"])
def test_blocks_that_repeat_inside(name: str) -> None:
    built = build(name, 3)
    inner = built.module.m.tr if name == "C3TR" else built.module.m
    assert isinstance(inner, nn.Sequential) and len(inner) == 3


@pytest.mark.parametrize("name", ["Bottleneck", "Conv", "GhostConv", "SPP"])
def test_other_blocks_repeat_as_a_sequence(name: str) -> None:
    built = build(name, 3)
    assert isinstance(built.module, nn.Sequential) and len(built.module) == 3
    assert next(iter(built.module.state_dict())).startswith("0.")
