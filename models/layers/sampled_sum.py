"""Weighted sums of values between the cells of several maps, by ``embedding_bag``, with gradients of its own.

All corners of all points of a query and head are one bag of rows (``models.layers.framed_maps``). Only the corners of
some queries at a time exist, in the forward pass and again in the backward pass: so they stay within the processor's
cache, and memory does not grow with the number of points.

The gradient of a row's weight is its product with the gradient of the sum. The gradients of the values are sums of bags
again, of queries this time: the points sorted by cell. Where there are few points, their corners are added one by one.
A CPU adds in the same order every time.

Shape suffixes: B images, S tokens, Q queries, M heads, L levels, K points, P = L * K points of a head, D channels of a
head.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.layers.framed_maps import CORNERS, Corners, Frames, corners_of, frames_of, steps_of, within_frame
from models.memory import Shapes
from utils.precision import full_precision

POINTS_AT_ONCE = 1 << 15
"""Points of a part on a CPU, for each of its threads."""
POINTS_AT_ONCE_ON_DEVICES = 1 << 18


def sampled_sum(values: Tensor, shapes: Shapes, cells: Tensor, weights: Tensor, start: Tensor | None = None) -> Tensor:
    """Return the weighted sums of values at places that are counted in cells.

    Args:
        values: (B, S, M, D), levels one after the other, each row by row.
        shapes: rows and columns of every level.
        cells: (B, Q, 2, M, P), x and y; the middle of a map's first cell is (0, 0). Levels follow each other in P, with
            as many points each.
        weights: (B, Q, M, P).
        start: (B or 1, Q, 2, P), added to the cells of every head; it learns nothing.

    Returns:
        (B, Q, M * D) of the values' type.
    """
    full = (full_precision(part) for part in (cells, weights))
    return _SampledSum.apply(full_precision(values), shapes, *full, start).to(values.dtype)


class _Points(NamedTuple):
    """Arguments of ``sampled_sum`` with what is known of the maps."""

    frames: Frames
    cells: Tensor
    weights: Tensor
    start: Tensor | None

    def parts(self) -> Iterator[tuple[int, slice]]:
        """Yield image and queries of every part."""
        images, queries, heads, points = self.weights.shape
        kind = self.weights.device.type
        most = POINTS_AT_ONCE * torch.get_num_threads() if kind == "cpu" else POINTS_AT_ONCE_ON_DEVICES
        # Shapes alone have no cache to stay within.
        step = max(queries if kind == "meta" else most // (heads * points), 1)
        for image in range(images):
            for first in range(0, queries, step):
                yield image, slice(first, min(first + step, queries))

    def places(self, image: int, queries: slice) -> Tensor:
        """Return where some queries look, within the frames; a tensor of its own."""
        cells = self.cells[image, queries]
        if self.start is not None:
            cells = cells + self.start[image if self.start.shape[0] > 1 else 0, queries, :, None]
        return within_frame(cells, steps_of(self.frames, *self._kind()))

    def corners(self, image: int, queries: slice, places: Tensor) -> Corners:
        """Return the corners of these places, which are written over."""
        steps = steps_of(self.frames, *self._kind())
        return corners_of(places, self.weights[image, queries], self.frames, steps, image)

    def outside(self, places: Tensor) -> Tensor:
        """Return where moving a place along an axis changes nothing, (q, 2, M, P) bool."""
        sides = steps_of(self.frames, *self._kind()).sides
        return (places <= -1).logical_or_(places >= sides)

    def _kind(self) -> tuple[int, int, torch.dtype, torch.device]:
        return self.weights.shape[2], self.weights.shape[3], self.weights.dtype, self.weights.device


class _SampledSum(torch.autograd.Function):
    """``sampled_sum`` in full precision."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, shapes: Shapes, cells: Tensor, weights: Tensor, start: Tensor | None
    ) -> Tensor:
        """Return the sums."""
        points = _Points(_frames_for(shapes, weights), cells, weights, start)
        table = points.frames.table(values)
        ctx.frames, ctx.shape = points.frames, values.shape
        ctx.save_for_backward(table, cells, weights, start)
        flat, made = table.flatten(0, 1), values.new_empty(*weights.shape[:2], values.shape[2:].numel())
        for image, queries in points.parts():
            corners = points.corners(image, queries, points.places(image, queries))
            rows, shares = (part.flatten(2).flatten(0, 1) for part in (corners.rows, corners.shares))
            found = F.embedding_bag(rows, flat, mode="sum", per_sample_weights=shares)
            made[image, queries] = found.view(-1, made.shape[-1])
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of values, cells and weights."""
        table, cells, weights, start = ctx.saved_tensors
        points = _Points(ctx.frames, cells, weights, start)
        grad = grad.unflatten(-1, ctx.shape[2:]).contiguous()
        for_cells, for_weights = torch.empty_like(cells), torch.empty_like(weights)
        spread = None
        if ctx.needs_input_grad[0]:
            spread = (_Sorted if points.frames.margin else _OneByOne)(points, grad)
        flat = table.flatten(0, 1)
        for image, queries in points.parts():
            places = points.places(image, queries)
            outside = points.outside(places)
            corners = points.corners(image, queries, places)
            products = _products(corners, grad[image, queries], flat)
            if corners.beyond is not None:
                products.masked_fill_(corners.beyond, 0)
            _chain(corners, products, weights[image, queries], for_cells[image, queries], for_weights[image, queries])
            for_cells[image, queries].masked_fill_(outside, 0)
            if spread is not None:
                spread.add(image, queries, corners)
        return None if spread is None else spread.result(ctx.shape), None, for_cells, for_weights, None


def _chain(corners: Corners, products: Tensor, weights: Tensor, for_cells: Tensor, for_weights: Tensor) -> None:
    """Write the gradients of places and weights, given those of the corners' shares (q, M, 4, P)."""
    right, down = corners.after.unbind(1)
    upper_left, upper_right, lower_left, lower_right = products.unbind(2)
    along_top, along_bottom = upper_right - upper_left, lower_right - lower_left
    top = torch.addcmul(upper_left, along_top, right)
    downwards = torch.addcmul(lower_left, along_bottom, right).sub_(top)
    torch.addcmul(top, downwards, down, out=for_weights)
    along = along_bottom.sub_(along_top).mul_(down).add_(along_top)
    torch.mul(along, weights, out=for_cells[:, 0])
    torch.mul(downwards, weights, out=for_cells[:, 1])


def _products(corners: Corners, grad: Tensor, table: Tensor) -> Tensor:
    """Return the product (q, M, 4, P) of every corner's row with the gradient (q, M, D) of the sum that it is part of.

    On a CPU it is a product of two matrices of which only some numbers are wanted. PyTorch takes as many wanted numbers
    in a row as it has columns, also where some are the same.
    """
    rows, grad = corners.rows.flatten(2).flatten(0, 1), grad.flatten(0, 1)
    if table.device.type != "cpu" or rows.shape[1] > len(table):
        taken = table.index_select(0, rows.flatten()).view(*rows.shape, -1)
        return (taken @ grad[..., None]).view_as(corners.shares)
    _hear_of_sparse_tensors()
    begins = torch.arange(0, rows.numel() + 1, rows.shape[1], dtype=rows.dtype)
    wanted = torch.sparse_csr_tensor(
        begins, rows.flatten(), corners.shares.flatten(), (len(rows), len(table)), check_invariants=False
    )
    return torch.sparse.sampled_addmm(wanted, grad, table.T, beta=0.0).values().view_as(corners.shares)


@lru_cache(maxsize=1)
def _hear_of_sparse_tensors() -> None:
    """Let PyTorch say once, to nobody, that its sparse tensors are young; tests hold their numbers against others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


def _frames_for(shapes: Shapes, weights: Tensor) -> Frames:
    """Return how the maps lie in the table: frames, and sorting, pay where points are about as many as cells."""
    few = weights.shape[1] * weights.shape[3] < sum(rows * columns for rows, columns in shapes)
    return frames_of(shapes, 0 if few else 1)


class _OneByOne:
    """Gradients of values without frames, every corner added to its row."""

    def __init__(self, points: _Points, grad: Tensor) -> None:
        rows = grad.shape[0] * points.frames.tokens * grad.shape[2]
        self.grad, self.total = grad, grad.new_zeros(rows, grad.shape[3])

    def add(self, image: int, queries: slice, corners: Corners) -> None:
        """Add those of some queries."""
        parts = corners.shares.flatten(2)[..., None] * self.grad[image, queries, :, None]
        # With rows as int32 it takes three times as long.
        self.total.index_add_(0, corners.rows.flatten().long(), parts.flatten(0, 2))

    def result(self, shape: torch.Size) -> Tensor:
        """Return them, (B, S, M, D)."""
        return self.total.view(shape)


class _Sorted:
    """Gradients of framed values, with points sorted by their first corner: those of a cell are a bag."""

    def __init__(self, points: _Points, grad: Tensor) -> None:
        self.frames, self.weights, self.grad = points.frames, points.weights, grad
        self.firsts = torch.empty(points.weights.shape, dtype=torch.int32, device=grad.device)
        self.after = torch.empty_like(points.cells)

    def add(self, image: int, queries: slice, corners: Corners) -> None:
        """Take note of those of some queries."""
        self.firsts[image, queries], self.after[image, queries] = corners.rows[:, :, 0], corners.after

    def result(self, shape: torch.Size) -> Tensor:
        """Return them, (B, S, M, D)."""
        made = self.grad.new_empty(shape)
        for image in range(shape[0]):
            self._fill(image, made[image : image + 1])
        return made

    def _fill(self, image: int, made: Tensor) -> None:
        """Write those of one image, (1, S, M, D)."""
        rows, points = self.frames.tokens * made.shape[2], self.weights.shape[3]
        cells, order = self.firsts[image].flatten().sub_(image * rows).sort()
        bounds = torch.arange(rows + 1, dtype=torch.int32, device=cells.device)
        begins = torch.searchsorted(cells, bounds, out_int32=True)
        query, grad = (order // points).to(torch.int32), self.grad[image].flatten(0, 1)
        right, down, share = (
            part.reshape(-1).index_select(0, order)
            for part in (self.after[image, :, 0], self.after[image, :, 1], self.weights[image])
        )
        lower = share * down
        for halves in ((share - lower, CORNERS[:2]), (lower, CORNERS[2:])):
            moved = halves[0] * right
            for step, own in zip(halves[1], (halves[0] - moved, moved), strict=True):
                found = F.embedding_bag(
                    query, grad, begins, mode="sum", per_sample_weights=own, include_last_offset=True
                )
                self._move(found.view(1, self.frames.tokens, *made.shape[2:]), step, made)

    def _move(self, found: Tensor, step: tuple[int, int], made: Tensor) -> None:
        """Add what belongs to the cells that lie a step down or to the right; the step (0, 0) comes first."""
        down, right = step
        for level, (rows, columns) in enumerate(self.frames.shapes):
            frame = self.frames.framed(level, found)
            part = frame[:, 1 - down : rows + 1 - down, 1 - right : columns + 1 - right]
            target = self.frames.level(level, made)
            target.copy_(part) if step == (0, 0) else target.add_(part)
