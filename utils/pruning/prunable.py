"""The weights of a model that can be pruned: those of convolutions and linear layers, row by row."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from models.graph import Graph
from models.heads.base import Head
from models.layers.activations import FReLU
from models.layers.conv import Conv
from models.layers.frozen_norm import FrozenNorm
from models.layers.per_head import PerHead
from models.layers.resnet import ConvNorms
from models.layers.shared_conv import SharedConv

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
NORMS = (nn.BatchNorm2d, FrozenNorm)


@dataclass(frozen=True)
class Prunable:
    """One weight.

    Attributes:
        row: that it belongs to.
        name: of the tensor in the model's state dict.
        layer: that has it.
        parameter: its name there.
        channels: the dimension of its output channels; None where none of them may be missing: they are what a head
            answers, there is only one, or groups share them.
    """

    row: int
    name: str
    layer: nn.Module
    parameter: str
    channels: int | None
    norms: tuple[nn.Module, ...] = ()

    @property
    def value(self) -> nn.Parameter:
        """The weight itself."""
        return getattr(self.layer, self.parameter)


def prunable_weights(graph: Graph, rows: Collection[int] | None = None) -> list[Prunable]:
    """Return the weights that can be pruned, in the order of the rows; one that several layers share comes once.

    Norms, biases, tokens and tables of positions or queries are not among them.

    Args:
        graph: the model.
        rows: take these alone; None takes all.
    """
    found: dict[int, Prunable] = {}
    for row, module in enumerate(graph.model):
        if rows is None or row in rows:
            for weight in _weights_of(row, module):
                found.setdefault(id(weight.value), weight)
    return list(found.values())


def _weights_of(row: int, module: nn.Module) -> Iterator[Prunable]:
    norms = _norms_behind(module)
    for path, layer in module.named_modules(prefix=f"model.{row}"):
        if isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None:
            yield Prunable(row, f"{path}.in_proj_weight", layer, "in_proj_weight", 0)
        elif isinstance(layer, LAYERS):
            # What goes through a norm is never what a head answers.
            answers = isinstance(module, Head) and layer not in norms
            channels = None if answers else _channels(layer)
            yield Prunable(row, f"{path}.weight", layer, "weight", channels, norms.get(layer, ()))


def _norms_behind(module: nn.Module) -> dict[nn.Module, tuple[nn.Module, ...]]:
    """Return the norms of every layer of a row that some follow directly, as ``models.fusing`` finds them."""
    pairs: list[tuple[nn.Module, nn.Module]] = []
    for block in module.modules():
        if isinstance(block, Conv | FReLU | SharedConv):
            pairs.append((block.conv, block.bn))
        elif isinstance(block, ConvNorms):
            pairs += [(getattr(block, conv), getattr(block, norm)) for conv, norm in block.pairs]
        elif isinstance(block, nn.Sequential):
            pairs += pairwise(block)
    found = {layer: _single_norms(behind) for layer, behind in pairs if isinstance(layer, CONVOLUTIONS)}
    return {layer: norms for layer, norms in found.items() if norms}


def _single_norms(module: nn.Module) -> tuple[nn.Module, ...]:
    """Return a norm as it is, and those of every head or level one by one; nothing where it is no norm."""
    if isinstance(module, PerHead | nn.ModuleList):
        return tuple(norm for child in module.children() for norm in _single_norms(child))
    return (module,) if isinstance(module, NORMS) else ()


def _channels(layer: nn.Module) -> int | None:
    """Return the dimension of a layer's output channels, where one of them can be taken out by itself."""
    if not isinstance(layer, nn.ConvTranspose2d):
        return 0 if layer.weight.shape[0] > 1 else None
    # Its weight is (in, out / groups, rows, columns): with groups, an index there stands for a channel of every group.
    return 1 if layer.groups == 1 and layer.weight.shape[1] > 1 else None
