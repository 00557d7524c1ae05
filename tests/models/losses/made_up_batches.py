"""Batches of boxes and keypoints, and raw maps, for the tests of losses of heads without anchors."""

from __future__ import annotations

import torch
from torch import Tensor

from data.samples import Batch

STRIDES = [8, 16, 32]
SIZE = 64


def random_batch(images: int, most: int, classes: int, keypoints: int | None = None, seed: int = 0) -> Batch:
    """Return images with 0 to ``most`` objects each; the first object of the first image is always there."""
    draw = torch.Generator().manual_seed(seed)
    centre = torch.rand(images, most, 2, generator=draw) * SIZE
    half = torch.rand(images, most, 2, generator=draw) * 20 + 2
    valid = torch.rand(images, most, generator=draw) < 0.6
    valid[:1, :1] = True
    places = None
    if keypoints is not None:
        inside = (
            centre[..., None, :] + (torch.rand(images, most, keypoints, 2, generator=draw) * 2 - 1) * half[:, :, None]
        )
        flags = torch.randint(0, 3, (images, most, keypoints, 1), generator=draw).float()
        flags[..., 0, :] = 2
        places = torch.cat((inside, flags), -1)
    return Batch(
        images=torch.zeros(images, 3, SIZE, SIZE, dtype=torch.uint8),
        boxes=torch.cat((centre - half, centre + half), -1),
        classes=torch.randint(0, classes, (images, most), generator=draw),
        valid=valid,
        keypoints=places,
    )


def raw_maps(images: int, channels: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return raw outputs of the three levels that ask for gradients."""
    draw = torch.Generator().manual_seed(seed)
    shapes = [(images, channels, SIZE // stride, SIZE // stride) for stride in STRIDES]
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def numbers(parts: dict[str, Tensor]) -> dict[str, float]:
    """Return a loss's parts as plain numbers."""
    return {name: float(part.detach()) for name, part in parts.items()}
