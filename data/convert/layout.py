"""Where the pictures, labels and masks of a converted set lie, and what its pictures are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

IMAGES = "images"
"""A folder of this name below the pictures would be taken for the one whose labels mirror it."""


@dataclass(frozen=True)
class Layout:
    """Folders of a split, below the folder of the result.

    Attributes:
        images: of its pictures.
        labels: of its label files or masks; of a format with one file per split that file.
        image_end: what the name of every picture ends with, before its suffix.
        list_file: a list of the names of its pictures, below their common folder and without suffix; empty for none.
    """

    images: str
    labels: str
    image_end: str = ""
    list_file: str = ""


def object_layout(format: str, split: str, one_file: bool) -> Layout:
    """Return where a split of objects lies: as tools of the format have it, else in ``images`` and ``labels``."""
    images = f"{IMAGES}/{split}"
    if one_file:
        return Layout(images, f"annotations/{split}.json")
    if format == "voc":
        return Layout(f"JPEGImages/{split}", f"Annotations/{split}", list_file=f"ImageSets/Main/{split}.txt")
    if format == "labelme":
        # The tool looks for the labels beside the pictures.
        return Layout(images, images)
    return _cityscapes(split) if format == "cityscapes" else Layout(images, f"labels/{split}")


def mask_layout(format: str, split: str) -> Layout:
    """Return where a split of masks lies."""
    return _cityscapes(split) if format == "cityscapes" else Layout(f"{IMAGES}/{split}", f"masks/{split}")


def _cityscapes(split: str) -> Layout:
    return Layout(f"leftImg8bit/{split}", f"gtFine/{split}", "_leftImg8bit")


def own_names(relatives: Iterable[str], end: str = "") -> list[str]:
    """Return names for the pictures of a split by which their labels can be told apart.

    Labels have the name of their picture without its suffix, so ``a.jpg`` and ``a.png`` cannot both keep theirs.

    Args:
        relatives: paths below the folder of pictures, with slashes.
        end: what each has to end with, before its suffix.

    Example:
        >>> own_names(["x/a.jpg", "x/a.png", "images/b.jpg"])
        ['x/a.jpg', 'x/a_2.png', 'images_/b.jpg']
    """
    taken: set[str] = set()
    names = []
    for relative in relatives:
        path = PurePosixPath(relative)
        folder = PurePosixPath(*(f"{part}_" if part == IMAGES else part for part in path.parent.parts))
        stem = path.stem.removesuffix(end)
        number, candidate = 1, str(folder / stem)
        while candidate.casefold() in taken:
            number += 1
            candidate = str(folder / f"{stem}_{number}")
        taken.add(candidate.casefold())
        names.append(f"{candidate}{end}{path.suffix}")
    return names
