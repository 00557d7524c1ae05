"""Suppression within a file: an operator that ONNX has, and a loop that TorchScript keeps.

Both take all pairs of box and class of a batch and answer in the same shape, so nothing else in a file depends on how
many pairs there are.

Shape suffixes: B images, P pairs of box and class, k pairs above the threshold in the picture with the most of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

GONE = -1.0
"""Confidence of a pair that is no object, because it is not confident enough or because it is suppressed."""


def suppressed(
    boxes: Tensor, confidences: Tensor, classes: Tensor, overlap: float, most: int, num_classes: int
) -> Tensor:
    """Return the confidences of the pairs with ``GONE`` for those that a stronger pair of their class suppresses.

    Args:
        boxes: (B, P, 4) x1 y1 x2 y2 in pixels.
        confidences: (B, P), ``GONE`` for pairs that do not count; others are above 0.
        classes: (B, P) int64.
        overlap: above which the weaker one goes, 0..1.
        most: objects that are wanted of a picture; weaker ones may stay or be ``GONE``.
        num_classes: classes are below it.
    """
    if torch.compiler.is_exporting():
        return torch.ops.yolograph.suppressed(boxes, confidences, classes, overlap, most, num_classes)
    # A recording keeps the loop of a scripted function, and needs no library but PyTorch's own.
    loop = _scripted() if torch.jit.is_tracing() else one_by_one
    return loop(boxes, confidences, classes, overlap, most)


def one_by_one(boxes: Tensor, confidences: Tensor, classes: Tensor, overlap: float, most: int) -> Tensor:
    """Do what ``suppressed`` does: of all pictures at once, take the strongest pair left, and drop what it covers.

    It is also compiled as TorchScript, which knows few types.
    """
    gone = torch.full_like(confidences, -1.0)
    count = int((confidences >= 0).sum(1).max())
    if count == 0:
        return gone
    best, pairs = confidences.topk(count, 1)
    own = boxes.gather(1, pairs.unsqueeze(-1).expand(-1, -1, 4))
    own_classes = classes.gather(1, pairs)
    area = (own[:, :, 2] - own[:, :, 0]) * (own[:, :, 3] - own[:, :, 1])
    places = torch.arange(count, device=boxes.device).unsqueeze(0)
    left = best >= 0
    kept = torch.zeros_like(left)
    for _ in range(most):
        if not bool(left.any()):
            break
        first = torch.where(left, places, count - 1).amin(1, keepdim=True)
        chosen = left & (places == first)
        kept = kept | chosen
        box = own.gather(1, first.unsqueeze(-1).expand(-1, -1, 4))
        sides = (torch.minimum(own, box)[:, :, 2:] - torch.maximum(own, box)[:, :, :2]).clamp(min=0)
        common = sides[:, :, 0] * sides[:, :, 1]
        covered = common / (area + area.gather(1, first) - common) > overlap
        left = left & ~chosen & ~(covered & (own_classes == own_classes.gather(1, first)))
    return gone.scatter(1, pairs, torch.where(kept, best, -1.0))


@cache
def _scripted() -> Callable[..., Tensor]:
    return torch.jit.script(one_by_one)


@torch.library.custom_op("yolograph::suppressed", mutates_args=())
def _operator(
    boxes: Tensor, confidences: Tensor, classes: Tensor, overlap: float, most: int, num_classes: int
) -> Tensor:
    return one_by_one(boxes, confidences, classes, overlap, most)


@_operator.register_fake
def _(boxes: Tensor, confidences: Tensor, classes: Tensor, overlap: float, most: int, num_classes: int) -> Tensor:
    return torch.empty_like(confidences)


def onnx_translations() -> dict[Any, Callable[..., Any]]:
    """Return how the exporter writes the operator: by ONNX's own suppression, whose answer is put back in place."""
    from onnxscript import opset18 as op

    def translated(boxes: Any, confidences: Any, classes: Any, overlap: float, most: int, num_classes: int) -> Any:
        numbers = op.Constant(value_ints=list(range(num_classes)))
        of_class = op.Equal(op.Unsqueeze(classes, [1]), op.Reshape(numbers, [1, num_classes, 1]))
        by_class = op.Where(of_class, op.Unsqueeze(confidences, [1]), op.Constant(value_float=GONE))
        # Rows of picture, class and pair; their number is that of what stays.
        stay = op.NonMaxSuppression(
            boxes,
            by_class,
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[overlap]),
            op.Constant(value_floats=[0.0]),
        )
        places = op.Gather(stay, op.Constant(value_ints=[0, 2]), axis=1)
        nothing = op.Expand(op.Constant(value_float=GONE), op.Shape(confidences))
        return op.ScatterND(nothing, places, op.GatherND(confidences, places))

    return {torch.ops.yolograph.suppressed.default: translated}
