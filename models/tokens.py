"""What rows of a transformer hand on: a sequence of tokens that knows where its patches lie in the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Sizes = tuple[tuple[int, int], ...]
"""Height and width of every picture's valid area in input pixels, from the top left corner."""


class Tokens(NamedTuple):
    """Tokens of a batch of pictures: some in front, one for every patch row by row, some behind.

    Attributes:
        values: (B, T, d), T = prefix + rows * columns + suffix.
        grid: rows and columns of patches.
        prefix: tokens in front of the patches, such as one [CLS].
        suffix: tokens behind the patches, such as the [DET] tokens.
        mask: (B, 1, 1, T) bool, True where a token may be attended to; None where all may be.
        sizes: height and width of each picture in input pixels, measured from the top left corner; None where every
            picture fills its input.
    """

    values: Tensor
    grid: tuple[int, int]
    prefix: int
    suffix: int
    mask: Tensor | None = None
    sizes: Sizes | None = None

    @property
    def layout(self) -> str:
        """Such as ``1+16x16+100 tokens of 192``."""
        rows, columns = self.grid
        return f"{self.prefix}+{rows}x{columns}+{self.suffix} tokens of {self.values.shape[-1]}"

    @property
    def rows(self) -> int:
        """Rows of patches."""
        return self.grid[0]

    @property
    def patches(self) -> Tensor:
        """The patches' tokens (B, rows * columns, d); a view."""
        return self.values[:, self.prefix : self.values.shape[1] - self.suffix]

    @property
    def last(self) -> Tensor:
        """The tokens behind the patches (B, suffix, d); a view."""
        return self.values[:, self.values.shape[1] - self.suffix :]


class TokenWidth(int):
    """Channels of a row that gives tokens, with what the rows behind it must know about them.

    Rows are built from the channels of their sources, so what is said here reaches them as their ``c_in``.

    Attributes:
        patch: side of a patch in input pixels.
        prefix: tokens in front of the patches.
        suffix: tokens behind the patches.
    """

    patch: int
    prefix: int
    suffix: int

    def __new__(cls, width: int, patch: int, prefix: int, suffix: int) -> TokenWidth:
        made = super().__new__(cls, width)
        made.patch, made.prefix, made.suffix = patch, prefix, suffix
        return made

    def __getnewargs__(self) -> tuple[int, int, int, int]:
        return int(self), self.patch, self.prefix, self.suffix


def padded_sizes(sizes: Sequence[tuple[int, int]] | None, images: Tensor) -> Sizes | None:
    """Return the valid areas of a batch's pictures, or None where each of them fills its input.

    Args:
        sizes: (height, width) in input pixels per picture, or None.
        images: (B, C, H, W).

    Raises:
        ValueError: there is not one size for every picture, or one of them is no area within the input.
    """
    if sizes is None:
        return None
    count, (height, width) = images.shape[0], images.shape[-2:]
    if len(sizes) != count:
        raise ValueError(f"{count} pictures have {len(sizes)} sizes; give one (height, width) for every picture")
    found = tuple((rows, columns) for rows, columns in sizes)
    for rows, columns in found:
        if not (1 <= rows <= height and 1 <= columns <= width):
            raise ValueError(f"a picture of {rows}x{columns} pixels does not lie within an input of {height}x{width}")
    return None if all(size == (height, width) for size in found) else found


def tensors_of(output: Any) -> Iterable[Tensor]:
    """Yield every tensor of a row's output: a map, tokens, memory, queries, or what a head gives."""
    if isinstance(output, Tensor):
        yield output
        return
    if isinstance(output, dict):
        output = output.values()
    if isinstance(output, Iterable) and not isinstance(output, str | bytes):
        for entry in output:
            yield from tensors_of(entry)


def inside_areas(sizes: Sizes, canvas: tuple[int, int], device: torch.device) -> Tensor:
    """Return which places of padded pictures lie in the picture itself.

    Args:
        sizes: rows and columns of each picture, from the top left corner.
        canvas: rows and columns of the padded batch.
        device: of the mask; nobody waits for it.

    Returns:
        (B, rows, columns) bool.
    """
    sides = torch.tensor(sizes, dtype=torch.int32).to(device, non_blocking=True)
    rows, columns = (torch.arange(side, device=device, dtype=torch.int32) for side in canvas)
    return (rows < sides[:, :1])[:, :, None] & (columns < sides[:, 1:])[:, None, :]


def token_mask(grids: Sizes, tokens_grid: tuple[int, int], prefix: int, suffix: int, device: torch.device) -> Tensor:
    """Return which tokens of padded pictures may be attended to.

    Args:
        grids: rows and columns of patches that lie in each picture.
        tokens_grid: rows and columns of the padded batch.
        prefix: tokens in front, which may always be attended to.
        suffix: tokens behind, the same.
        device: of the mask.

    Returns:
        (B, 1, 1, T) bool.
    """
    inside = inside_areas(grids, tokens_grid, device)
    always = inside.new_ones((len(grids), prefix + suffix))
    mask = torch.cat((always[:, :prefix], inside.flatten(1), always[:, prefix:]), 1)
    return mask[:, None, None, :]
