"""PyTorch modules that a YAML may name, such as ``nn.Upsample``: a fixed list, each with how it changes channels."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from models.layers.activations import ACTIVATIONS
from models.layers.batch_norm import BatchNorm2d
from models.layers.conv import check_window
from models.registry import Built, Scale, register_as, single_input

CHANNEL_KEEPING = (
    nn.Upsample,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.ZeroPad2d,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    *(activation.module for activation in ACTIVATIONS.values() if activation.module is not nn.Identity),
)
UPSAMPLE_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")


def _call(torch_class: type[nn.Module], args: list[Any], first: tuple[int, ...] = ()) -> nn.Module:
    """Construct a PyTorch module from YAML arguments; lists become tuples."""
    values = [tuple(a) if isinstance(a, list) else a for a in args]
    try:
        inspect.signature(torch_class.__init__).bind(None, *first, *values)
        module = torch_class(*first, *values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"nn.{torch_class.__name__} does not take {args}: {error}") from None
    if isinstance(module, nn.Upsample) and module.mode not in UPSAMPLE_MODES:
        raise ValueError(f"nn.Upsample has no mode {module.mode!r}, only {', '.join(UPSAMPLE_MODES)}")
    return module


def _stack(torch_class: type[nn.Module], args: list[Any], number: int) -> nn.Module:
    modules = [_call(torch_class, args) for _ in range(number)]
    return modules[0] if number == 1 else nn.Sequential(*modules)


def _register_channel_keeping(torch_class: type[nn.Module]) -> None:
    class Row:
        """Builds one PyTorch module whose output has as many channels as its input."""

        @classmethod
        def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
            return Built(_stack(torch_class, args, number), single_input(torch_class, in_channels))

    Row.__name__ = f"nn.{torch_class.__name__}"
    register_as(f"nn.{torch_class.__name__}")(Row)


for _torch_class in CHANNEL_KEEPING:
    _register_channel_keeping(_torch_class)


@register_as("nn.BatchNorm2d")
class BatchNorm2dRow:
    """BatchNorm over the channels of the source row; takes no arguments."""

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        c_in = single_input(nn.BatchNorm2d, in_channels)
        return Built(_call(BatchNorm2d, args, (c_in,)), c_in)


@register_as("nn.Conv2d")
class Conv2dRow:
    """Plain convolution with bias: ``[channels, kernel, stride, padding, ...]``; the channels are scaled."""

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        return _scaled_channels(nn.Conv2d, in_channels, args, scale)


@register_as("nn.ConvTranspose2d")
class ConvTranspose2dRow:
    """Transposed convolution with bias: ``[channels, kernel, stride, padding, ...]``; the channels are scaled."""

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        return _scaled_channels(nn.ConvTranspose2d, in_channels, args, scale)


def _scaled_channels(torch_class: type[nn.Module], in_channels: list[int], args: list[Any], scale: Scale) -> Built:
    if not args or not isinstance(args[0], int):
        raise ValueError(f"the first argument of nn.{torch_class.__name__} is its output channels, a whole number")
    for what, value in zip(("kernel", "stride"), args[1:3], strict=False):
        if isinstance(value, int | list):
            check_window(what, value)
    c_out = scale.channels(args[0])
    return Built(_call(torch_class, args[1:], (single_input(torch_class, in_channels), c_out)), c_out)
