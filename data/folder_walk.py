"""Goes through a folder and all below it, links to folders too, and always comes to an end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from utils.errors import DataError

MOST_FOLDERS = 1_000_000
"""Links may lead to one folder again and again without a loop; a set with more folders is not read."""


def walk_folder(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield every folder as ``os.walk`` does: its path, the names of its subfolders and those of its files.

    Names that are taken out of the list of subfolders are not gone into.

    Raises:
        DataError: a folder cannot be read, a link leads back to a folder around it, or there are more than a million
            folders.
    """
    for number, (current, subfolders, files) in enumerate(os.walk(folder, onerror=_refuse, followlinks=True)):
        if number >= MOST_FOLDERS:
            raise DataError(f"{folder}: holds more than {MOST_FOLDERS:,} folders, links included; take links out of it")
        yield current, subfolders, files
        for name in subfolders:
            link = os.path.join(current, name)
            if os.path.islink(link):
                _refuse_loop(link, current, str(folder))


def unreadable(error: OSError) -> DataError:
    """Return the error for a file or folder that the system refuses."""
    return DataError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions or its disk")


def _refuse(error: OSError) -> None:
    # os.walk would go on without the folder, and a part of the set would be missing in silence.
    raise unreadable(error)


def _refuse_loop(link: str, current: str, top: str) -> None:
    """Refuse a link whose folder holds one of those on the way to it, which would be gone through without end."""
    target = os.path.realpath(link)
    place = current
    while True:
        real = os.path.realpath(place)
        if real == target or real.startswith(os.path.join(target, "")):
            raise DataError(f"{link}: is a link back to {target}, around {place}; remove it, the set would have no end")
        if len(place) <= len(top):
            return
        place = os.path.dirname(place)
