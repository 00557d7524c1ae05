"""The pictures that were decoded last, shared by the workers of a loader so that mosaics need not decode them again."""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections import Counter

import numpy as np

from data.picture_store import nameless_file

try:
    import fcntl
except ModuleNotFoundError:  # Windows does not have it.
    fcntl = None

_NOBODY = -1
_SHARED, _ALONE, _ALONE_AT_ONCE, _FREE = (
    (0,) * 4 if fcntl is None else (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN)
)


class RecentPictures:
    """A ring of slots in shared memory: a picture that is put in takes the place of the oldest one.

    It saves decoding and decides nothing: what it gives is what decoding would give. Made before worker processes are
    forked, it is one ring for all of them. Slots are guarded by record locks, which the system releases when a process
    ends; a slot that a killed process was writing belongs to nobody. A picture that is in use keeps its slot: the next
    one in turn is taken instead.

    Args:
        count: pictures in the data set.
        slots: pictures in the ring.
        slot_bytes: of the largest picture; memory is taken from the system as slots are filled.
    """

    def __init__(self, count: int, slots: int, slot_bytes: int):
        self.count, self.slots, self.slot_bytes = count, slots, slot_bytes
        self._make()

    def _make(self) -> None:
        self._pixels_at = 8 * (1 + self.slots + self.count)
        self._file = nameless_file()
        os.ftruncate(self._file, self._pixels_at + self.slots * self.slot_bytes)
        self._memory = mmap.mmap(self._file, 0)
        numbers = np.frombuffer(self._memory, np.int64, self._pixels_at // 8)
        self._turn, self._owner, self._slot_of = np.split(numbers, [1, 1 + self.slots])
        self._owner[:] = _NOBODY
        # A process' own locks do not keep it out, so it counts the pictures that it looks at.
        self._in_use: Counter[int] = Counter()

    def get(self, index: int, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return a read-only view of picture ``index``, which has this shape, or None if the ring does not hold it.

        The picture keeps its slot until nothing looks at the view any more.
        """
        slot = int(self._slot_of[index])
        if self._owner[slot] != index:
            return None
        self._hold(slot)
        if self._owner[slot] != index:
            self._let_go(slot)
            return None
        # Made of the mapping and not of another array: all views of these pixels then keep this one array alive.
        pixels = np.frombuffer(self._memory, np.uint8, math.prod(shape), self._pixels_at + slot * self.slot_bytes)
        pixels.flags.writeable = False
        weakref.finalize(pixels, self._let_go, slot).atexit = False
        return pixels.reshape(shape)

    def put(self, index: int, picture: np.ndarray) -> None:
        """Store picture ``index`` in the place of the oldest one that is not in use.

        One that is too large is left out, and so is any while the whole ring is in use.
        """
        if picture.size > self.slot_bytes:
            return
        slot = self._next_slot()
        if slot is None:
            return
        try:
            self._owner[slot] = _NOBODY
            start = self._pixels_at + slot * self.slot_bytes
            np.frombuffer(self._memory, np.uint8, picture.size, start)[:] = picture.reshape(-1)
            self._slot_of[index] = slot
            self._owner[slot] = index
        finally:
            self._lock(slot, _FREE)

    def _next_slot(self) -> int | None:
        """Return the next slot in turn that nobody uses, with its lock held."""
        self._lock(self.slots, _ALONE)
        try:
            for _ in range(self.slots):
                slot = int(self._turn[0]) % self.slots
                self._turn[0] += 1
                if not self._in_use[slot] and self._lock(slot, _ALONE_AT_ONCE):
                    return slot
            return None
        finally:
            self._lock(self.slots, _FREE)

    def _hold(self, slot: int) -> None:
        self._in_use[slot] += 1
        self._lock(slot, _SHARED)

    def _let_go(self, slot: int) -> None:
        self._in_use[slot] -= 1
        if not self._in_use[slot]:
            self._lock(slot, _FREE)

    def _lock(self, number: int, how: int) -> bool:
        """Change the lock of a slot, and tell whether that was done; number ``slots`` is the lock of the turn."""
        if fcntl is None:  # No processes are forked there, so every process has a ring of its own.
            return True
        try:
            fcntl.lockf(self._file, how, 1, number)
        except (BlockingIOError, PermissionError):  # Systems differ in how they say that somebody else has it.
            return False
        return True

    def __getstate__(self) -> dict:
        # Memory cannot travel to a spawned process: it starts with an empty ring of its own.
        return {"count": self.count, "slots": self.slots, "slot_bytes": self.slot_bytes}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._make()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)
