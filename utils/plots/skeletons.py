"""Drawing of poses: keypoints as dots, the skeleton's links as lines, left and right in colours of their own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data.keypoints import KeypointSpec
from utils.plots.drawing import line_width_for
from utils.plots.palette import class_colour

Colour = tuple[int, int, int]

LEAST_SCORE = 0.3
"""Keypoints that a model is less sure of are not drawn unless a caller asks for them."""

LEFT: Colour = (255, 140, 0)
RIGHT: Colour = (0, 190, 255)
MIDDLE: Colour = (240, 230, 60)
_OUTLINE: Colour = (20, 20, 20)
_RING: Colour = (255, 255, 255)
_BITS = 4
"""OpenCV takes coordinates in sixteenths of a pixel, so that limbs of small persons do not jump from pixel to pixel."""
_FARTHEST = 2**15


@dataclass(frozen=True)
class Poses2d:
    """What is drawn of k objects.

    Attributes:
        points: (k, K, 2) x y in pixels; finite where shown.
        shown: (k, K) bool; a link is shown where both of its ends are.
        hidden: (k, K) bool, keypoints that are labelled but covered: they are drawn as rings.
    """

    points: np.ndarray
    shown: np.ndarray
    hidden: np.ndarray

    @classmethod
    def from_labels(cls, keypoints: np.ndarray) -> Poses2d:
        """Take (k, K, 3) labels with visibility 0 (not labelled), 1 (hidden) or 2 (visible)."""
        return cls(keypoints[..., :2], keypoints[..., 2] > 0, keypoints[..., 2] == 1)

    @classmethod
    def from_scores(cls, keypoints: np.ndarray, least: float) -> Poses2d:
        """Take (k, K, 3) predictions with scores; those below ``least``, 0..1, are left out."""
        shown = (keypoints[..., 2] >= least) & np.isfinite(keypoints).all(-1)
        return cls(keypoints[..., :2], shown, np.zeros_like(shown))


def keypoint_colours(spec: KeypointSpec) -> list[Colour]:
    """Return the RGB colour of every keypoint: by side where there are mirror partners, else one each.

    Of two partners the one whose name says left, or else the first of them, is the left one.
    """
    pairs = spec.flip_pairs
    if not pairs:
        return [class_colour(index) for index in range(len(spec))]
    colours = [MIDDLE] * len(spec)
    for first, second in pairs:
        swapped = "right" in spec.names[first].lower() or "left" in spec.names[second].lower()
        left, right = (second, first) if swapped else (first, second)
        colours[left], colours[right] = LEFT, RIGHT
    return colours


def draw_poses(image: np.ndarray, poses: Poses2d, spec: KeypointSpec, line_width: int | None = None) -> np.ndarray:
    """Draw objects' keypoints and the links between them, the first object on top of the others.

    Every line and dot has a dark edge, so that it stands out from any background. Small objects get thinner lines.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        poses: what to draw.
        spec: names, partners and links of the keypoints.
        line_width: in pixels, or None to follow the sizes of the picture and of each object.

    Returns:
        A new picture.
    """
    canvas = np.ascontiguousarray(image).copy()
    colours = keypoint_colours(spec)
    points = np.nan_to_num(poses.points.astype(np.float64)).clip(-_FARTHEST, _FARTHEST)
    for k in reversed(range(len(points))):
        shown = poses.shown[k]
        if shown.any():
            width = line_width or _width_for(image, points[k, shown])
            _draw_one(canvas, points[k], shown, poses.hidden[k], spec, colours, width)
    return canvas


def _width_for(image: np.ndarray, points: np.ndarray) -> int:
    """Return a line width for the picture's size, thinner for an object of few pixels."""
    longest = float((points.max(0) - points.min(0)).max())
    # An eye is about a fortieth of a person away from the other.
    return min(line_width_for(image), max(round(longest / 40), 1))


def _draw_one(
    canvas: np.ndarray,
    points: np.ndarray,
    shown: np.ndarray,
    hidden: np.ndarray,
    spec: KeypointSpec,
    colours: list[Colour],
    width: int,
) -> None:
    at = [tuple(place) for place in (points * 2**_BITS).round().astype(np.int64).tolist()]
    links = [(first, second) for first, second in spec.skeleton if shown[first] and shown[second]]
    for first, second in links:
        cv2.line(canvas, at[first], at[second], _OUTLINE, width + 2, cv2.LINE_AA, _BITS)
    for first, second in links:
        colour = colours[first] if colours[first] == colours[second] else MIDDLE
        cv2.line(canvas, at[first], at[second], colour, width, cv2.LINE_AA, _BITS)
    radius, edge = round((0.75 * width + 0.75) * 2**_BITS), round(min(0.5 + width / 4, 1) * 2**_BITS)
    for index in np.flatnonzero(shown).tolist():
        ring = _OUTLINE if links else _RING
        if hidden[index]:
            cv2.circle(canvas, at[index], radius, colours[index], max(width // 2, 1), cv2.LINE_AA, _BITS)
            continue
        cv2.circle(canvas, at[index], radius + edge, ring, cv2.FILLED, cv2.LINE_AA, _BITS)
        cv2.circle(canvas, at[index], radius, colours[index], cv2.FILLED, cv2.LINE_AA, _BITS)
