"""Lists of pictures in the layout of Pascal VOC: ``ImageSets/Main/train.txt`` names pictures of ``JPEGImages``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.formats.inner_names import leads_outside
from data.image_list import MOST_LIST_BYTES, list_image_files
from data.images import IMAGE_SUFFIXES
from data.label_bytes import read_label_text
from utils.errors import DataError

IMAGE_FOLDER, LIST_FOLDER = "JPEGImages", "ImageSets"


def listed_pictures(entries: Sequence[Path], root: Path) -> list[str]:
    """List the images of a split as ``data.image_list.list_image_files`` does, and those of lists below ``ImageSets``.

    A name of such a list that no picture has is returned with the suffix ``.jpg``, as the file that is missing.

    Raises:
        DataError: an entry does not exist or cannot be read, a name leads out of the folder of pictures, or there is no
            image at all.
    """
    images: dict[str, None] = {}
    for entry in entries:
        folder = _picture_folder(entry)
        if folder is None:
            images.update(dict.fromkeys(list_image_files([entry], root)))
            continue
        pictures = {str(Path(file).relative_to(folder).with_suffix("")): file for file in list_image_files([folder])}
        names = read_names(entry, pictures)
        outside = next((name for name in names if name not in pictures and leads_outside(name)), None)
        if outside is not None:
            raise DataError(f"{entry}: names '{outside[:80]}', which is not below {folder}; remove it")
        images.update(dict.fromkeys(pictures.get(name, str(folder / f"{name}.jpg")) for name in names))
    if not images:
        raise DataError(f"{', '.join(map(str, entries))}: the set is empty; list names of pictures in it")
    return list(images)


def read_names(file: Path, pictures: Mapping[str, object]) -> list[str]:
    """Return the names in a list of pictures, each once, without suffix and without the column of a class's own list.

    Args:
        file: the list.
        pictures: by their names, which may hold blanks and points.

    Raises:
        DataError: the list cannot be read or is no text.
    """
    text = read_label_text(file, MOST_LIST_BYTES, "write one name of a picture per line")
    lines = [line.strip() for line in text.splitlines()]
    return list(dict.fromkeys(_name(line, pictures) for line in lines if line))


def _picture_folder(entry: Path) -> Path | None:
    """Return the folder of pictures that a list belongs to; None where the entry is no list below ``ImageSets``."""
    if entry.suffix.lower() != ".txt":
        return None
    above: Iterable[Path] = entry.absolute().parents
    lists = next((folder for folder in above if folder.name == LIST_FOLDER), None)
    if lists is None or not (lists.parent / IMAGE_FOLDER).is_dir():
        return None
    given = entry.parents[len(entry.absolute().relative_to(lists).parts) - 1]
    return given.parent / IMAGE_FOLDER


def _name(line: str, pictures: Mapping[str, object]) -> str:
    if line in pictures:
        return line
    # The lists of single classes have a second column, -1, 0 or 1.
    name, _, flag = line.rpartition(" ")
    if name and flag in ("-1", "0", "1"):
        line = name.strip()
    stem, dot, suffix = line.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else line
