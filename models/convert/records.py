"""What a checkpoint's pickle is turned into: names, records of objects, storages, and tensors that lie in them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

MOST_ELEMENTS = 2**48
MOST_DIMENSIONS = 8
MOST_NAME = 200
"""Characters of a dotted name, of a class or a tensor; official ones have about fifty."""
STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Name:
    """A name that a pickle would have imported, such as ``models.common.Conv``."""

    path: str


@dataclass
class Inert:
    """What would have become an object of some class: its name, its arguments and its attributes, and no behaviour.

    Attributes:
        kind: full name of the class, such as ``models.common.Conv``.
        args: arguments of its construction.
        state: its attributes by name; anything else that it would have restored itself from lies under ``""``.
    """

    kind: str
    args: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """The last part of ``kind``."""
        return self.kind.rpartition(".")[2]


@dataclass(frozen=True)
class Storage:
    """A block of numbers in the file.

    Attributes:
        key: its name in the file.
        dtype: of its elements.
        elements: how many elements it has.
        start: first element, where it is a part of the block of that name.
    """

    key: str
    dtype: torch.dtype
    elements: int
    start: int = 0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read yet: where its elements lie in a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def locate_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    """Return where a tensor lies; it reaches no further than its storage.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    shape, strides = (_sizes(values) for values in (shape, strides))
    numbers = (offset, *shape, *strides)
    whole = all(type(n) is int and 0 <= n < MOST_ELEMENTS for n in numbers)
    if not whole or len(shape) != len(strides):
        raise ValueError("a tensor has no shape")
    reach = offset + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and reach > storage.elements:
        raise ValueError("a tensor reaches beyond its storage")
    return StoredTensor(storage, offset, shape, strides)


def _sizes(values: Any) -> tuple[Any, ...]:
    """Return a shape; older files have it as ``torch.Size``.

    Raises:
        ValueError: it is none.
    """
    if isinstance(values, Inert) and values.kind == "torch.Size":
        values = values.args[0]
    if not isinstance(values, list | tuple) or len(values) > MOST_DIMENSIONS:
        raise ValueError("a tensor has no shape")
    return tuple(values)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor whose elements lie row after row."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def storage_type(kind: Any) -> torch.dtype:
    """Return the element type of a named storage class.

    Raises:
        ValueError: it is no storage class.
    """
    name = kind.path.removeprefix("torch.") if isinstance(kind, Name) else ""
    if name not in STORAGE_TYPES:
        raise ValueError("a storage has no type")
    return STORAGE_TYPES[name]


def storage_of(identifier: Any) -> Storage:
    """Return the storage that a pickle's identifier means: ``("storage", class, key, device, elements[, view])``.

    Raises:
        ValueError: it means none.
    """
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise ValueError("something outside of it is no storage")
    _, kind, key, _, elements, *view = identifier
    dtype, start = storage_type(kind), 0
    if view and view[0] is not None:
        _, start, elements = view[0]
    return Storage(storage_key(key), dtype, element_count(elements), element_count(start))


def storage_key(value: Any) -> str:
    """Return the name of a storage or a tensor in the file as text.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str | int) or (isinstance(value, str) and len(value) > MOST_NAME):
        raise ValueError("a storage has no name")
    return str(value)


def element_count(value: Any) -> int:
    """Return a number of elements.

    Raises:
        ValueError: it is none, or more than any storage holds.
    """
    if type(value) is not int or not 0 <= value < MOST_ELEMENTS:
        raise ValueError("a storage has no size")
    return value
