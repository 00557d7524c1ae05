"""Which pixels of a label mask lie near a border between two classes."""

from __future__ import annotations

import cv2
import numpy as np

IGNORED = 255
"""Label value of pixels that do not count."""


def near_borders(mask: np.ndarray, width: int) -> np.ndarray:
    """Say which pixels have a pixel of another class at most ``width`` rows and columns away.

    Outlines drawn by hand are off by some pixels, so an IoU over all pixels also measures how two people draw. What is
    left when a band along them is taken out says whether the surfaces themselves were told apart: the complement of the
    band of Kohli et al., "Robust higher order potentials for enforcing label consistency", 2009. Ignored pixels are no
    class, so no border runs along them.

    Args:
        mask: (h, w) uint8 classes, 255 = ignored.
        width: of the band on either side of a border, pixels.

    Returns:
        (h, w) bool.
    """
    square = np.ones((2 * width + 1,) * 2, np.uint8)
    # Neither ignored pixels nor what lies beyond the edges are the least or the largest class of any neighbourhood.
    least = cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORED)
    largest = cv2.dilate(np.where(mask == IGNORED, 0, mask), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return least < largest
