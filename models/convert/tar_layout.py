"""PyTorch's layout before 0.1.10: a tar archive."""

from __future__ import annotations

import itertools
import struct
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from models.convert.file_faults import damaged, nothing_outside, read_numbers
from models.convert.pickle_machine import SIDE_STEPS, PickleMachine
from models.convert.records import (
    MOST_DIMENSIONS,
    Storage,
    StoredTensor,
    element_count,
    locate_tensor,
    storage_key,
    storage_type,
)

MEMBERS = ("storages", "tensors", "pickle")
FAULTS = (tarfile.TarError, ValueError, EOFError, OSError, OverflowError, RecursionError, struct.error)
"""What the tar reader of the standard library raises: sizes below zero or beyond any disk, headers within headers."""
MOST_ENTRIES = 20


class TarLayout:
    """Three members: ``storages`` with the numbers, ``tensors`` with the shapes, ``pickle`` with the object."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                entries = itertools.islice(archive, MOST_ENTRIES)
                members = {member.name.removeprefix("./"): member for member in entries}
        except FAULTS as error:
            damaged(path, str(error))
        size = path.stat().st_size
        for name in MEMBERS:
            member = members.get(name)
            if member is None or not member.isreg() or member.issparse() or member.offset_data + member.size > size:
                damaged(path, f"the member '{name}' of PyTorch's old tar layout is missing")
        self._places: dict[str, tuple[int, int]] = {}
        file.seek(members["storages"].offset_data)
        storages = self._read_storages()
        file.seek(members["tensors"].offset_data)
        tensors = self._read_tensors(storages)
        file.seek(members["pickle"].offset_data)

        def find(identifier: Any) -> Any:
            # Containers that were saved with their source text stand in a tuple with it.
            return identifier[0] if isinstance(identifier, tuple) else tensors[storage_key(identifier)]

        self.root = PickleMachine(str(path), find).run(file)

    def read(self, storage: Storage) -> bytes:
        """Return the bytes of the block that a storage lies in."""
        start, count = self._places[storage.key]
        self._file.seek(start)
        return self._file.read(count)

    def _next(self) -> Any:
        return PickleMachine(str(self._path), nothing_outside, SIDE_STEPS).run(self._file)

    def _read_storages(self) -> dict[str, Storage]:
        size = self._path.stat().st_size
        storages: dict[str, Storage] = {}
        for _ in range(self._count()):
            key, _, kind = self._fields(3)
            try:
                key, dtype = storage_key(key), storage_type(kind)
            except ValueError as error:
                damaged(self._path, str(error))
            elements = read_numbers(self._path, self._file, "<q")[0]
            start, count = self._file.tell(), elements * dtype.itemsize
            if elements < 0 or start + count > size:
                damaged(self._path, "it ends too early")
            self._places[key] = (start, count)
            storages[key] = Storage(key, dtype, elements)
            self._file.seek(start + count)
        views = self._next()
        if not isinstance(views, list):
            damaged(self._path, "the list of its views is missing")
        for view in views:
            try:
                key, base, start, elements = view
                base = storage_key(base)
                storages[storage_key(key)] = Storage(
                    base, storages[base].dtype, element_count(elements), element_count(start)
                )
            except (KeyError, TypeError, ValueError):
                damaged(self._path, "a view has no storage")
        return storages

    def _read_tensors(self, storages: dict[str, Storage]) -> dict[str, StoredTensor]:
        tensors: dict[str, StoredTensor] = {}
        for _ in range(self._count()):
            key, storage, _ = self._fields(3)
            # The number of dimensions takes eight bytes, of which the second half was never written with care.
            dimensions = read_numbers(self._path, self._file, "<ii")[0]
            if not 0 <= dimensions <= MOST_DIMENSIONS:
                damaged(self._path, "a tensor has no shape")
            numbers = read_numbers(self._path, self._file, f"<{2 * dimensions + 1}q")
            try:
                tensors[storage_key(key)] = locate_tensor(
                    storages.get(storage_key(storage)), numbers[-1], numbers[:dimensions], numbers[dimensions:-1]
                )
            except ValueError as error:
                damaged(self._path, str(error))
        return tensors

    def _count(self) -> int:
        count = self._next()
        if not isinstance(count, int) or count < 0:
            damaged(self._path, "a count is missing")
        return count

    def _fields(self, count: int) -> tuple[Any, ...]:
        fields = self._next()
        if not isinstance(fields, tuple) or len(fields) != count:
            damaged(self._path, "the description of a tensor is missing")
        return fields
