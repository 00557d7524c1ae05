"""Main memory of the process: how much it took at its peak, and keeping what is freed for the next step."""

from __future__ import annotations

import ctypes
import platform
import sys

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
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROW_BY))
    return all(library.mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings)
