"""YOLOX's mixup: a second picture, zoomed, perhaps mirrored and cut out at random, is blended into a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from data.images import resize_image
from data.samples import Sample
from data.transforms.geometry import (
    BORDER_GREY,
    flip_left_right,
    similarity_matrix,
    warp_boxes,
    warp_keypoints,
    warp_mask,
)
from data.transforms.recipe import Recipe, recipe_range

MIXUP_SCALE = (0.5, 1.5)
"""Published range of the partner's zoom; mmyolo has (0.8, 1.6)."""


class MixupDraw(NamedTuple):
    """The random part of a mixup.

    Attributes:
        zoom: of the partner, above 0.
        mirrored: whether the partner is mirrored.
        room: where the result is cut out of a partner that is larger, as shares (x, y) of the room there is, 0..1.
    """

    zoom: float
    mirrored: bool
    room: tuple[float, float]


def draw_mixup(hyp: Recipe, rng: np.random.Generator) -> MixupDraw:
    """Draw the zoom uniformly within ``mixup_scale``, the mirror in half of all cases, and the place.

    Args:
        hyp: recipe with ``mixup_scale``, the least and the greatest zoom.
        rng: source of the numbers; always four are drawn.

    Raises:
        ModelError: the key is out of its range.
    """
    low, high = recipe_range(hyp, "mixup_scale", MIXUP_SCALE, 0.01, 100)
    zoom, mirror, x, y = rng.random(4).tolist()
    return MixupDraw(low + zoom * (high - low), mirror < 0.5, (x, y))


def fit_partner(
    partner: Sample, draw: MixupDraw, size: tuple[int, int], pad: int, flip_pairs: Sequence[tuple[int, int]] = ()
) -> Sample:
    """Bring a sample to the size of another one for blending.

    It is letterboxed into the upper left of the size, on grey 114, and all of that is zoomed and mirrored. What is
    larger than the size then is cut at the drawn place, what is smaller lies in the upper left.

    Args:
        partner: of any size.
        draw: what was drawn.
        size: (height, width) of the result.
        pad: grey level of what the zoomed letterbox does not cover, 0..255.
        flip_pairs: see ``flip_left_right``.

    Returns:
        The sample with every object, also where nothing of it is left; keypoints beyond the result are unlabelled.
    """
    native = partner.image.shape[:2]
    zoomed = int(size[0] * draw.zoom), int(size[1] * draw.zoom)
    ratio = min(size[0] / native[0], size[1] / native[1]) * draw.zoom
    if draw.mirrored:
        partner = flip_left_right(partner, flip_pairs)
    # Behind the picture of a mirrored letterbox lies its padding, before it otherwise.
    before = max(zoomed[1] - int(native[1] * ratio), 0) if draw.mirrored else 0
    across = _span(native[1], ratio, before - int(draw.room[0] * max(zoomed[1] - size[1], 0)), size[1])
    down = _span(native[0], ratio, -int(draw.room[1] * max(zoomed[0] - size[0], 0)), size[0])
    matrix = similarity_matrix(across.zoom, down.zoom, across.shift, down.shift)
    keypoints = partner.keypoints
    return replace(
        partner,
        image=_show(partner.image, across, down, zoomed, size, pad),
        boxes=warp_boxes(partner.boxes, matrix, size),
        keypoints=None if keypoints is None else warp_keypoints(keypoints, matrix, size),
        mask=None if partner.mask is None else warp_mask(partner.mask, matrix, size),
    )


class _Span(NamedTuple):
    """What is seen of a picture along one axis, in whole pixels.

    Attributes:
        first: of the picture.
        last: of the picture, exclusive; both are 0 where nothing is seen.
        start: where ``first`` lies in the result.
        length: into how many pixels that part is resized; they may reach beyond the result.
    """

    first: int
    last: int
    start: int
    length: int

    @property
    def zoom(self) -> float:
        """How the pixels are zoomed; 1 where there are none."""
        return self.length / (self.last - self.first) if self.last > self.first else 1.0

    @property
    def shift(self) -> float:
        """Where the picture's own first pixel would lie in the result."""
        return self.start - self.first * self.zoom


def _span(length: int, zoom: float, start: int, room: int) -> _Span:
    """Say which part of a picture is seen: only that part is resized.

    Args:
        length: of the picture.
        zoom: that was drawn.
        start: where the zoomed picture begins in the result; negative where its beginning is not seen.
        room: length of the result.
    """
    first, start = min(int(max(-start, 0) / zoom), length), max(start, 0)
    # One pixel more than is needed, for the interpolation at the end.
    last = min(first + math.ceil(max(room - start, 0) / zoom) + 1, length)
    if start >= room or last <= first:
        # All of it lies behind the result, from its first pixel on, so that no label is moved into what is seen.
        return _Span(0, 0, room, 0)
    return _Span(first, last, start, max(int((last - first) * zoom), 1))


def _show(
    image: np.ndarray, across: _Span, down: _Span, zoomed: tuple[int, int], size: tuple[int, int], pad: int
) -> np.ndarray:
    """Return what is seen of a picture on the grey of its letterbox, and that on ``pad``."""
    shown = np.full((*size, 3), pad, np.uint8)
    if pad != BORDER_GREY:
        shown[: zoomed[0], : zoomed[1]] = BORDER_GREY
    if across.length and down.length:
        part = resize_image(image[down.first : down.last, across.first : across.last], (down.length, across.length))
        rows, columns = min(down.length, size[0] - down.start), min(across.length, size[1] - across.start)
        shown[down.start : down.start + rows, across.start : across.start + columns] = part[:rows, :columns]
    return shown
