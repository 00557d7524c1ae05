"""Turns the entries of a split (folders, list files, image files) into one list of image files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from data.folder_walk import walk_folder
from data.images import IMAGE_SUFFIXES
from data.label_bytes import read_label_text
from utils.errors import DataError

MOST_LIST_BYTES = 200_000_000
"""Of a list file: two million paths."""


def list_images(entries: Iterable[Path], root: Path = Path()) -> list[Path]:
    """List the images of a split; a folder's are sorted, a list file keeps its order, repetitions count once.

    Args:
        entries: each a folder (searched with its subfolders, hidden ones left out), a ``.txt`` file with one image per
            line, or an image.
        root: where relative lines of a list file start if they do not exist beside the list file.

    Raises:
        DataError: an entry does not exist, cannot be read or is of no known kind, or there is no image at all.
    """
    return [Path(file) for file in list_image_files(entries, root)]


def list_image_files(entries: Iterable[Path], root: Path = Path()) -> list[str]:
    """List the images of a split as ``list_images`` does, but as texts: of a million files these take a tenth as long.

    Raises:
        DataError: see ``list_images``.
    """
    entries = list(entries)
    images: dict[str, None] = {}
    for entry in entries:
        if entry.is_dir():
            images.update(dict.fromkeys(_folder_images(entry)))
        elif entry.suffix.lower() == ".txt" and entry.is_file():
            images.update(dict.fromkeys(_listed_images(entry, root)))
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            images[str(entry)] = None
        elif not entry.exists():
            raise DataError(f"{entry.absolute()}: no such folder or list file; mend the split's entry in the data YAML")
        else:
            raise DataError(
                f"{entry}: neither a folder, a .txt list nor an image; mend the split's entry in the data YAML"
            )
    if not images:
        kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise DataError(f"{', '.join(map(str, entries))}: the set is empty; put images in it ({kinds})")
    return list(images)


def _folder_images(folder: Path) -> list[str]:
    found = []
    for current, subfolders, files in walk_folder(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        # A trailing separator of its own kind for every folder, and none for the working folder, as paths have it.
        here = "" if (path := str(Path(current))) == "." else os.path.join(path, "")
        found += [
            here + name
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    # By the parts of the path, so that a folder's own files are not torn apart by the names of its subfolders.
    return sorted(found, key=lambda file: file.split(os.sep))


def _listed_images(file: Path, root: Path) -> list[str]:
    lines = read_label_text(file, MOST_LIST_BYTES, "write one image path per line").splitlines()
    if "\0" in "".join(lines):
        number = next(number for number, line in enumerate(lines, 1) if "\0" in line)
        raise DataError(
            f"{file}, line {number}: holds a NUL character, which no path has; write one image path per line"
        )
    found = []
    for line in map(str.strip, lines):
        if not line:
            continue
        beside, below_root = file.parent / line, root / line
        found.append(str(below_root if not beside.exists() and below_root.exists() else beside))
    return found
