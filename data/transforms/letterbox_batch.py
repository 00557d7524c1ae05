"""Letterboxed pictures laid straight into one block of memory, which is used again for the next batch."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from data.images import resize_image
from data.samples import largest_size
from utils.boxes import LetterboxPlan


class LetterboxBatch:
    """A block for the inputs of a batch. Padding is painted again only where a picture lies otherwise than before.

    Args:
        pinned: keep the block where a GPU can read it without a copy in between.
    """

    def __init__(self, pinned: bool = False) -> None:
        self._pinned = pinned
        self._block = torch.empty((0, 0, 0, 3), dtype=torch.uint8)
        self._plans: list[LetterboxPlan | None] = []

    def fill(self, images: Sequence[np.ndarray], plans: Sequence[LetterboxPlan]) -> Tensor:
        """Resize and pad pictures as planned.

        Args:
            images: (H, W, 3) uint8 each, of their plans' native sizes.
            plans: of the letterboxes. Where their ``out`` differ, inputs lie in the upper left corner of the smallest
                canvas that holds all, with 0 beyond.

        Returns:
            (N, 3, H, W) uint8, a channels-last view of the block, so the next call changes it.
        """
        self._make_room(len(images), largest_size([plan.out for plan in plans]))
        for i, (image, plan) in enumerate(zip(images, plans, strict=True)):
            canvas = self._block[i].numpy()
            if self._plans[i] != plan:
                self._plans[i] = plan
                height, width = plan.out
                canvas[:height, :width] = plan.pad
                canvas[:height, width:] = 0
                canvas[height:] = 0
            _resize_into(image, plan, canvas)
        return self._block[: len(images)].permute(0, 3, 1, 2)

    def _make_room(self, count: int, size: tuple[int, int]) -> None:
        if tuple(self._block.shape[1:3]) != size or len(self._block) < count:
            # Let go first: two blocks of large batches need not fit.
            self._block = torch.empty((0, *size, 3), dtype=torch.uint8)
            self._block = torch.empty((count, *size, 3), dtype=torch.uint8, pin_memory=self._pinned)
            self._plans = [None] * count


def _resize_into(image: np.ndarray, plan: LetterboxPlan, canvas: np.ndarray) -> None:
    """Write a picture at its planned size to its planned place."""
    (height, width), (top, left) = plan.resized, (plan.top, plan.left)
    place = canvas[top : top + height, left : left + width]
    if plan.shrink == "linear" and image.shape[:2] != plan.resized:
        # Straight to its place; the kinds that average make a picture of their own first.
        cv2.resize(image, (width, height), dst=place, interpolation=cv2.INTER_LINEAR)
    else:
        place[:] = resize_image(image, plan.resized, plan.shrink)
