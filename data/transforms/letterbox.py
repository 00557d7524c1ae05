"""Letterbox: a picture scaled as a whole into the network's input, the rest filled with grey.

Sizes and shapes are (height, width) in pixels. The arithmetic is ``utils.boxes.plan_letterbox``; here pixels move.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data.images import resize_image
from data.transforms.geometry import BORDER_GREY
from utils.boxes import LetterboxPlan, plan_letterbox
from utils.image_size import round_up_to_stride


def plan_for_stride(size: tuple[int, int], img_size: int, stride: int) -> LetterboxPlan:
    """Plan the smallest input whose sides are multiples of ``stride`` for one picture alone.

    Args:
        size: native size.
        img_size: longer side of the picture in the input; rounded up to the stride.
        stride: of the network, pixels.
    """
    side = round_up_to_stride(img_size, stride)
    return plan_letterbox(size, (side, side), stride=stride)


def plan_for_batch(size: tuple[int, int], img_size: int, shape: tuple[int, int]) -> LetterboxPlan:
    """Plan an input of exactly ``shape`` in which the picture's longer side is ``img_size``, or less where it must.

    Args:
        size: native size.
        img_size: greatest longer side of the picture in the input.
        shape: of the whole batch; padding may make it larger than ``img_size``.
    """
    inner = plan_letterbox(size, (min(shape[0], img_size), min(shape[1], img_size)))
    around = plan_letterbox(inner.resized, shape, scale_up=False)
    return replace(around, native=inner.native)


def apply_plan(image: np.ndarray, plan: LetterboxPlan) -> np.ndarray:
    """Resize and pad an image as planned.

    Args:
        image: (H, W, 3) uint8 of the plan's native size.
        plan: of the letterbox.

    Returns:
        (*plan.out, 3) uint8, padded with grey 114; the image itself where nothing is to be done.
    """
    resized = resize_image(image, plan.resized)
    if plan.resized == plan.out:
        return resized
    padded = np.full((*plan.out, 3), BORDER_GREY, np.uint8)
    padded[plan.top : plan.top + plan.resized[0], plan.left : plan.left + plan.resized[1]] = resized
    return padded
