"""How much memory there is, and how much a piece of work takes at its peak, on a GPU and on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from utils.host_memory import free_host_memory


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that this process could still take on a device; None where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return free_host_memory()


def peak_memory(work: Callable[[], Any], device: torch.device, known: Iterable[Tensor]) -> int:
    """Run ``work`` and return by how many bytes the memory of tensors grows at its peak.

    On a GPU the allocator tells. On the CPU the tensors are counted that come and go; what a single kernel needs for
    itself is not seen there.

    Args:
        work: what to run.
        device: where it runs.
        known: tensors that exist before and do not count.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _TensorCount(known) as count:
        work()
    return count.peak


class _TensorCount(TorchDispatchMode):
    """Follows the storages that operations make until they are freed.

    Attributes:
        peak: most bytes at a time.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._sizes: dict[int, int] = {}
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                for part in _dense_parts(leaf):
                    self._note(part.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._sizes or place in self._known:
            return
        self._sizes[place] = storage.nbytes()
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._forget, place)

    def _forget(self, place: int) -> None:
        self._live -= self._sizes.pop(place)


def _dense_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors that hold what a tensor holds: itself, or places and values of a sparse one by rows."""
    if tensor.layout is torch.sparse_csr:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return (tensor,)
