"""What a detection or pose sample goes through in training as RTMDet and YOLO-MS train.

Mosaic, random resize, random crop, colour shift, flip, padding, mixup; in the last epochs all but mosaic and mixup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from data.sample_key import SampleKey
from data.sample_source import SampleSource
from data.samples import Sample
from data.transforms.geometry import BORDER_GREY, IGNORED, flip_left_right
from data.transforms.hsv import compiled_change
from data.transforms.hsv_shift import SHIFTS, draw_hsv_shift, shift_hsv
from data.transforms.mosaic import mixup
from data.transforms.recipe import Recipe, recipe_flip_pairs, recipe_number, recipe_numbers, recipe_range
from data.transforms.rtmdet_view import View, WindowDraw, view_of_four, view_of_one
from data.transforms.scratch import scratch
from utils.errors import ModelError

RESIZE_RANGE = (0.5, 2.0)
"""Published range of YOLO-MS XS and S; that of the base model, and of RTMDet, is (0.1, 2.0)."""
RTMDET_AUGMENTATION: Mapping[str, Any] = {
    "augment": "yolov5",
    "resize_range": list(RESIZE_RANGE),
    "mosaic_cache": 40,
    "mixup_cache": 20,
    "mixup_beta": 32.0,
    "hsv_shift": list(SHIFTS),
}
"""Recipe keys of this pipeline, with their defaults; ``mosaic``, ``mixup`` and ``fliplr`` are those of YOLOv5's
pipeline too, ``hsv_shift`` that of YOLOX's. ``augment: rtmdet`` chooses it."""
TRIES = 10
"""Views that are planned for a sample until one shows an object; the last one is taken as it is."""
_NUMBERS = 9
Memory = Callable[[tuple[int, ...]], np.ndarray]
"""Gives a uint8 array of a shape, to be written."""


class RTMDetTrainTransform:
    """Makes one augmented square training sample out of a data set.

    The published program keeps caches in every worker: the 40 pictures that it decoded last, and the 20 samples that it
    made last. What they amount to is that the other pictures of a sample come from shortly before it. Here they are
    drawn among the ``mosaic_cache`` and ``mixup_cache`` samples up to the sample itself in the order of the pass, so no
    worker remembers anything, and a sample is a function of the seed and its key. Pictures are decoded about once all
    the same (``data.recent_pictures``). The sample that mixup blends in is made anew, with its own mosaic.

    Args:
        hyp: recipe with the keys of ``RTMDET_AUGMENTATION``, whose defaults hold for absent ones, and with ``mosaic``,
            ``mixup`` and ``fliplr`` (probabilities 0..1), which are 0 where they are absent.
        img_size: side of the result, pixels.
        flip_pairs: pairs of keypoints that trade places in a mirrored picture; the recipe's, if none are given.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """

    name = "rtmdet"

    def __init__(self, hyp: Recipe, img_size: int, flip_pairs: Sequence[tuple[int, int]] = ()) -> None:
        self.hyp, self.img_size = dict(hyp), img_size
        self.mosaic = recipe_number(hyp, "mosaic", 0, 0, 1)
        self.mixup = recipe_number(hyp, "mixup", 0, 0, 1)
        self.flip_left_right = recipe_number(hyp, "fliplr", 0, 0, 1)
        self.flip_pairs = tuple(flip_pairs) or recipe_flip_pairs(hyp)
        self.resize_range = recipe_range(hyp, "resize_range", RESIZE_RANGE, 0.01, 100)
        self.mosaic_cache, self.mixup_cache = _count(hyp, "mosaic_cache"), _count(hyp, "mixup_cache")
        self.mixup_beta = recipe_number(hyp, "mixup_beta", RTMDET_AUGMENTATION["mixup_beta"], 0.01, 10_000)
        # A dry draw, so that a recipe out of range stops the command at its start and not inside a worker.
        draw_hsv_shift(hyp, np.random.default_rng(0))
        if any(recipe_numbers(hyp, "hsv_shift", SHIFTS, 0, 255)):
            compiled_change()

    def __call__(self, dataset: SampleSource, key: SampleKey, rng: np.random.Generator) -> Sample:
        """Return the sample of a key augmented, (img_size, img_size, 3) or ``(*key.shape, 3)``, without a placement.

        Args:
            dataset: the samples.
            key: of the sample, its index in 0..len(dataset) - 1; one with a shape has no mosaic and no mixup.
            rng: the only source of randomness. The same numbers are drawn whatever comes of them, so that a key of the
                recipe never changes what another one draws.
        """
        chance, other = rng.random(2).tolist()
        sample = self._one(dataset, key, rng, partial(np.empty, dtype=np.uint8))
        if not self._combines(key) or chance >= self.mixup:
            return sample
        index = _pick(dataset, neighbours(key, self.mixup_cache), other)
        partner = self._one(dataset, key._replace(index=index), rng, partial(scratch, "mixed in"))
        share = float(rng.beta(self.mixup_beta, self.mixup_beta))
        return mixup(sample, partner, share, out=sample.image)

    def _combines(self, key: SampleKey) -> bool:
        return key.mosaic and key.shape is None

    def _one(self, dataset: SampleSource, key: SampleKey, rng: np.random.Generator, memory: Memory) -> Sample:
        """Return a sample before mixup, its pixels in this memory; what it draws is as much for every recipe."""
        tries = rng.random((TRIES, _NUMBERS)).tolist()
        chances = rng.random(2).tolist()
        shifts = draw_hsv_shift(self.hyp, rng)
        four = self._combines(key) and chances[0] < self.mosaic
        view = self._find_view(dataset, key, four, tries)
        sample = view.pixels(memory((*view.size, 3)))
        sample.image = shift_hsv(sample.image, shifts, out=sample.image)
        if chances[1] < self.flip_left_right:
            sample = flip_left_right(sample, self.flip_pairs, out=sample.image)
        return _pad(sample, key.shape or (self.img_size, self.img_size))

    def _find_view(self, dataset: SampleSource, key: SampleKey, four: bool, tries: list[list[float]]) -> View:
        """Plan the first view that shows an object: of the key's own sample, then of others drawn for it."""
        for numbers in tries:
            view = self._view(dataset, key, four, numbers)
            if len(view.labels.boxes):
                break
            key = key._replace(index=_pick(dataset, key.partners, numbers[8]))
        return view

    def _view(self, dataset: SampleSource, key: SampleKey, four: bool, numbers: list[float]) -> View:
        side, (low, high) = self.img_size, self.resize_range
        draw = WindowDraw(
            centre=(numbers[0], numbers[1]),
            ratio=low + numbers[2] * (high - low),
            room=(numbers[3], numbers[4]),
        )
        if four:
            window = neighbours(key, self.mosaic_cache)
            indices = [key.index, *(_pick(dataset, window, number) for number in numbers[5:8])]
            return view_of_four(lambda index: dataset.load(index, long_side=side), indices, side, draw)
        # From the file's own pixels, so that what is enlarged keeps its detail.
        sample = dataset.load(key.index, long_side=max(int(side * draw.ratio), 1))
        return view_of_one(sample, key.shape or (side, side), draw)


def neighbours(key: SampleKey, count: int) -> tuple[int, ...]:
    """Return the samples up to a key's own in the order of the pass, as far as the key knows them.

    Args:
        key: whose partners are in that order. Those that come after it follow the first one, around the circle.
        count: how many at most, itself included.

    Returns:
        Indices; none where the key has no partners, which stands for the whole data set.
    """
    partners = key.partners
    if count >= len(partners):
        return partners
    end = partners.index(key.index) + 1 if key.index in partners else len(partners)
    first = end - count
    return partners[first:end] if first >= 0 else partners[first:] + partners[:end]


def _pick(dataset: SampleSource, window: tuple[int, ...], share: float) -> int:
    """Return the index at a share (0..1) of a window, or of the whole data set where it is empty."""
    return window[int(share * len(window))] if window else int(share * len(dataset))


def _pad(sample: Sample, size: tuple[int, int]) -> Sample:
    """Return a sample with grey to its right and below up to a (height, width)."""
    height, width = sample.image.shape[:2]
    if (height, width) == size:
        return sample
    image = np.full((*size, 3), BORDER_GREY, np.uint8)
    image[:height, :width] = sample.image
    mask = None
    if sample.mask is not None:
        mask = np.full(size, IGNORED, np.uint8)
        mask[:height, :width] = sample.mask
    return replace(sample, image=image, mask=mask)


def _count(hyp: Recipe, key: str) -> int:
    value = recipe_number(hyp, key, RTMDET_AUGMENTATION[key], 1, 1_000_000)
    if value != int(value):
        raise ModelError(f"recipe key '{key}' is {value:g}: give a whole number")
    return int(value)
