"""What a sample goes through in testing: letterbox, with its place recorded so that results find their way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data.sample_source import SampleSource
from data.samples import Placement, Sample
from data.transforms.geometry import similarity_matrix, warp_boxes
from data.transforms.letterbox import CENTERED, LetterboxRule, apply_plan, plan_for_batch, plan_for_stride
from utils.boxes import points_to_network
from utils.image_size import round_up_to_stride


@dataclass(frozen=True)
class TestTransform:
    """Letterboxes samples without any randomness.

    Attributes:
        img_size: longer side of the picture within the input, pixels, rounded up to the stride; a smaller batch shape
            makes it smaller. Shorter side, if the letterbox says so.
        stride: of the network, pixels.
        batch_shape: (height, width) of the input, so that samples stack; None gives every sample the smallest input
            whose sides are multiples of the stride, or the square that the letterbox wants. A letterbox that goes by
            the short side pads nothing: every sample has its own size, and ``collate`` pads where they differ.
        letterbox: how the model wants pictures to lie within its input.
    """

    __test__ = False  # pytest would otherwise take the name for a test case

    img_size: int
    stride: int
    batch_shape: tuple[int, int] | None = None
    letterbox: LetterboxRule = CENTERED

    def __call__(self, dataset: SampleSource, index: int) -> Sample:
        """Return sample ``index`` letterboxed: labels in pixels of the input, the mask at its native size.

        Args:
            dataset: the samples.
            index: of the sample.
        """
        sample = dataset.load(index)
        size = sample.image.shape[:2]
        if self.batch_shape is None or self.letterbox.by_short_side:
            plan = plan_for_stride(size, self.img_size, self.stride, self.letterbox)
        else:
            side = round_up_to_stride(self.img_size, self.stride)
            plan = plan_for_batch(size, side, self.batch_shape, self.letterbox)
        spot = plan.placement
        matrix = similarity_matrix(spot.scale_x, spot.scale_y, spot.left, spot.top)
        keypoints = sample.keypoints
        return replace(
            sample,
            image=apply_plan(sample.image, plan),
            boxes=warp_boxes(sample.boxes, matrix, plan.out),
            keypoints=None if keypoints is None else _move_keypoints(keypoints, spot),
            placement=spot,
        )


def _move_keypoints(keypoints: np.ndarray, spot: Placement) -> np.ndarray:
    """Move (n, K, 3) keypoints; the metric counts every labelled one, also where it lies on the border or beyond."""
    return np.where(keypoints[..., 2:] > 0, points_to_network(keypoints, spot), np.float32(0))
