"""Pascal VOC folders: XML annotations become label files, the lists of pictures become splits.

The source has ``JPEGImages/NAME.jpg``, ``Annotations/NAME.xml`` and ``ImageSets/Main/{train,val,test,trainval}.txt``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from data.formats.voc_xml import Annotation, fit_boxes, read_annotation
from data.formats.yolo_txt import write_labels
from data.image_list import list_images
from data.images import image_size
from data.prepare.draw import check_draw
from data.prepare.folder import link_or_copy, whole_folder
from data.prepare.summary import Prepared, first_of
from data.prepare.voc_splits import find_splits
from utils.errors import DataError, UsageError, did_you_mean

IMAGES, ANNOTATIONS = "JPEGImages", "Annotations"


@dataclass(frozen=True)
class VocOptions:
    """How a set is read.

    Attributes:
        names: class names by index; None for all classes of the set, sorted. Objects of other classes are left out.
        drop_difficult: leave out objects marked as difficult.
        one_based: corners are indices of pixels counted from 1, see ``fit_boxes``.
        val_share: share of the training pictures to draw for val where no list names them, above 0 and below 1.
        seed: of that draw.
    """

    names: Sequence[str] | None = None
    drop_difficult: bool = False
    one_based: bool = False
    val_share: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(self.names or []).items() if count > 1]
        if repeated:
            raise UsageError(f"--names holds '{repeated[0]}' twice; give every class once")
        check_draw(self.val_share, self.seed)


@dataclass(frozen=True)
class _Picture:
    """A picture that can be used: its objects with boxes as shares of it."""

    path: Path
    names: list[str]
    boxes: np.ndarray


@dataclass
class _Found:
    """What was met on the way: pictures by name, and what was left out or changed."""

    without_annotation: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    other_size: list[str] = field(default_factory=list)
    sizeless: int = 0
    difficult: int = 0
    clipped: int = 0
    without_area: int = 0
    other_classes: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """Return a line for everything that occurred."""
        others = ", ".join(f"{name} {count}" for name, count in sorted(self.other_classes.items()))
        lines = [
            (self.without_annotation, "pictures without annotation left out: {first}"),
            (self.unreadable, "unreadable pictures left out: {first}"),
            (self.other_size, "annotations give another size than their picture, whose own was taken: {first}"),
            (self.sizeless, "annotations give no size; their pictures' was taken"),
            (self.difficult, "difficult objects left out"),
            (self.clipped, "boxes reached over the edge of their picture and were clipped"),
            (self.without_area, "boxes without area left out"),
            (sum(self.other_classes.values()), f"objects of classes that --names lacks left out: {others}"),
        ]
        counted = [(len(v), t.format(first=first_of(v))) if isinstance(v, list) else (v, t) for v, t in lines]
        return [f"{count} {text}" for count, text in counted if count]


def prepare_voc(source: Path, out: Path, options: VocOptions | None = None) -> Prepared:
    """Pascal VOC folders: boxes from XML, splits from ImageSets/Main.

    The result appears under ``out`` only when all of it is written.

    Args:
        source: folder with ``JPEGImages``, ``Annotations`` and ``ImageSets``.
        out: folder to make; it may exist if it is empty.
        options: how the set is read.

    Raises:
        DataError: the source lacks a folder or its lists, an annotation is malformed, or nothing usable is left.
        UsageError: ``out`` holds files already, or an option does not fit the set.
    """
    options = options or VocOptions()
    pictures = _pictures(source)
    with whole_folder(out) as partial:
        splits = find_splits(source, pictures, options.val_share, options.seed)
        found = _Found()
        wanted = {name: pictures[name] for name in dict.fromkeys(n for part in splits.pictures.values() for n in part)}
        usable = _read_pictures(source, wanted, options, found)
        names = _class_names(usable.values(), options, source)
        done = Prepared(out / f"{out.name}.yaml", names, notes=[*splits.notes, *found.notes()])
        for split, listed in splits.pictures.items():
            kept = {name: usable[name] for name in listed if name in usable}
            if kept:
                done.images[split], done.boxes[split] = len(kept), _write_split(partial, split, kept, names)
        done.notes += _unmet_names(options, usable.values(), found)
        if "train" not in done.images or not done.boxes["train"].any():
            raise DataError(f"{source}: no training picture holds an object that can be used; {'; '.join(done.notes)}")
        (partial / done.yaml.name).write_text(data_yaml(done.images, names), encoding="utf-8")
    return done


def data_yaml(splits: Iterable[str], names: Sequence[str]) -> str:
    """Return the text of the data YAML of a prepared set, which lies beside its folders ``images`` and ``labels``."""
    block = {**{split: f"images/{split}" for split in splits}, "names": list(names)}
    about = "# Made by `python -m data.prepare voc`.\n"
    return about + yaml.safe_dump(
        {"path": ".", "detect": block}, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
    )


def _pictures(source: Path) -> dict[str, Path]:
    """Return all pictures by their name below the folder of pictures, without suffix."""
    for folder in (source / IMAGES, source / ANNOTATIONS):
        if not folder.is_dir():
            below = sorted(source.glob(f"*/{folder.name}")) if source.is_dir() else []
            right = below[0].parent if below else f"a folder that holds {IMAGES} and {ANNOTATIONS}"
            raise DataError(f"{folder}: no such folder; give --source {right}")
    pictures: dict[str, Path] = {}
    for path in list_images([source / IMAGES]):
        name = path.relative_to(source / IMAGES).with_suffix("").as_posix()
        if name in pictures:
            raise DataError(f"{path}: {pictures[name].name} has the same name; one annotation cannot serve both")
        if "images" in name.split("/")[:-1]:
            # Labels are found by replacing the last folder of that name.
            raise DataError(f"{path}: a folder below {IMAGES} is called images; rename it")
        pictures[name] = path
    return pictures


def _read_pictures(
    source: Path, pictures: Mapping[str, Path], options: VocOptions, found: _Found
) -> dict[str, _Picture]:
    """Return the pictures that can be used, by name."""
    usable = {}
    for name, path in tqdm(pictures.items(), desc="reading annotations", unit="img", leave=False):
        file = source / ANNOTATIONS / f"{name}.xml"
        if not file.is_file():
            found.without_annotation.append(name)
            continue
        try:
            size = image_size(path)
        except DataError:
            found.unreadable.append(name)
            continue
        annotation = read_annotation(file)
        if annotation.size is None:
            found.sizeless += 1
        elif annotation.size != size:
            found.other_size.append(name)
        usable[name] = _usable(path, annotation, size, options, found)
    return usable


def _usable(path: Path, annotation: Annotation, size: tuple[int, int], options: VocOptions, found: _Found) -> _Picture:
    """Fit the boxes of one picture, and count those that are left out or changed."""
    named = np.array([options.names is None or name in options.names for name in annotation.names], bool)
    found.other_classes.update(name for name, kept in zip(annotation.names, named, strict=True) if not kept)
    wanted = named & ~annotation.difficult if options.drop_difficult else named
    found.difficult += int((named & ~wanted).sum())
    fitted = fit_boxes(annotation.boxes, size, options.one_based)
    found.without_area += int((wanted & ~fitted.solid).sum())
    kept = wanted & fitted.solid
    found.clipped += int((kept & fitted.clipped).sum())
    return _Picture(path, [annotation.names[i] for i in np.flatnonzero(kept)], fitted.boxes[kept])


def _class_names(pictures: Iterable[_Picture], options: VocOptions, source: Path) -> list[str]:
    """Return the class names by index."""
    if options.names is not None:
        return list(options.names)
    names = sorted({name for picture in pictures for name in picture.names})
    if not names:
        raise DataError(f"{source}: no annotation of the listed pictures holds an object that can be used")
    return names


def _write_split(out: Path, split: str, pictures: Mapping[str, _Picture], names: Sequence[str]) -> np.ndarray:
    """Write one split; return the number of boxes per class."""
    index = {name: i for i, name in enumerate(names)}
    counts = np.zeros(len(names), np.int64)
    for name, picture in tqdm(pictures.items(), desc=f"writing {split}", unit="img", leave=False):
        image, label = out / "images" / split / name, out / "labels" / split / name
        for target in (image, label):
            target.parent.mkdir(parents=True, exist_ok=True)
        classes = np.array([index[n] for n in picture.names], np.int64)
        counts += np.bincount(classes, minlength=len(names))
        # The name may hold dots of its own, so a suffix is added and not replaced.
        link_or_copy(picture.path, image.with_name(f"{image.name}{picture.path.suffix}"))
        write_labels(label.with_name(f"{label.name}.txt"), classes, picture.boxes)
    return counts


def _unmet_names(options: VocOptions, pictures: Iterable[_Picture], found: _Found) -> list[str]:
    """Return a line for every name of ``--names`` that no object has."""
    if options.names is None:
        return []
    met = {name for picture in pictures for name in picture.names}
    # The same word in other letters is nearest, however many of them differ.
    others = {name.casefold(): name for name in found.other_classes}
    near = {n: did_you_mean(others.get(n.casefold(), n), found.other_classes) for n in options.names}
    return [f"WARNING: no object is called '{n}'.{near[n]}" for n in options.names if n not in met]
