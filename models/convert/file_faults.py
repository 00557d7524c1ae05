"""Damage in a file of weights as one sentence, numbers of its layout that may be missing, and its checksum."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from utils.errors import ModelError


def damaged(path: Path, reason: str) -> NoReturn:
    """Say that a file cannot be read.

    Raises:
        ModelError: always.
    """
    raise ModelError(f"{path}: is damaged or no file of PyTorch ({reason}); copy or download it again")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_numbers(path: Path, file: BinaryIO, layout: str) -> tuple[int, ...]:
    """Read numbers from where ``file`` stands.

    Args:
        path: the file's name, for messages.
        file: open for reading.
        layout: as ``struct`` writes it.

    Raises:
        ModelError: the file ends before them.
    """
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        damaged(path, "it ends too early")
    return struct.unpack(layout, data)


def nothing_outside(_: Any) -> NoReturn:
    """Refuse what a pickle asks for outside of itself where nothing is.

    Raises:
        ValueError: always.
    """
    raise ValueError("it asks for something outside of it")
