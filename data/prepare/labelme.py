"""Pictures annotated with labelme: rectangles become boxes, polygons become masks, one data YAML for both tasks.

The source has pictures with a JSON of the same name beside each, in folders of any depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from data.annotations import AnnotatedPicture, ClassList
from data.convert.areas import BACKGROUND, IGNORED, Painter
from data.convert.choosing import Choice, check_mask_classes, choose_classes, with_ignored
from data.convert.fitting import Fit
from data.convert.layout import own_names
from data.convert.losses import Losses
from data.convert.options import Options
from data.convert.reading import read_objects
from data.convert.sources import PictureLabels, list_pictures
from data.formats.mask_png import write_mask
from data.formats.registry import PICTURE_FORMATS
from data.formats.yolo_txt import write_labels
from data.prepare.draw import check_draw, draw_for_val
from data.prepare.folder import link_or_copy, whole_folder
from data.prepare.summary import Prepared
from data.scan import in_threads
from utils.errors import DataError, UsageError, did_you_mean

SPLITS = ("train", "val")
ALL = "all"

_KEEPS = frozenset({"outlines", "crowd"})


@dataclass(frozen=True)
class LabelmeOptions:
    """How a folder is turned into a set.

    Attributes:
        val_share: share of the pictures to draw for validation, above 0 and below 1.
        seed: of that draw.
        classes: per class of the set the labels that become it; others are left out. None: every label is a class.
        polygon_boxes: classes whose polygons give boxes too, or ``all``.
    """

    val_share: float = 0.2
    seed: int = 0
    classes: Mapping[str, Any] | None = None
    polygon_boxes: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_draw(self.val_share, self.seed)


@dataclass(frozen=True)
class _Tasks:
    """The classes of the two tasks; a task that has none is left out.

    Attributes:
        boxes: classes of objects.
        polygon_boxes: those whose polygons have boxes too.
        masks: classes of pixels, the background first.
    """

    boxes: list[str]
    polygon_boxes: frozenset[str]
    masks: list[str]


def prepare_labelme(source: Path, out: Path, options: LabelmeOptions | None = None) -> Prepared:
    """Pictures annotated with labelme: boxes from rectangles, masks from polygons.

    The result appears under ``out`` only when all of it is written.

    Args:
        source: folder with pictures and their JSON files.
        out: folder to make; it may exist if it is empty.
        options: how it is turned into a set.

    Raises:
        DataError: the source has no annotated picture, a JSON is malformed, or nothing usable is left.
        UsageError: ``out`` holds files already, or an option does not fit.
    """
    options, losses = options or LabelmeOptions(), Losses()
    with whole_folder(out) as folder:
        pictures, choice = _read(source, options, losses)
        tasks = _tasks(pictures.values(), choice.names, options.polygon_boxes)
        if not tasks.boxes and not tasks.masks:
            notes = [*losses.lines(), *choice.warnings]
            raise DataError(f"{source}: no picture has a rectangle or a polygon that can be used; {'; '.join(notes)}")
        _count_lost(pictures.values(), tasks, losses)
        parts = dict(zip(SPLITS, draw_for_val(list(pictures), options.val_share, options.seed), strict=True))
        done = Prepared(out / f"{out.name}.yaml", tasks.boxes)
        done.notes.append(f"drew {len(parts['val'])} of {len(pictures)} pictures for val (seed {options.seed})")
        for split, names in parts.items():
            boxes, pixels = _write_split(folder, split, [pictures[name] for name in names], tasks)
            done.images[split], done.boxes[split] = len(names), boxes
            if tasks.masks:
                done.notes.append(f"pixels of {split}: {_shares(tasks.masks, pixels)}")
        done.notes += [*losses.lines(), *choice.warnings]
        (folder / done.yaml.name).write_text(data_yaml(tasks), encoding="utf-8")
    return done


def data_yaml(tasks: _Tasks) -> str:
    """Return the text of the data YAML, which lies in the folder of the set."""
    splits = {split: f"images/{split}" for split in SPLITS}
    blocks: dict[str, Any] = {}
    if tasks.boxes:
        blocks["detect"] = {**splits, "names": tasks.boxes}
    if tasks.masks:
        blocks["segment"] = {**splits, "masks": "masks", "names": tasks.masks, "ignore": 255}
    return "# Made by `python -m data.prepare labelme`.\n" + yaml.safe_dump(
        {"path": ".", **blocks}, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
    )


def _read(source: Path, options: LabelmeOptions, losses: Losses) -> tuple[dict[str, AnnotatedPicture], Choice]:
    """Return the annotated pictures by the name that they get, and their classes."""
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; give --source the folder of the pictures and their JSON files")
    form = PICTURE_FORMATS["labelme"]
    listed = list_pictures(source, lambda image: [form.label_file(image, source, source)])
    _, read = read_objects(PictureLabels(form, listed, ClassList([])), losses)
    if not read:
        raise DataError(f"{source}: no picture has a JSON file of its name beside it; annotate them with labelme")
    met = {name for picture in read for name in picture.objects.names} - {IGNORED}
    choice = choose_classes((), met, Options(classes=options.classes))
    fit = Fit("the set", _KEEPS, [*choice.names, IGNORED], with_ignored(choice))
    fitted = [fit(picture, losses) for picture in read]
    names = own_names([picture.relative for picture in fitted])
    return {name: replace(p, relative=name) for name, p in zip(names, fitted, strict=True)}, choice


def _tasks(pictures: Iterable[AnnotatedPicture], names: Sequence[str], polygon_boxes: Sequence[str]) -> _Tasks:
    """Return the classes of each task, in the order of ``names``."""
    unknown = next((name for name in polygon_boxes if name not in (*names, ALL)), None)
    if unknown is not None:
        raise UsageError(f"--polygon-boxes has '{unknown}', which is no class.{did_you_mean(unknown, names)}")
    with_outline: set[str] = set()
    with_box: set[str] = set()
    for picture in pictures:
        objects = picture.objects
        with_outline |= {name for name, outlines in zip(objects.names, objects.outlines, strict=True) if outlines}
        with_box |= {name for name, box in zip(objects.names, objects.boxed & ~objects.crowd, strict=True) if box}
    boxed = with_box | (with_outline if ALL in polygon_boxes else with_outline & set(polygon_boxes))
    outlined = [name for name in names if name in with_outline and name != BACKGROUND]
    check_mask_classes([BACKGROUND, *outlined])
    return _Tasks(
        boxes=[name for name in names if name in boxed and name != BACKGROUND],
        polygon_boxes=frozenset(boxed & with_outline if ALL in polygon_boxes else polygon_boxes),
        masks=[BACKGROUND, *outlined] if outlined else [],
    )


def _count_lost(pictures: Iterable[AnnotatedPicture], tasks: _Tasks, losses: Losses) -> None:
    """Count what has no place in the tasks."""
    for picture in pictures:
        objects = picture.objects
        # As objects like others they would be trained on.
        losses.count("crowds have no box, because labels cannot mark them", (objects.crowd & objects.boxed).sum())
        for name, outlines in zip(objects.names, objects.outlines, strict=True):
            unseen = name == IGNORED and not (outlines and tasks.masks)
            losses.count(f"areas called {IGNORED} left out; only polygons beside masks of classes are ignored", unseen)


def _write_split(
    folder: Path, split: str, pictures: Sequence[AnnotatedPicture], tasks: _Tasks
) -> tuple[np.ndarray, np.ndarray]:
    """Write one split; return the number of boxes per class, and the number of pixels per value of the masks."""
    painter = Painter(tasks.masks, rest=0, layered=True)

    def write(picture: AnnotatedPicture) -> tuple[np.ndarray, np.ndarray]:
        image, label, mask = (
            (folder / kind / split / picture.relative).with_suffix(suffix)
            for kind, suffix in (("images", Path(picture.relative).suffix), ("labels", ".txt"), ("masks", ".png"))
        )
        image.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(picture.image, image)
        boxes, pixels = np.zeros(len(tasks.boxes), np.int64), np.zeros(256, np.int64)
        if tasks.boxes:
            label.parent.mkdir(parents=True, exist_ok=True)
            boxes = _write_boxes(label, picture, tasks)
        if tasks.masks:
            mask.parent.mkdir(parents=True, exist_ok=True)
            painted = painter(picture.objects, picture.size)
            write_mask(mask, painted)
            pixels = np.bincount(painted.ravel(), minlength=256)
        return boxes, pixels

    boxes, pixels = zip(*in_threads(write, pictures, f"writing {split}"), strict=True)
    return np.sum(boxes, axis=0), np.sum(pixels, axis=0)


def _write_boxes(file: Path, picture: AnnotatedPicture, tasks: _Tasks) -> np.ndarray:
    """Write the boxes of a picture; return their number per class."""
    objects = picture.objects
    place = {name: index for index, name in enumerate(tasks.boxes)}
    rows = [
        i
        for i, name in enumerate(objects.names)
        if name in place and not objects.crowd[i] and (objects.boxed[i] or name in tasks.polygon_boxes)
    ]
    classes = np.array([place[objects.names[i]] for i in rows], np.int64)
    height, width = picture.size
    write_labels(file, classes, objects.boxes[rows] / [width, height, width, height])
    return np.bincount(classes, minlength=len(tasks.boxes))


def _shares(names: Sequence[str], pixels: np.ndarray) -> str:
    """Return the share of every class among the pixels that count."""
    counted = pixels[: len(names)]
    shares = 100 * counted / max(counted.sum(), 1)
    return ", ".join(f"{name} {share:.1f} %" for name, share in zip(names, shares, strict=True))
