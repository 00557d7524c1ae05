"""The layouts in which PyTorch has written files: zip (since 1.6), a row of pickles (before), tar (before 0.1.10).

Objects come from ``pickle_machine``; tensors stay in the file until ``TorchFile.tensor`` reads them.
"""

from __future__ import annotations

import math
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Protocol

import torch
from torch import Tensor

from models.convert.pickle_machine import STORAGE_TYPES, Name, PickleMachine, Storage, StoredTensor, locate_tensor
from utils.errors import ModelError

ZIP_START = b"PK\x03\x04"
ZIP_END = b"PK\x05\x06"
ZIP64_END = b"PK\x06\x06"
ZIP_FAULTS = (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, struct.error)
"""What the zip reader of the standard library raises over damaged archives."""
MOST_DIRECTORY_BYTES = 16 * 2**20
PICKLE_ROW_MAGIC = 0x1950A86A20F9469CFC6C
TAR_MEMBERS = ("storages", "tensors", "pickle")


class Layout(Protocol):
    """One way of laying a file out.

    Attributes:
        root: what was saved: containers, plain values, ``StoredTensor`` and ``Inert``.
    """

    root: Any

    def read(self, storage: Storage) -> bytes:
        """Return the bytes of the block that a storage lies in."""
        ...


class TorchFile:
    """A file of ``torch.save``, opened without executing anything; use it in a ``with`` block.

    Args:
        path: of the file.

    Attributes:
        root: what was saved: containers, plain values, ``StoredTensor`` and ``Inert``.

    Raises:
        ModelError: the file is damaged, has none of the three layouts, or holds what a checkpoint does not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115 - closed by the with block that this object belongs in
        try:
            start = self._file.read(512)
            self._file.seek(0)
            if start.startswith(ZIP_START):
                self._layout: Layout = ZipLayout(path, self._file)
            elif start[257:262] == b"ustar":
                self._layout = TarLayout(path, self._file)
            else:
                self._layout = PickleRowLayout(path, self._file)
        except BaseException:
            self._file.close()
            raise
        self.root = self._layout.root

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor from the file.

        Raises:
            ModelError: its numbers are not there.
        """
        storage = stored.storage
        elements = math.prod(stored.shape)
        if elements == 0:
            return torch.empty(stored.shape, dtype=storage.dtype)
        if elements > storage.elements:
            # A weight has each number once; repeating a few could fill all memory.
            _damaged(self.path, "a tensor repeats its numbers")
        data = self._layout.read(storage)
        width = _bytes_per_element(storage.dtype)
        needed = (storage.start + storage.elements) * width
        if needed > len(data):
            _damaged(self.path, f"a tensor needs {needed:,} bytes, and {len(data):,} are there")
        flat = torch.frombuffer(bytearray(data), dtype=storage.dtype)
        return flat.as_strided(stored.shape, stored.strides, storage.start + stored.offset).clone()


class ZipLayout:
    """``NAME/data.pkl`` with the object, and a file ``NAME/data/KEY`` for each storage."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        size = path.stat().st_size
        _check_directory(path, file, size)
        try:
            self._archive = zipfile.ZipFile(file)
        except ZIP_FAULTS as error:
            _damaged(path, str(error))
        self._entries = {entry.filename: entry for entry in self._archive.infolist()}
        pickles = [name for name in self._entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            _damaged(path, "it is a zip archive without the one data.pkl that PyTorch writes")
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
                self.root = PickleMachine(str(path), _storage_of).run(stream)
        except ZIP_FAULTS as error:
            _damaged(path, str(error))

    def read(self, storage: Storage) -> bytes:
        """Return the bytes of the block that a storage lies in."""
        return self._content(f"{self._prefix}data/{storage.key}")

    def _content(self, name: str) -> bytes:
        if name not in self._entries:
            _damaged(self._path, f"there is no {name} in it")
        try:
            return self._archive.read(self._entries[name])
        except ZIP_FAULTS as error:
            _damaged(self._path, f"{name}: {error}")


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
            storage = _storage_of(identifier)
            storages[storage.key] = storage
            return storage

        if self._next() != PICKLE_ROW_MAGIC:
            _damaged(path, "it does not begin as one")
        self._next()
        self._next()
        self.root = PickleMachine(str(path), remember).run(file)
        keys = self._next()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            _damaged(path, "the list of its storages is missing")
        self._places = {key: self._place(storages, key) for key in keys}

    def read(self, storage: Storage) -> bytes:
        """Return the bytes of the block that a storage lies in."""
        if storage.key not in self._places:
            _damaged(self._path, f"there is no storage {storage.key!r} in it")
        start, count = self._places[storage.key]
        self._file.seek(start)
        return self._file.read(count)

    def _next(self) -> Any:
        return PickleMachine(str(self._path), _nothing_outside).run(self._file)

    def _place(self, storages: dict[str, Storage], key: str) -> tuple[int, int]:
        """Return start and length in bytes of the block whose count stands next in the file, and go behind it."""
        if key not in storages:
            _damaged(self._path, f"nothing says what the storage {key!r} holds")
        elements = _unpack(self._path, self._file, "<q")[0]
        start = self._file.tell()
        count = elements * _bytes_per_element(storages[key].dtype)
        if elements < 0 or start + count > self._size:
            _damaged(self._path, "it ends too early")
        self._file.seek(start + count)
        return start, count


class TarLayout:
    """Three members: ``storages`` with the numbers, ``tensors`` with the shapes, ``pickle`` with the object."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                members = {member.name.removeprefix("./"): member for member in archive}
        except (tarfile.TarError, ValueError, EOFError) as error:
            _damaged(path, str(error))
        size = path.stat().st_size
        for name in TAR_MEMBERS:
            member = members.get(name)
            if member is None or not member.isreg() or member.issparse() or member.offset_data + member.size > size:
                _damaged(path, f"the member '{name}' of PyTorch's old tar layout is missing")
        self._places: dict[str, tuple[int, int]] = {}
        file.seek(members["storages"].offset_data)
        storages = self._read_storages()
        file.seek(members["tensors"].offset_data)
        tensors = self._read_tensors(storages)
        file.seek(members["pickle"].offset_data)

        def find(identifier: Any) -> Any:
            # Containers that were saved with their source text stand in a tuple with it.
            return identifier[0] if isinstance(identifier, tuple) else tensors[str(identifier)]

        self.root = PickleMachine(str(path), find).run(file)

    def read(self, storage: Storage) -> bytes:
        """Return the bytes of the block that a storage lies in."""
        start, count = self._places[storage.key]
        self._file.seek(start)
        return self._file.read(count)

    def _next(self) -> Any:
        return PickleMachine(str(self._path), _nothing_outside).run(self._file)

    def _read_storages(self) -> dict[str, Storage]:
        size = self._path.stat().st_size
        storages: dict[str, Storage] = {}
        for _ in range(self._count()):
            key, _, kind = self._fields(3)
            try:
                dtype = _storage_type(kind)
            except ValueError as error:
                _damaged(self._path, str(error))
            elements = _unpack(self._path, self._file, "<q")[0]
            start, count = self._file.tell(), elements * _bytes_per_element(dtype)
            if elements < 0 or start + count > size:
                _damaged(self._path, "it ends too early")
            self._places[str(key)] = (start, count)
            storages[str(key)] = Storage(str(key), dtype, elements)
            self._file.seek(start + count)
        views = self._next()
        if not isinstance(views, list):
            _damaged(self._path, "the list of its views is missing")
        for view in views:
            try:
                key, base, start, elements = view
                storages[str(key)] = Storage(str(base), storages[str(base)].dtype, int(elements), int(start))
            except (KeyError, TypeError, ValueError):
                _damaged(self._path, "a view has no storage")
        return storages

    def _read_tensors(self, storages: dict[str, Storage]) -> dict[str, StoredTensor]:
        tensors: dict[str, StoredTensor] = {}
        for _ in range(self._count()):
            key, storage, _ = self._fields(3)
            # The number of dimensions takes eight bytes, of which the second half was never written with care.
            dimensions = _unpack(self._path, self._file, "<ii")[0]
            if not 0 <= dimensions <= 64 or str(storage) not in storages:
                _damaged(self._path, "a tensor has no shape")
            numbers = _unpack(self._path, self._file, f"<{2 * dimensions + 1}q")
            try:
                tensors[str(key)] = locate_tensor(
                    storages[str(storage)], numbers[-1], numbers[:dimensions], numbers[dimensions:-1]
                )
            except ValueError as error:
                _damaged(self._path, str(error))
        return tensors

    def _count(self) -> int:
        count = self._next()
        if not isinstance(count, int) or count < 0:
            _damaged(self._path, "a count is missing")
        return count

    def _fields(self, count: int) -> tuple[Any, ...]:
        fields = self._next()
        if not isinstance(fields, tuple) or len(fields) != count:
            _damaged(self._path, "the description of a tensor is missing")
        return fields


def _damaged(path: Path, reason: str) -> NoReturn:
    raise ModelError(f"{path}: is damaged or no file of PyTorch ({reason}); copy or download it again")


def _bytes_per_element(dtype: torch.dtype) -> int:
    return torch.empty((), dtype=dtype).element_size()


def _unpack(path: Path, file: BinaryIO, layout: str) -> tuple[int, ...]:
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        _damaged(path, "it ends too early")
    return struct.unpack(layout, data)


def _check_directory(path: Path, file: BinaryIO, size: int) -> None:
    """Refuse a zip archive whose table of contents would take more memory than any checkpoint's."""
    file.seek(-min(size, 2**16 + 100), os.SEEK_END)
    tail = file.read()
    end = tail.rfind(ZIP_END)
    if end < 0 or len(tail) < end + 22:
        _damaged(path, "its end is missing")
    directory = struct.unpack_from("<I", tail, end + 12)[0]
    large = tail.rfind(ZIP64_END)
    if directory == 2**32 - 1 and 0 <= large <= len(tail) - 56:
        directory = struct.unpack_from("<Q", tail, large + 40)[0]
    if directory > min(MOST_DIRECTORY_BYTES, size):
        _damaged(path, "its table of contents is larger than any checkpoint's")


def _storage_type(kind: Any) -> torch.dtype:
    """Return the element type of a named storage class.

    Raises:
        ValueError: it is no storage class.
    """
    name = kind.path.removeprefix("torch.") if isinstance(kind, Name) else ""
    if name not in STORAGE_TYPES:
        raise ValueError("a storage has no type")
    return STORAGE_TYPES[name]


def _storage_of(identifier: Any) -> Storage:
    """Return the storage that a pickle's identifier means: ``("storage", class, key, device, elements[, view])``.

    Raises:
        ValueError: it means none.
    """
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise ValueError("something outside of it is no storage")
    _, kind, key, _, elements, *view = identifier
    dtype, start = _storage_type(kind), 0
    if view and view[0] is not None:
        _, start, elements = view[0]
    if not isinstance(key, str) or type(elements) is not int or type(start) is not int or min(elements, start) < 0:
        raise ValueError("a storage has no size")
    return Storage(key, dtype, elements, start)


def _nothing_outside(_: Any) -> NoReturn:
    raise ValueError("it asks for something outside of it")
