"""Memory for passing results that is used again, because fresh memory costs more than what is computed in it.

The system hands fresh memory out page by page as it is first touched. Where large arrays come and go, the allocator
gives it back every time, and touching it anew takes longer than a pass of OpenCV over it.
"""

from __future__ import annotations

import math
import threading

import numpy as np

_kept = threading.local()


def scratch(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a contiguous uint8 array with unknown content, which lasts until this thread asks for the name again.

    Args:
        name: of the use; every name has memory of its own, as large as the largest array asked for so far.
        shape: of the array.
    """
    size = math.prod(shape)
    memory = _kept.__dict__.get(name)
    if memory is None or len(memory) < size:
        memory = np.empty(size, np.uint8)
        _kept.__dict__[name] = memory
    return memory[:size].reshape(shape)
