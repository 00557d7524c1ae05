"""One pass on the meta device: every row's output shape, stride, parameters and operations, without any memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.heads.base import Head
from models.memory import Memory, Queries
from models.operations import Counter, count_nothing, count_operations
from models.registry import row_input
from models.row_kinds import Kind
from models.row_use import runs_of_rows
from models.spec import ModelSpec, RowSpec
from models.tokens import Tokens, tensors_of
from utils.errors import ModelError

TRACE_SIZE = 256
USUAL_STRIDE = 32
Record = Tokens | Memory | Queries
"""What rows give that is no map: named tuples that tell their ``layout`` and the ``rows`` of their finest grid."""
KINDS = {Tokens: Kind.TOKENS, Memory: Kind.MEMORY, Queries: Kind.QUERIES}


@dataclass(frozen=True)
class RowTrace:
    """What a row gives.

    Attributes:
        shapes: shapes of its outputs at the traced size; several for a head.
        stride: input pixels per output pixel or patch along y; for a head its largest source stride.
        parameters: trainable parameters.
        flops: floating-point operations per image at the traced size when all heads are asked for, a multiply-add
            counting as two; a head's decoding is counted with it, and under ``bn: per-task`` a shared row once for
            every head that uses it. With another counter than the usual one, by that one's convention.
        kind: what it gives; None for a head.
        layout: of what is no map, such as ``1+16x16+100 tokens of 192``; else None.
    """

    shapes: list[tuple[int, ...]]
    stride: int
    parameters: int
    flops: int
    kind: Kind | None = Kind.MAP
    layout: str | None = None


def input_stride(spec: ModelSpec, traces: Sequence[RowTrace]) -> int:
    """Return what height and width of network inputs are multiples of, in pixels.

    The YAML says it, see ``require_fitting_stride``; else it is 32, or the largest stride of a row.
    """
    return spec.input.stride or max(USUAL_STRIDE, *(row.stride for row in traces))


def require_fitting_stride(spec: ModelSpec, modules: list[nn.Module], traces: Sequence[RowTrace]) -> None:
    """Try sizes that only the YAML's stride allows, where it says one below that of its rows.

    On both sides of a size that fits all rows, halves are odd on every level, rounded up or down.

    Args:
        spec: the model.
        modules: one per row, built on the meta device.
        traces: of a size that fits.

    Raises:
        ModelError: rows cannot take such a size.
    """
    stride, largest = spec.input.stride, max(row.stride for row in traces)
    if stride is None or stride % largest == 0:
        return
    common = math.lcm(stride, largest)
    fitting = -(-TRACE_SIZE // common) * common
    size = (fitting + stride, fitting - stride if fitting > stride else fitting)
    try:
        trace_rows(spec, modules, size, count_nothing)
    except ModelError as error:
        reason = str(error).removeprefix(f"{spec.source}, ").rstrip(".")
        raise ModelError(
            f"{spec.source}: 'input' has stride {stride}, but rows have strides up to 1/{largest} that do not fit "
            f"together at {size[0]}x{size[1]} pixels: {reason}; write stride {common} or leave it out"
        ) from None


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
    image = torch.empty((1, spec.channels, *image_size), device="meta")
    outputs: dict[int, Any] = {-1: image}
    strides: dict[int, int] = {-1: 1}
    covered: dict[int, int] = {-1: image_size[0]}
    traces: list[RowTrace] = []
    runs = runs_of_rows(spec, {str(i): i for i, module in enumerate(modules) if isinstance(module, Head)})
    for row, module in zip(spec.rows, modules, strict=True):
        module.eval()
        inputs = [outputs[source] for source in row.sources]
        is_head = isinstance(module, Head)
        if getattr(module, "same_size_inputs", False):
            _check_same_size(spec, row, inputs, strides)
        try:
            with torch.no_grad(), _shapes_of_norms(module), count(module) as counted:
                result = module(row_input(module, inputs))
                if is_head:
                    module.set_strides([strides[source] for source in row.sources])
                    # Class maps are enlarged only when they are asked for.
                    getattr(module.predict(result, image_size), "logits", None)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
            raise ModelError(_misfit(spec, row, inputs, strides, error)) from None
        shapes = [tuple(tensor.shape) for tensor in tensors_of(result)]
        if not (is_head or isinstance(result, Record) or _is_map(result)):
            raise ModelError(_misfit(spec, row, inputs, strides, ValueError("it does not give a feature map")))
        covered[row.index] = _covered(module, result, inputs[0], covered[row.sources[0]])
        largest = max(strides[source] for source in row.sources)
        rows = None if is_head else _rows(result)
        strides[row.index] = largest if rows is None else round(covered[row.index] / rows)
        outputs[row.index] = result
        parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
        kind = None if is_head else KINDS.get(type(result), Kind.MAP)
        layout = result.layout if isinstance(result, Record) else None
        traces.append(RowTrace(shapes, strides[row.index], parameters, counted[0] * runs[row.index], kind, layout))
    return traces


@contextmanager
def _shapes_of_norms(module: nn.Module) -> Iterator[None]:
    """Let BatchNorms give their shape alone: PyTorch works them out in Python here, which is half of a trace's time."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.forward = partial(_shape_of_norm, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _shape_of_norm(norm: nn.BatchNorm2d, values: Tensor) -> Tensor:
    if values.dim() == 4 and values.shape[1] == norm.num_features:
        return torch.empty_like(values)
    return type(norm).forward(norm, values)  # which refuses them in PyTorch's words


def _is_map(result: Any) -> bool:
    return isinstance(result, Tensor) and result.dim() == 4 and 0 not in result.shape


def _covered(module: nn.Module, result: Any, source: Any, covered: int) -> int:
    """Return how many rows of the image a row's output stands for, from one of its sources."""
    if isinstance(result, Tokens) and not isinstance(source, Tokens):
        return result.grid[0] * module.layout.patch  # patches that do not divide the image leave a strip out
    return covered


def _rows(output: Tensor | Record) -> int | None:
    return output.rows if isinstance(output, Record) else output.shape[2]


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


def _content(output: Tensor | Record) -> str:
    return output.layout if isinstance(output, Record) else f"{output.shape[1]} channels"


def _misfit(spec: ModelSpec, row: RowSpec, inputs: list[Any], strides: dict[int, int], error: Exception) -> str:
    """Return the sentence for a module that cannot take its inputs."""
    parts = [
        f"{'the image' if source < 0 else f'row {source}'} with {_content(x)} at 1/{strides[source]}"
        for source, x in zip(row.sources, inputs, strict=True)
    ]
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    order = [strides[source] for source in row.sources]
    mend = "change 'from' or the arguments" if order == sorted(order) else "list the rows in 'from' from fine to coarse"
    return f"{spec.where(row)}: it cannot take {' and '.join(parts)}: {reason}; {mend}"
