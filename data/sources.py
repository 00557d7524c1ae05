"""What detect.py can read: an image, a video, a folder, a glob, or a text file that lists images and videos."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.images import IMAGE_SUFFIXES, read_image
from utils.errors import DataError, UsageError
from utils.video import VIDEO_SUFFIXES

_GLOB_CHARACTERS = "*?["


@dataclass(frozen=True)
class Sources:
    """The files to read.

    Attributes:
        images: still images, sorted or in the order of their list.
        videos: video files, likewise.
    """

    images: list[Path]
    videos: list[Path]

    def __len__(self) -> int:
        return len(self.images) + len(self.videos)


@dataclass(frozen=True)
class Frame:
    """One picture to look at.

    Attributes:
        path: of the file it comes from.
        image: (H, W, 3) uint8 RGB.
        number: position of the file among the images, or of the frame in its video, from 1.
    """

    path: Path
    image: np.ndarray
    number: int


def find_sources(source: str) -> Sources:
    """Find the files that ``--source`` names.

    Args:
        source: a file; a folder, whose subfolders are left out; a glob, in which ``**`` also looks into subfolders; or
            a ``.txt`` file with one image or video per line, relative to the list or to the working directory.

    Raises:
        UsageError: it is a webcam or a stream.
        DataError: it does not exist, or has no image and no video.
    """
    path = Path(source)
    if not path.exists():
        _refuse_streams(source)
        if any(character in source for character in _GLOB_CHARACTERS):
            return _matches(source)
        raise DataError(f"{source}: no such file or folder; give --source an image, a video, a folder or a quoted glob")
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() == ".txt":
        return _listed(path)
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


def _refuse_streams(source: str) -> None:
    if source.isdigit() or "://" in source:
        raise UsageError(
            f"--source {source}: webcams and network streams cannot be read yet; record a video file and give its path"
        )


def _folder(folder: Path) -> Sources:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and not entry.is_dir())
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror}); mend its permissions") from None
    found = _sorted_by_kind(entries)
    if not found:
        raise DataError(
            f"{folder}: the folder holds no image and no video ({len(entries)} other files); {_known_kinds()}; "
            f"to look into subfolders, write --source '{folder}/**/*'"
        )
    return found


def _matches(pattern: str) -> Sources:
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    files = [match for match in matches if not match.is_dir()]
    if not files:
        raise DataError(f"{pattern}: no file matches; mend the pattern, and quote it so that the shell leaves it alone")
    found = _sorted_by_kind(files)
    if not found:
        raise DataError(f"{pattern}: none of the {len(files)} matching files is an image or a video; {_known_kinds()}")
    return found


def _listed(file: Path) -> Sources:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{file}: not a text file; write the path of one image or video per line") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); mend its permissions or its disk") from None
    entries: dict[Path, None] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        _refuse_streams(line)
        if Path(line).suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            raise DataError(f"{file}, line {number}: '{line}' is neither an image nor a video; {_known_kinds()}")
        beside = file.parent / line
        entries[Path(line) if Path(line).exists() and not beside.exists() else beside] = None
    if not entries:
        raise DataError(f"{file}: the list is empty; write the path of one image or video per line")
    return _sorted_by_kind(list(entries))


def _sorted_by_kind(paths: list[Path]) -> Sources:
    return Sources(
        [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES],
        [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES],
    )


def _known_kinds() -> str:
    images, videos = (", ".join(sorted(suffix[1:] for suffix in kinds)) for kinds in (IMAGE_SUFFIXES, VIDEO_SUFFIXES))
    return f"images are {images}, videos {videos}"
