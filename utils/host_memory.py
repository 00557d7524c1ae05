"""Keep freed memory in the process: fresh pages for every large tensor cost more than the arithmetic on them."""

from __future__ import annotations

import ctypes
import platform

# Numbers of malloc.h of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1
_GROW_BY = 64 * 2**20


def keep_freed_memory() -> bool:
    """Tell the GNU C library not to return freed tensors to the system at once, for work on the CPU.

    By default it maps and unmaps every allocation above 32 MiB, and the kernel fills each page anew. A training step
    allocates the same sizes again and again, so the memory it needs at its peak may as well stay.

    Returns:
        Whether the library took the settings; False on systems with another one, where nothing changes.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROW_BY))
    return all(library.mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings)
