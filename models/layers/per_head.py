"""One module for each head in a place that several heads run through: a BatchNorm of one's own in a shared row.

Images of different tasks seldom have the same statistics. With a norm for every head, the convolutions are shared and
the statistics, scales and shifts are not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

PREFIX = "for_"


@dataclass
class Selection:
    """The head that a graph is running at the moment; all ``PerHead`` modules of the graph look here.

    Attributes:
        name: of the head; empty stands for each module's first one.
    """

    name: str = ""


class PerHead(nn.Module):
    """Stands where one module would stand, and runs the one that belongs to the head being run.

    The modules' tensors are named ``for_HEAD.NAME``.

    Args:
        modules: one for each head, by the head's name.
        selection: says which head is being run; shared by all of a graph.
    """

    def __init__(self, modules: Mapping[str, nn.Module], selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.heads = tuple(modules)
        for name, module in modules.items():
            # The prefix keeps heads named 'train' or 'forward' from hiding what every module has.
            self.add_module(PREFIX + name, module)

    def of(self, head: str) -> nn.Module:
        """Return the module of a head; of the first one where the name is empty or has no module."""
        return self._modules[PREFIX + (head if head in self.heads else self.heads[0])]

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield every head's name and module."""
        return ((name, self.of(name)) for name in self.heads)

    @staticmethod
    def head_of(child_name: str) -> str:
        """Return the head that a child's name stands for."""
        return child_name.removeprefix(PREFIX)

    def forward(self, x: Tensor) -> Tensor:
        """Run the module of the head being run."""
        return self.of(self.selection.name)(x)

    def extra_repr(self) -> str:
        """Return the heads' names."""
        return ", ".join(self.heads)


def split_norms(rows: Sequence[nn.Module], users: Sequence[Sequence[str]]) -> list[nn.Module]:
    """Give every head its own copy of the BatchNorms of the rows that it shares with others.

    Args:
        rows: the rows' modules; changed in place.
        users: for every row the heads that run through it.

    Returns:
        The rows; one that is itself a BatchNorm is replaced.
    """
    selection = Selection()
    replaced = []
    for row, names in zip(rows, users, strict=True):
        if len(names) > 1:
            row = _split_within(row, names, selection)
        replaced.append(row)
    return replaced


def _split_within(module: nn.Module, names: Sequence[str], selection: Selection) -> nn.Module:
    """Replace a BatchNorm, or those in a module, by one for every head."""
    if isinstance(module, nn.BatchNorm2d):
        return PerHead({name: copy.deepcopy(module) for name in names}, selection)
    for child_name, child in module.named_children():
        split = _split_within(child, names, selection)
        if split is not child:
            setattr(module, child_name, split)
    return module


def selection_of(module: nn.Module) -> Selection | None:
    """Return what selects the head within a module; None where nothing is kept per head."""
    return next((child.selection for child in module.modules() if isinstance(child, PerHead)), None)
