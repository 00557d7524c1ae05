"""What detect.py can read: pictures, videos, folders, globs and lists of them, webcams and network streams."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.frame import Frame
from data.images import IMAGE_SUFFIXES, read_image
from data.source_lists import (
    LIST_SUFFIX,
    STANDARD_INPUT,
    STREAMS_SUFFIX,
    Entry,
    listed_files,
    listed_on_standard_input,
    listed_streams,
)
from utils.errors import DataError, UsageError
from utils.streams.live_source import LiveSource, is_live_address, live_sources
from utils.video import VIDEO_SUFFIXES

_GLOB_CHARACTERS = "*?["


@dataclass(frozen=True)
class Sources:
    """What to read.

    Attributes:
        images: still images, sorted or in the order of their list.
        videos: video files, likewise.
        live: webcams and streams, in the order of their list.
        left_out: number of other files in a folder, or that match a glob.
    """

    images: list[Path]
    videos: list[Path]
    live: list[LiveSource] = field(default_factory=list)
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.images) + len(self.videos) + len(self.live)


def find_sources(source: str, recursive: bool = False) -> Sources:
    """Find what ``--source`` names.

    Args:
        source: a file; a folder; a glob, in which ``**`` also looks into subfolders; a ``.txt`` file with one image,
            video or live address per line, relative to the list or to the working directory; ``-`` for such a list on
            standard input; the index of a webcam; the URL of a stream; a ``.streams`` file with one live address per
            line. A file or folder of that name comes before a webcam, a URL or a glob.
        recursive: whether to look into the subfolders of a folder, except hidden ones.

    Raises:
        UsageError: it is empty, a URL is of an unknown kind, or ``recursive`` is not about a folder.
        DataError: it does not exist, or has nothing to read.
    """
    if not source.strip():
        raise UsageError("--source is empty, as an unset variable of the shell is; give a file, a folder or a stream")
    path = Path(source)
    if recursive and not path.is_dir():
        raise UsageError(f"--recursive looks into the subfolders of a folder, but --source is {source}; leave it out")
    if source == STANDARD_INPUT:
        return _of_entries(listed_on_standard_input())
    if not path.exists():
        return _without_a_file(source)
    if path.is_dir():
        return _folder(path, recursive)
    if path.suffix.lower() == LIST_SUFFIX:
        return _of_entries(listed_files(path))
    if path.suffix.lower() == STREAMS_SUFFIX:
        return _of_entries(listed_streams(path))
    found = _sorted_by_kind([path])
    if not found:
        raise DataError(f"{path}: '{path.suffix}' is neither an image nor a video; {_known_kinds()}")
    return found


def read_frames(images: Iterable[Path], failed: Callable[[Path, DataError], None]) -> Iterator[Frame]:
    """Read still images one after the other.

    Args:
        images: the files.
        failed: called for every file that cannot be read; the rest goes on.
    """
    for number, path in enumerate(images, 1):
        try:
            yield Frame(path, read_image(path), number)
        except DataError as error:
            failed(path, error)


def _without_a_file(source: str) -> Sources:
    """Find what a source is that no file and no folder is named like."""
    if is_live_address(source):
        return Sources([], [], live_sources([source]))
    if any(character in source for character in _GLOB_CHARACTERS):
        return _matches(source)
    raise DataError(
        f"{source}: no such file or folder; give --source an image, a video, a folder, a quoted glob, a list, a webcam "
        "or a stream"
    )


def _folder(folder: Path, recursive: bool) -> Sources:
    try:
        entries = sorted(_files_below(folder) if recursive else _files_in(folder))
    except OSError as error:
        where = error.filename or folder
        raise DataError(f"{where}: the folder cannot be read ({error.strerror}); mend its permissions") from None
    found = _sorted_by_kind(entries)
    if not found:
        hint = "" if recursive else "; to look into subfolders, add --recursive"
        raise DataError(
            f"{folder}: the folder holds no image and no video ({len(entries)} other files); {_known_kinds()}{hint}"
        )
    return found


def _files_in(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not _is_hidden(entry.name) and not entry.is_dir()]


def _files_below(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise error

    found = []
    # Links to folders are not followed: they may lead in circles.
    for place, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        found += [Path(place, name) for name in files if not _is_hidden(name)]
    return found


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _matches(pattern: str) -> Sources:
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    files = [match for match in matches if not match.is_dir()]
    if not files:
        raise DataError(f"{pattern}: no file matches; mend the pattern, and quote it so that the shell leaves it alone")
    found = _sorted_by_kind(files)
    if not found:
        raise DataError(f"{pattern}: none of the {len(files)} matching files is an image or a video; {_known_kinds()}")
    return found


def _of_entries(entries: list[Entry]) -> Sources:
    """Sort the lines of a list by what they name; what comes again is left out."""
    addresses = [entry.text for entry in entries if is_live_address(entry.text)]
    files: dict[Path, None] = {}
    for entry in entries:
        if is_live_address(entry.text):
            continue
        path = Path(entry.text)
        if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            raise DataError(f"{entry.where}: '{entry.line}' is neither an image nor a video; {_known_kinds()}")
        files[path] = None
    found = _sorted_by_kind(list(files))
    return Sources(found.images, found.videos, live_sources(addresses))


def _sorted_by_kind(paths: list[Path]) -> Sources:
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    return Sources(images, videos, left_out=len(paths) - len(images) - len(videos))


def _known_kinds() -> str:
    images, videos = (", ".join(sorted(suffix[1:] for suffix in kinds)) for kinds in (IMAGE_SUFFIXES, VIDEO_SUFFIXES))
    return f"images are {images}, videos {videos}"
