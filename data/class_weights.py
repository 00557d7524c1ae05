"""Weights of classes and of images, so that a pass shows rare and badly found classes more often."""

from __future__ import annotations

import numpy as np


def class_weights(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the inverse of every class's share of the objects, scaled to a mean of 1.

    A class without an object counts as if it had one.

    Args:
        classes: (m,) int, of all objects of a data set, 0 .. num_classes - 1.
        num_classes: nc.

    Returns:
        (nc,) float64, above 0, with the sum nc.
    """
    counts = np.maximum(np.bincount(classes, minlength=num_classes), 1)
    inverse = 1 / counts
    return inverse * (num_classes / inverse.sum())


def image_weights(weights: np.ndarray, ap: np.ndarray, classes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return how often images should be drawn: the sum over their objects of class weight * (1 - AP)^2 / nc.

    Args:
        weights: (nc,) of ``class_weights``.
        ap: (nc,) average precision of each class, 0..1; 0 where nothing was measured yet.
        classes: (m,) int, of all objects.
        offsets: (n + 1,) int, image i owns the objects offsets[i] .. offsets[i + 1] - 1.

    Returns:
        (n,) float64, at least 0; an image without objects has 0.
    """
    shares = weights * (1 - ap) ** 2 / len(weights)
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return np.bincount(owners, weights=shares[classes], minlength=len(offsets) - 1)
