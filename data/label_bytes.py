"""Reads label files that may be anything: no waiting for pipes, no devices, no more bytes than a label file has."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from utils.errors import DataError


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe, a socket or a device is refused without waiting for it.

    Raises:
        DataError: it is no regular file, or cannot be opened.
    """
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115, the caller closes it
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend the path or its permissions") from None
    except ValueError:
        raise DataError(f"{str(path)!r}: no file can have this name; mend it where it is listed") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataError(f"{path}: is a pipe, a socket or a device, not a file; remove it")
    return file


def read_label_bytes(path: Path, most: int, mend: str) -> bytes:
    """Read a whole file.

    Args:
        path: of the file.
        most: bytes; a larger file is refused and not read.
        mend: what to do about a file of another kind or size.

    Raises:
        DataError: it cannot be read, is no regular file, or is too large.
    """
    with open_regular(path) as file:
        try:
            too_large = os.fstat(file.fileno()).st_size > most
            data = b"" if too_large else file.read(most + 1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); mend its permissions or its disk") from None
    if too_large or len(data) > most:
        raise DataError(f"{path}: is larger than {_size(most)}; {mend}")
    return data


def read_label_text(path: Path, most: int, mend: str) -> str:
    """Read a whole text file, UTF-8 with or without a byte order mark; see ``read_label_bytes``.

    Raises:
        DataError: as there, or it is no such text.
    """
    try:
        return read_label_bytes(path, most, mend).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; {mend}") from None


def _size(count: int) -> str:
    return f"{count // 10**6} MB" if count >= 10**6 else f"{count // 10**3} kB"


def _without_waiting(path: str, flags: int) -> int:
    # To open a pipe is to wait for whoever writes into it, but for this flag, which some systems do not have.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
