"""A model's rows without memory: modules, names and shapes, for whoever needs no more of a model."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from models.heads.base import Head
from models.row_building import build_rows, name_heads
from models.spec import ModelSpec


class Rows(Protocol):
    """A model of which modules, names and shapes alone are read; a ``Graph`` is one too."""

    spec: ModelSpec
    model: nn.ModuleList
    heads: dict[str, Head]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the tensors by name."""
        ...


class BlankRows(nn.Module):
    """The rows of a model on the meta device.

    A shape in a file can ask for more memory than the file has tensors for. Nothing is traced here: whether rows fit
    each other shows when the model is built.

    Args:
        spec: the model.

    Attributes:
        spec: as given.
        model: the module of every row.
        head_rows: row index of every head, by its output name.

    Raises:
        ModelError: a row cannot be built.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        with torch.device("meta"):
            built = build_rows(spec)
        self.model = nn.ModuleList(made.module for made in built)
        self.head_rows = name_heads(spec, built)

    @property
    def heads(self) -> dict[str, Head]:
        """Every head by its output name, in row order."""
        return {name: self.model[index] for name, index in self.head_rows.items()}
