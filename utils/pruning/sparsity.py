"""How many of a model's weights are zero, row by row and in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.graph import Graph
from utils.pruning.prunable import Prunable, prunable_weights
from utils.text_table import format_table


@dataclass(frozen=True)
class Sparsity:
    """Zeros among the weights of one row, or of all.

    Attributes:
        weights: values that can be pruned.
        zeros: how many of them are zero.
        channels: output channels of all layers that could do without one of theirs.
        empty_channels: how many of them have no value but zero.
    """

    weights: int
    zeros: int
    channels: int
    empty_channels: int

    @classmethod
    def of(cls, weights: Sequence[Prunable]) -> Sparsity:
        """Count the zeros of some weights."""
        channels = [
            weight.value.detach().movedim(weight.channels, 0).flatten(1)
            for weight in weights
            if weight.channels is not None
        ]
        return cls(
            sum(weight.value.numel() for weight in weights),
            sum(int((weight.value == 0).sum()) for weight in weights),
            sum(len(each) for each in channels),
            sum(int((each == 0).all(1).sum()) for each in channels),
        )

    @property
    def share(self) -> float:
        """Zeros among all values, 0..1."""
        return self.zeros / max(self.weights, 1)

    def to_plain(self) -> dict[str, int | float]:
        """Return it as plain values."""
        return {**vars(self), "sparsity": round(self.share, 6)}


def sparsity_by_row(graph: Graph) -> dict[int, Sparsity]:
    """Return the zeros of every row that has weights which can be pruned."""
    by_row: dict[int, list[Prunable]] = {}
    for weight in prunable_weights(graph):
        by_row.setdefault(weight.row, []).append(weight)
    return {row: Sparsity.of(weights) for row, weights in by_row.items()}


def sparsity_table(graph: Graph, rows: dict[int, Sparsity], total: Sparsity) -> str:
    """Return the zeros as an aligned text table, the whole in the last line.

    Args:
        graph: the model.
        rows: its zeros by row.
        total: of all rows.
    """
    lines = [[f"{row} {graph.spec.rows[row].module}", *_cells(found)] for row, found in rows.items()]
    header = ["row", "weights", "zeros", "sparsity", "channels", "of them empty"]
    return format_table(header, [*lines, ["all", *_cells(total)]])


def _cells(found: Sparsity) -> list[str]:
    counts = (f"{found.weights:,}", f"{found.zeros:,}", f"{100 * found.share:.1f} %")
    return [*counts, f"{found.channels:,}", f"{found.empty_channels:,}"]
