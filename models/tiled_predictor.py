"""Large pictures in overlapping tiles: each is looked at like a picture of its own, and the answers are joined.

Small objects of a large picture vanish when the whole of it is shrunk to the network's input. Tiles show them at their
own size; the picture as a whole is looked at too, for objects that fit into no tile.

Shape suffixes: B tiles of a batch, N candidate boxes, K of them kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from data.samples import Placement
from models.graph import Graph
from models.inference import Inference
from models.predictions import Detections, MaskResult, PostprocessOptions, named_outputs
from models.predictor import Predictor
from models.tiles import Tile, Tiling
from utils.boxes import points_to_native, scale_to_native
from utils.nms import kept_candidates
from utils.stage_clock import StageClock

EDGE = 0.01
"""A box that ends within this share of a tile's side from where the tile ends is taken for a piece of an object."""

COVERED = 0.7
"""Least share of a piece that lies in the box of the whole object."""

AS_SURE = 0.5
"""The box of the whole object is at least so many times as confident as a piece that gives way to it."""

_PIECES_AT_ONCE = 512

Item = TypeVar("Item")


@dataclass
class _Part:
    """What one look at a picture has found, in pixels of the picture.

    Attributes:
        found: candidates, a batch of one.
        cut: (N,) bool, those that end where a tile ends.
    """

    found: Detections
    cut: Tensor


class TiledPredictor(Predictor):
    """A ``Predictor`` that looks at the tiles of every picture, and for objects at the picture as a whole too.

    Boxes and poses of all looks are moved to the picture and suppress each other, also those of heads whose candidates
    otherwise stand for themselves: neighbours see the same objects. A box that ends where its tile ends is a piece of
    an object; it gives way to a box of the same class from any look that covers it and is not cut itself. Of areas,
    every pixel is told by the tile that has it deepest in its middle: nothing is averaged, so there is no map of all
    classes at the picture's size. Pictures of one tile are looked at as ever.

    Args:
        model: see ``Predictor``, like all that follow up to ``clock``.
        sizes: per head, of tiles and of the whole picture alike.
        options: thresholds; ``max_det`` holds for the whole picture.
        device: where the model is.
        dtype: reduced format of forward passes.
        clock: gets the time of the stages.
        tiling: how pictures are cut.
        batch_size: most tiles per pass.
    """

    def __init__(
        self,
        model: Graph | Inference,
        sizes: dict[str, int],
        options: PostprocessOptions | Mapping[str, PostprocessOptions],
        device: torch.device,
        dtype: torch.dtype | None,
        clock: StageClock,
        tiling: Tiling,
        batch_size: int = 1,
    ) -> None:
        super().__init__(model, sizes, options, device, dtype, clock)
        self.tiling, self.batch_size = tiling, batch_size

    def shape_text(self, image: np.ndarray) -> str:
        """Return what the network sees of a picture: ``480x640 and 12 tiles at 640x640``."""
        tiles = self.tiling.tiles(*image.shape[:2])
        if len(tiles) == 1:
            return super().shape_text(image)
        return f"{super().shape_text(image)} and {len(tiles)} tiles at {super().shape_text(tiles[0].of(image))}"

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Return the results of every picture by head, in native pixels.

        Args:
            images: (H, W, 3) uint8 RGB each.

        Raises:
            UsageError: a picture would have too many tiles.
        """
        tiles = [self.tiling.tiles(*image.shape[:2]) for image in images]
        small = [image for image, of_picture in zip(images, tiles, strict=True) if len(of_picture) == 1]
        as_ever = iter(super().__call__(small) if small else [])
        return [
            next(as_ever) if len(of_picture) == 1 else self._look_at(image, of_picture)
            for image, of_picture in zip(images, tiles, strict=True)
        ]

    def _look_at(self, image: np.ndarray, tiles: Sequence[Tile]) -> dict[str, Any]:
        """Return the results of a picture of several tiles."""
        height, width = image.shape[:2]
        found: dict[str, Any] = {}
        for size, heads in self.heads_by_size.items():
            areas = [head for head in heads if "masks" in self.model.heads[head].targets]
            objects = [head for head in heads if head not in areas]
            maps = {head: torch.empty((height, width), dtype=torch.uint8) for head in areas}
            parts: dict[str, list[_Part]] = {head: [] for head in objects}
            for group in _groups(tiles, self.batch_size):
                predictions, placements = self.look([tile.of(image) for tile in group], size, heads)
                with self.clock.time("postprocess"):
                    for head in areas:
                        told = self.model.heads[head].postprocess(predictions[head], self.options[head], placements)
                        _lay(maps[head], told, group)
                    for head in objects:
                        parts[head] += _candidates(predictions[head], self.options[head], placements, group)
            if objects:
                predictions, placements = self.look([image], size, objects)
            with self.clock.time("postprocess"):
                whole = [Tile.whole(height, width)]
                for head in objects:
                    parts[head] += _candidates(predictions[head], self.options[head], placements, whole)
                found |= {head: MaskResult(class_map) for head, class_map in maps.items()}
                found |= {head: self._joined(head, parts[head], Placement(height, width)) for head in objects}
        return {head: found[head] for head in self.order}

    def _joined(self, head: str, parts: Sequence[_Part], picture: Placement) -> Any:
        """Return a head's result for a picture, from all looks at it."""
        found = type(parts[0].found).combine([part.found for part in parts])
        found = _without_pieces(found, torch.cat([part.cut for part in parts]), self.options[head].one_class)
        return self.model.heads[head].postprocess(found, self.options[head], [picture])[0]


def _groups(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


def _lay(class_map: Tensor, told: Sequence[MaskResult], tiles: Sequence[Tile]) -> None:
    """Write what tiles tell of their own areas into the (H, W) map of the picture."""
    for result, tile in zip(told, tiles, strict=True):
        top, left, bottom, right = tile.own
        rows, columns = slice(top - tile.top, bottom - tile.top), slice(left - tile.left, right - tile.left)
        class_map[top:bottom, left:right] = result.class_map[rows, columns]


def _candidates(
    predicted: Detections, options: PostprocessOptions, placements: Sequence[Placement], tiles: Sequence[Tile]
) -> list[_Part]:
    """Return what every tile of a batch keeps for the picture: what stays when the tile is a picture of its own."""
    parts = []
    for i, (kept, place, tile) in enumerate(zip(kept_candidates(predicted, options), placements, tiles, strict=True)):
        # A candidate that answers for several classes comes once, with all of them.
        found = _rows(predicted, i, kept.rows.unique())
        found.boxes = scale_to_native(found.boxes, place)
        cut = _is_cut(found.boxes[0], tile)
        found.boxes = found.boxes + found.boxes.new_tensor((tile.left, tile.top, tile.left, tile.top))
        if hasattr(found, "keypoints"):
            shift = found.keypoints.new_tensor((tile.left, tile.top, 0))
            found.keypoints = points_to_native(found.keypoints, place) + shift
        parts.append(_Part(found, cut))
    return parts


def _rows(detections: Detections, image: int, rows: Tensor) -> Any:
    """Return some candidates of one image as a batch of one; those of several views have met and are views no more."""
    per_candidate = detections.boxes.shape[:2]
    columns = {
        name: value[image, rows][None]
        for name, value in named_outputs(detections).items()
        if value.shape[:2] == per_candidate
    }
    return replace(detections, views=None, **columns)


def _is_cut(boxes: Tensor, tile: Tile) -> Tensor:
    """Return (N,) bool, which boxes of a tile, (N, 4) in its own pixels, end where it ends within the picture."""
    edge = boxes.new_tensor((tile.width, tile.height)) * EDGE
    ends = torch.cat((boxes[:, :2] < edge, boxes[:, 2:] > boxes.new_tensor((tile.width, tile.height)) - edge), 1)
    return (ends & torch.tensor(tile.inner, device=boxes.device)).any(1)


def _without_pieces(found: Detections, cut: Tensor, one_class: bool) -> Detections:
    """Leave pieces of objects out that an uncut box of their class covers.

    Args:
        found: candidates of one picture.
        cut: (N,) bool.
        one_class: whether all objects are of one class, whichever is the likeliest.
    """
    confidence, classes = found.scores[0].max(-1)
    if one_class:
        classes = torch.zeros_like(classes)
    if found.objectness is not None:
        confidence = confidence * found.objectness[0]
    wholes, pieces = (~cut).nonzero()[:, 0], cut.nonzero()[:, 0]
    if len(wholes) == 0 or len(pieces) == 0:
        return found
    boxes, stay = found.boxes[0].float(), torch.ones_like(cut)
    for some in pieces.split(_PIECES_AT_ONCE):
        covered = _share_inside(boxes[some], boxes[wholes]) >= COVERED
        covered &= classes[some, None] == classes[wholes]
        covered &= confidence[wholes] >= AS_SURE * confidence[some, None]
        stay[some] = ~covered.any(1)
    return _rows(found, 0, stay.nonzero()[:, 0])


def _share_inside(boxes: Tensor, others: Tensor) -> Tensor:
    """Return (n, m), the share of each of (n, 4) boxes that lies in each of (m, 4) others; 0 for boxes without area."""
    low = torch.maximum(boxes[:, None, :2], others[:, :2])
    high = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1, keepdim=True)
    return (high - low).clamp_min_(0).prod(-1) / areas.clamp_min(torch.finfo(boxes.dtype).tiny)
