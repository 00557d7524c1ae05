"""Box formats, overlap, and the arithmetic of fitting a picture into a network's input and going back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from data.samples import Placement
from utils.environment import torchvision_ops

Array = TypeVar("Array", Tensor, np.ndarray)


def _join(parts: Sequence[Array]) -> Array:
    return torch.cat(tuple(parts), -1) if isinstance(parts[0], Tensor) else np.concatenate(parts, -1)


def xyxy_to_xywh(boxes: Array) -> Array:
    """Return (..., 4) corner boxes x1 y1 x2 y2 as centre x, centre y, width, height, in the same unit."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return _join([(low + high) / 2, high - low])


def xywh_to_xyxy(boxes: Array) -> Array:
    """Return (..., 4) boxes centre x, centre y, width, height as corners x1 y1 x2 y2, in the same unit."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return _join([centre - half, centre + half])


def box_iou_matrix(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the overlap (intersection over union, 0..1) of every box with every other.

    Args:
        boxes1: (n, 4) x1 y1 x2 y2.
        boxes2: (m, 4) x1 y1 x2 y2, same unit.

    Returns:
        (n, m) float32. Two boxes without area overlap by 0.
    """
    return torchvision_ops().box_iou(boxes1.float(), boxes2.float()).nan_to_num_(0.0)


def scale_to_native(boxes: Array, placement: Placement) -> Array:
    """Move boxes from the network's input back into the picture and clip them to it.

    Args:
        boxes: (..., 4) x1 y1 x2 y2 in network pixels; half precision is raised to float32 first.
        placement: where the picture lies in the network's input.

    Returns:
        (..., 4) float32 x1 y1 x2 y2 in native pixels, 0..width and 0..height. The input is not changed.
    """
    shift = (placement.left, placement.top, placement.left, placement.top)
    scale = (placement.scale_x, placement.scale_y, placement.scale_x, placement.scale_y)
    high = (placement.width, placement.height, placement.width, placement.height)
    if isinstance(boxes, Tensor):
        shift_4, scale_4, high_4 = torch.tensor((shift, scale, high), dtype=torch.float32, device=boxes.device)
        return ((boxes.float() - shift_4) / scale_4).clamp_min(0).minimum(high_4)
    shift_4, scale_4, high_4 = np.array((shift, scale, high), np.float32)
    return np.clip((boxes.astype(np.float32) - shift_4) / scale_4, 0, high_4)


def points_to_native(points: Array, placement: Placement) -> Array:
    """Move points from the network's input back into the picture, unclipped.

    Args:
        points: (..., 2 or more) x, y in network pixels and values that stay as they are, such as a score.
        placement: where the picture lies in the network's input.

    Returns:
        The same shape, float32, x and y in native pixels. The input is not changed.
    """
    moved = points.float().clone() if isinstance(points, Tensor) else points.astype(np.float32)
    moved[..., 0] = (moved[..., 0] - placement.left) / placement.scale_x
    moved[..., 1] = (moved[..., 1] - placement.top) / placement.scale_y
    return moved


def points_to_network(points: Array, placement: Placement) -> Array:
    """Move (..., 2 or more) points from native to network pixels, the reverse of ``points_to_native``."""
    moved = points.float().clone() if isinstance(points, Tensor) else points.astype(np.float32)
    moved[..., 0] = moved[..., 0] * placement.scale_x + placement.left
    moved[..., 1] = moved[..., 1] * placement.scale_y + placement.top
    return moved


def scale_to_network(boxes: Array, placement: Placement) -> Array:
    """Move (..., 4) corner boxes from native to network pixels, the reverse of ``scale_to_native``, unclipped."""
    scale = (placement.scale_x, placement.scale_y, placement.scale_x, placement.scale_y)
    shift = (placement.left, placement.top, placement.left, placement.top)
    if isinstance(boxes, Tensor):
        scale_4, shift_4 = torch.tensor((scale, shift), dtype=torch.float32, device=boxes.device)
        return boxes.float() * scale_4 + shift_4
    scale_4, shift_4 = np.array((scale, shift), np.float32)
    return boxes.astype(np.float32) * scale_4 + shift_4


@dataclass(frozen=True)
class LetterboxPlan:
    """How a picture is resized and padded to become a network input; all sizes in pixels.

    Attributes:
        native: (height, width) of the picture.
        resized: (height, width) after resizing.
        out: (height, width) after padding.
        top: rows of padding above; the rest lies below.
        left: columns of padding before; the rest lies behind.
        pad: grey level of the padding, 0..255.
        shrink: how pixels are resized, ``linear``, ``area`` or ``antialias``, see ``data.images.resize_image``.
        ratio: network pixels per native pixel by which labels and results move; None where each side has its own, which
            follows from the whole pixels that it is resized to.
    """

    native: tuple[int, int]
    resized: tuple[int, int]
    out: tuple[int, int]
    top: int
    left: int
    pad: int = 114
    ratio: float | None = None
    shrink: str = "linear"

    @property
    def placement(self) -> Placement:
        """The map from native to network pixels; without a ratio the scales follow the rounded size and may differ."""
        (height, width), (new_height, new_width) = self.native, self.resized
        if self.ratio is not None:
            return Placement(height, width, self.ratio, self.ratio, float(self.left), float(self.top))
        return Placement(height, width, new_width / width, new_height / height, float(self.left), float(self.top))


def _pad_before(total: int) -> int:
    # An odd row goes below and an odd column behind the picture.
    return round(total / 2 - 0.1)


def plan_letterbox(
    native: tuple[int, int], new: tuple[int, int], stride: int | None = None, scale_up: bool = True
) -> LetterboxPlan:
    """Fit a picture into a shape with its aspect kept and centre it there.

    Args:
        native: (height, width) of the picture.
        new: (height, width) to fit into.
        stride: pad only up to the next multiple of this instead of up to ``new``.
        scale_up: whether a smaller picture may be enlarged.

    Returns:
        The plan; its ``out`` is ``new``, or smaller with a stride.
    """
    ratio = min(new[0] / native[0], new[1] / native[1])
    if not scale_up:
        ratio = min(ratio, 1.0)
    # A very long, thin picture must not vanish.
    resized = max(round(native[0] * ratio), 1), max(round(native[1] * ratio), 1)
    pad = new[0] - resized[0], new[1] - resized[1]
    if stride is not None:
        pad = pad[0] % stride, pad[1] % stride
    out = resized[0] + pad[0], resized[1] + pad[1]
    return LetterboxPlan(native, resized, out, top=_pad_before(pad[0]), left=_pad_before(pad[1]))


def plan_top_left(native: tuple[int, int], new: tuple[int, int], stride: int | None = None) -> LetterboxPlan:
    """Fit a picture into the upper left corner of a shape with its aspect kept, as YOLOX does.

    Sides are cut to whole pixels and not rounded, and labels move by the one ratio that was wanted, not by what the cut
    has left of it: published weights learnt it so.

    Args:
        native: (height, width) of the picture.
        new: (height, width) to fit into.
        stride: pad only up to the next multiple of this instead of up to ``new``.
    """
    ratio = min(new[0] / native[0], new[1] / native[1])
    resized = max(int(native[0] * ratio), 1), max(int(native[1] * ratio), 1)
    pad = new[0] - resized[0], new[1] - resized[1]
    if stride is not None:
        pad = pad[0] % stride, pad[1] % stride
    return LetterboxPlan(native, resized, (resized[0] + pad[0], resized[1] + pad[1]), top=0, left=0, ratio=ratio)


LEAST_ROOM = 16
"""Pixels that a long side may be above its limit where no stride gives it room."""


def shortest_fit(sizes: np.ndarray, short: int, most: int | None, stride: int) -> np.ndarray:
    """Return the sizes that pictures get by their short side, as DETR and YOLOS resize them.

    The short side becomes ``short``, or as much less as the long one needs to stay within ``most``; the long side
    follows and is cut to a whole pixel. Then both are cut to multiples of the stride, so the aspect changes a little.
    As in the published rule the long side may come out above ``most``, because the short one was rounded up for it;
    here by a stride, or ``LEAST_ROOM`` pixels, at most, and no side is shorter than one stride. That differs from the
    published rule only for pictures at least twenty times as long as they are wide.

    Args:
        sizes: (..., 2) int, native height and width.
        short: wanted short side, pixels.
        most: greatest long side, pixels; None for any.
        stride: both sides are multiples of it, pixels.

    Returns:
        (..., 2) int64 heights and widths.
    """
    sizes = np.asarray(sizes, np.int64)
    low, high = sizes.min(-1, keepdims=True), sizes.max(-1, keepdims=True)
    side = np.full_like(low, short)
    if most is not None:
        reduced = np.maximum(np.rint(most * low / high), 1).astype(np.int64)
        side = np.where(short * high > most * low, reduced, side)
    fitted = side * sizes // low
    if most is not None:
        fitted = np.minimum(fitted, most + max(stride, LEAST_ROOM))
    return np.maximum(fitted // stride, 1) * stride


def plan_stretch(native: tuple[int, int], new: tuple[int, int]) -> LetterboxPlan:
    """Fill a (height, width) shape completely; the aspect may change and there is no padding."""
    return LetterboxPlan(native, resized=new, out=new, top=0, left=0)
