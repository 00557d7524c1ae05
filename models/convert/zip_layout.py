"""PyTorch's layout since 1.6: an uncompressed zip archive."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from models.convert.file_faults import damaged
from models.convert.pickle_machine import PickleMachine
from models.convert.records import Storage, storage_of
from utils.errors import ModelError

END = b"PK\x05\x06"
LARGE_END = b"PK\x06\x06"
FAULTS = (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, struct.error)
"""What the zip reader of the standard library raises over damaged archives."""
MOST_DIRECTORY_BYTES = 4 * 2**20
"""Room for some 50,000 storages; an entry takes about seven times its bytes in memory."""


class ZipLayout:
    """``NAME/data.pkl`` with the object, and a file ``NAME/data/KEY`` for each storage."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        size = path.stat().st_size
        _check_directory(path, file, size)
        try:
            self._archive = zipfile.ZipFile(file)
        except FAULTS as error:
            damaged(path, str(error))
        self._entries = {entry.filename: entry for entry in self._archive.infolist()}
        pickles = [name for name in self._entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            damaged(path, "it is a zip archive without the one data.pkl that PyTorch writes")
        self._prefix = pickles[0].removesuffix("data.pkl")
        if f"{self._prefix}constants.pkl" in self._entries:
            raise ModelError(
                f"{path}: is a TorchScript export, which holds a program; give the checkpoint it was made from"
            )
        # PyTorch stores without compression, and each byte once: nothing can become larger than the file is.
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in self._entries.values())
        if packed or sum(entry.file_size for entry in self._entries.values()) > size:
            raise ModelError(f"{path}: is packed as PyTorch never does it, like a zip bomb; do not use the file")
        order = f"{self._prefix}byteorder"
        if order in self._entries and self._content(order) != b"little":
            raise ModelError(f"{path}: was written on a big-endian machine; save it again on a little-endian one")
        try:
            with self._archive.open(self._entries[pickles[0]]) as stream:
                self.root = PickleMachine(str(path), storage_of).run(stream)
        except FAULTS as error:
            damaged(path, str(error))

    def read(self, storage: Storage) -> bytes:
        """Return the bytes of the block that a storage lies in."""
        return self._content(f"{self._prefix}data/{storage.key}")

    def _content(self, name: str) -> bytes:
        if name not in self._entries:
            damaged(self._path, f"there is no {name} in it")
        try:
            return self._archive.read(self._entries[name])
        except FAULTS as error:
            damaged(self._path, f"{name}: {error}")


def _check_directory(path: Path, file: BinaryIO, size: int) -> None:
    """Refuse a zip archive whose table of contents would take more memory than any checkpoint's."""
    file.seek(-min(size, 2**16 + 100), os.SEEK_END)
    tail = file.read()
    end = tail.rfind(END)
    if end < 0 or len(tail) < end + 22:
        damaged(path, "its end is missing")
    directory = struct.unpack_from("<I", tail, end + 12)[0]
    large = tail.rfind(LARGE_END)
    if 0 <= large <= len(tail) - 56:
        # The standard library goes by this record whenever there is one.
        large_directory = struct.unpack_from("<Q", tail, large + 40)[0]
        directory = large_directory if directory == 2**32 - 1 else max(directory, large_directory)
    if directory > min(MOST_DIRECTORY_BYTES, size):
        damaged(path, "its table of contents is larger than any checkpoint's")
