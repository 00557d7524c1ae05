"""What a batched transform is: draws and labels of a whole batch on the host first, then its pixels on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from data.device_pictures import DevicePictures
from data.sample_key import SampleKey
from data.transforms.batched_labels import PaddedObjects


@dataclass
class BatchPlan:
    """All that the host decides about a batch.

    Attributes:
        arrays: by name what the device has to know; small, and moved there in one piece.
        objects: the labels, moved already.
        ids: path or name of each image.
    """

    arrays: dict[str, np.ndarray]
    objects: PaddedObjects
    ids: list[str]


class BatchTransform(Protocol):
    """Makes batches of augmented samples out of pictures on a device.

    A plan is a pure function of the keys and generators. It draws what the transform of single samples draws, in its
    order, so that both make the same samples, to the rounding of interpolation.
    """

    pictures: DevicePictures

    def plan(self, keys: Sequence[SampleKey], generators: Sequence[np.random.Generator]) -> BatchPlan:
        """Draw everything and move the labels, on the host.

        Args:
            keys: of the samples of a batch.
            generators: one per sample, the only sources of randomness.
        """

    def render(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Make the pixels, without waiting for the device.

        Args:
            arrays: of a plan, on the device.

        Returns:
            (N, H, W, 3) uint8 images, and (N, H, W) uint8 masks or None.
        """
