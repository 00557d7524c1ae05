"""What goes over to a model of another form: position tables of another grid, classes under other labels."""

from __future__ import annotations

import torch
from torch import Tensor

from models.heads.yolos import YOLOSDetect
from models.layers.position_tables import PositionTables, resize_table

Grid = tuple[int, int]
CLASS_LAYER = ("class_mlp.2.weight", "class_mlp.2.bias")
"""Of a YOLOSDetect, what has a row for every label."""


def fitted_table(value: Tensor, grid: Grid, own: Tensor, tables: PositionTables) -> Tensor | None:
    """Return a position table for the grid of another model.

    The entries in front of the patches stay as they are, and so do those behind, if both models have as many tokens
    there; else the model keeps its own.

    Args:
        value: (1, T, d), the table.
        grid: its rows and columns.
        own: (1, T', d), the model's table.
        tables: of the model, which know its grid.

    Returns:
        (1, T', d); None where the two differ in width, or the table has fewer entries than its grid.
    """
    prefix, suffix = tables.layout.prefix, tables.layout.suffix
    patches = prefix + grid[0] * grid[1]
    if value.dim() != 3 or value.shape[2] != own.shape[2] or value.shape[1] < patches:
        return None
    resized = resize_table(value[:, :patches].float(), grid, tables.grid, prefix).to(own.dtype)
    behind = value[:, patches:]
    if behind.shape[1] != suffix:
        behind = own[:, own.shape[1] - suffix :]
    return torch.cat((resized, behind.to(own.dtype)), 1)


def numbered_anew(value: Tensor, theirs: YOLOSDetect, own: Tensor, ours: YOLOSDetect) -> Tensor | None:
    """Return the rows of a class layer for a head that has the same classes under other labels.

    Args:
        value: with ``theirs.labels + 1`` rows, the last of which is that of no object.
        theirs: the head that it belongs to.
        own: the other head's, which keeps its own rows for labels without a class.
        ours: that head.

    Returns:
        As many rows as ``own`` has; None where the heads differ in the number of classes or in width.
    """
    if theirs.num_classes != ours.num_classes or value.shape[1:] != own.shape[1:]:
        return None
    labels = [
        list(range(head.num_classes)) if head.category_ids is None else list(head.category_ids)
        for head in (theirs, ours)
    ]
    made = own.clone()
    made[[*labels[1], ours.labels]] = value[[*labels[0], theirs.labels]].to(own.dtype)
    return made
