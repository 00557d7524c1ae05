"""One pass on the meta device: every row's output shape, stride, parameters and operations, without any memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.heads.base import Head
from models.operations import Counter, count_operations
from models.row_use import runs_of_rows
from models.spec import ModelSpec, RowSpec
from utils.errors import ModelError

TRACE_SIZE = 256


@dataclass(frozen=True)
class RowTrace:
    """What a row gives.

    Attributes:
        shapes: shapes of its outputs at the traced size; several for a head.
        stride: input pixels per output pixel along y; for a head its largest source stride.
        parameters: trainable parameters.
        flops: floating-point operations per image at the traced size when all heads are asked for, a multiply-add
            counting as two; a head's decoding is counted with it, and under ``bn: per-task`` a shared row once for
            every head that uses it. With another counter than the usual one, by that one's convention.
    """

    shapes: list[tuple[int, ...]]
    stride: int
    parameters: int
    flops: int


def trace_rows(
    spec: ModelSpec,
    modules: list[nn.Module],
    image_size: tuple[int, int] = (TRACE_SIZE, TRACE_SIZE),
    count: Counter = count_operations,
) -> list[RowTrace]:
    """Run meta-device modules row by row on one image.

    Args:
        spec: the model.
        modules: one per row, built on the meta device.
        image_size: height and width in pixels.
        count: counts the operations of a row.

    Raises:
        ModelError: a row's inputs do not fit it; the sentence names the rows, their strides and sizes and the mend.
    """
    height = image_size[0]
    image = torch.empty((1, spec.channels, *image_size), device="meta")
    outputs: dict[int, Any] = {-1: image}
    strides: dict[int, int] = {-1: 1}
    traces: list[RowTrace] = []
    runs = runs_of_rows(spec, {str(i): i for i, module in enumerate(modules) if isinstance(module, Head)})
    for row, module in zip(spec.rows, modules, strict=True):
        module.eval()
        inputs = [outputs[source] for source in row.sources]
        is_head = isinstance(module, Head)
        joins = getattr(module, "same_size_inputs", False)
        if joins:
            _check_same_size(spec, row, inputs, strides)
        listed = is_head or joins or len(inputs) > 1
        try:
            with torch.no_grad(), count(module) as counted:
                result = module(inputs if listed else inputs[0])
                if is_head:
                    module.set_strides([strides[source] for source in row.sources])
                    module.predict(result, image_size)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
            raise ModelError(_misfit(spec, row, inputs, strides, error)) from None
        shapes = [tuple(tensor.shape) for tensor in _tensors(result)]
        if not is_head and (not isinstance(result, Tensor) or result.dim() != 4 or 0 in result.shape):
            raise ModelError(_misfit(spec, row, inputs, strides, ValueError("it does not give a feature map")))
        stride = max(strides[source] for source in row.sources) if is_head else round(height / result.shape[2])
        outputs[row.index], strides[row.index] = result, stride
        parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
        traces.append(RowTrace(shapes, stride, parameters, counted[0] * runs[row.index]))
    return traces


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    return [tensor for entry in result for tensor in _tensors(entry)] if isinstance(result, list | tuple) else []


def _describe(source: int, output: Any, stride: int) -> str:
    what = "the image" if source < 0 else f"row {source}"
    return f"{what} gives 1/{stride} ({output.shape[2]}x{output.shape[3]})"


def _check_same_size(spec: ModelSpec, row: RowSpec, inputs: list[Tensor], strides: dict[int, int]) -> None:
    """Refuse inputs of different height or width, naming a row that would fit."""
    if len({tuple(x.shape[2:]) for x in inputs}) == 1:
        return
    parts = [_describe(source, x, strides[source]) for source, x in zip(row.sources, inputs, strict=True)]
    wanted = strides[row.sources[0]]
    odd = next(s for s, x in zip(row.sources, inputs, strict=True) if x.shape[2:] != inputs[0].shape[2:])
    fitting = [i for i in range(row.index) if strides[i] == wanted and i not in row.sources]
    mend = f" Read row {min(fitting, key=lambda i: abs(i - odd))} (1/{wanted}) instead of row {odd}." if fitting else ""
    raise ModelError(f"{spec.where(row)}: inputs differ in stride: {', '.join(parts)}.{mend}")


def _misfit(spec: ModelSpec, row: RowSpec, inputs: list[Tensor], strides: dict[int, int], error: Exception) -> str:
    """Return the sentence for a module that cannot take its inputs."""
    parts = [
        f"{'the image' if source < 0 else f'row {source}'} with {x.shape[1]} channels at 1/{strides[source]}"
        for source, x in zip(row.sources, inputs, strict=True)
    ]
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    order = [strides[source] for source in row.sources]
    mend = "change 'from' or the arguments" if order == sorted(order) else "list the rows in 'from' from fine to coarse"
    return f"{spec.where(row)}: it cannot take {' and '.join(parts)}: {reason}; {mend}"
