"""PyTorch's layout before 1.6: pickles one after another, then the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from models.convert.file_faults import damaged, nothing_outside, read_numbers
from models.convert.pickle_machine import SIDE_STEPS, PickleMachine
from models.convert.records import Storage, storage_of

MAGIC = 0x1950A86A20F9469CFC6C


class PickleRowLayout:
    """Pickles one after another (magic number, protocol, machine, object, storage keys), then the storages."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = path.stat().st_size
        storages: dict[str, Storage] = {}

        def remember(identifier: Any) -> Any:
            # Classes of layers were saved with their source text beside them.
            if isinstance(identifier, tuple) and identifier[:1] == ("module",):
                return identifier[1]
            storage = storage_of(identifier)
            storages[storage.key] = storage
            return storage

        if self._next() != MAGIC:
            damaged(path, "it does not begin as one")
        self._next()
        self._next()
        self.root = PickleMachine(str(path), remember).run(file)
        keys = self._next()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            damaged(path, "the list of its storages is missing")
        self._places = {key: self._place(storages, key) for key in keys}

    def read(self, storage: Storage) -> bytes:
        """Return the bytes of the block that a storage lies in."""
        if storage.key not in self._places:
            damaged(self._path, f"there is no storage {storage.key!r} in it")
        start, count = self._places[storage.key]
        self._file.seek(start)
        return self._file.read(count)

    def _next(self) -> Any:
        return PickleMachine(str(self._path), nothing_outside, SIDE_STEPS).run(self._file)

    def _place(self, storages: dict[str, Storage], key: str) -> tuple[int, int]:
        """Return start and length in bytes of the block whose count stands next in the file, and go behind it."""
        if key not in storages:
            damaged(self._path, f"nothing says what the storage {key!r} holds")
        elements = read_numbers(self._path, self._file, "<q")[0]
        start = self._file.tell()
        count = elements * storages[key].dtype.itemsize
        if elements < 0 or start + count > self._size:
            damaged(self._path, "it ends too early")
        self._file.seek(start + count)
        return start, count
