"""What goes over to a model of another form: position tables of another grid, classes under other labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.heads.set_head import SetHead
from models.heads.yolos import YOLOSDetect
from models.layers.detr_queries import TwoStageQueries
from models.layers.position_tables import PositionTables, resize_table

Grid = tuple[int, int]
CLASS_LAYER = ("class_mlp.2.weight", "class_mlp.2.bias")
"""Of a YOLOSDetect, what has a row for every label."""
CLASS_LAYERS = ("class_embed.", "class_embed_o2m.")
"""How the names of such tensors begin in a decoder whose layers have class layers of their own."""
QUERY_CLASS_LAYER = ("class_embed.weight", "class_embed.bias")
"""Of a row of proposals; it says by its first row whether there is an object."""


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


def label_rows(module: nn.Module, part: str) -> list[int] | None:
    """Return which rows of a tensor stand for what another model may have in other rows.

    Args:
        module: a row of a graph.
        part: name of the tensor within it.

    Returns:
        Of a class layer the row of every class, and behind them that of no object where there is one; of that of a row
        of proposals the one row that says whether there is an object. None for any other tensor.
    """
    if isinstance(module, TwoStageQueries) and part in QUERY_CLASS_LAYER:
        return [0]
    own = part in CLASS_LAYER if isinstance(module, YOLOSDetect) else part.startswith(CLASS_LAYERS)
    if not isinstance(module, SetHead) or not own:
        return None
    labels = list(range(module.num_classes)) if module.category_ids is None else list(module.category_ids)
    return [*labels, module.labels] if isinstance(module, YOLOSDetect) else labels


def numbered_anew(value: Tensor, there: list[int], own: Tensor, here: list[int]) -> Tensor | None:
    """Return the rows of a class layer for a model that has the same classes under other labels.

    Args:
        value: the layer's tensor.
        there: its rows that are taken over, see ``label_rows``.
        own: the other model's, which keeps its own rows for all others.
        here: the rows where they go.

    Returns:
        As many rows as ``own`` has; None where the two differ in the number of classes or in width.
    """
    if len(there) != len(here) or value.shape[1:] != own.shape[1:]:
        return None
    made = own.clone()
    made[here] = value[there].to(own.dtype)
    return made
