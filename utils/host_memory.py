"""Main memory: what is free, how much this process took at its peak, and keeping what is freed for the next step."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

try:
    import resource
except ModuleNotFoundError:  # Windows does not have it.
    resource = None

# Numbers of malloc.h of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1
_GROW_BY = 64 * 2**20


CGROUP = Path("/sys/fs/cgroup")
LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Files of a container's limit and use, and where they say how much of it the system gives back when it is asked to;
of both versions of control groups."""


def free_host_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """Return the bytes of main memory that can be taken without swapping, within the container's limit.

    None where the system does not say.
    """
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if available is None:
        return None
    for limit_name, use_name, stat_name, entry in LIMITS:
        try:
            limit, use = (cgroup / limit_name).read_text().strip(), (cgroup / use_name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and use.isdigit():
            # Pages of files that were read count as used, but make room when it is needed.
            free = int(limit) - int(use) + _stat_entry(cgroup / stat_name, entry)
            available = min(available, max(free, 0))
    return available


def _stat_entry(path: Path, name: str) -> int:
    """Return a number of a ``memory.stat``, 0 where there is none."""
    try:
        entries = dict(line.split() for line in path.read_text().splitlines())
        return int(entries.get(name, 0))
    except (OSError, ValueError):
        return 0


def peak_host_memory() -> float | None:
    """Return the most main memory that this process has held, in GiB; None where the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, other systems KiB.
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def keep_freed_memory() -> bool:
    """Tell the GNU C library not to return freed tensors to the system at once, for work on the CPU.

    By default it maps and unmaps every allocation above 32 MiB, and the kernel fills each page anew. A training step
    allocates the same sizes again and again, so the memory it needs at its peak may as well stay: fresh pages for
    every large tensor cost more than the arithmetic on them.

    Returns:
        Whether the library took the settings; False on systems with another one, where nothing changes.
    """
    if not _has_glibc():
        return False
    library = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROW_BY))
    return all(library.mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings)


def return_freed_memory() -> bool:
    """Give what is freed back to the system after all, where there is too little for something else.

    Others than the library's own heap need memory, too: kernels that are compiled for a size, and other libraries.

    Returns:
        Whether the system got any; False on systems with another library.
    """
    return _has_glibc() and bool(ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0)))


def _has_glibc() -> bool:
    return platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
