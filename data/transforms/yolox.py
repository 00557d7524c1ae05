"""What a detection or pose sample goes through in training as YOLOX trains: mosaic, warp, mixup, colour shift, flip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data.sample_key import SampleKey
from data.sample_source import SampleSource
from data.samples import Sample
from data.transforms.geometry import flip_left_right, similarity_matrix, warp_boxes, warp_keypoints, warp_mask
from data.transforms.hsv import compiled_change
from data.transforms.hsv_shift import SHIFTS, draw_hsv_shift, shift_hsv
from data.transforms.letterbox import LetterboxRule, apply_plan, plan_for_batch
from data.transforms.mosaic import draw_centre, mixup
from data.transforms.recipe import Recipe, recipe_flip_pairs, recipe_number, recipe_numbers
from data.transforms.yolox_mixup import MIXUP_SCALE, MixupDraw, draw_mixup, fit_partner
from data.transforms.yolox_mosaic import MOSAIC_SCALE, draw_origin_affine, origin_matrix, warp_mosaic
from utils.errors import ModelError

YOLOX_AUGMENTATION: Mapping[str, Any] = {
    "augment": "yolov5",
    "mosaic_scale": list(MOSAIC_SCALE),
    "mixup_scale": list(MIXUP_SCALE),
    "mixup_pad": 0,
    "hsv_shift": list(SHIFTS),
}
"""Recipe keys that only this pipeline has, with their defaults; ``degrees``, ``translate``, ``shear``, ``mosaic``,
``mixup`` and ``fliplr`` are those of YOLOv5's pipeline too. ``augment`` chooses between the two: yolov5 or yolox."""
MIXUP_TRIES = 15
"""Pictures that are looked at for one with objects to mix in, as in mmyolo; where none has any, nothing is mixed in."""
MIN_SIDE = 1.0
"""Objects of which no more is left than this, pixels of width or height, are dropped."""


class YOLOXTrainTransform:
    """Makes one augmented square training sample out of a data set.

    Args:
        hyp: recipe with the keys of ``YOLOX_AUGMENTATION``, whose defaults hold for absent ones, and with ``mosaic``,
            ``mixup``, ``fliplr`` (probabilities 0..1), ``degrees``, ``translate`` and ``shear`` (see
            ``draw_origin_affine``), which are 0 where they are absent.
        img_size: side of the result, pixels.
        letterbox: rule of the model, for samples without mosaic.
        flip_pairs: pairs of keypoints that trade places in a mirrored picture; the recipe's, if none are given.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """

    name = "yolox"

    def __init__(
        self, hyp: Recipe, img_size: int, letterbox: LetterboxRule, flip_pairs: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.hyp, self.img_size, self.letterbox = dict(hyp), img_size, letterbox
        self.mosaic = recipe_number(hyp, "mosaic", 0, 0, 1)
        self.mixup = recipe_number(hyp, "mixup", 0, 0, 1)
        self.flip_left_right = recipe_number(hyp, "fliplr", 0, 0, 1)
        self.flip_pairs = tuple(flip_pairs) or recipe_flip_pairs(hyp)
        pad = recipe_number(hyp, "mixup_pad", YOLOX_AUGMENTATION["mixup_pad"], 0, 255)
        if pad != int(pad):
            raise ModelError(f"recipe key 'mixup_pad' is {pad:g}: give a whole number from 0 to 255")
        self.mixup_pad = int(pad)
        # Dry draws, so that a recipe out of range stops the command at its start and not inside a worker.
        for draw in (draw_origin_affine, draw_mixup, draw_hsv_shift):
            draw(hyp, np.random.default_rng(0))
        if any(recipe_numbers(hyp, "hsv_shift", SHIFTS, 0, 255)):
            compiled_change()

    def __call__(self, dataset: SampleSource, key: SampleKey, rng: np.random.Generator) -> Sample:
        """Return the sample of a key augmented, (img_size, img_size, 3) or ``(*key.shape, 3)``, without a placement.

        Args:
            dataset: the samples.
            key: of the sample, its index in 0..len(dataset) - 1; one with a shape has no mosaic.
            rng: the only source of randomness. The same numbers are drawn whatever comes of them, so that a key of the
                recipe never changes what another one draws.
        """
        chances = rng.random(3).tolist()
        others = _draw_others(dataset, key, 3 + MIXUP_TRIES, rng)
        centre = draw_centre(self.img_size, rng)
        affine = draw_origin_affine(self.hyp, rng)
        partner = draw_mixup(self.hyp, rng)
        shifts = draw_hsv_shift(self.hyp, rng)
        mirror = chances[2] < self.flip_left_right
        if key.mosaic and key.shape is None and chances[0] < self.mosaic:
            size = self.img_size, self.img_size
            sample = self._four(dataset, [key.index, *others[:3]], centre, origin_matrix(affine, size))
            if len(sample.boxes) and chances[1] < self.mixup:
                sample = self._mix(sample, dataset, others[3:], partner)
            return self._finish(sample, shifts, mirror)
        sample = dataset.load(key.index, long_side=self.img_size)
        # Padding comes last: it keeps its grey, and lies where it lies in testing.
        return self._place(self._finish(sample, shifts, mirror), key.shape or (self.img_size, self.img_size))

    def _four(self, dataset: SampleSource, indices: list[int], centre: tuple[int, int], matrix: np.ndarray) -> Sample:
        """Return a mosaic of four samples in the order upper left, upper right, lower left, lower right."""
        side = self.img_size
        return drop_lost(warp_mosaic(lambda i: dataset.load(indices[i], long_side=side), centre, (side, side), matrix))

    def _mix(self, sample: Sample, dataset: SampleSource, indices: list[int], draw: MixupDraw) -> Sample:
        """Return a sample with the first of some others that has objects blended in; itself, if none has."""
        for index in indices:
            partner = dataset.load(index, long_side=self.img_size)
            if len(partner.boxes):
                size = sample.image.shape[:2]
                fitted = fit_partner(partner, draw, size, self.mixup_pad, self.flip_pairs)
                return mixup(sample, drop_lost(fitted), 0.5)
        return sample

    def _finish(self, sample: Sample, shifts: tuple[int, int, int], mirror: bool) -> Sample:
        """Return a sample with its colours shifted, and mirrored if so drawn."""
        sample = replace(sample, image=shift_hsv(sample.image, shifts))
        return flip_left_right(sample, self.flip_pairs) if mirror else sample

    def _place(self, sample: Sample, shape: tuple[int, int]) -> Sample:
        """Return a sample letterboxed into a (height, width) shape."""
        plan = plan_for_batch(sample.image.shape[:2], self.img_size, shape, self.letterbox)
        spot, keypoints = plan.placement, sample.keypoints
        matrix = similarity_matrix(spot.scale_x, spot.scale_y, spot.left, spot.top)
        return drop_lost(
            replace(
                sample,
                image=apply_plan(sample.image, plan),
                boxes=warp_boxes(sample.boxes, matrix, plan.out),
                keypoints=None if keypoints is None else warp_keypoints(keypoints, matrix, plan.out),
                mask=None if sample.mask is None else warp_mask(sample.mask, matrix, plan.out),
            )
        )


def drop_lost(sample: Sample) -> Sample:
    """Return a sample without the objects of which nothing is left: no wider or higher than a pixel, or, where objects
    have keypoints, without a labelled one."""
    keep = (sample.boxes[:, 2:] - sample.boxes[:, :2] > MIN_SIDE).all(1)
    if sample.keypoints is not None:
        keep &= (sample.keypoints[..., 2] > 0).any(1)
    return sample.only(keep)


def _draw_others(dataset: SampleSource, key: SampleKey, count: int, rng: np.random.Generator) -> list[int]:
    """Draw the indices of other pictures, with replacement, among the key's partners."""
    among = len(key.partners) or len(dataset)
    places = rng.integers(among, size=count).tolist()
    return [key.partners[place] for place in places] if key.partners else places
