"""Tensors that a project stores in other pieces than we do: thirds of one of ours, or several of ours in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]
THIRDS = 3


@dataclass(frozen=True)
class Piece:
    """A tensor as a project stores it, and where it is here.

    Attributes:
        name: its name there.
        shape: its shape.
        ours: name of our tensor that it is, or a third of; names of all that it is a stack of.
        third: which of three equal parts of ours it is along the first axis; None where it is no part.
        stacked: whether it is a stack of ours along a new first axis.
    """

    name: str
    shape: Shape
    ours: tuple[str, ...]
    third: int | None = None
    stacked: bool = False

    def of(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return it, made of our tensors."""
        if self.stacked:
            return torch.stack([state[name] for name in self.ours])
        whole = state[self.ours[0]]
        return whole if self.third is None else whole.chunk(THIRDS)[self.third]


def pieces_of(name: str, shape: Shape, theirs: Sequence[str]) -> list[Piece]:
    """Return a tensor of ours as it is stored under one name, or in equal parts under three."""
    if len(theirs) == 1:
        return [Piece(theirs[0], shape, (name,))]
    part = (shape[0] // THIRDS, *shape[1:])
    return [Piece(their, part, (name,), third) for third, their in enumerate(theirs)]


def our_state(found: Sequence[Piece], read: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """Return our tensors, made of those that a project stores.

    Args:
        found: the tensors; of one in three parts either all of them, in order, or none.
        read: returns a tensor by its name there.
    """
    state: dict[str, Tensor] = {}
    parts: dict[str, list[Tensor]] = {}
    for piece in found:
        value = read(piece.name)
        if piece.stacked:
            state.update(zip(piece.ours, (table.clone() for table in value), strict=True))
        elif piece.third is None:
            state[piece.ours[0]] = value
        else:
            parts.setdefault(piece.ours[0], []).append(value)
    return state | {name: torch.cat(values) for name, values in parts.items()}
