"""Letterbox: a picture scaled as a whole into the network's input, the rest filled with grey.

Sizes and shapes are (height, width) in pixels. The arithmetic is in ``utils.boxes``; here is the rule by which a model
wants its pictures, and here pixels move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data.images import resize_image
from data.transforms.geometry import BORDER_GREY
from utils.boxes import LetterboxPlan, plan_letterbox, plan_top_left
from utils.image_size import round_up_to_stride

Anchor = Literal["center", "top-left"]
ANCHORS: tuple[Anchor, ...] = ("center", "top-left")


@dataclass(frozen=True)
class LetterboxRule:
    """How a model wants pictures to lie within its input; the key ``input`` of a model's YAML says it.

    Attributes:
        anchor: ``center`` puts the picture into the middle, its sides rounded to whole pixels (YOLOv5); ``top-left``
            puts it into the corner, its sides cut to whole pixels (YOLOX).
        square: whether every input is a square, whatever the picture; otherwise only as large as the picture needs.
        pad: grey level of what the picture does not cover, 0..255.

    Raises:
        ValueError: there is no such anchor, or no such grey level.
    """

    anchor: Anchor = "center"
    square: bool = False
    pad: int = BORDER_GREY

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise ValueError(f"a letterbox is anchored at {' or '.join(ANCHORS)}, not at {self.anchor!r}")
        if isinstance(self.pad, bool) or not isinstance(self.pad, int) or not 0 <= self.pad <= 255:
            raise ValueError(f"a letterbox is padded with a grey level from 0 to 255, not {self.pad!r}")

    def __str__(self) -> str:
        """Words for people: ``top-left, square, padded with 114``."""
        return f"{self.anchor}, {'square' if self.square else 'as small as the picture allows'}, padded with {self.pad}"

    def plan(self, native: tuple[int, int], new: tuple[int, int], stride: int | None = None) -> LetterboxPlan:
        """Fit a picture into a shape.

        Args:
            native: size of the picture.
            new: size to fit into.
            stride: pad only up to the next multiple of this instead of up to ``new``; square inputs are padded whole.
        """
        fit = plan_letterbox if self.anchor == "center" else plan_top_left
        return replace(fit(native, new, None if self.square else stride), pad=self.pad)


CENTERED = LetterboxRule()
"""The rule of YOLOv5, and of every model whose YAML says nothing."""


def plan_for_stride(size: tuple[int, int], img_size: int, stride: int, rule: LetterboxRule = CENTERED) -> LetterboxPlan:
    """Plan the input for one picture alone: its sides are multiples of ``stride``, and it is the smallest one unless
    the rule wants squares.

    Args:
        size: native size.
        img_size: longer side of the picture in the input; rounded up to the stride.
        stride: of the network, pixels.
        rule: of the model.
    """
    side = round_up_to_stride(img_size, stride)
    return rule.plan(size, (side, side), stride)


def plan_for_batch(
    size: tuple[int, int], img_size: int, shape: tuple[int, int], rule: LetterboxRule = CENTERED
) -> LetterboxPlan:
    """Plan an input of exactly ``shape`` in which the picture's longer side is ``img_size``, or less where it must.

    Args:
        size: native size.
        img_size: greatest longer side of the picture in the input.
        shape: of the whole batch; padding may make it larger than ``img_size``.
        rule: of the model.
    """
    inner = rule.plan(size, (min(shape[0], img_size), min(shape[1], img_size)))
    if rule.anchor == "top-left":
        return replace(inner, out=shape)
    around = plan_letterbox(inner.resized, shape, scale_up=False)
    return replace(around, native=inner.native, pad=rule.pad)


def apply_plan(image: np.ndarray, plan: LetterboxPlan) -> np.ndarray:
    """Resize and pad an image as planned.

    Args:
        image: (H, W, 3) uint8 of the plan's native size.
        plan: of the letterbox.

    Returns:
        (*plan.out, 3) uint8, padded with the plan's grey; the image itself where nothing is to be done.
    """
    resized = resize_image(image, plan.resized)
    if plan.resized == plan.out:
        return resized
    padded = np.full((*plan.out, 3), plan.pad, np.uint8)
    padded[plan.top : plan.top + plan.resized[0], plan.left : plan.left + plan.resized[1]] = resized
    return padded
