"""Safetensors files that are not checkpoints of ours, such as Hugging Face's: tensors by name and nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.convert.file_faults import file_sha256
from models.convert.records import MOST_NAME, Storage, StoredTensor, contiguous_strides
from utils.errors import ModelError

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class SafetensorsFile:
    """A safetensors file, with the interface of ``TorchFile``; use it in a ``with`` block.

    Args:
        path: of the file.

    Attributes:
        root: its tensors by name, not yet read.
        metadata: texts by name in its header.

    Raises:
        ModelError: the file is damaged, or a tensor is of a type that no checkpoint has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = safe_open(path, framework="pt")
            self._file.__enter__()
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from None
        self.metadata: dict[str, str] = self._file.metadata() or {}
        self.root = {name: self._place(name) for name in self._file.keys()}  # noqa: SIM118 - it is no dict

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def sha256(self) -> str:
        """Return the SHA-256 of the file in hexadecimal digits."""
        return file_sha256(self.path)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor from the file.

        Raises:
            ModelError: its numbers are not there.
        """
        try:
            return self._file.get_tensor(stored.storage.key)
        except (SafetensorError, OSError) as error:
            raise _damaged(self.path, error) from None

    def _place(self, name: str) -> StoredTensor:
        """Return where a tensor lies, by its name.

        Raises:
            ModelError: its type is none that checkpoints have, or its name none that a line can show.
        """
        if len(name) >= MOST_NAME or not name.isprintable():
            raise _damaged(self.path, f"the name of a tensor is no line of up to {MOST_NAME} characters")
        entry = self._file.get_slice(name)
        shape = tuple(entry.get_shape())
        dtype = TYPES.get(entry.get_dtype())
        if dtype is None:
            raise ModelError(
                f"{self.path}: the tensor {name} is of type {entry.get_dtype()}, which is not read here; save the "
                "weights in float32, float16 or bfloat16"
            )
        return StoredTensor(Storage(name, dtype, math.prod(shape)), 0, shape, contiguous_strides(shape))


def _damaged(path: Path, reason: object) -> ModelError:
    """Return the sentence about a file that cannot be read."""
    return ModelError(f"{path}: is damaged or not a safetensors file ({reason}); copy or download it again")
