"""COCO annotation files as annotated pictures: boxes, outlines, crowds and keypoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.coco_json import MOST_PIXELS, WHAT, CocoFile, parse_coco
from data.formats.coco_rle import check_runs, mask_to_runs, runs_to_mask, runs_to_text, text_to_runs
from data.formats.large_json import read_large_json
from data.formats.listed_pictures import find_pictures, picture_sizes
from data.images import MOST_PIXELS_OF_A_SET
from data.mask_outlines import fill_outlines, outlines_of
from utils.errors import DataError
from utils.files import atomic_writer

_BROKEN = "outlines with fewer than three points"
MOST_KEYPOINTS = 1000
"""Of an object; every annotation takes room for as many as any has."""

_log = logging.getLogger("yolograph")


class CocoObjects:
    """One JSON for a split; see ``SplitFormat``.

    A run-length mask becomes outlines along the edges of its pixels. The outlines of a crowd are written as a
    run-length mask, as COCO has them, in the compressed form.
    """

    name = "coco"
    names: tuple[str, ...] = ()
    keeps = frozenset({"outlines", "keypoints", "crowd", "areas"})

    def read(self, path: Path, images: Sequence[Path]) -> tuple[ClassList, list[AnnotatedPicture]]:
        """Read an annotation file.

        The size of a picture is that of its file; of one that is missing or cannot be read it is what the annotation
        file says, (0, 0) where that is silent. Annotations of pictures that are not listed are left out with a warning.

        Raises:
            DataError: see ``read_coco``; an outline or keypoints are malformed.
        """
        root = read_large_json(path, _with_arrays, WHAT)
        coco = parse_coco(root, path)
        listed = np.flatnonzero(coco.images >= 0)
        if len(listed) < len(coco):
            _log.warning(
                "%s: %d annotations are of images that it does not list; they are left out",
                path,
                len(coco) - len(listed),
            )
        files = find_pictures(coco.files, images)
        sizes = picture_sizes(files, coco.sizes)
        # Annotations of one picture together, in the order of the file.
        order = listed[np.argsort(coco.images[listed], kind="stable")]
        ends = np.cumsum(np.bincount(coco.images[order], minlength=len(files)))[:-1]
        classes = _class_list(root, coco)
        keypoints = _keypoints(coco, len(classes.keypoints))
        outlines = [entry.get("segmentation") for entry in root["annotations"]]
        pictures = [
            AnnotatedPicture(
                image=Path(files[i]),
                relative=str(PurePosixPath(coco.files[i].replace("\\", "/"))),
                size=(int(sizes[i, 0]), int(sizes[i, 1])),
                objects=_objects(coco, i, rows, outlines, keypoints),
            )
            for i, rows in enumerate(np.split(order, ends) if files else [])
        ]
        return classes, pictures

    def write(self, path: Path, pictures: Sequence[AnnotatedPicture], classes: ClassList) -> None:
        """Write an annotation file; its folder must exist.

        Raises:
            DataError: an object is of a class that ``classes`` does not have.
        """
        place = {name: index for index, name in enumerate(classes.names)}
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(classes.names)]
        if classes.keypoints:
            skeleton = [[a + 1, b + 1] for a, b in classes.skeleton]
            for category in categories:
                category |= {"keypoints": list(classes.keypoints), "skeleton": skeleton}
        images = []
        for number, picture in enumerate(pictures, 1):
            height, width = picture.size
            images.append({"id": number, "file_name": picture.relative, "height": height, "width": width})
            strange = next((name for name in picture.objects.names if name not in place), None)
            if strange is not None:
                raise DataError(f"{path}: {picture.relative} has the class '{strange}', which is not in the class list")
        head = _json({"images": images, "categories": categories})
        with atomic_writer(path) as file:
            file.write(head.removesuffix("}").encode() + b', "annotations": [')
            done = 0
            # One by one: as numbers of Python, all outlines together take ten times as much memory as in the file.
            for number, picture in enumerate(pictures, 1):
                for entry in _entries(picture, place):
                    done += 1
                    text = _json({"id": done, "image_id": number, **entry})
                    file.write(f"{',' if done > 1 else ''}\n{text}".encode())
            file.write(b"]}\n")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False)


def _with_arrays(entry: dict[str, Any]) -> dict[str, Any]:
    """Turn the outline of an annotation into arrays as soon as it is read: as numbers of Python it takes ten times as
    much memory. What is malformed stays as it is and is refused later, with the annotation's id."""
    outline = entry.get("segmentation")
    try:
        if isinstance(outline, list):
            entry["segmentation"] = [np.array(polygon, np.float64) for polygon in outline]
        elif isinstance(outline, dict) and isinstance(outline.get("counts"), list):
            outline["counts"] = np.array(outline["counts"], np.int64)
    except (ValueError, TypeError, OverflowError):
        pass
    return entry


def _class_list(root: dict[str, Any], coco: CocoFile) -> ClassList:
    names = coco.keypoint_names
    if not names and len(coco.keypoints):
        # A file may have keypoints that it does not name.
        names = tuple(str(number) for number in range(1, int(np.diff(coco.offsets).max()) // 3 + 1))
    if len(names) > MOST_KEYPOINTS:
        raise DataError(f"{coco.path}: has {len(names)} keypoints per object; at most {MOST_KEYPOINTS} are read")
    skeletons = (entry.get("skeleton") for entry in root["categories"] if entry.get("keypoints"))
    links = next(skeletons, None) or []
    if not isinstance(links, list) or not all(_is_link(link, len(names)) for link in links):
        raise DataError(
            f"{coco.path}: has a category whose `skeleton` is no list of pairs of keypoints 1..{len(names)}; mend it"
        )
    return ClassList(list(coco.categories), names, tuple((first - 1, second - 1) for first, second in links))


def _is_link(link: Any, count: int) -> bool:
    return isinstance(link, list) and len(link) == 2 and all(type(end) is int and 1 <= end <= count for end in link)


def _keypoints(coco: CocoFile, count: int) -> np.ndarray:
    """Return (m, count, 3); an annotation without keypoints has them at (0, 0, 0)."""
    lengths = np.diff(coco.offsets)
    wrong = (lengths != 0) & (lengths != 3 * count)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise coco.fault(
            row, f"has {lengths[row]} keypoint values, but {count} keypoints (x y v) are {3 * count}; mend it"
        )
    found = np.zeros((len(coco), count, 3))
    found[lengths > 0] = coco.keypoints.reshape(-1, count, 3) if count else 0
    unknown = ~np.isin(found[..., 2], (0, 1, 2)).all(1)
    if unknown.any():
        raise coco.fault(int(np.argmax(unknown)), "has a keypoint whose visibility is not 0, 1 or 2; mend it")
    return np.where(found[..., 2:] > 0, found, 0.0)


def _objects(coco: CocoFile, image: int, rows: np.ndarray, segmentations: list[Any], keypoints: np.ndarray) -> Objects:
    """Return the objects of an image, whose annotations are ``rows`` of the file."""
    height, width = coco.sizes[image].tolist()
    outlines, broken = [], 0
    for row in rows.tolist():
        found, left_out = _outlines(coco, row, segmentations[row])
        outlines.append(found)
        broken += left_out
    boxes = coco.boxes[rows]
    areas = coco.areas[rows]
    return make_objects(
        names=[coco.categories[index] for index in coco.classes[rows]],
        boxes=np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
        outlines=outlines,
        keypoints=keypoints[rows],
        crowd=coco.crowd[rows],
        areas=np.where(areas > 0, areas, np.nan),
        left_out={_BROKEN: broken} if broken else None,
        size=(height, width) if height and width else None,
    )


def _outlines(coco: CocoFile, row: int, outline: Any) -> tuple[list[np.ndarray], int]:
    """Return the polygons of an annotation, and how many had too few points."""
    if outline is None or (isinstance(outline, list) and not outline):
        return [], 0
    if isinstance(outline, dict):
        return outlines_of(_mask(coco, row, outline)), 0
    fits = isinstance(outline, list) and all(
        isinstance(polygon, np.ndarray) and polygon.ndim == 1 and len(polygon) % 2 == 0 for polygon in outline
    )
    if not fits or not all((np.abs(polygon) < MOST_PIXELS).all() for polygon in outline):
        raise coco.fault(row, "has a segmentation that is no list of polygons x1 y1 x2 y2 ... and no RLE; mend it")
    polygons = [polygon.reshape(-1, 2) for polygon in outline]
    whole = [polygon for polygon in polygons if len(polygon) >= 3]
    return whole, len(polygons) - len(whole)


def _mask(coco: CocoFile, row: int, outline: dict[str, Any]) -> np.ndarray:
    """Return the (H, W) bool mask of a run-length outline."""
    size, counts = outline.get("size"), outline.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise coco.fault(row, "has an RLE whose `size` is not two whole numbers, height and width; mend it")
    if size[0] * size[1] > MOST_PIXELS_OF_A_SET:
        raise coco.fault(
            row, f"has an RLE of {size[1]}x{size[0]} pixels (width x height), more than images have; mend it"
        )
    annotated = coco.sizes[coco.images[row]].tolist()
    if all(annotated) and annotated != size:
        raise coco.fault(
            row,
            f"has an RLE of {size[1]}x{size[0]} pixels (width x height), but its image is "
            f"{annotated[1]}x{annotated[0]}; mend it",
        )
    try:
        runs = text_to_runs(counts) if isinstance(counts, str) else counts
        if not isinstance(runs, np.ndarray) or runs.ndim != 1:
            raise ValueError("its counts are no list of whole numbers")
        check_runs(runs, (size[0], size[1]))
    except ValueError as error:
        raise coco.fault(row, f"has an RLE that cannot be read ({error}); mend it") from None
    return runs_to_mask(runs, (size[0], size[1]))


def _entries(picture: AnnotatedPicture, place: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the annotations of a picture, without ids."""
    objects = picture.objects
    boxes = np.hstack([objects.boxes[:, :2], objects.boxes[:, 2:] - objects.boxes[:, :2]])
    areas = np.where(
        np.isnan(objects.areas), [_area(*pair) for pair in zip(objects.outlines, boxes, strict=True)], objects.areas
    )
    for i, name in enumerate(objects.names):
        crowd = bool(objects.crowd[i])
        entry = {
            "category_id": place[name] + 1,
            "bbox": boxes[i].tolist(),
            "area": float(areas[i]),
            "iscrowd": int(crowd),
            "segmentation": _segmentation(objects.outlines[i], crowd, picture.size),
        }
        if objects.keypoints.shape[1]:
            entry["keypoints"] = objects.keypoints[i].ravel().tolist()
            entry["num_keypoints"] = int((objects.keypoints[i, :, 2] > 0).sum())
        yield entry


def _area(outlines: list[np.ndarray], box: np.ndarray) -> float:
    """Return the area within the outlines of an object, or that of its box x y w h."""
    if not outlines:
        return float(box[2] * box[3])
    return sum(float(cv2.contourArea(outline.astype(np.float32))) for outline in outlines)


def _segmentation(outlines: list[np.ndarray], crowd: bool, size: tuple[int, int]) -> Any:
    if crowd and outlines:
        return {"size": list(size), "counts": runs_to_text(mask_to_runs(fill_outlines(outlines, size)))}
    return [outline.ravel().tolist() for outline in outlines]
