"""Turns the entries of a split (folders, list files, image files) into one list of image files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from data.images import IMAGE_SUFFIXES
from utils.errors import DataError


def list_images(entries: Iterable[Path], root: Path = Path()) -> list[Path]:
    """List the images of a split; a folder's are sorted, a list file keeps its order, repetitions count once.

    Args:
        entries: each a folder (searched with its subfolders, hidden ones left out), a ``.txt`` file with one image per
            line, or an image.
        root: where relative lines of a list file start if they do not exist beside the list file.

    Raises:
        DataError: an entry does not exist, cannot be read or is of no known kind, or there is no image at all.
    """
    entries = list(entries)
    images: dict[Path, None] = {}
    for entry in entries:
        if entry.is_dir():
            images.update(dict.fromkeys(_folder_images(entry)))
        elif entry.suffix.lower() == ".txt" and entry.is_file():
            images.update(dict.fromkeys(_listed_images(entry, root)))
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            images[entry] = None
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


def _folder_images(folder: Path) -> list[Path]:
    found = []
    for current, subfolders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        here = Path(current)
        found += [
            here / name
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def _refuse(error: OSError) -> None:
    # os.walk would go on without the folder, and a part of the set would be missing in silence.
    raise _unreadable(error)


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions or its disk")


def _listed_images(file: Path, root: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{file}: not a text file; write one image path per line") from None
    except OSError as error:
        raise _unreadable(error) from None
    found = []
    for line in lines:
        if not line:
            continue
        beside, below_root = file.parent / line, root / line
        found.append(below_root if not beside.exists() and below_root.exists() else beside)
    return found
