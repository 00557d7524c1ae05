"""What a training sample goes through as DETR and YOLOS train: mirrored, sometimes cropped, resized by its short side.

The published program resizes a picture for the crop and what it has cut out once more. Here the crop is planned first,
on the size that the first resizing would give, and its pixels go from the decoded picture to their final size in one
step. The pixels differ in two ways: nothing is blurred twice, and the edges of the crop are rounded to whole pixels of
the decoded picture, which labels follow. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from data.images import resize_image
from data.sample_key import SampleKey
from data.sample_source import SampleSource
from data.samples import Sample
from data.transforms.geometry import flip_left_right
from data.transforms.letterbox import LetterboxRule
from data.transforms.recipe import Recipe, recipe_flip_pairs, recipe_number, recipe_whole_numbers
from data.transforms.upright import Crop, Rectangle, cut_labels_by_crops, show_masks
from utils.boxes import shortest_fit
from utils.errors import ModelError
from utils.image_size import LARGEST_SIDE, long_limit

DETR_AUGMENTATION: Mapping[str, Any] = {
    "augment": "yolov5",
    "resize_sides": [256, 608, 16],
    "crop_chance": 0.5,
    "crop_sides": [400, 500, 600],
    "crop_range": [384, 600],
    "resize_base": 512,
}
"""Recipe keys that only this pipeline has, with their defaults, which are YOLOS-Ti's; ``fliplr`` is that of YOLOv5's
pipeline too. ``augment: detr`` chooses it."""
_NUMBERS = 8


class ViewDraw(NamedTuple):
    """The random part of a sample, as shares 0..1 of what there is to choose from.

    Attributes:
        mirrored: below the chance of it, the picture is mirrored.
        cropped: below the chance of it, a part of the picture is shown.
        side: among the short sides of the result.
        crop_side: among the short sides that the picture has while it is cropped.
        height: of the crop, between its least and its greatest one.
        width: likewise.
        top: of the crop within the room that there is.
        left: likewise.
    """

    mirrored: float
    cropped: float
    side: float
    crop_side: float
    height: float
    width: float
    top: float
    left: float


class DETRTrainTransform:
    """Makes one augmented training sample out of a data set; samples differ in size, ``collate`` pads them.

    Sides and crops of the recipe are those for an ``img_size`` of ``resize_base``. At another one all are multiplied by
    the ratio of the two, and short sides rounded to multiples of the stride, which leaves fewer where some coincide.

    Args:
        hyp: recipe with the keys of ``DETR_AUGMENTATION``, whose defaults hold for absent ones: ``resize_sides`` (first
            and last short side of the result, and the step between them), ``crop_chance`` (0..1), ``crop_sides`` (short
            sides, of which a picture has one while it is cropped), ``crop_range`` (least and greatest side of the
            crop). And ``fliplr`` (probability, default 0.5).
        img_size: for which the model is trained, pixels of the short side.
        stride: sides of samples are multiples of it, pixels.
        letterbox: rule of the model; its ``limit`` times the largest short side is the greatest long one, and its
            ``shrink`` says how pixels are resized.
        flip_pairs: pairs of keypoints that trade places in a mirrored picture; the recipe's, if none are given.

    Attributes:
        sides: short sides, of which one is drawn, ascending.
        longest: greatest long side, pixels.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """

    name = "detr"

    def __init__(
        self,
        hyp: Recipe,
        img_size: int,
        stride: int,
        letterbox: LetterboxRule,
        flip_pairs: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.stride, self.shrink = stride, letterbox.shrink
        self.flip_left_right = recipe_number(hyp, "fliplr", 0.5, 0, 1)
        self.crop_chance = recipe_number(hyp, "crop_chance", DETR_AUGMENTATION["crop_chance"], 0, 1)
        self.flip_pairs = tuple(flip_pairs) or recipe_flip_pairs(hyp)
        hyp = {**DETR_AUGMENTATION, **hyp}
        ratio = img_size / _base(hyp)
        self.sides = _sides(hyp, ratio, stride)
        crop_sides = recipe_whole_numbers(hyp, "crop_sides", 1, LARGEST_SIDE)
        crop_range = recipe_whole_numbers(hyp, "crop_range", 1, LARGEST_SIDE, 2)
        if crop_range[0] > crop_range[1]:
            raise ModelError(f"recipe key 'crop_range' is {hyp['crop_range']!r}: give the smaller number first")
        self.crop_sides = [max(round(side * ratio), 1) for side in crop_sides]
        self.crop_range = [max(round(side * ratio), 1) for side in crop_range]
        self.longest = long_limit(self.sides[-1], letterbox.limit)
        self._crop_longest = long_limit(max(self.crop_sides), letterbox.limit)

    @property
    def largest_side(self) -> int:
        """Long side of decoded pictures from which all sizes can be made, pixels.

        It suits whole pictures and those that are to be cropped, as far as their long side is within the model's limit.
        """
        return max(self.longest, self._crop_longest)

    @property
    def largest_input(self) -> tuple[int, int]:
        """Size of the largest input that a batch may have: of a wide picture beside a tall one."""
        side = max(self.longest // self.stride, 1) * self.stride
        return side, side

    def __call__(self, dataset: SampleSource, key: SampleKey, rng: np.random.Generator) -> Sample:
        """Return the sample of a key augmented, its sides multiples of the stride, without a placement.

        Args:
            dataset: the samples.
            key: of the sample. A shape that it has, from batches of pictures of similar aspect, is passed over: sizes
                are drawn as ever.
            rng: the only source of randomness; as many numbers are drawn whatever comes of them.
        """
        draw = ViewDraw(*rng.random(_NUMBERS).tolist())
        sample = dataset.load(key.index, least=self.largest_side)
        sample = self._show(sample, self.plan(sample.image.shape[:2], draw))
        return flip_left_right(sample, self.flip_pairs) if draw.mirrored < self.flip_left_right else sample

    def plan(self, size: tuple[int, int], draw: ViewDraw) -> Crop:
        """Return which part of a picture is shown, and in which size.

        Args:
            size: of the picture as it is decoded.
            draw: what was drawn.
        """
        short = _pick(self.sides, draw.side)
        height, width = size
        part, seen = (0, 0, width, height), size
        if draw.cropped < self.crop_chance:
            part, seen = self._part(size, draw)
        out_height, out_width = shortest_fit(np.array(seen), short, self.longest, self.stride).tolist()
        return Crop(part, (0, 0, out_width, out_height))

    def _part(self, size: tuple[int, int], draw: ViewDraw) -> tuple[Rectangle, tuple[int, int]]:
        """Return the crop in whole pixels of a picture, and its size where the picture has the side of crops."""
        resized = shortest_fit(np.array(size), _pick(self.crop_sides, draw.crop_side), None, self.stride).tolist()
        spans, seen = [], []
        places = ((draw.height, draw.top), (draw.width, draw.left))
        for native, length, (share, place) in zip(size, resized, places, strict=True):
            least, most = (min(side, length) for side in self.crop_range)
            window = least + int(share * (most - least + 1))
            first = int(place * (length - window + 1))
            start = min(round(first * native / length), native - 1)
            spans.append((start, max(round((first + window) * native / length), start + 1)))
            seen.append(window)
        (top, bottom), (left, right) = spans
        return (left, top, right, bottom), (seen[0], seen[1])

    def _show(self, sample: Sample, crop: Crop) -> Sample:
        """Return what is shown of a sample; objects of which nothing is left are gone."""
        left, top, right, bottom = crop.source
        size = crop.target[3], crop.target[2]
        shown = cut_labels_by_crops(sample, [len(sample.boxes)], [crop], size)
        shown.id = sample.id
        keep = (shown.boxes[:, 2:] > shown.boxes[:, :2]).all(1)
        if shown.keypoints is not None:
            # Somebody of whom no keypoint is seen teaches nothing, as in YOLOX's pipeline.
            keep &= (shown.keypoints[..., 2] > 0).any(1)
        image = resize_image(sample.image[top:bottom, left:right], size, self.shrink)
        mask = None if sample.mask is None else show_masks([sample.mask], [crop], size)
        return replace(shown.only(keep), image=image, mask=mask)


def _pick(sides: Sequence[int], share: float) -> int:
    return sides[int(share * len(sides))]


def _base(hyp: Recipe) -> int:
    base = recipe_number(hyp, "resize_base", 0, 1, LARGEST_SIDE)
    if base != int(base):
        raise ModelError(f"recipe key 'resize_base' is {base:g}: give a whole number")
    return int(base)


def _sides(hyp: Recipe, ratio: float, stride: int) -> list[int]:
    """Return the short sides to draw from, ascending."""
    first, last, step = recipe_whole_numbers(hyp, "resize_sides", 1, LARGEST_SIDE, 3)
    if first > last:
        raise ModelError(f"recipe key 'resize_sides' is {hyp['resize_sides']!r}: give the smaller side first")
    sides = range(first, last + 1, step)
    if ratio == 1:
        return list(sides)
    return sorted({max(round(side * ratio / stride), 1) * stride for side in sides})
