"""Batches padded at the right and below because their pictures need inputs of different sizes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from utils.image_size import round_up_to_stride


def pictures_by_size(sizes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """Return the positions of the pictures of every size, in the order in which the sizes come first.

    Args:
        sizes: (height, width) of the input of every picture, measured from the upper left corner.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for position, size in enumerate(sizes):
        groups.setdefault(size, []).append(position)
    return groups


def cut_to_size(images: Tensor, pictures: Sequence[int], size: tuple[int, int], stride: int) -> Tensor:
    """Return pictures of one size without the padding that others of their batch have needed.

    Args:
        images: (B, C, H, W), H and W multiples of ``stride``.
        pictures: positions, n of them.
        size: of the pictures.
        stride: of the network; where the size is no multiple of it, some of the padding stays.

    Returns:
        (n, C, H', W').
    """
    rows, columns = (round_up_to_stride(side, stride) for side in size)
    return images[list(pictures), :, :rows, :columns]
