"""Objects as a format can say them: classes renamed, lengths within the picture, what cannot be said counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.annotations import AnnotatedPicture, Objects
from data.class_map import ClassMap
from data.convert.losses import Losses
from data.polygons import clip_polygon, extent

_LEAST_CORNERS = 3
_MARKS = {"crowd": "crowds", "difficult": "difficult objects"}

_OUTLINE_OR_KEYPOINTS = ("yolo",)
"""Formats whose rows hold either."""

_OUTLINE_FOR_BOX = ("yolo", "labelme", "cityscapes")
"""Formats in which an outline stands in place of a box."""

_SAME = 0.5
"""Pixels by which a box and the extent of its outline may differ, and square pixels by which areas may."""


@dataclass(frozen=True)
class Fit:
    """What objects have to fit.

    Attributes:
        target: name of the format that they are written in.
        keeps: which fields of ``Objects`` it can say.
        classes: of the result.
        class_map: from the classes of the source to those; objects of other classes are left out.
        drop: what is left out on purpose, see ``Options``; keypoints are gone already.
    """

    target: str
    keeps: frozenset[str]
    classes: Sequence[str]
    class_map: ClassMap
    drop: Collection[str] = ()

    def __call__(self, picture: AnnotatedPicture, losses: Losses) -> AnnotatedPicture:
        """Return the picture with the objects that fit, and count the others."""
        for what, number in picture.objects.left_out.items():
            losses.count(f"{what} left out", number)
        objects = rename_classes(picture.objects, self.class_map, self.classes, losses)
        objects = self._within(objects, picture.size, losses)
        objects = self._without_dropped(objects, losses)
        return replace(picture, objects=self._sayable(objects, losses))

    def _within(self, objects: Objects, size: tuple[int, int], losses: Losses) -> Objects:
        height, width = size
        boxes = np.clip(objects.boxes, 0, [width, height, width, height])
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        losses.count("boxes without area within their picture left out", (~solid).sum())
        over = (boxes != objects.boxes).any(1) & solid
        losses.count("boxes reached over the edge of their picture and were clipped", over.sum())
        outlines = [_clipped(outlines, size) for outlines in objects.outlines]
        return chosen(replace(objects, boxes=boxes, outlines=outlines), solid)

    def _without_dropped(self, objects: Objects, losses: Losses) -> Objects:
        for field in _MARKS:
            if field in self.drop:
                objects = without_marked(objects, field, losses)
        if "outlines" in self.drop:
            objects = replace(objects, outlines=[[] for _ in objects.names])
        return objects

    def _sayable(self, objects: Objects, losses: Losses) -> Objects:
        if "crowd" not in self.keeps and objects.crowd.any():
            # As an object like others a crowd would be trained on.
            losses.count(f"crowds left out, which {self.target} cannot mark", objects.crowd.sum())
            objects = chosen(objects, ~objects.crowd)
        if "difficult" not in self.keeps:
            losses.count(
                f"difficult objects are no longer marked so, which {self.target} cannot do", objects.difficult.sum()
            )
        outlined = sum(bool(outlines) for outlines in objects.outlines)
        has_keypoints = objects.keypoints.shape[1] > 0
        if "outlines" not in self.keeps:
            losses.count(f"objects lost their outlines, which {self.target} has no place for", outlined)
            objects = replace(objects, outlines=[[] for _ in objects.names])
        elif self.target in _OUTLINE_OR_KEYPOINTS and has_keypoints:
            losses.count(f"objects lost their outlines, because {self.target} has keypoints in their place", outlined)
            objects = replace(objects, outlines=[[] for _ in objects.names])
        if self.target in _OUTLINE_FOR_BOX:
            losses.count("objects have the extent of their outlines for their box", _moved_boxes(objects))
        if "areas" not in self.keeps:
            losses.count(f"objects lost their areas, which {self.target} has no place for", _other_areas(objects))
        if "keypoints" not in self.keeps and has_keypoints:
            labelled = (objects.keypoints[..., 2] > 0).any(1).sum()
            losses.count(f"objects lost their keypoints, which {self.target} has no place for", labelled)
            objects = without_keypoints(objects)
        return objects


def without_keypoints(objects: Objects) -> Objects:
    """Return the objects without their keypoints."""
    return replace(objects, keypoints=np.zeros((len(objects), 0, 3)))


def without_marked(objects: Objects, field: str, losses: Losses) -> Objects:
    """Return the objects that are not marked as ``crowd`` or ``difficult``, and count the others."""
    marked = getattr(objects, field)
    losses.count(f"{_MARKS[field]} left out, as asked", marked.sum())
    return chosen(objects, ~marked)


def rename_classes(objects: Objects, class_map: ClassMap, classes: Sequence[str], losses: Losses) -> Objects:
    """Return the objects by the names of other classes; those that have none are left out and counted."""
    targets = class_map.of_names(objects.names)
    for name, target in zip(objects.names, targets.tolist(), strict=True):
        losses.count(f"objects of the class '{name}' left out", target < 0)
    kept = chosen(objects, targets >= 0)
    return replace(kept, names=[classes[target] for target in targets[targets >= 0].tolist()])


def chosen(objects: Objects, rows: np.ndarray) -> Objects:
    """Return the objects of rows, which are (n,) bool."""
    if rows.all():
        return objects
    places = np.flatnonzero(rows).tolist()
    return replace(
        objects,
        names=[objects.names[i] for i in places],
        boxes=objects.boxes[rows],
        outlines=[objects.outlines[i] for i in places],
        keypoints=objects.keypoints[rows],
        crowd=objects.crowd[rows],
        difficult=objects.difficult[rows],
        areas=objects.areas[rows],
        boxed=objects.boxed[rows],
    )


def _moved_boxes(objects: Objects) -> int:
    """Return how many boxes are not the extent of the object's outlines."""
    pairs = [(box, extent(outlines)) for box, outlines in zip(objects.boxes, objects.outlines, strict=True) if outlines]
    return sum(bool((np.abs(box - around) > _SAME).any()) for box, around in pairs)


def _other_areas(objects: Objects) -> int:
    """Return how many objects have an area that neither outlines nor their box have."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    bare = np.array([not outlines for outlines in objects.outlines], bool)
    return int((bare & (np.abs(objects.areas - sides.prod(1)) > _SAME)).sum())


def _clipped(outlines: list[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    limits = np.array(size[::-1])
    if all(((outline >= 0) & (outline <= limits)).all() for outline in outlines):
        return outlines
    cut = [clip_polygon(outline, size) for outline in outlines]
    return [outline for outline in cut if len(outline) >= _LEAST_CORNERS]
