"""ResNet in rows: FrozenStem, ResNetStem, ResNetStage.

He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385, with the stride in the 3x3 convolution of a
bottleneck, as torchvision has it. Tensors are named as there within a row: ``conv1.weight`` and ``bn1.*`` in the stem,
``0.conv1.weight``, ``0.bn1.*``, ``0.downsample.0.weight`` ... in a stage.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.batch_norm import BatchNorm2d
from models.layers.frozen_norm import FrozenNorm, normalised
from models.registry import Built, RowBlock, Scale, register, usage
from utils.errors import did_you_mean

BATCH, FROZEN = "batch", "frozen"
NORMS = {BATCH: BatchNorm2d, FROZEN: FrozenNorm}


class ConvNorms(nn.Module):
    """A block of convolutions with a norm behind each; folding finds the pairs by name.

    Class attributes:
        pairs: names of the children, convolution and norm.
    """

    pairs: ClassVar[tuple[tuple[str, str], ...]] = ()

    def step(self, position: int, x: Tensor) -> Tensor:
        """Return what the convolution and the norm of one pair make of a map."""
        conv, norm = self.pairs[position]
        return normalised(getattr(self, conv), getattr(self, norm), x)


def _convolution(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class ResidualBlock(ConvNorms):
    """Convolutions beside a shortcut, ReLU behind their sum; the shortcut is a 1x1 convolution where shapes differ."""

    def __init__(self, c_in: int, c_out: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(_convolution(c_in, c_out, 1, stride), norm(c_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else normalised(*self.downsample, x)
        out = x
        for position in range(len(self.pairs) - 1):
            out = F.relu(self.step(position, out), inplace=True)
        return F.relu(self.step(-1, out) + shortcut, inplace=True)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions, as in ResNet-18 and ResNet-34."""

    pairs = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, c_in: int, c_out: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__(c_in, c_out, stride, norm)
        self.conv1, self.bn1 = _convolution(c_in, c_out, 3, stride), norm(c_out)
        self.conv2, self.bn2 = _convolution(c_out, c_out, 3), norm(c_out)


class BottleneckBlock(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions with a quarter of the channels inside, as in ResNet-50 and larger ones."""

    pairs = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(self, c_in: int, c_out: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__(c_in, c_out, stride, norm)
        if c_out % 4:
            raise ValueError(f"a bottleneck has a quarter of its channels inside, but {c_out} is no multiple of 4")
        inside = c_out // 4
        self.conv1, self.bn1 = _convolution(c_in, inside, 1), norm(inside)
        self.conv2, self.bn2 = _convolution(inside, inside, 3, stride), norm(inside)
        self.conv3, self.bn3 = _convolution(inside, c_out, 1), norm(c_out)


BLOCKS: dict[str, type[ResidualBlock]] = {"bottleneck": BottleneckBlock, "basic": BasicBlock}


def _choose(what: str, word: str, words: dict[str, Any]) -> Any:
    """Return what a word of a row stands for.

    Raises:
        ValueError: it stands for nothing.
    """
    if word not in words:
        raise ValueError(f"'{what}' is {' or '.join(words)}, but it is '{word}'.{did_you_mean(word, words)}")
    return words[word]


@register
class ResNetStem(ConvNorms, RowBlock):
    """The first layers of a ResNet; they learn. The map has a quarter of the image's height and width::

        image -> Conv2d 7x7, stride 2 -> norm -> ReLU -> max-pool 3x3, stride 2

    Args:
        c_in: channels of the image.
        c_out: channels of the map.
        norm: ``batch`` for BatchNorm, ``frozen`` for the constants of a trained one.
    """

    pairs = (("conv1", "bn1"),)

    def __init__(self, c_in: int, c_out: int, *, norm: str = BATCH) -> None:
        super().__init__()
        self.conv1 = _convolution(c_in, c_out, 7, 2)
        self.bn1 = _choose("norm", norm, NORMS)(c_out)

    def forward(self, image: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.step(0, image), inplace=True), 3, 2, 1)


@register
class FrozenStem(ResNetStem):
    """The first layers of a trained ResNet; they never learn, and their norm is frozen. See ResNetStem.

    Args:
        c_in: channels of the image.
        c_out: channels of the map.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, norm=FROZEN)
        self.requires_grad_(False)


@register
class ResNetStage(nn.Sequential, RowBlock):
    """The blocks of a ResNet from one stride to the next; the first one has the stride::

        x -> [convolutions and norms, + shortcut, ReLU] x n

    A ``bottleneck`` has a 1x1, a 3x3 and a 1x1 convolution with a quarter of the channels inside, a ``basic`` block two
    3x3 convolutions. ``depth_multiple`` leaves ``n`` as it is.

    Args:
        c_in: input channels.
        c_out: output channels.
        n: number of blocks.
        stride: of the first block.
        block: ``bottleneck`` or ``basic``.
        norm: ``frozen`` for the constants of a trained BatchNorm, ``batch`` for one that learns.
        frozen: whether the stage never learns; its norms are frozen then.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        n: int,
        stride: int = 1,
        *,
        block: str = "bottleneck",
        norm: str = FROZEN,
        frozen: bool = False,
    ) -> None:
        if n < 1 or stride < 1:
            raise ValueError(f"a stage has 1 block or more and a stride of 1 or more, but they are {n} and {stride}")
        kind, norm_class = _choose("block", block, BLOCKS), _choose("norm", norm, NORMS)
        if frozen and norm != FROZEN:
            raise ValueError(f"a stage that never learns has frozen norms; leave out 'frozen' or 'norm: {norm}'")
        first = kind(c_in, c_out, stride, norm_class)
        super().__init__(first, *(kind(c_out, c_out, 1, norm_class) for _ in range(n - 1)))
        if frozen:
            self.requires_grad_(False)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from one source row.

        Raises:
            ValueError: see ``RowBlock.from_row``; the row repeats.
        """
        if number > 1:
            raise ValueError(f"the number of blocks is its second argument; write 1 in front; {usage(cls)}")
        return super().from_row(in_channels, number, args, scale)
