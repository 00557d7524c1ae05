"""Forms of a model for running: BatchNorms folded into convolutions, blocks of several branches as one convolution, and
transformer blocks that share memory and leave out what nothing reads.

All give the numbers of the trained form in inference, to float rounding, in less time and memory.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.graph import Graph
from models.heads.base import Head
from models.layers.activations import FReLU
from models.layers.conv import Conv
from models.layers.folding import scale_and_shift
from models.layers.frozen_norm import FrozenNorm
from models.layers.per_head import PerHead
from models.layers.reparam import reparameterise
from models.layers.resnet import ConvNorms
from models.layers.shared_conv import SharedConv
from models.layers.vit import TokenNorm, ViTBlock, ViTBlockPE
from models.layers.vit_inference import InferenceBlocks

Convolution = nn.Conv2d | nn.ConvTranspose2d
BLOCKS = (Conv, FReLU)
"""Blocks that compute ``bn(conv(x))`` with children of these names."""


def deploy_graph(graph: Graph) -> Graph:
    """Bring a graph into the form for deployment, in place: fewer branches (``reparameterise``), then norms folded.

    There is no way back but loading the model again. A deployed graph is for running, not for saving.

    Args:
        graph: in eval mode, on any device; also the meta device.

    Returns:
        The graph itself.

    Raises:
        ValueError: the graph is in training mode, where BatchNorm follows the batch and cannot be a constant, or blocks
            of several branches have their norms folded already.
    """
    _require_eval(graph)
    reparameterise(graph.model)
    graph.is_deployed = True
    return fuse_graph(graph)


def fuse_graph(graph: Graph) -> Graph:
    """Fold every BatchNorm that follows a convolution directly into that convolution, in place; see also below.

    That is the BatchNorm of every ``Conv`` block and of those of a ResNet, whose norms may be frozen ones, and of every
    convolution with a BatchNorm right behind it in an ``nn.Sequential``. ``nn.Identity`` takes its place. All others
    stay, such as those after a concatenation, those before a convolution and rows of their own. Folding again changes
    nothing.

    Where every head has a norm of its own (``bn: per-task``), every head gets a folded copy of the convolution, and so
    does every level where levels share a convolution and not its norm: more memory for weights, and as fast as any
    other folded model.

    Blocks of a vision transformer run as ``InferenceBlocks``. The last one answers for the tokens behind the patches
    alone where only heads for detection read it, through norms of every token or not. What heads have for training
    alone, such as the networks of one-to-many supervision, is dropped.

    The state dict of a fused graph has other names than that of a trained one, so it is for running, not for saving.

    Args:
        graph: in eval mode, on any device; also the meta device.

    Returns:
        The graph itself.

    Raises:
        ValueError: the graph is in training mode, where BatchNorm follows the batch and cannot be a constant.
    """
    _require_eval(graph)
    for module in list(graph.modules()):
        if isinstance(module, BLOCKS):
            _fold_children(module, "conv", "bn")
        elif isinstance(module, ConvNorms):
            for conv, norm in module.pairs:
                _fold_children(module, conv, norm)
        elif isinstance(module, SharedConv) and all(_foldable(module.conv, norm) for norm in module.bn):
            module.fold_norms(_folded)
        elif isinstance(module, nn.Sequential):
            _fold_neighbours(module)
    _fuse_transformer(graph)
    for head in graph.heads.values():
        head.drop_training_branch()
    return graph


def _require_eval(graph: Graph) -> None:
    if graph.training:
        raise ValueError("BatchNorm can be folded in eval mode only; call graph.eval() first")


def _fuse_transformer(graph: Graph) -> None:
    """Let the rows of transformer blocks run as ``InferenceBlocks``."""
    for index, module in enumerate(graph.model):
        blocks = list(module) if isinstance(module, nn.Sequential) else [module]
        if all(isinstance(block, ViTBlock) for block in blocks):
            suffix_alone = not isinstance(blocks[-1], ViTBlockPE) and _suffix_alone_is_read(graph, index)
            graph.model[index] = InferenceBlocks(blocks, suffix_alone).eval()


def _suffix_alone_is_read(graph: Graph, index: int) -> bool:
    """Return whether whatever reads a row of tokens reads those behind the patches and no others."""
    readers = [row.index for row in graph.spec.rows if index in row.sources]
    for reader in readers:
        module = graph.model[reader]
        if isinstance(module, TokenNorm):
            if not _suffix_alone_is_read(graph, reader):
                return False
        elif not (isinstance(module, Head) and module.reads_suffix_alone):
            return False
    return bool(readers)


def _fold_children(module: nn.Module, conv: str, norm: str) -> None:
    """Fold the norm of a module into its convolution where that can be; both are named."""
    first, second = getattr(module, conv), getattr(module, norm)
    if _foldable(first, second):
        setattr(module, conv, _folded(first, second))
        setattr(module, norm, nn.Identity())


def _fold_neighbours(stack: nn.Sequential) -> None:
    """Fold a Sequential's BatchNorms into the convolutions right before them."""
    for position, (first, second) in enumerate(pairwise(list(stack))):
        if _foldable(first, second):
            stack[position] = _folded(first, second)
            stack[position + 1] = nn.Identity()


def _folded(conv: Convolution, norm: nn.BatchNorm2d | FrozenNorm | PerHead) -> nn.Module:
    """Return the convolution with the norm folded into it, or a copy of it for every head that has its own norm."""
    if isinstance(norm, PerHead):
        return PerHead({head: _folded(copy.deepcopy(conv), own) for head, own in norm.items()}, norm.selection)
    fold(conv, norm)
    return conv


def _foldable(conv: nn.Module, norm: nn.Module) -> bool:
    """Return whether the two are a convolution and a BatchNorm with fixed statistics of its output, or several."""
    if isinstance(norm, PerHead):
        return all(_foldable(conv, own) for _, own in norm.items())
    return (
        isinstance(conv, Convolution)
        and (isinstance(norm, FrozenNorm) or (isinstance(norm, nn.BatchNorm2d) and not norm.training))
        and norm.running_mean is not None
        and norm.num_features == conv.out_channels
    )


@torch.no_grad()
def fold(conv: Convolution, norm: nn.BatchNorm2d | FrozenNorm) -> None:
    """Give a convolution the weights and the bias that make it answer as ``norm(conv(x))`` does.

    With ``s = gamma / sqrt(variance + eps)`` per output channel: ``weight * s`` and ``(bias - mean) * s + beta``,
    computed in float64 and stored in the convolution's own format and memory layout.

    Args:
        conv: changed in place; it gets a bias if it has none.
        norm: BatchNorm of its output channels, with running statistics; not changed.
    """
    scale, shift = scale_and_shift(norm)
    if conv.bias is not None:
        shift += conv.bias.double() * scale
    conv.weight.copy_(conv.weight.double() * _per_weight(scale, conv))
    if conv.bias is None:
        conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
    else:
        conv.bias.copy_(shift)


def _per_weight(scale: Tensor, conv: Convolution) -> Tensor:
    """Shape (out channels,) factors so that they multiply a convolution's weight.

    A transposed convolution's weight is (in, out / groups, rows, columns), each group's inputs with its own outputs.
    """
    if not isinstance(conv, nn.ConvTranspose2d):
        return scale.view(-1, 1, 1, 1)
    per_input = scale.view(conv.groups, -1).repeat_interleave(conv.in_channels // conv.groups, 0)
    return per_input[:, :, None, None]
