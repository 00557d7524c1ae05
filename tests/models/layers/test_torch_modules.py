"""PyTorch's modules as rows."""

from __future__ import annotations

import pytest
import torch

from models.registry import Scale, lookup


@pytest.mark.parametrize(
    ("name", "args", "in_channels", "out_channels", "shape"),
    [
        ("nn.Upsample", [None, 2, "nearest"], 4, 4, (16, 16)),
        ("Upsample", [None, 2, "nearest"], 4, 4, (16, 16)),
        ("torch.nn.MaxPool2d", [2, 2, 0], 4, 4, (4, 4)),
        ("nn.ZeroPad2d", [[0, 1, 0, 1]], 4, 4, (9, 9)),
        ("nn.Conv2d", [16, 3, 2, 1], 4, 8, (4, 4)),
        ("nn.ConvTranspose2d", [16, 2, 2], 4, 8, (16, 16)),
        ("nn.BatchNorm2d", [], 4, 4, (8, 8)),
        ("nn.Identity", [], 4, 4, (8, 8)),
        ("nn.Mish", [], 4, 4, (8, 8)),
        ("Hardswish", [], 4, 4, (8, 8)),
        ("nn.LeakyReLU", [0.1], 4, 4, (8, 8)),
        ("nn.GELU", [], 4, 4, (8, 8)),
    ],
)
def test_pytorch_modules(name: str, args: list, in_channels: int, out_channels: int, shape: tuple[int, int]) -> None:
    built = lookup(name).from_row([in_channels], 1, args, Scale(width=0.5))
    y = built.module(torch.randn(2, in_channels, 8, 8))
    assert built.out_channels == out_channels
    assert y.shape == (2, out_channels, *shape)


def test_pytorch_modules_can_repeat() -> None:
    built = lookup("nn.MaxPool2d").from_row([4], 2, [2], Scale())
    assert built.module(torch.zeros(1, 4, 8, 8)).shape == (1, 4, 2, 2)


@pytest.mark.parametrize("name", ["nn.Module", "nn.modules", "os", "nn.init", "Tensor", "__builtins__"])
def test_only_registered_names_can_be_reached(name: str) -> None:
    with pytest.raises(ValueError, match="no module named"):
        lookup(name)
