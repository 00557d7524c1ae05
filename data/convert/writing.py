"""Writes the pictures, label files and masks of one split of a converted set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, MaskClasses
from data.convert.layout import Layout, mask_layout, object_layout, own_names
from data.convert.losses import Losses
from data.convert.reading import MaskedPicture
from data.formats.contract import MaskFormat, PictureFormat, SplitFormat
from data.prepare.folder import link_or_copy
from data.scan import in_threads


def write_objects(
    out: Path,
    split: str,
    pictures: Sequence[AnnotatedPicture],
    target: PictureFormat | SplitFormat,
    classes: ClassList,
    copy: bool,
    losses: Losses,
) -> Layout:
    """Write a split with labels of objects; return where it lies below ``out``.

    Raises:
        DataError: something cannot be said in this format.
    """
    one_file = not hasattr(target, "label_file")
    layout = object_layout(target.name, split, one_file)
    images, labels = out / layout.images, out / layout.labels
    named = _named(images, pictures, layout, losses)

    def write(pair: tuple[AnnotatedPicture, AnnotatedPicture]) -> None:
        before, after = pair
        _place(before.image, after.image, copy)
        if not one_file:
            file = target.label_file(after.image, images, labels)
            file.parent.mkdir(parents=True, exist_ok=True)
            target.write(file, after, classes)

    images.mkdir(parents=True, exist_ok=True)
    in_threads(write, list(zip(pictures, named, strict=True)), f"writing {split}")
    if one_file:
        labels.parent.mkdir(parents=True, exist_ok=True)
        target.write(labels, named, classes)
    if layout.list_file:
        listing = out / layout.list_file
        listing.parent.mkdir(parents=True, exist_ok=True)
        names = [f"{split}/{Path(picture.relative).with_suffix('').as_posix()}\n" for picture in named]
        listing.write_text("".join(names), encoding="utf-8")
    return layout


def write_masks(
    out: Path,
    split: str,
    pictures: Sequence[AnnotatedPicture | MaskedPicture],
    target: MaskFormat,
    classes: MaskClasses,
    mask_of: Callable[[int], np.ndarray],
    copy: bool,
    losses: Losses,
) -> tuple[Layout, np.ndarray]:
    """Write a split with masks.

    Args:
        out: folder of the result.
        split: its name.
        pictures: of the split.
        target: format of the masks.
        classes: of the masks.
        mask_of: gives the (H, W) uint8 mask of a picture by its position.
        copy: copy the pictures.
        losses: gets pictures whose name changes.

    Returns:
        Where it lies below ``out``, and (256,) int64 numbers of pixels by class.

    Raises:
        DataError: a mask cannot be made or written.
    """
    layout = mask_layout(target.name, split)
    images, masks = out / layout.images, out / layout.labels
    named = _named(images, pictures, layout, losses)

    def write(index: int) -> np.ndarray:
        mask, image = mask_of(index), named[index].image
        _place(pictures[index].image, image, copy)
        file = target.mask_files(image, images, masks)[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        target.write(file, mask, classes)
        return np.bincount(mask.ravel(), minlength=256)

    images.mkdir(parents=True, exist_ok=True)
    counts = in_threads(write, range(len(pictures)), f"writing {split}")
    return layout, np.sum([np.zeros(256, np.int64), *counts], axis=0)


def _named(
    folder: Path, pictures: Sequence[AnnotatedPicture | MaskedPicture], layout: Layout, losses: Losses
) -> list[AnnotatedPicture | MaskedPicture]:
    """Return the pictures as they are called in the result."""
    relatives = [picture.relative for picture in pictures]
    names = own_names(relatives, layout.image_end)
    if not layout.image_end:
        renamed = [old for old, new in zip(relatives, names, strict=True) if new != old]
        losses.name("pictures have another name in the result, so that each has labels of its own", renamed)
    return [replace(p, image=folder / name, relative=name) for p, name in zip(pictures, names, strict=True)]


def _place(source: Path, target: Path, copy: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copyfile(source, target)
    else:
        link_or_copy(source, target)
