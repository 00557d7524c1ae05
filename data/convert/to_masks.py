"""Converts a set into one with masks of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.annotations import AnnotatedPicture, MaskClasses
from data.convert.areas import BACKGROUND, IGNORED, LAYERED, Painter
from data.convert.choosing import Choice, check_mask_classes, choose_classes, with_ignored
from data.convert.colours import WITH_COLOURS, class_colours
from data.convert.fitting import Fit
from data.convert.layout import Layout
from data.convert.loading import load_masks, load_objects
from data.convert.losses import Losses
from data.convert.options import Options
from data.convert.reading import MaskedPicture
from data.convert.set_yaml import mask_block, set_yaml
from data.convert.sources import SourceSet
from data.convert.summary import converted
from data.convert.writing import write_masks
from data.formats.colour_table import Colour
from data.formats.contract import MaskFormat
from data.formats.mask_png import IGNORE
from data.mask_reading import value_table
from data.prepare.folder import whole_folder
from data.prepare.summary import Prepared

_KEEPS = frozenset({"outlines", "crowd", "areas"})

_Written = dict[str, tuple[Layout, int, np.ndarray]]
"""Per split where it lies, its number of pictures, and (256,) numbers of pixels by class."""


@dataclass(frozen=True)
class _Result:
    """A folder that is written into."""

    folder: Path
    target: MaskFormat
    options: Options
    losses: Losses
    known_colours: Mapping[str, Colour]

    def colours(self, choice: Choice) -> tuple[Colour, ...]:
        """Return the colours of the classes for a format that has them."""
        return class_colours(choice.names, self.known_colours) if self.target.name in WITH_COLOURS else ()


def convert_to_masks(source: SourceSet, target: MaskFormat, out: Path, options: Options, made_by: str) -> Prepared:
    """Write a set with masks, from masks or from objects with outlines.

    Arguments as of ``convert_to_objects``.

    Raises:
        DataError: a label or a mask is malformed, or no pixel has a class.
        UsageError: ``out`` holds files already, or an option does not fit.
    """
    with whole_folder(out) as folder:
        result = _Result(folder, target, options, Losses(), {**source.colours, **options.colours})
        write = _write_mapped if source.of_masks else _write_painted
        choice, written = write(source, result)
        images = {split: count for split, (_, count, _) in written.items()}
        pixels = {split: counts[: len(choice.names)] for split, (_, _, counts) in written.items()}
        done = converted(out, target.name, choice, images, pixels, result.losses)
        done.notes.insert(0, "the columns of the classes count pixels")
        layouts = {split: layout for split, (layout, _, _) in written.items()}
        block = mask_block(target.name, layouts, choice.names, result.colours(choice))
        (folder / done.yaml.name).write_text(set_yaml(block, made_by), encoding="utf-8")
    return done


def _write_mapped(source: SourceSet, result: _Result) -> tuple[Choice, _Written]:
    """Write masks with other values for the same classes."""
    choice = choose_classes(source.names, (), result.options, result.target.names)
    table = value_table(choice.class_map)
    written: _Written = {}
    present = np.zeros(256, np.int64)
    for split, pictures in load_masks(source, result.losses).items():
        mapped = _Mapped(pictures, table)
        layout, counts = _write(result, split, pictures, choice, mapped)
        written[split] = (layout, len(pictures), counts)
        present += mapped.present.sum(0)
    for index, name in enumerate(source.names):
        if table[index] == IGNORE:
            result.losses.count(f"pixels of the class '{name}' are ignored now", present[index])
    return choice, written


class _Mapped:
    """Masks by the classes of the result; counts the pixels of each class of the source on the way."""

    def __init__(self, pictures: Sequence[MaskedPicture], table: np.ndarray):
        self.pictures, self.table = pictures, table
        # A row per picture, because several are read at once.
        self.present = np.zeros((len(pictures), 256), np.int64)

    def __call__(self, index: int) -> np.ndarray:
        mask = self.pictures[index].read()
        self.present[index] = np.bincount(mask.ravel(), minlength=256)
        return self.table[mask]


def _write_painted(source: SourceSet, result: _Result) -> tuple[Choice, _Written]:
    """Write masks with the areas within the outlines of objects."""
    options, losses = result.options, result.losses
    classes, pictures = load_objects(source, options.drop, losses)
    met = {name for listed in pictures.values() for picture in listed for name in picture.objects.names}
    choice = choose_classes(classes.names, met - {IGNORED}, options, result.target.names)
    names = list(choice.names)
    if options.rest == BACKGROUND and not result.target.names and BACKGROUND not in names:
        names = [BACKGROUND, *names]
    check_mask_classes(names)
    rest = names.index(BACKGROUND) if options.rest == BACKGROUND and BACKGROUND in names else IGNORE
    fit = Fit(result.target.name, _KEEPS, [*choice.names, IGNORED], with_ignored(choice), options.drop)
    painter = Painter(names, rest, bool(source.formats & set(LAYERED)))
    choice, written = replace(choice, names=names), {}
    for split, listed in pictures.items():
        fitted = [fit(picture, losses) for picture in listed]
        bare = sum(not outlines for picture in fitted for outlines in picture.objects.outlines)
        losses.count("objects without an outline left out", bare)
        layout, counts = _write(result, split, fitted, choice, _Painted(fitted, painter))
        written[split] = (layout, len(fitted), counts)
    return choice, written


class _Painted:
    """Masks of the areas within outlines."""

    def __init__(self, pictures: Sequence[AnnotatedPicture], painter: Painter):
        self.pictures, self.painter = pictures, painter

    def __call__(self, index: int) -> np.ndarray:
        picture = self.pictures[index]
        return self.painter(picture.objects, picture.size)


def _write(
    result: _Result,
    split: str,
    pictures: Sequence[AnnotatedPicture | MaskedPicture],
    choice: Choice,
    mask_of: Callable[[int], np.ndarray],
) -> tuple[Layout, np.ndarray]:
    classes = MaskClasses(choice.names, result.colours(choice))
    return write_masks(
        result.folder, split, pictures, result.target, classes, mask_of, result.options.copy, result.losses
    )
