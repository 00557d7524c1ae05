"""What a segmentation (or joint) sample goes through in training: random size, pad, crop, mirror, colour jitter."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from data.sample_key import SampleKey
from data.sample_source import SampleSource
from data.samples import Sample
from data.transforms.colour import draw_jitter, jitter
from data.transforms.geometry import IGNORED, flip_left_right, move_labels, similarity_matrix
from data.transforms.hsv import compiled_change
from data.transforms.recipe import Recipe, recipe_flip_pairs, recipe_number, recipe_numbers

UNIT = 32
"""Long edges are multiples of this many pixels."""


class LongEdgeSampler:
    """Draws the long edge to which an image is resized: a multiple of 32 px, small sizes more often than large ones.

    Units of 32 px run from ceil(base * low / 32) to ceil(base * high / 32); their probability follows a normal density
    with mean ceil(base / 32) - 4.

    Args:
        base: nominal long edge, pixels.
        low: least size relative to ``base``.
        high: greatest size relative to ``base``.
        std: standard deviation in units of 32 px.

    Attributes:
        units: (n,) the sizes in units of 32 px.
        cumulative: (n,) their cumulative distribution, ending at 1.
    """

    def __init__(self, base: int, low: float, high: float, std: float):
        self.units = np.arange(math.ceil(base * low / UNIT), math.ceil(base * high / UNIT) + 1)
        exponent = -0.5 * ((self.units - (math.ceil(base / UNIT) - 4)) / std) ** 2
        # Relative to the likeliest size: a small deviation would make all densities 0.
        density = np.exp(exponent - exponent.max())
        self.cumulative = np.cumsum(density / density.sum())

    def draw(self, rng: np.random.Generator) -> int:
        """Return a long edge in pixels."""
        position = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        return int(self.units[min(position, len(self.units) - 1)]) * UNIT


class SegmentationTrainTransform:
    """Makes one augmented training sample with a mask out of a data set.

    Args:
        hyp: recipe with ``seg_scale_low``, ``seg_scale_high`` (of the base size, default 0.75 and 1.5),
            ``seg_scale_std`` (in units of 32 px, default 35), ``seg_jitter`` (brightness, contrast, saturation, hue;
            default 0.4 0.4 0.4 0), ``fliplr`` (probability, default 0.5) and ``flip_pairs`` for keypoints.
        base_size: nominal long edge, pixels.
        crop: (height, width) of the result, pixels.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """

    def __init__(self, hyp: Recipe, base_size: int, crop: tuple[int, int]):
        low = recipe_number(hyp, "seg_scale_low", 0.75, 0.05, 8)
        high = recipe_number(hyp, "seg_scale_high", 1.5, low, 8)
        std = recipe_number(hyp, "seg_scale_std", 35, 0.1, 1000)
        self.long_edge = LongEdgeSampler(base_size, low, high, std)
        self.crop = crop
        *colour, hue = recipe_numbers(hyp, "seg_jitter", (0.4, 0.4, 0.4, 0.0), 0, 1)
        self.jitter = (*colour, min(hue, 0.5))
        if hue > 0:
            compiled_change()
        self.flip_left_right = recipe_number(hyp, "fliplr", 0.5, 0, 1)
        self.flip_pairs = recipe_flip_pairs(hyp)

    @property
    def largest_side(self) -> int:
        """The largest long edge that is ever asked of the data set, pixels."""
        return int(self.long_edge.units[-1]) * UNIT

    def __call__(self, dataset: SampleSource, key: SampleKey, rng: np.random.Generator) -> Sample:
        """Return the sample of a key augmented, (*crop, 3), its mask 255 where the picture does not reach.

        Args:
            dataset: the samples.
            key: of the sample.
            rng: the only source of randomness.
        """
        mirrored = rng.random() < self.flip_left_right
        sample = dataset.load(key.index, long_side=self.long_edge.draw(rng))
        if mirrored:
            sample = flip_left_right(sample, self.flip_pairs)
        sample = random_crop(sample, self.crop, rng)
        return replace(sample, image=jitter(sample.image, draw_jitter(self.jitter, rng)), placement=None)


def random_crop(sample: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Cut a window out of a sample, uniformly placed; a sample that is too small is padded at its right and bottom.

    Args:
        sample: with or without a mask.
        size: (height, width) of the window, pixels.
        rng: source of the place.

    Returns:
        The window: padding black and mask 255 (black as in the published recipe), boxes clipped and filtered.
    """
    height, width = sample.image.shape[:2]
    top = int(rng.integers(max(height - size[0], 0) + 1))
    left = int(rng.integers(max(width - size[1], 0) + 1))
    moved = move_labels(sample, similarity_matrix(1, 1, -left, -top), size, scale=1.0)
    window = slice(top, top + size[0]), slice(left, left + size[1])
    mask = None if sample.mask is None else _padded(sample.mask[window], size, IGNORED)
    return replace(moved, image=_padded(sample.image[window], size, 0), mask=mask)


def _padded(picture: np.ndarray, size: tuple[int, int], value: int) -> np.ndarray:
    """Return the picture in the upper left corner of an array of the given size; the picture itself if it fills it."""
    if picture.shape[:2] == tuple(size):
        return picture
    padded = np.full((*size, *picture.shape[2:]), value, np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return padded
