"""Adaptive average pooling as two matrix products, which every format can hold.

ONNX has pooling with a fixed window only, while adaptive windows differ in size and overlap wherever the output's size
does not divide the input's. Averaging rows and columns by matrices says the same for any size, also one that is known
only when the file runs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def averaging_matrix(size: int, bins: int, like: Tensor) -> Tensor:
    """Return the matrix (bins, size) that averages ``size`` values into ``bins``.

    Bin i covers the positions from ``floor(i * size / bins)`` up to, and without, ``ceil((i + 1) * size / bins)``.

    Args:
        size: number of values, 1 or more.
        bins: number of averages, 1 or more.
        like: a tensor of the wanted dtype and device.
    """
    index = torch.arange(bins, device=like.device)
    start = index * size // bins
    end = ((index + 1) * size + bins - 1) // bins
    position = torch.arange(size, device=like.device)
    covered = (position >= start[:, None]) & (position < end[:, None])
    return covered.to(like.dtype) / (end - start)[:, None].to(like.dtype)


def adaptive_average(x: Tensor, output_size: list[int]) -> Tensor:
    """Do what ``F.adaptive_avg_pool2d`` does, to float rounding.

    Args:
        x: (..., H, W).
        output_size: rows and columns of the result.
    """
    rows, columns = output_size
    if (rows, columns) == (1, 1):
        return x.mean((-2, -1), keepdim=True)
    left = averaging_matrix(x.shape[-2], rows, x)
    right = averaging_matrix(x.shape[-1], columns, x)
    return left @ x @ right.transpose(0, 1)


DECOMPOSITIONS: dict[torch._ops.OperatorBase, Callable[..., Tensor]] = {
    torch.ops.aten.adaptive_avg_pool2d.default: adaptive_average
}
"""For ``ExportedProgram.run_decompositions``."""
