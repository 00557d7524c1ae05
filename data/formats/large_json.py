"""Reads JSON files of whole splits entry by entry: hundreds of megabytes are fine, one huge value is not.

The text is never held as a whole. Its outermost value is a list, or an object with lists; each entry of these is read
on its own. The limits below are far beyond every label, and keep what a file takes in memory near what it has to say.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from data.label_bytes import open_regular
from utils.errors import DataError

MOST_CHARACTERS = 8_000_000
"""Of one entry; an outline of a hundred thousand points has a quarter of it."""

MOST_MEMBERS = 1000
"""Of the outermost object."""

MOST_SHORT = 1_000_000
"""Entries that have fewer than ``SHORT`` characters, which no label and no picture has."""

SHORT = 16

_CHUNK = 1 << 20
_HEAD = 4
"""Bytes that tell the encoding."""
_SPACE = re.compile(r"[ \t\n\r]*")
_UNSURE = 16
"""So few characters before the end of what has been read, a fault or a number may be there because of that end."""

Hook = Callable[[dict[str, Any]], Any]


def read_large_json(path: Path, on_object: Hook, what: str) -> Any:
    """Return what a JSON file holds.

    Args:
        path: of the file.
        on_object: is given every object as soon as it is read, innermost first, and says what takes its place.
        what: the file should be, for the error, such as ``a COCO annotation file``.

    Raises:
        DataError: the file cannot be read, is no JSON, or a value is larger than labels are.
    """
    with open_regular(path) as file:
        try:
            return _Reader(path, file, on_object).document()
        except UnicodeDecodeError:
            raise DataError(f"{path}: not a text file; give {what} (JSON)") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); mend its permissions or its disk") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as JSON ({error}); write or copy it again") from None


class _Reader:
    """The text from the place of reading on, as far as it has been read.

    Attributes:
        text: what is in memory; of it, everything before ``at`` is done with.
        ended: there is no more in the file.
        begun: where the last value began.
    """

    def __init__(self, path: Path, file: BinaryIO, on_object: Hook):
        self.path, self.file, self.on_object = path, file, on_object
        self.scan = json.JSONDecoder(object_hook=on_object).raw_decode
        first = file.read(max(_CHUNK, _HEAD))
        self.decoder = codecs.getincrementaldecoder(json.detect_encoding(first))()
        self.text, self.ended = self.decoder.decode(first, final=not first), not first
        self.at = self.begun = 0
        self.lines = self.columns = 0  # Line and column, from 0, of the first character in memory.

    def document(self) -> Any:
        """Read the outermost value."""
        found: Any
        if self.peek() == "{":
            found = self.on_object(self.members())
        elif self.peek() == "[":
            found = self.entries()
        else:
            found = self.value()
        if self.peek():
            raise self.fault("Extra data", self.at)
        return found

    def members(self) -> dict[str, Any]:
        """Read an object whose lists are read entry by entry."""
        found: dict[str, Any] = {}
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return found
        while True:
            if self.peek() != '"':
                raise self.fault("Expecting property name enclosed in double quotes", self.at)
            key = self.value()
            self.expect(":", "':' delimiter")
            found[key] = self.entries() if self.peek() == "[" else self.value()
            if len(found) > MOST_MEMBERS:
                raise DataError(f"{self.path}: its outermost object has more than {MOST_MEMBERS} members; remove them")
            if self.expect(",}", "',' delimiter") == "}":
                return found

    def entries(self) -> list[Any]:
        """Read a list entry by entry."""
        found: list[Any] = []
        short = 0
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return found
        while True:
            entry = self.value()
            short += self.at - self.begun < SHORT
            if short > MOST_SHORT:
                raise DataError(f"{self.path}: has a list with more than {MOST_SHORT:,} entries that are no labels")
            # Read on its own, an entry has its own copies of its keys.
            found.append({sys.intern(key): entry[key] for key in entry} if type(entry) is dict else entry)
            if self.expect(",]", "',' delimiter") == "]":
                return found

    def value(self) -> Any:
        """Read one value as a whole."""
        self.peek()
        while True:
            self.begun = self.at
            fault = None
            try:
                value, end = self.scan(self.text, self.at)
                if self.ended or self.text[self.at] in '{["' or end < len(self.text) - _UNSURE:
                    self.at = end
                    return value
            except json.JSONDecodeError as error:
                fault = error
                inside = error.pos < len(self.text) - _UNSURE and not error.msg.startswith("Unterminated string")
                if self.ended or inside:
                    raise self.fault(error.msg, error.pos) from None
            if len(self.text) - self.at > MOST_CHARACTERS:
                line, limit = self.lines + self.text.count("\n", 0, self.at) + 1, MOST_CHARACTERS // 10**6
                raise DataError(
                    f"{self.path}, line {line}: has a value of more than {limit} million characters; no label is so "
                    "large, remove it"
                ) from fault
            self.more(len(self.text) - self.at)

    def peek(self) -> str:
        """Go over white space and return the next character, nothing at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more(0)

    def expect(self, characters: str, called: str) -> str:
        """Go over one of some characters and return it."""
        found = self.peek()
        if not found or found not in characters:
            raise self.fault(f"Expecting {called}", self.at)
        self.at += 1
        return found

    def more(self, wanted: int) -> None:
        """Read on, at least as much as is wanted, and forget what is done with."""
        done = self.text[: self.at]
        newlines = done.count("\n")
        self.columns = len(done) - done.rfind("\n") - 1 if newlines else self.columns + len(done)
        self.lines += newlines
        data = self.file.read(max(_CHUNK, wanted))
        self.ended = not data
        self.text, self.at = self.text[self.at :] + self.decoder.decode(data, final=self.ended), 0

    def fault(self, problem: str, place: int) -> DataError:
        """Return the error for a place in the text in memory."""
        before = self.text[:place]
        newlines = before.count("\n")
        column = len(before) - before.rfind("\n") if newlines else self.columns + len(before) + 1
        return DataError(
            f"{self.path}: broken JSON at line {self.lines + newlines + 1}, column {column} ({problem}); write or copy "
            "it again"
        )
