"""``SegmentationTrainTransform`` for whole batches: size, crop, mirror and jitter of pictures on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from data.device_pictures import DevicePictures, kept_sizes
from data.sample_key import SampleKey
from data.transforms.batched import BatchPlan
from data.transforms.batched_colour import jitter_batch
from data.transforms.batched_geometry import cut_masks, resize_and_cut, shift_matrices
from data.transforms.batched_labels import (
    PaddedObjects,
    flip_objects,
    move_objects,
    objects_of,
    pad_objects,
    require_flip_pairs,
)
from data.transforms.colour import JITTERS, draw_jitter
from data.transforms.segmentation import SegmentationTrainTransform
from utils.errors import UsageError


@dataclass
class _Axis:
    """One axis of all crops of a batch, (N, length) each.

    Attributes:
        points: float32, where each pixel of a crop lies in the picture as it is kept.
        nearest: int64, the pixel it takes its class from.
        covered: bool, whether the picture reaches there.
    """

    points: np.ndarray
    nearest: np.ndarray
    covered: np.ndarray


class SegmentationBatches:
    """Augmented crops with masks.

    A sample of the CPU is resized from its file; here it is resized from the picture as it is kept. Both are the same
    where that is the file's own size. Where the file is larger than any size that the recipe asks for, pictures (and
    nearest pixels of masks) are resized twice, which smooths fine detail a little.

    Args:
        transform: of single samples, whose settings are taken over.
        pictures: at the largest size that the transform asks for, or at their native size where that is smaller.

    Raises:
        DataError: the recipe's ``flip_pairs`` name a keypoint that the data do not have.
    """

    def __init__(self, transform: SegmentationTrainTransform, pictures: DevicePictures):
        self.transform, self.pictures = transform, pictures
        if transform.flip_left_right:
            require_flip_pairs(pictures, transform.flip_pairs)

    def plan(self, keys: Sequence[SampleKey], generators: Sequence[np.random.Generator]) -> BatchPlan:
        """Draw everything and move the labels; see ``BatchTransform``.

        Raises:
            UsageError: a key asks for a rectangular sample.
        """
        places = self.pictures.places[[key.index for key in keys]]
        mirrored = np.empty(len(keys), bool)
        full, start = np.empty((len(keys), 2), np.int64), np.empty((len(keys), 2), np.int64)
        changes = []
        for row, (key, rng) in enumerate(zip(keys, generators, strict=True)):
            if key.shape is not None:
                raise UsageError("--cache device makes crops of one size only; leave --rect out, or take --cache ram")
            mirrored[row] = rng.random() < self.transform.flip_left_right
            long_edge = self.transform.long_edge.draw(rng)
            full[row] = kept_sizes(self.pictures.native[places[row]][None], long_edge, enlarge=True)[0]
            for axis in (0, 1):
                start[row, axis] = rng.integers(max(full[row, axis] - self.transform.crop[axis], 0) + 1)
            changes.append(draw_jitter(self.transform.jitter, rng))
        arrays = self._pixel_arrays(places, mirrored, full, start)
        if changes[0]:
            arrays["kinds"] = np.array([[JITTERS.index(kind) for kind, _ in drawn] for drawn in changes], np.int32)
            arrays["factors"] = np.array([[factor for _, factor in drawn] for drawn in changes], np.float32)
        objects = self._objects(places, mirrored, full, start)
        return BatchPlan(arrays, objects, [self.pictures.ids[place] for place in places.tolist()])

    def render(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Make the pixels; see ``BatchTransform``."""
        store, places = self.pictures, arrays["places"]
        covered = arrays["x_covered"], arrays["y_covered"]
        images = resize_and_cut(store.images, places, arrays["x_points"], arrays["y_points"], covered)
        if "kinds" in arrays:
            images = jitter_batch(images, arrays["kinds"], arrays["factors"], with_hue=self.transform.jitter[3] > 0)
        if store.masks is None:
            return images, None
        return images, cut_masks(store.masks, places, arrays["x_nearest"], arrays["y_nearest"], covered)

    def _pixel_arrays(
        self, places: np.ndarray, mirrored: np.ndarray, full: np.ndarray, start: np.ndarray
    ) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {"places": places}
        kept, crop = self.pictures.sizes[places], self.transform.crop
        for name, number, flipped in (("y", 0, np.zeros_like(mirrored)), ("x", 1, mirrored)):
            axis = _axis(start[:, number], crop[number], full[:, number], kept[:, number], flipped)
            arrays[f"{name}_points"], arrays[f"{name}_covered"] = axis.points, axis.covered
            if self.pictures.masks is not None:
                arrays[f"{name}_nearest"] = axis.nearest
        return arrays

    def _objects(self, places: np.ndarray, mirrored: np.ndarray, full: np.ndarray, start: np.ndarray) -> PaddedObjects:
        objects, _ = objects_of(self.pictures, places, np.arange(len(places)))
        size = full[objects.image]
        ratio = (size / self.pictures.sizes[places][objects.image])[:, ::-1]
        objects.boxes = (objects.boxes * np.tile(ratio, 2)).astype(np.float32)
        if objects.keypoints is not None:
            objects.keypoints = objects.keypoints.copy()
            objects.keypoints[..., :2] *= ratio[:, None]
        flipped = mirrored[objects.image]
        flip_objects(objects, flipped, np.zeros_like(flipped), (size[:, 0], size[:, 1]), self.transform.flip_pairs)
        matrices = shift_matrices(-start[objects.image][:, ::-1])
        objects = move_objects(objects, matrices, self.transform.crop, np.ones(len(flipped)))
        return pad_objects(objects, len(places))


def _axis(start: np.ndarray, length: int, full: np.ndarray, kept: np.ndarray, flipped: np.ndarray) -> _Axis:
    """Work out one axis of crops.

    Args:
        start: (N,) first pixel of the crop in the resized picture.
        length: of the crop, pixels.
        full: (N,) of the resized picture.
        kept: (N,) of the picture as it is kept.
        flipped: (N,) bool, whether the resized picture is mirrored along this axis.
    """
    start, full, kept = start[:, None], full[:, None], kept[:, None]
    at = start + np.arange(length)
    covered = at < full
    at = np.where(flipped[:, None], full - 1 - at, at).clip(0, full - 1)
    points = ((at + 0.5) * (kept / full) - 0.5).clip(0, kept - 1)
    # In whole numbers, so that a pixel half-way between two is not left to rounding; OpenCV takes either.
    nearest = (2 * at + 1) * kept // (2 * full)
    return _Axis(points.astype(np.float32), nearest, covered)
