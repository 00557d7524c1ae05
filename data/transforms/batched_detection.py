"""``DetectionTrainTransform`` for whole batches: mosaic, warp, mixup, colour and flips of pictures on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.device_pictures import DevicePictures
from data.sample_key import SampleKey
from data.transforms.batched import BatchPlan
from data.transforms.batched_colour import scale_hsv_batch
from data.transforms.batched_geometry import (
    AffineRanges,
    Views,
    affine_matrices,
    inverse_matrices,
    shift_matrices,
    warp_images,
    warp_masks,
)
from data.transforms.batched_labels import (
    PaddedObjects,
    flip_objects,
    move_objects,
    objects_of,
    pad_objects,
    require_flip_pairs,
    shift_onto_canvas,
)
from data.transforms.detection import MIXUP_BETA, DetectionTrainTransform
from data.transforms.geometry import IGNORED
from data.transforms.mosaic import draw_centre
from utils.errors import UsageError

_TILES = 4
_KINDS = ("four", "one")


@dataclass
class _ViewDraw:
    """What is drawn for one view.

    Attributes:
        image: position in the batch of the image that it is part of.
        indices: samples of the tiles in the order of their places, or one sample alone.
        centre: (x, y) where tiles meet; None for one sample alone.
        units: eight numbers of ``draw_affine``, -1..1.
    """

    image: int
    indices: list[int]
    centre: tuple[int, int] | None
    units: np.ndarray


@dataclass
class _ViewTable:
    """Views of a batch in the order of their images; places (V, 4) and corners (V, 4, 2) repeat a single tile."""

    image: np.ndarray
    is_four: np.ndarray
    places: np.ndarray
    corners: np.ndarray
    canvas: np.ndarray
    matrices: np.ndarray
    zooms: np.ndarray


class DetectionBatches:
    """Augmented square detection batches.

    Args:
        transform: of single samples, whose settings are taken over.
        pictures: at the transform's size.

    Raises:
        DataError: the recipe's ``flip_pairs`` name a keypoint that the data do not have.
    """

    def __init__(self, transform: DetectionTrainTransform, pictures: DevicePictures):
        self.transform, self.pictures = transform, pictures
        self.side = transform.img_size
        self.ranges = AffineRanges.of(transform.hyp)
        self.gain_ranges = np.array([float(transform.hyp.get(key, 0)) for key in ("hsv_h", "hsv_s", "hsv_v")])
        if transform.flip_left_right:
            require_flip_pairs(pictures, transform.flip_pairs)

    def plan(self, keys: Sequence[SampleKey], generators: Sequence[np.random.Generator]) -> BatchPlan:
        """Draw everything and move the labels; see ``BatchTransform``.

        Raises:
            UsageError: a key asks for a rectangular sample.
        """
        draws: list[_ViewDraw] = []
        shares = np.ones(len(keys))
        gains, flips = np.empty((len(keys), 3)), np.empty((len(keys), 2), bool)
        for image, (key, rng) in enumerate(zip(keys, generators, strict=True)):
            shares[image] = self._draw_views(image, key, rng, draws)
            gains[image] = rng.uniform(-1, 1, 3) * self.gain_ranges + 1
            flips[image, 1] = rng.random() < self.transform.flip_up_down
            flips[image, 0] = rng.random() < self.transform.flip_left_right
        views = self._table(draws)
        arrays = self._view_arrays(views, flips)
        arrays.update(self._mixup_arrays(views, shares))
        if (gains != 1).any():
            arrays["gains"] = gains.astype(np.float32)
        own = self.pictures.places[[key.index for key in keys]].tolist()
        return BatchPlan(arrays, self._objects(views, flips), [self.pictures.ids[place] for place in own])

    def render(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Make the pixels; see ``BatchTransform``."""
        size, store = (self.side, self.side), self.pictures
        views = [
            Views(
                *(arrays[f"{kind}_{name}"] for name in ("places", "corners", "canvas", "inverse")),
                arrays["frame"],
                self.ranges.perspective > 0,
            )
            for kind in _KINDS
            if f"{kind}_places" in arrays
        ]
        shown = torch.cat([warp_images(store.images, kind, size) for kind in views])
        masks = None if store.masks is None else torch.cat([warp_masks(store.masks, kind, size) for kind in views])
        images, masks = _with_mixup(shown, masks, arrays)
        return (scale_hsv_batch(images, arrays["gains"]) if "gains" in arrays else images), masks

    def _draw_views(self, image: int, key: SampleKey, rng: np.random.Generator, onto: list[_ViewDraw]) -> float:
        """Draw the one or two views of a sample as the transform of single samples does; return the first's share."""
        if key.shape is not None:
            raise UsageError("--cache device makes square samples only; leave --rect out, or take --cache ram")
        transform = self.transform
        if not (key.mosaic and rng.random() < transform.mosaic):
            onto.append(_ViewDraw(image, [key.index], None, rng.uniform(-1, 1, 8)))
            return 1.0
        onto.append(self._draw_four(image, [key.index, *self._partners(key, 3, rng)], rng))
        if rng.random() >= transform.mixup:
            return 1.0
        onto.append(self._draw_four(image, self._partners(key, 4, rng), rng))
        return float(rng.beta(MIXUP_BETA, MIXUP_BETA))

    def _draw_four(self, image: int, indices: list[int], rng: np.random.Generator) -> _ViewDraw:
        ordered = [indices[i] for i in rng.permutation(_TILES).tolist()]
        return _ViewDraw(image, ordered, draw_centre(self.side, rng), rng.uniform(-1, 1, 8))

    def _partners(self, key: SampleKey, count: int, rng: np.random.Generator) -> list[int]:
        if not key.partners:
            return rng.integers(len(self.pictures), size=count).tolist()
        return [key.partners[place] for place in rng.integers(len(key.partners), size=count).tolist()]

    def _table(self, draws: list[_ViewDraw]) -> _ViewTable:
        """Work out where all tiles lie and how all canvases are shown."""
        side = self.side
        is_four = np.array([draw.centre is not None for draw in draws])
        indices = np.array([draw.indices if draw.centre is not None else draw.indices * _TILES for draw in draws])
        centres = np.array([draw.centre or (0, 0) for draw in draws])
        places = self.pictures.places[indices]
        extents = self.pictures.sizes[places][..., ::-1]
        # A tile touches the centre with its inner corner: those on the left and above end there.
        ends = np.array([[1, 1], [0, 1], [1, 0], [0, 0]])
        corners = np.where(is_four[:, None, None], centres[:, None] - ends * extents, 0)
        canvas = np.where(is_four[:, None], 2 * side, extents[:, 0])
        units = np.stack([draw.units for draw in draws])
        matrices, zooms = affine_matrices(units, self.ranges, np.where(is_four, 2 * side, side), side)
        # A single picture has the size already; it is put into the middle as utils.boxes.plan_letterbox does it.
        padding = np.rint((side - extents[:, 0]) / 2 - 0.1)
        matrices = matrices @ shift_matrices(np.where(is_four[:, None], 0, padding))
        image = np.array([draw.image for draw in draws])
        return _ViewTable(image, is_four, places, corners, canvas, matrices, zooms)

    def _view_arrays(self, views: _ViewTable, flips: np.ndarray) -> dict[str, np.ndarray]:
        across, down = flips[views.image].T
        inverse = inverse_matrices(views.matrices, across, down, self.side).astype(np.float32)
        height, width = self.pictures.images.shape[1:3]
        arrays = {"frame": np.array([width, height], np.float32)}
        for kind, chosen, tiles in zip(_KINDS, (views.is_four, ~views.is_four), (_TILES, 1), strict=True):
            if chosen.any():
                arrays[f"{kind}_places"] = views.places[chosen, :tiles]
                arrays[f"{kind}_corners"] = views.corners[chosen, :tiles].astype(np.float32)
                arrays[f"{kind}_canvas"] = views.canvas[chosen].astype(np.float32)
                arrays[f"{kind}_inverse"] = inverse[chosen]
        return arrays

    def _mixup_arrays(self, views: _ViewTable, shares: np.ndarray) -> dict[str, np.ndarray]:
        """Return where the first view of each image is among those of both kinds, and which images have a second."""
        position = np.empty(len(views.image), np.int64)
        position[np.argsort(~views.is_four, kind="stable")] = np.arange(len(position))
        is_first = np.diff(views.image, prepend=-1) > 0
        arrays = {"first": position[is_first]}
        if not is_first.all():
            mixed = views.image[~is_first]
            arrays.update(mixed=mixed, second=position[~is_first], shares=shares[mixed].astype(np.float32))
        return arrays

    def _objects(self, views: _ViewTable, flips: np.ndarray) -> PaddedObjects:
        used = np.ones_like(views.places, bool)
        used[~views.is_four, 1:] = False
        view = np.nonzero(used)[0]
        objects, tile = objects_of(self.pictures, views.places[used], views.image[view])
        view, corners = view[tile], views.corners[used][tile]
        shift_onto_canvas(objects, corners, views.canvas[view], cut=views.is_four[view])
        size = (self.side, self.side)
        zooms, most = views.zooms[view], self.transform.max_aspect
        objects = move_objects(objects, views.matrices[view], size, zooms, most)
        across, down = flips[objects.image].T
        flip_objects(objects, across, down, size, self.transform.flip_pairs)
        return pad_objects(objects, len(flips))


def _with_mixup(shown: Tensor, masks: Tensor | None, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Return one image and mask per sample out of all views."""
    first = arrays["first"]
    images = shown.index_select(0, first)
    own_masks = None if masks is None else masks.index_select(0, first)
    if "second" in arrays:
        mixed, second, share = arrays["mixed"], arrays["second"], arrays["shares"][:, None, None, None]
        blend = images.index_select(0, mixed) * share + shown.index_select(0, second) * (1 - share)
        images.index_copy_(0, mixed, blend.add_(0.5).to(torch.uint8))
        if own_masks is not None:
            ours, others = own_masks.index_select(0, mixed), masks.index_select(0, second)
            own_masks.index_copy_(0, mixed, torch.where(ours == others, ours, IGNORED))
    return images, own_masks
