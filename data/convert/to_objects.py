"""Converts a set into one with labels of objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.annotations import AnnotatedPicture, ClassList
from data.class_map import ClassMap
from data.convert.areas import BACKGROUND, IGNORED
from data.convert.choosing import Choice, choose_classes
from data.convert.fitting import Fit
from data.convert.loading import load_masks, load_objects, outlined_masks
from data.convert.losses import Losses
from data.convert.options import Options
from data.convert.set_yaml import object_block, set_yaml
from data.convert.sources import SourceSet
from data.convert.summary import converted
from data.convert.writing import write_objects
from data.formats.contract import PictureFormat, SplitFormat
from data.mask_reading import value_table
from data.prepare.folder import whole_folder
from data.prepare.summary import Prepared


def convert_to_objects(
    source: SourceSet, target: PictureFormat | SplitFormat, out: Path, options: Options, made_by: str
) -> Prepared:
    """Write a set with labels of objects; masks give an object for every connected area of a class.

    The result appears under ``out`` only when all of it is written.

    Args:
        source: what is read.
        target: format of the result.
        out: folder to make; it may exist if it is empty.
        options: how.
        made_by: the command, for the data YAML.

    Raises:
        DataError: a label is malformed, or no object is left.
        UsageError: ``out`` holds files already, or an option does not fit.
    """
    losses = Losses()
    with whole_folder(out) as folder:
        load = _outlined if source.of_masks else _annotated
        classes, pictures, choice = load(source, options, getattr(target, "names", ()), losses)
        fit = Fit(target.name, target.keeps, choice.names, choice.class_map, options.drop)
        fitted = {split: [fit(picture, losses) for picture in listed] for split, listed in pictures.items()}
        posed = "keypoints" in target.keeps
        classes = replace(classes, names=choice.names) if posed else ClassList(choice.names)
        layouts = {
            split: write_objects(folder, split, listed, target, classes, options.copy, losses)
            for split, listed in fitted.items()
        }
        images = {split: len(listed) for split, listed in fitted.items()}
        done = converted(out, target.name, choice, images, _counts(fitted, choice.names), losses)
        block = object_block(target.name, layouts, not hasattr(target, "label_file"), classes, source.keypoints)
        (folder / done.yaml.name).write_text(set_yaml(block, made_by), encoding="utf-8")
    return done


def _annotated(
    source: SourceSet, options: Options, fixed: Sequence[str], losses: Losses
) -> tuple[ClassList, Mapping[str, Sequence[AnnotatedPicture]], Choice]:
    classes, pictures = load_objects(source, options.drop, losses)
    met = {name for listed in pictures.values() for picture in listed for name in picture.objects.names}
    return classes, pictures, choose_classes(classes.names, met - {IGNORED}, options, fixed)


def _outlined(
    source: SourceSet, options: Options, fixed: Sequence[str], losses: Losses
) -> tuple[ClassList, Mapping[str, Sequence[AnnotatedPicture]], Choice]:
    # Classes that are joined are joined as areas, before anything is outlined.
    choice = choose_classes(source.names, (), options, fixed)
    table = value_table(choice.class_map)
    pictures = outlined_masks(load_masks(source, losses), choice.names, table, options.least_area)
    names = [name for name in choice.names if name != BACKGROUND]
    return ClassList(names), pictures, Choice(names, ClassMap.same(names), choice.warnings)


def _counts(pictures: Mapping[str, Sequence[AnnotatedPicture]], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the number of objects per class of each split."""
    place = {name: index for index, name in enumerate(names)}
    return {
        split: np.bincount(
            np.array([place[name] for picture in listed for name in picture.objects.names], np.int64),
            minlength=len(names),
        )
        for split, listed in pictures.items()
    }
