"""RepVGG: a block that has several branches in training and is one convolution in deployment."""

from __future__ import annotations

import copy
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from models.layers.activations import make_activation
from models.layers.batch_norm import BatchNorm2d
from models.layers.conv import Conv
from models.layers.folding import scale_and_shift
from models.layers.per_head import PerHead
from models.registry import RowBlock, register

MERGED = "rbr_reparam"
"""What the convolution of a deployed RepVGG block is called; trained models have no tensor of that name."""


@runtime_checkable
class Deployable(Protocol):
    """A module that can be written with fewer branches; ``reparameterise`` asks for it."""

    def deployed(self) -> nn.Module:
        """Return a module with the same answers in inference; the module itself stays as it is."""
        ...


def reparameterise(module: nn.Module) -> nn.Module:
    """Replace every block that can be written with fewer branches, such as RepVGG, by that form of it.

    All other parts stay, BatchNorms outside of such blocks included. Published parameters and operations of deployed
    models are those of this form.

    Args:
        module: changed in place unless it is such a block itself; on any device, also the meta device.

    Returns:
        The module, or what takes its place.
    """
    if isinstance(module, Deployable):
        return module.deployed()
    for name, child in module.named_children():
        replacement = reparameterise(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


class RepVGGDeployed(nn.Module):
    """What a RepVGG block becomes for deployment::

        x -> Conv2d 3x3 with bias -> activation -> y

    Args:
        conv: the convolution, or one for each head.
        act: the activation.
    """

    def __init__(self, conv: nn.Conv2d | PerHead, act: nn.Module) -> None:
        super().__init__()
        self.rbr_reparam = conv
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.rbr_reparam(x))


@register
class RepVGG(RowBlock):
    """Two or three branches that are added before the activation (Ding et al., arXiv:2101.03697)::

        x -> Conv2d 3x3 -> BatchNorm -> |
        x -> Conv2d 1x1 -> BatchNorm -> + -> activation -> y
        x -> BatchNorm ---------------> |             where channels and size stay

    The paper's activation is ReLU. A row's number stacks the block, and the first one changes the channels. With
    ``--deploy`` the block runs as one 3x3 convolution with bias.

    Args:
        c_in: input channels.
        c_out: output channels.
        stride: stride, or one per axis.
    """

    def __init__(self, c_in: int, c_out: int, stride: int | list[int] | tuple[int, ...] = 1) -> None:
        super().__init__()
        self.rbr_dense = Conv(c_in, c_out, 3, stride, act=False)
        self.rbr_1x1 = Conv(c_in, c_out, 1, act=False)
        self.stride = self.rbr_dense.conv.stride
        keeps = c_in == c_out and self.stride == (1, 1)
        self.rbr_identity = BatchNorm2d(c_in) if keeps else None
        self.act = make_activation()

    def forward(self, x: Tensor) -> Tensor:
        # The same as a stride of the 1x1 convolution, whose backward pass on CPUs (oneDNN, up to PyTorch 2.15) writes
        # beyond its memory where the input has few channels, as a picture has.
        rows, columns = self.stride
        y = self.rbr_dense(x) + self.rbr_1x1(x[:, :, ::rows, ::columns])
        return self.act(y if self.rbr_identity is None else y + self.rbr_identity(x))

    def deployed(self) -> RepVGGDeployed:
        """Return the block as one convolution; as one for each head where the norms are per head.

        Raises:
            ValueError: the norms of the branches are folded already.
        """
        norm = self.rbr_dense.bn
        if isinstance(norm, nn.Identity):
            raise ValueError("the BatchNorms of a RepVGG block are folded already; deploy the model as it was loaded")
        if isinstance(norm, PerHead):
            conv = PerHead({head: self._as_convolution(head) for head in norm.heads}, norm.selection)
        else:
            conv = self._as_convolution()
        return RepVGGDeployed(conv, self.act).train(self.training)

    @torch.no_grad()
    def _as_convolution(self, head: str = "") -> nn.Conv2d:
        """Return the sum of the branches as a convolution; computed in float64, stored as the weights are."""
        kernel, bias = _without_norm(self.rbr_dense, head)
        centre, shift = _without_norm(self.rbr_1x1, head)
        kernel[:, :, 1, 1] += centre[:, :, 0, 0]
        bias += shift
        if self.rbr_identity is not None:
            scale, shift = scale_and_shift(_norm_of(self.rbr_identity, head))
            kernel[:, :, 1, 1] += torch.diag(scale)
            bias += shift
        conv = copy.deepcopy(self.rbr_dense.conv)
        conv.weight.copy_(kernel)
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
        return conv


def _without_norm(branch: Conv, head: str) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of a convolution, float64, that answers as the branch does with its norm."""
    scale, shift = scale_and_shift(_norm_of(branch.bn, head))
    return branch.conv.weight.double() * scale.view(-1, 1, 1, 1), shift


def _norm_of(norm: nn.BatchNorm2d | PerHead, head: str) -> nn.BatchNorm2d:
    return norm.of(head) if isinstance(norm, PerHead) else norm
