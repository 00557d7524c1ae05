"""Learned positions of tokens: tables made for one grid of patches, resized bicubically to any other.

A table is (1, prefix + rows * columns + suffix, d): entries of the tokens in front, of the patches row by row, and of
the tokens behind. Only the patches' part is resized. The numbers are those of ``torch.nn.functional.interpolate`` with
``mode="bicubic"`` and ``align_corners=False`` (Keys 1981, a = -0.75), written as two products with small matrices: so a
batch of pictures with grids of their own is resized in one go, backward passes add up in a fixed order, and exported
graphs need no operator for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from models.tokens import Sizes, Tokens, TokenWidth

CUBIC = -0.75
"""Keys' parameter as PyTorch has it."""
KEPT_GRIDS = 8
"""Tables are kept for so many grids; pictures that share a size come together, so that few are in use at a time."""
INITIAL_STD = 0.02
SLOWEST = 100.0
"""How much slower than the fastest the slowest sine is, so that it turns once over about 600 patches."""


def grid_of(pe_size: list[int] | tuple[int, ...], patch: int) -> tuple[int, int]:
    """Return rows and columns of patches of the picture that a table is made for.

    Raises:
        ValueError: ``pe_size`` is not two whole numbers of at least a patch.
    """
    whole = len(pe_size) == 2 and all(isinstance(side, int) and not isinstance(side, bool) for side in pe_size)
    if not whole or min(pe_size) < patch:
        raise ValueError(
            f"pe_size is the height and width in pixels for which the position table is made, such as [512, 864], each "
            f"at least one patch of {patch}, but it is {list(pe_size)}"
        )
    return pe_size[0] // patch, pe_size[1] // patch


def new_table(grid: tuple[int, int], layout: TokenWidth) -> nn.Parameter:
    """Return a fresh table (1, prefix + rows * columns + suffix, d): truncated normal noise of deviation 0.02."""
    length = layout.prefix + grid[0] * grid[1] + layout.suffix
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, length, int(layout)), std=INITIAL_STD))


def sine_entries(grid: tuple[int, int], width: int) -> Tensor:
    """Return (rows * columns, d) sines and cosines of each patch's row, then of its column; d is cut to quarters.

    Their angles grow by 1 from patch to patch in the first channels and ever slower in the others.
    """
    count = width // 4
    slower = SLOWEST ** (-torch.arange(count) / max(count, 1))
    sides = [torch.arange(side)[:, None] * slower for side in grid]
    rows, columns = (torch.cat((angles.sin(), angles.cos()), 1) for angles in sides)
    both = torch.cat((rows[:, None].expand(-1, grid[1], -1), columns[None].expand(grid[0], -1, -1)), 2)
    return nn.functional.pad(both.flatten(0, 1), (0, width - both.shape[2]))


def cubic_weights(source: int, targets: Tensor, most: int) -> Tensor:
    """Return the matrices that resize a line of ``source`` values bicubically.

    Args:
        source: values of the line.
        targets: (B,) wanted lengths, each at most ``most``.
        most: rows of every matrix.

    Returns:
        (B, most, source) float32; the rows behind a wanted length are zero.
    """
    place = torch.arange(most, device=targets.device)
    where = (place + 0.5) * (source / targets.clamp(min=1)[:, None]) - 0.5
    first = where.floor()
    after = where - first
    near, far = torch.stack((after, 1 - after), -1), torch.stack((1 + after, 2 - after), -1)
    near = ((CUBIC + 2) * near - (CUBIC + 3)) * near * near + 1
    far = ((far - 5) * far + 8) * far * CUBIC - 4 * CUBIC
    taps = torch.stack((far[..., 0], near[..., 0], near[..., 1], far[..., 1]), -1)
    columns = (first[..., None] + torch.arange(-1, 3, device=targets.device)).clamp(0, source - 1)
    hits = columns[..., None] == torch.arange(source, device=targets.device)
    weights = (taps[..., None] * hits).sum(2)
    return weights * (place < targets[:, None])[..., None]


def resize_table(
    table: Tensor,
    table_grid: tuple[int, int],
    grid: tuple[int, int],
    prefix: int = 1,
    suffix: int = 0,
    grids: Sizes | None = None,
) -> Tensor:
    """Return a position table for another grid of patches.

    Args:
        table: (1, prefix + rows * columns + suffix, d).
        table_grid: its rows and columns.
        grid: wanted rows and columns.
        prefix: entries in front of the patches; they stay.
        suffix: entries behind the patches; they stay.
        grids: rows and columns of every picture of a padded batch, each within ``grid``; None where all have ``grid``.

    Returns:
        (1 or B, prefix + rows * columns + suffix, d) of the table's type. Each picture has the table of its own grid,
        in the top left corner of ``grid``; what lies in the padding is zero.
    """
    if grids is None and _same(table_grid, grid):
        return table
    width = table.shape[-1]
    if table.device.type == "meta":
        # Tables are kept, so that resizing is no part of the operations that are counted there.
        length = prefix + grid[0] * grid[1] + suffix
        return table.new_empty(1 if grids is None else len(grids), length, width)
    front, middle, back = table.split((prefix, table.shape[1] - prefix - suffix, suffix), 1)
    rows, columns = (
        _weights(table_grid[axis], grid[axis], None if grids is None else tuple(g[axis] for g in grids), table.device)
        for axis in (0, 1)
    )
    with torch.autocast(table.device.type, enabled=False):  # its reduced formats would show in the positions
        resized = rows @ middle.float().reshape(table_grid[0], -1)
        resized = columns[:, None] @ resized.unflatten(2, (table_grid[1], width))
    count = rows.shape[0]
    middle = resized.flatten(1, 2).to(table.dtype)
    return torch.cat((front.expand(count, -1, -1), middle, back.expand(count, -1, -1)), 1)


def _same(table_grid: tuple[int, int], grid: tuple[int, int]) -> bool:
    """Compare shapes, not counts: a portrait picture may have as many patches as a landscape table.

    Sides that an export leaves open are symbols. Comparing would tie it to other sides than the table's, and resizing a
    table to its own grid changes nothing.
    """
    return all(isinstance(side, int) for side in grid) and grid == table_grid


def _weights(source: int, target: int, targets: tuple[int, ...] | None, device: torch.device) -> Tensor:
    """Return ``cubic_weights`` for one grid, or for those of every picture."""
    if torch.compiler.is_compiling():
        return _make_weights(source, target, targets, device)
    return _kept_weights(source, target, targets, device)


@lru_cache(maxsize=64)
def _kept_weights(source: int, target: int, targets: tuple[int, ...] | None, device: torch.device) -> Tensor:
    # All tables of a model want the same ones. Made in inference mode they could not serve in training.
    with torch.inference_mode(False), torch.no_grad():
        return _make_weights(source, target, targets, device)


def _make_weights(source: int, target: int, targets: tuple[int, ...] | None, device: torch.device) -> Tensor:
    if targets is None:
        wanted = torch.full((1,), target, device=device)
    else:
        wanted = torch.tensor(targets).to(device, non_blocking=True)
    return cubic_weights(source, wanted, target)


class PositionTables:
    """Gives a table in the sizes that are asked for, and keeps them until the table changes.

    They are kept for each grid, type and device while no gradient is to reach the table. Any change of the table, be it
    other weights, an average, another device or another type, makes them anew. PyTorch does not count the steps of its
    fused optimizers among the changes of a tensor: so nothing is kept from a pass that learns until ``forget`` is
    called, which switching between training and inference does (``Positioned``). Copies of a model begin without any.

    Args:
        grid: rows and columns of the table.
        layout: of the tokens.
    """

    def __init__(self, grid: tuple[int, int], layout: TokenWidth) -> None:
        self.grid, self.layout = grid, layout
        self.forget()

    def forget(self) -> None:
        """Drop what is kept, and keep again from now on."""
        self._kept: tuple[Any, ...] = (None, None, None, {})
        self._learns = False

    def __deepcopy__(self, memo: dict[int, Any]) -> PositionTables:
        return PositionTables(self.grid, self.layout)

    def __reduce__(self) -> tuple[Any, ...]:
        return PositionTables, (self.grid, self.layout)

    def grids_of(self, sizes: Sizes | None) -> Sizes | None:
        """Return rows and columns of whole patches of pictures of the given sizes."""
        patch = self.layout.patch
        return None if sizes is None else tuple((height // patch, width // patch) for height, width in sizes)

    def positions(self, table: Tensor, grid: tuple[int, int], grids: Sizes | None = None) -> Tensor:
        """Return the positions of the tokens of a batch.

        Args:
            table: (1, T', d), the parameter.
            grid: rows and columns of the batch.
            grids: of every picture where the batch is padded, else None.

        Returns:
            (1 or B, T, d), see ``resize_table``.
        """
        compiling = torch.compiler.is_compiling()
        if not compiling and not self._learns and table.requires_grad and torch.is_grad_enabled():
            self.forget()
            self._learns = True
        if grids is None and _same(self.grid, grid):
            return table
        if self._learns or compiling or grids is not None or table.is_inference():
            return resize_table(table, self.grid, grid, self.layout.prefix, self.layout.suffix, grids)
        return self._kept_positions(table, grid)

    def _kept_positions(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        owner, version, pointer, found = self._kept
        # A table counts its changes; moved to another place or type, it has another address.
        fresh = owner is not None and owner() is table and version == table._version and pointer == table.data_ptr()
        found = found if fresh else {}
        key = (grid, table.dtype, table.device)
        if key not in found:
            with torch.inference_mode(False), torch.no_grad():
                made = resize_table(table.detach(), self.grid, grid, self.layout.prefix, self.layout.suffix)
            # Replaced as a whole, so that threads which share a model never see it half done.
            found = dict([*found.items(), (key, made)][-KEPT_GRIDS:])
            self._kept = (weakref.ref(table), table._version, table.data_ptr(), found)
        return found[key]

    def positions_of(self, table: Tensor, x: Tokens) -> Tensor:
        """Return the positions of given tokens, see ``positions``."""
        return self.positions(table, x.grid, self.grids_of(x.sizes) if x.mask is not None else None)


class Positioned(nn.Module):
    """A module with a parameter ``pos_embed`` that its ``tables`` resize."""

    tables: PositionTables
    pos_embed: nn.Parameter

    def train(self, mode: bool = True) -> Self:
        """Set training mode; tables of before are not handed out any more."""
        self.tables.forget()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert the module; a new place may be the address of an old one."""
        self.tables.forget()
        return super()._apply(fn, recurse)


_Model = TypeVar("_Model", bound=nn.Module)


@torch.no_grad()
def fix_tables(graph: _Model, image_size: tuple[int, int]) -> _Model:
    """Resize every position table of a model for good, in place, to the grid of one input size.

    For a copy that is going to run at that size alone, such as an exported one: nothing is left to resize then.

    Args:
        graph: the model; its YAML goes on saying the old size. Models without tables stay.
        image_size: height and width of the input in pixels.

    Returns:
        The model itself.
    """
    for module in graph.modules():
        if not isinstance(module, Positioned):
            continue
        tables, layout = module.tables, module.tables.layout
        grid = (image_size[0] // layout.patch, image_size[1] // layout.patch)
        resized = resize_table(module.pos_embed, tables.grid, grid, layout.prefix, layout.suffix).clone()
        module.pos_embed = nn.Parameter(resized, requires_grad=module.pos_embed.requires_grad)
        module.tables = PositionTables(grid, layout)
    return graph
