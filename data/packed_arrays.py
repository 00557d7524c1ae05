"""Many small arrays moved to a device in one piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

_ALIGNED = 16
Record = TypeVar("Record")


def arrays_to_device(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Return arrays on a device, copied once, without waiting for it.

    Args:
        arrays: of booleans or numbers, by name.
        device: where to; on a GPU the copy runs on the current stream, from page-locked memory.
    """
    starts, end = {}, 0
    for name, array in arrays.items():
        starts[name] = end
        end += -(-array.nbytes // _ALIGNED) * _ALIGNED
    packed = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = packed.numpy()
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        target[starts[name] : starts[name] + flat.size] = flat
    moved = packed.to(device, non_blocking=True)
    return {
        name: moved[starts[name] : starts[name] + array.nbytes].view(_dtype(array)).view(array.shape)
        for name, array in arrays.items()
    }


def tensors_to_device(record: Record, device: torch.device) -> Record:
    """Return a dataclass with its tensors on a device, in one copy that nobody waits for.

    Args:
        record: an instance of a dataclass of tensors; None and anything else in it stays as it is.
        device: where to. The record itself comes back if it lies there already.
    """
    found = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    parts = {name: part for name, part in found.items() if isinstance(part, Tensor)}
    if all(part.device == device for part in parts.values()):
        return record
    if any(part.device.type != "cpu" for part in parts.values()):
        return replace(record, **{name: part.to(device, non_blocking=True) for name, part in parts.items()})
    return replace(record, **arrays_to_device({name: part.numpy() for name, part in parts.items()}, device))


def _dtype(array: np.ndarray) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype
