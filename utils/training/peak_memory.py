"""How much memory there is, and how much a piece of work takes at its peak, on a GPU and on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CGROUP = Path("/sys/fs/cgroup")
LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Files of a container's limit and use, of both versions of control groups."""


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that this process could still take on a device; None where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return free_host_memory()


def free_host_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """Return the bytes of main memory that can be taken without swapping, within the container's limit."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if available is None:
        return None
    for limit_name, use_name in LIMITS:
        try:
            limit, use = (cgroup / limit_name).read_text().strip(), (cgroup / use_name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and use.isdigit():
            available = min(available, max(int(limit) - int(use), 0))
    return available


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
                self._note(leaf.untyped_storage())
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
