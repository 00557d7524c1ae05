"""Rows that hand on memory and queries as those of a deformable transformer do, and do next to nothing, for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.heads.base import Head
from models.memory import Memory, MemoryWidth, Queries, QueryWidth
from models.recompute import Layered
from models.registry import Built, RowBlock, Scale, construct
from models.row_kinds import Kind
from models.tokens import Sizes, inside_areas


class LevelsForTest(Layered, RowBlock):
    """Maps side by side as memory, behind layers that are linear with dropout."""

    takes_sizes = True
    takes_list = True

    def __init__(self, in_channels: list[int], layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(in_channels[0], in_channels[0]), nn.GELU(), nn.Dropout(0.3)) for _ in range(layers)
        )

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[layers]``."""
        return Built(construct(cls, in_channels, *args), MemoryWidth(in_channels[0], len(in_channels)))

    def forward(self, maps: list[Tensor], sizes: Sizes | None = None) -> Memory:
        values = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
        for layer in self.layers:
            values = values + self.run_layer(layer, values)
        shapes = tuple((level.shape[2], level.shape[3]) for level in maps)
        mask = None if sizes is None else inside_areas(sizes, tuple(8 * n for n in shapes[0]), values.device)
        return Memory(values, shapes, None if mask is None else mask.flatten(1), None, sizes)


class QueriesForTest(RowBlock):
    """The first tokens as queries."""

    reads = (Kind.MEMORY,)

    def __init__(self, c_in: MemoryWidth, queries: int) -> None:
        super().__init__()
        self.queries, self.levels = queries, c_in.levels

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[queries]``."""
        made = construct(cls, in_channels[0], *args)
        return Built(made, QueryWidth(int(in_channels[0]), made.queries, coordinates=2, proposes=False))

    def forward(self, memory: Memory) -> Queries:
        content = memory.values[:, : self.queries]
        return Queries(content, torch.zeros_like(content), content[..., :2].sigmoid())


class DecoderForTest(Layered, Head):
    """A head that adds the mean of the memory to every query."""

    task = "detect"
    targets = ("boxes", "classes")
    evaluator = "boxes"
    loss_names = ("cls",)
    reads = (Kind.MEMORY, Kind.QUERIES)

    def __init__(self, in_channels: list[Any], num_classes: int, *, category_ids: list[int] | None = None) -> None:
        super().__init__()
        self.num_classes, self.widths = num_classes, in_channels
        self.layer = nn.Sequential(nn.Linear(int(in_channels[0]), num_classes), nn.Dropout(0.3))

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[classes]``."""
        return Built(construct(cls, in_channels, *args), 0)

    def set_strides(self, strides: list[int]) -> None:
        self.strides = strides

    def forward(self, features: list[Any]) -> Tensor:
        memory, queries = features
        return self.run_layer(self.layer, queries.content + memory.values.mean(1, keepdim=True))

    def predict(self, raw: Tensor, image_size: tuple[int, int]) -> Tensor:
        return raw


ROWS = (LevelsForTest, QueriesForTest, DecoderForTest)
