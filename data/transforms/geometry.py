"""One geometry for image, mask, boxes and keypoints: a 3x3 matrix moves all of them, flips mirror all of them.

Points are (x, y) in pixels, x to the right and y down; sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from data.samples import Sample
from data.transforms.recipe import Recipe, recipe_number
from utils.errors import DataError

BORDER_GREY = 114
"""Grey level of every pixel that no image covers."""
IGNORED = 255
"""Mask value of every pixel that no label covers."""

MIN_SIDE = 2.0
MIN_AREA_RATIO = 0.1
MAX_ASPECT = 100.0


@dataclass(frozen=True)
class AffineDraw:
    """The random part of one affine (or perspective) change.

    Attributes:
        perspective: x and y terms of the matrix' last row, per pixel.
        degrees: rotation, counter-clockwise as seen on the screen.
        scale: zoom factor, above 0.
        shear: x and y angles in degrees.
        translate: where the input's centre lands, as fractions of the output's width and height.
    """

    perspective: tuple[float, float] = (0.0, 0.0)
    degrees: float = 0.0
    scale: float = 1.0
    shear: tuple[float, float] = (0.0, 0.0)
    translate: tuple[float, float] = (0.5, 0.5)


def draw_affine(hyp: Recipe, rng: np.random.Generator) -> AffineDraw:
    """Draw uniformly within the recipe's ranges.

    Args:
        hyp: recipe with ``degrees`` (0..180), ``translate`` (0..1, fraction of the side), ``scale`` (0..0.99, the zoom
            is 1 +- scale), ``shear`` (0..89 degrees) and ``perspective`` (0..0.01 per pixel); absent keys are 0.
        rng: source of the numbers; always eight are drawn, so that one key never changes what another one draws.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """
    perspective = recipe_number(hyp, "perspective", 0, 0, 0.01)
    degrees = recipe_number(hyp, "degrees", 0, 0, 180)
    scale = recipe_number(hyp, "scale", 0, 0, 0.99)
    shear = recipe_number(hyp, "shear", 0, 0, 89)
    translate = recipe_number(hyp, "translate", 0, 0, 1)
    unit = rng.uniform(-1, 1, 8).tolist()
    return AffineDraw(
        perspective=(unit[0] * perspective, unit[1] * perspective),
        degrees=unit[2] * degrees,
        scale=1 + unit[3] * scale,
        shear=(unit[4] * shear, unit[5] * shear),
        translate=(0.5 + unit[6] * translate, 0.5 + unit[7] * translate),
    )


def affine_matrix(draw: AffineDraw, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Return the (3, 3) float64 matrix that takes points of the source to points of the target.

    Args:
        draw: what was drawn.
        source: size of the input.
        target: size of the output.
    """
    left, top = draw.translate[0] * target[1], draw.translate[1] * target[0]
    if not (draw.degrees or any(draw.shear) or any(draw.perspective)):
        zoom = draw.scale
        return similarity_matrix(zoom, zoom, left - zoom * source[1] / 2, top - zoom * source[0] / 2)
    centre, view, turn, shear, shift = (np.eye(3) for _ in range(5))
    centre[:2, 2] = -source[1] / 2, -source[0] / 2
    view[2, :2] = draw.perspective
    angle = np.deg2rad(draw.degrees)
    cos, sin = draw.scale * np.cos(angle), draw.scale * np.sin(angle)
    turn[:2, :2] = [[cos, sin], [-sin, cos]]
    shear[0, 1], shear[1, 0] = np.tan(np.deg2rad(draw.shear))
    shift[:2, 2] = left, top
    return shift @ shear @ turn @ view @ centre


def similarity_matrix(scale_x: float, scale_y: float, left: float, top: float) -> np.ndarray:
    """Return the (3, 3) matrix that scales about the origin and then shifts by (left, top)."""
    return np.array([[scale_x, 0, left], [0, scale_y, top], [0, 0, 1]], np.float64)


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move an (H, W, 3) or (H, W, 4) uint8 image, with linear interpolation, onto grey of the given size.

    OpenCV interpolates four channels more than twice as fast as three, to the same values.

    Returns:
        (*size, 3) uint8; a fourth channel is dropped.
    """
    if image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    return cv2.cvtColor(_warp(image, matrix, size, cv2.INTER_LINEAR, (BORDER_GREY,) * 4), cv2.COLOR_RGBA2RGB)


def warp_mask(mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move an (H, W) uint8 class mask, every pixel from its nearest source; what it does not cover is ignored (255)."""
    return _warp(mask, matrix, size, cv2.INTER_NEAREST, IGNORED)


def _warp(
    picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int], flags: int, border: int | tuple[int, ...]
) -> np.ndarray:
    width_height = (size[1], size[0])
    if matrix[2, 0] or matrix[2, 1]:
        return cv2.warpPerspective(picture, matrix, width_height, flags=flags, borderValue=border)
    return cv2.warpAffine(picture, matrix[:2] / matrix[2, 2], width_height, flags=flags, borderValue=border)


def visible_window(matrix: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return x1 y1 x2 y2 of the part of a source that a warp onto the target reads, in whole pixels.

    Args:
        matrix: (3, 3), from source to target.
        source: size of the source.
        target: size of the output.
    """
    height, width = target
    corners = np.array([[-1, -1], [width, -1], [-1, height], [width, height]], np.float64)
    x1, y1, x2, y2 = 0, 0, source[1], source[0]
    inverse = np.linalg.inv(matrix)
    if (corners @ inverse[2, :2] + inverse[2, 2] <= 0).any():
        # The horizon of a perspective lies within the output: nothing bounds what is seen.
        return x1, y1, x2, y2
    seen = warp_points(corners, inverse)
    # Interpolation reads one pixel beyond the last one.
    low, high = np.floor(seen.min(0)).astype(int) - 1, np.ceil(seen.max(0)).astype(int) + 2
    x = np.clip([low[0], high[0]], x1, x2).tolist()
    y = np.clip([low[1], high[1]], y1, y2).tolist()
    return x[0], y[0], x[1], y[1]


def warp_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move (..., 2) points and return them as float64."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return moved[..., :2] / moved[..., 2:]


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move (n, 4) corner boxes: the extremes of their four moved corners, clipped to the output of the given size."""
    moved = warp_points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), matrix)
    return clip_boxes(np.concatenate([moved.min(1), moved.max(1)], 1), size).astype(np.float32)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut (n, 4) corner boxes off at the borders of an image of the given size."""
    height, width = size
    return boxes.clip(0, np.array([width, height, width, height], boxes.dtype))


def boxes_to_keep(
    before: np.ndarray,
    after: np.ndarray,
    scale: float = 1.0,
    *,
    min_side: float = MIN_SIDE,
    min_area_ratio: float = MIN_AREA_RATIO,
    max_aspect: float = MAX_ASPECT,
) -> np.ndarray:
    """Say which objects are still worth learning after they were moved and clipped.

    Args:
        before: (n, 4) corner boxes in the source.
        after: (n, 4) the same boxes in the output, clipped.
        scale: zoom of the move; ``before`` times ``scale`` is what the area is compared with.
        min_side: width and height must be greater, pixels.
        min_area_ratio: area after over scaled area before must be greater, 0..1.
        max_aspect: the longer side over the shorter one must be smaller.

    Returns:
        (n,) bool.
    """
    tiny = 1e-16
    old = (before[:, 2:] - before[:, :2]) * scale
    new = after[:, 2:] - after[:, :2]
    area_ratio = new.prod(1) / (old.prod(1) + tiny)
    aspect = new.max(1, initial=0) / (new.min(1, initial=np.inf) + tiny)
    return (new > min_side).all(1) & (area_ratio > min_area_ratio) & (aspect < max_aspect)


def warp_keypoints(keypoints: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move (n, K, 3) keypoints; one that is unlabelled or leaves the output becomes (0, 0, visibility 0)."""
    points = warp_points(keypoints[..., :2], matrix)
    inside = ((points >= 0) & (points < (size[1], size[0]))).all(-1)
    moved = np.concatenate([points, keypoints[..., 2:]], -1)
    return np.where((inside & (keypoints[..., 2] > 0))[..., None], moved, 0).astype(np.float32)


def move_labels(
    sample: Sample, matrix: np.ndarray, size: tuple[int, int], scale: float, max_aspect: float = MAX_ASPECT
) -> Sample:
    """Move boxes and keypoints by a matrix and drop objects that are no longer worth learning; pixels stay as they are.

    Args:
        sample: whose labels move.
        matrix: (3, 3), source to output.
        size: of the output.
        scale: zoom within the matrix, for the comparison of areas.
        max_aspect: see ``boxes_to_keep``.
    """
    boxes = warp_boxes(sample.boxes, matrix, size)
    keep = boxes_to_keep(sample.boxes, boxes, scale, max_aspect=max_aspect)
    keypoints = sample.keypoints
    if keypoints is not None:
        keypoints = warp_keypoints(keypoints[keep], matrix, size)
    return replace(sample, boxes=boxes[keep], classes=sample.classes[keep], keypoints=keypoints)


def warp_sample(
    sample: Sample, matrix: np.ndarray, size: tuple[int, int], scale: float, max_aspect: float = MAX_ASPECT
) -> Sample:
    """Move a whole sample, pixels and labels, by one matrix; arguments as in ``move_labels``."""
    moved = move_labels(sample, matrix, size, scale, max_aspect)
    mask = None if sample.mask is None else warp_mask(sample.mask, matrix, size)
    return replace(moved, image=warp_image(sample.image, matrix, size), mask=mask)


def flip_left_right(
    sample: Sample, flip_pairs: Sequence[tuple[int, int]] = (), out: np.ndarray | None = None
) -> Sample:
    """Mirror a sample; keypoints of a pair (left eye, right eye) trade places.

    Args:
        sample: what to mirror.
        flip_pairs: pairs of keypoint indices.
        out: where the pixels go, which may be the sample's own image; None leaves that as it is.

    Raises:
        DataError: a pair names a keypoint that the data set does not have.
    """
    width = sample.image.shape[1]
    boxes = sample.boxes[:, [2, 1, 0, 3]]
    boxes[:, [0, 2]] = width - boxes[:, [0, 2]]
    keypoints = sample.keypoints
    if keypoints is not None:
        order = np.arange(keypoints.shape[1])
        if any(max(pair) >= len(order) for pair in flip_pairs):
            raise DataError(
                f"{sample.id}: the recipe's flip_pairs name a keypoint beyond the {len(order)} of the data set; "
                f"use indices from 0 to {len(order) - 1}"
            )
        for left, right in flip_pairs:
            order[[left, right]] = right, left
        keypoints = keypoints[:, order]
        keypoints[..., 0] = np.where(keypoints[..., 2] > 0, width - keypoints[..., 0], 0)
    mask = None if sample.mask is None else cv2.flip(sample.mask, 1)
    return replace(sample, image=cv2.flip(sample.image, 1, dst=out), boxes=boxes, keypoints=keypoints, mask=mask)


def flip_up_down(sample: Sample) -> Sample:
    """Turn a sample upside down."""
    height = sample.image.shape[0]
    boxes = sample.boxes[:, [0, 3, 2, 1]]
    boxes[:, [1, 3]] = height - boxes[:, [1, 3]]
    keypoints = sample.keypoints
    if keypoints is not None:
        keypoints = keypoints.copy()
        keypoints[..., 1] = np.where(keypoints[..., 2] > 0, height - keypoints[..., 1], 0)
    mask = None if sample.mask is None else cv2.flip(sample.mask, 0)
    return replace(sample, image=cv2.flip(sample.image, 0), boxes=boxes, keypoints=keypoints, mask=mask)
