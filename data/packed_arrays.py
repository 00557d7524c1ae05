"""Many small arrays moved to a device in one piece."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_ALIGNED = 16


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


def _dtype(array: np.ndarray) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype
