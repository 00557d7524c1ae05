"""The layouts in which PyTorch has written files: zip (since 1.6), a row of pickles (before), tar (before 0.1.10).

Objects come from ``pickle_machine``; tensors stay in the file until ``TorchFile.tensor`` reads them.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from models.convert.file_faults import damaged, file_sha256
from models.convert.pickle_row_layout import PickleRowLayout
from models.convert.records import Storage, StoredTensor
from models.convert.tar_layout import TarLayout
from models.convert.zip_layout import ZipLayout

ZIP_START = b"PK\x03\x04"
MOST_READS = 4
"""How many times the file's own bytes may be read for its tensors; a checkpoint has each number once."""


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
        self._bytes_left = MOST_READS * path.stat().st_size
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

    def sha256(self) -> str:
        """Return the SHA-256 of the file in hexadecimal digits."""
        return file_sha256(self.path)

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
            damaged(self.path, "a tensor repeats its numbers")
        data = self._layout.read(storage)
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            damaged(self.path, "its tensors share their numbers")
        width = storage.dtype.itemsize
        needed = (storage.start + storage.elements) * width
        if needed > len(data):
            damaged(self.path, f"a tensor needs {needed:,} bytes, and {len(data):,} are there")
        flat = torch.frombuffer(bytearray(data), dtype=storage.dtype)
        return flat.as_strided(stored.shape, stored.strides, storage.start + stored.offset).clone()
