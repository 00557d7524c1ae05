"""Stochastic depth: a block's branch is left out for some pictures in training (Huang et al., arXiv:1603.09382)."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero a branch for a random part of the pictures in training; the others are enlarged so that the mean stays.

    Args:
        rate: share of the pictures, from 0 to below 1.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch (B, ...) with whole pictures zeroed."""
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        kept = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * kept.div_(keep)

    def extra_repr(self) -> str:
        """Return the rate."""
        return f"{self.rate:g}"


def set_drop_path(graph: nn.Module, rate: float) -> int:
    """Let the blocks of a model leave out their branches, the first never and the last at ``rate``.

    The rate rises linearly over all blocks of the model in the order of their rows; the branches of a block share it.
    A single block stays at 0.

    Args:
        graph: the model.
        rate: of the last block, from 0 to below 1.

    Returns:
        How many blocks there are; 0 says that the model has none to which the rate could apply.

    Raises:
        ValueError: the rate is not from 0 to below 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the rate is from 0 to below 1, but it is {rate}")
    blocks = [found for module in graph.modules() if (found := _branches(module))]
    for index, branches in enumerate(blocks):
        for branch in branches:
            branch.rate = rate * index / max(len(blocks) - 1, 1)
    return len(blocks)


def _branches(module: nn.Module) -> list[DropPath]:
    """Return what drops the branches of a block; nothing for a module that is no block."""
    return [child for child in module.children() if isinstance(child, DropPath)]
