"""Run folders that no two processes share, files that are either whole or absent, names that do not collide."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import BinaryIO

from utils.errors import UsageError


def increment_run_folder(project: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Make and return the folder of a new run: ``project/name``, else ``name2``, ``name3`` ...

    Making a folder is one atomic step of the file system, so two processes that start together get two folders.

    Args:
        project: the folder of all runs; made if absent.
        name: the run's name.
        exist_ok: take ``project/name`` even if it is there already.

    Raises:
        UsageError: the name is no name for one folder, a file stands where a folder is needed, or the system has no
            such place.
    """
    if name in ("", ".", "..") or PurePath(name).name != name:
        raise UsageError(f"--name '{name}' is not the name of one folder; use something like 'exp'")
    root = Path(project)
    try:
        return _made_run_folder(root, name, exist_ok)
    except OSError as error:
        # Anything else, such as a missing permission, is no matter of names.
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL):
            raise
        raise UsageError(
            f"{root / name}: no such folder can be made ({error.strerror}); choose another --project or --name"
        ) from error


def _made_run_folder(root: Path, name: str, exist_ok: bool) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"--project {root} is not a folder and cannot be made one; choose another --project"
        ) from error
    if exist_ok:
        try:
            (root / name).mkdir(exist_ok=True)
        except FileExistsError as error:
            raise UsageError(f"{root / name} is a file, not a run folder; choose another --name") from error
        return root / name
    number = 1
    while True:
        folder = root / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            # Looked up again after every lost race, so numbers go on from the newest run and gaps stay gaps.
            number = max(number, _highest_number(root, name)) + 1


def _highest_number(root: Path, name: str) -> int:
    pattern = re.compile(re.escape(name) + r"([0-9]+)\Z")
    return max((int(match[1]) for entry in os.listdir(root) if (match := pattern.match(entry))), default=1)


MOST_NAME_BYTES = 180
"""Of a name that other parts are added to; file systems take 255 for all of them."""

_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when the block has ended well.

    The bytes go to a temporary name in the same folder, are synced to the disk and renamed. If the block fails, the
    temporary file is removed and whatever was at ``path`` before stays as it was.

    Args:
        path: where the file shall appear; its folder must exist.

    Yields:
        A binary file open for writing.
    """
    path = Path(path)
    temporary = path.with_name(f".{short_name(path.name)}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:
            # A full disk tells its number and not whose bytes did not fit.
            error.filename = str(path)
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of ``atomic_writer`` that a killed process left in a folder nobody writes into now."""
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # The rename itself survives a power cut only when the folder is synced too; not every system can do that.
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either all of it or what it held before."""
    with atomic_writer(path) as file:
        file.write(data)


def short_name(name: str, most: int = MOST_NAME_BYTES) -> str:
    """Return a name, or its beginning where it takes more bytes than ``most`` on the disk; letters stay whole."""
    data = os.fsencode(name)
    return name if len(data) <= most else data[:most].decode(errors="ignore")


class UniqueNames:
    """Gives every source its own output name: ``a.jpg``, then ``a_2.jpg`` for another ``a.jpg``.

    Names that differ only in upper and lower case count as equal, because some file systems think so.
    """

    def __init__(self) -> None:
        self._last_number: dict[str, int] = {}

    def take(self, name: str) -> str:
        """Return ``name`` if it is free, else ``name`` with the next free number before its suffix, and reserve it."""
        stem, suffix = PurePath(name).stem, PurePath(name).suffix
        number = self._last_number.get(name.casefold(), 0) + 1
        candidate = name if number == 1 else f"{stem}_{number}{suffix}"
        while candidate.casefold() in self._last_number:
            number += 1
            candidate = f"{stem}_{number}{suffix}"
        self._last_number[name.casefold()] = number
        self._last_number.setdefault(candidate.casefold(), 1)
        return candidate
