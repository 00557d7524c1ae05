"""Opens a file of weights that is none of ours: one of PyTorch, or a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from models.convert.records import StoredTensor
from models.convert.safetensors_file import SafetensorsFile
from models.convert.torch_file import TorchFile


class WeightFile(Protocol):
    """A file whose tensors are read one by one; use it in a ``with`` block.

    Attributes:
        path: of the file.
        root: what was saved: containers, plain values, ``StoredTensor`` and ``Inert``.
    """

    path: Path
    root: Any

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def sha256(self) -> str:
        """Return the SHA-256 of the file in hexadecimal digits."""
        ...

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor from the file.

        Raises:
            ModelError: its numbers are not there.
        """
        ...


def open_weights(path: Path) -> WeightFile:
    """Open a file of weights by its content.

    Raises:
        ModelError: it is damaged, or neither of the two.
    """
    with open(path, "rb") as file:
        start = file.read(9)
    return SafetensorsFile(path) if is_safetensors(start) else TorchFile(path)


def is_safetensors(start: bytes) -> bool:
    """Return whether a file that begins with these bytes has the header of safetensors behind its length."""
    return start[8:9] == b"{"
