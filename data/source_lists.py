"""Lists of sources: text files, standard input, and files of stream addresses."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from utils.errors import DataError
from utils.streams.live_source import is_live_address

STANDARD_INPUT = "-"
LIST_SUFFIX = ".txt"
STREAMS_SUFFIX = ".streams"
_WANTED = "the path of one image or video, or one URL, per line"
_WANTED_STREAMS = "one URL or index of a webcam per line"


@dataclass(frozen=True)
class Entry:
    """A line of a list.

    Attributes:
        line: as it is written.
        text: a path that leads from the working directory, or the address of a live source.
        where: list and line, for messages.
    """

    line: str
    text: str
    where: str


def listed_files(file: Path) -> list[Entry]:
    """Return what a text file names; relative paths begin at its own folder or at the working directory.

    Raises:
        DataError: it cannot be read, is no text, or names nothing.
    """
    found = _entries(str(file), _lines(_content(file), str(file), _WANTED), _WANTED)
    return [replace(entry, text=_from_list(file, entry.line)) for entry in found]


def listed_on_standard_input() -> list[Entry]:
    """Return what standard input names, up to its end; relative paths begin at the working directory.

    Raises:
        DataError: it is no text, or names nothing.
    """
    # A process can be started without standard input.
    data = sys.stdin.buffer.read() if sys.stdin is not None else b""
    name = "standard input"
    return _entries(name, _lines(data, name, _WANTED), _WANTED)


def listed_streams(file: Path) -> list[Entry]:
    """Return the addresses in a file of streams, where ``#`` begins a comment.

    Raises:
        DataError: it cannot be read, is no text, names nothing, or a line is no address.
    """
    lines = (_without_comment(line) for line in _lines(_content(file), str(file), _WANTED_STREAMS))
    found = _entries(str(file), lines, _WANTED_STREAMS)
    for entry in found:
        if not is_live_address(entry.text):
            raise DataError(
                f"{entry.where}: '{entry.text}' is neither a URL nor the index of a webcam; write {_WANTED_STREAMS}"
            )
    return found


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); mend its permissions or its disk") from None


def _lines(data: bytes, name: str, wanted: str) -> list[str]:
    try:
        return [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{name}: not a text file; write {wanted}") from None


def _entries(name: str, lines: Iterable[str], wanted: str) -> list[Entry]:
    found = [Entry(line, line, f"{name}, line {number}") for number, line in enumerate(lines, 1) if line]
    if not found:
        raise DataError(f"{name}: the list is empty; write {wanted}")
    return found


def _from_list(file: Path, line: str) -> str:
    if is_live_address(line):
        return line
    beside = file.parent / line
    return line if Path(line).exists() and not beside.exists() else str(beside)


def _without_comment(line: str) -> str:
    # Inside an address, a # is part of it.
    return "" if line.startswith("#") else line.split(" #")[0].strip()
