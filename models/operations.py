"""Counting the operations of a row's module while it runs, by each of two published conventions.

``count_operations`` counts as the tables of YOLOv5 do, ``count_mac_based`` as those of MMDetection, MMYOLO and YOLO-MS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.heads.base import Head

Counter = Callable[[nn.Module], AbstractContextManager[list[int]]]
"""Counts the operations of a module while its context is open; the only item of what it yields is then the sum."""

# The published tables count a normalisation with its affine part as four multiply-adds per value and a bilinear
# enlargement as eleven; ours are compared with them, so the same convention holds here.
NORM_FLOPS_PER_VALUE = 8
BILINEAR_FLOPS_PER_VALUE = 22
BATCHNORM_PER_VALUE = 2
"""Operations of the convention based on multiply-accumulates."""


@contextmanager
def count_nothing(_: nn.Module) -> Iterator[list[int]]:
    """Count nothing, in less time."""
    yield [0]


@contextmanager
def count_operations(module: nn.Module) -> Iterator[list[int]]:
    """Count as YOLOv5's tables do: a multiply-add is two operations, a normalised value eight, decoding included."""
    total = [0]

    def count_norm(_: nn.Module, __: Any, output: Tensor) -> None:
        total[0] += NORM_FLOPS_PER_VALUE * output.numel()

    def leave_out(_: nn.Module, __: Any) -> None:
        total[0] += counter.get_total_flops()

    def count_again(_: nn.Module, __: Any, ___: Any) -> None:
        total[0] -= counter.get_total_flops()

    mapping = {torch.ops.aten.upsample_bilinear2d: _bilinear_flops, **_WEIGHTED_SUMS}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)]
    handles = [norm.register_forward_hook(count_norm) for norm in norms]
    # The published tables pass over some modules; a block names those of its children in `uncounted`.
    for child in (getattr(m, name) for m in module.modules() for name in getattr(m, "uncounted", ())):
        handles += [child.register_forward_pre_hook(leave_out), child.register_forward_hook(count_again)]
    try:
        with counter:
            yield total
    finally:
        for handle in handles:
            handle.remove()
        total[0] += counter.get_total_flops()


@contextmanager
def count_mac_based(module: nn.Module) -> Iterator[list[int]]:
    """Count as the tables of MMDetection's family do.

    A multiply-accumulate of a convolution or a matrix product is one operation; a value that a BatchNorm gives counts
    two, one that an enlargement gives one, one that goes into an adaptive pooling one, and the decoding of a
    prediction what its head says (``Head.counted_decoding``). All else is free: activations, biases, other pools, sums.
    The published numbers are those of re-parameterised models whose other BatchNorms are not folded.
    """
    total = [0]

    def count_norm(_: nn.Module, __: Any, output: Tensor) -> None:
        total[0] += BATCHNORM_PER_VALUE * output.numel()

    def end(head: nn.Module, _: Any, output: Any) -> None:
        # What comes behind the module's own forward pass, decoding, is counted by rule.
        total[0] += _sum_of(counter)
        if isinstance(head, Head) and head.counted_decoding:
            total[0] += head.counted_decoding * sum(math.prod(level.shape[-2:]) for level in output)

    counter = FlopCounterMode(display=False, custom_mapping={**_SINGLE_OPERATIONS, **_WEIGHTED_SUMS})
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [norm.register_forward_hook(count_norm) for norm in norms]
    handles.append(module.register_forward_hook(end))
    try:
        with counter:
            yield total
    finally:
        for handle in handles:
            handle.remove()


def _sum_of(counter: FlopCounterMode) -> int:
    """Return the operations counted so far; PyTorch counts a multiply-accumulate as two."""
    counts = counter.get_flop_counts().get("Global", {})
    return sum(count if operation in _SINGLE_OPERATIONS else count // 2 for operation, count in counts.items())


def _bilinear_flops(*_: Any, out_shape: torch.Size, **__: Any) -> int:
    return BILINEAR_FLOPS_PER_VALUE * math.prod(out_shape)


def _values_out(*_: Any, out_shape: torch.Size, **__: Any) -> int:
    return math.prod(out_shape)


def _values_in(in_shape: torch.Size, *_: Any, **__: Any) -> int:
    return math.prod(in_shape)


def _bag_flops(table_shape: torch.Size, places_shape: torch.Size, *_: Any, **__: Any) -> int:
    """Return the operations of sums of table rows, each with a weight: a multiply-add for every value of every row."""
    return 2 * math.prod(places_shape) * table_shape[-1]


_WEIGHTED_SUMS = {
    torch.ops.aten._embedding_bag: _bag_flops,
    torch.ops.aten._embedding_bag_forward_only: _bag_flops,
}
"""How deformable attention takes its values, in the form that runs here."""

# An adaptive pooling to a single value arrives as a mean.
_SINGLE_OPERATIONS = {
    torch.ops.aten.upsample_nearest2d: _values_out,
    torch.ops.aten.upsample_bilinear2d: _values_out,
    torch.ops.aten._adaptive_avg_pool2d: _values_in,
    torch.ops.aten.mean: _values_in,
}
