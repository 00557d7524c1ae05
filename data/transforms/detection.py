"""What a detection (or pose, or joint) sample goes through in training: mosaic, warp, mixup, colour, flips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data.sample_key import SampleKey
from data.sample_source import SampleSource
from data.samples import Sample
from data.transforms.colour import draw_hsv_gains, scale_hsv
from data.transforms.effects import EFFECTS, apply_effects, draw_effects, effect_chances
from data.transforms.geometry import (
    MAX_ASPECT,
    affine_matrix,
    draw_affine,
    flip_left_right,
    flip_up_down,
    similarity_matrix,
)
from data.transforms.hsv import compiled_change
from data.transforms.letterbox import plan_for_batch
from data.transforms.mosaic import draw_centre, mixup, mosaic
from data.transforms.recipe import Recipe, recipe_flip_pairs, recipe_number
from data.transforms.upright import show_sample

MIXUP_BETA = 32.0
"""Both parameters of the Beta distribution of mixup's share: nearly always between 0.35 and 0.65."""
DETECTION_AUGMENTATION: Mapping[str, Any] = {"max_aspect": MAX_ASPECT, **EFFECTS}
"""Recipe keys that only this pipeline has and YOLOv5's own files have not, with their defaults."""


class DetectionTrainTransform:
    """Makes one augmented square training sample out of a data set.

    Args:
        hyp: recipe with ``mosaic``, ``mixup``, ``flipud``, ``fliplr`` (probabilities 0..1), the ranges of
            ``draw_affine`` and of ``draw_hsv_gains``, and ``flip_pairs`` for keypoints; absent keys are 0. Then
            ``max_aspect`` (above 1): an object is dropped whose longer side has become so many times its shorter one,
            and the probabilities of ``effect_chances``.
        img_size: side of the result, pixels.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """

    def __init__(self, hyp: Recipe, img_size: int):
        self.hyp = dict(hyp)
        self.img_size = img_size
        self.mosaic = recipe_number(hyp, "mosaic", 0, 0, 1)
        self.mixup = recipe_number(hyp, "mixup", 0, 0, 1)
        self.flip_up_down = recipe_number(hyp, "flipud", 0, 0, 1)
        self.flip_left_right = recipe_number(hyp, "fliplr", 0, 0, 1)
        self.flip_pairs = recipe_flip_pairs(hyp)
        self.max_aspect = recipe_number(hyp, "max_aspect", MAX_ASPECT, 1, 1e6)
        self.effects = effect_chances(hyp)
        # A dry draw, so that a recipe out of range stops the command at its start and not inside a worker.
        draw_affine(hyp, np.random.default_rng(0))
        if draw_hsv_gains(hyp, np.random.default_rng(0)) != (1.0, 1.0, 1.0):
            compiled_change()

    def __call__(self, dataset: SampleSource, key: SampleKey, rng: np.random.Generator) -> Sample:
        """Return the sample of a key augmented, (img_size, img_size, 3) or ``(*key.shape, 3)``, without a placement.

        Args:
            dataset: the samples.
            key: of the sample, its index in 0..len(dataset) - 1; one with a shape has no mosaic.
            rng: the only source of randomness.
        """
        if key.mosaic and key.shape is None and rng.random() < self.mosaic:
            sample = self._four(dataset, [key.index, *_draw_partners(dataset, key, 3, rng)], rng)
            if rng.random() < self.mixup:
                other = self._four(dataset, _draw_partners(dataset, key, 4, rng), rng)
                sample = mixup(sample, other, float(rng.beta(MIXUP_BETA, MIXUP_BETA)))
        else:
            sample = self._single(dataset, key.index, key.shape or (self.img_size, self.img_size), rng)
        # Its pixels were made for it, so they may be changed in place.
        gains = draw_hsv_gains(self.hyp, rng)
        up_down, left_right = rng.random() < self.flip_up_down, rng.random() < self.flip_left_right
        if any(self.effects):
            # Drawn last, so that a recipe without them draws what it did before they were there.
            sample.image = apply_effects(sample.image, draw_effects(self.effects, rng))
        sample.image = scale_hsv(sample.image, gains, out=sample.image)
        sample.placement = None
        if up_down:
            sample = flip_up_down(sample)
        if left_right:
            sample = flip_left_right(sample, self.flip_pairs)
        return sample

    def _four(self, dataset: SampleSource, indices: list[int], rng: np.random.Generator) -> Sample:
        """Return a mosaic of four samples, in random places, at the final size; the first one names it."""
        side = self.img_size
        # The first picture is read even where it is not seen: it is the sample that was asked for.
        first = dataset.load(indices[0], long_side=side)
        places = rng.permutation(4).tolist()
        centre = draw_centre(side, rng)
        draw = draw_affine(self.hyp, rng)
        sample = mosaic(
            lambda place: first if place == 0 else dataset.load(indices[place], long_side=side),
            places,
            centre,
            side,
            affine_matrix(draw, (2 * side, 2 * side), (side, side)),
            draw.scale,
            self.max_aspect,
        )
        sample.id = first.id
        return sample

    def _single(self, dataset: SampleSource, index: int, shape: tuple[int, int], rng: np.random.Generator) -> Sample:
        """Return one sample, letterboxed into a (height, width) shape and moved in one go."""
        sample = dataset.load(index, long_side=self.img_size)
        spot = plan_for_batch(sample.image.shape[:2], self.img_size, shape).placement
        draw = draw_affine(self.hyp, rng)
        matrix = affine_matrix(draw, shape, shape) @ similarity_matrix(spot.scale_x, spot.scale_y, spot.left, spot.top)
        return show_sample(sample, matrix, shape, draw.scale * spot.scale_x, self.max_aspect)


def _draw_partners(dataset: SampleSource, key: SampleKey, count: int, rng: np.random.Generator) -> list[int]:
    """Draw the indices of other pictures, with replacement, among the key's partners."""
    if not key.partners:
        return rng.integers(len(dataset), size=count).tolist()
    return [key.partners[place] for place in rng.integers(len(key.partners), size=count).tolist()]
