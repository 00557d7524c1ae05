"""The pictures that were decoded last, shared by the workers of a loader so that mosaics need not decode them again."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from data.picture_store import nameless_file

try:
    import fcntl
except ModuleNotFoundError:  # Windows does not have it.
    fcntl = None

_NOBODY = -1


class RecentPictures:
    """A ring of slots in shared memory: a picture that is put in takes the place of the oldest one.

    It saves decoding and decides nothing: what it gives is what decoding would give. Made before worker processes are
    forked, it is one ring for all of them. Slots are guarded by record locks, which the system releases when a process
    ends; a slot that a killed process was writing belongs to nobody.

    Args:
        count: pictures in the data set.
        slots: pictures in the ring.
        slot_bytes: of the largest picture; memory is taken from the system as slots are filled.
    """

    def __init__(self, count: int, slots: int, slot_bytes: int):
        self.count, self.slots, self.slot_bytes = count, slots, slot_bytes
        self._make()

    def _make(self) -> None:
        tables = 8 * (1 + self.slots + self.count)
        self._file = nameless_file()
        os.ftruncate(self._file, tables + self.slots * self.slot_bytes)
        memory = mmap.mmap(self._file, 0)
        numbers = np.frombuffer(memory, np.int64, tables // 8)
        self._turn, self._owner, self._slot_of = np.split(numbers, [1, 1 + self.slots])
        self._owner[:] = _NOBODY
        self._pixels = np.frombuffer(memory, np.uint8, offset=tables).reshape(self.slots, self.slot_bytes)

    def get(self, index: int, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return a copy of picture ``index``, which has this shape, or None if the ring does not hold it."""
        slot = int(self._slot_of[index])
        if self._owner[slot] != index:
            return None
        with self._locked(slot, exclusive=False):
            if self._owner[slot] != index:
                return None
            return self._pixels[slot, : shape[0] * shape[1] * shape[2]].reshape(shape).copy()

    def put(self, index: int, picture: np.ndarray) -> None:
        """Store picture ``index`` in the place of the oldest one; one that is too large is left out."""
        if picture.size > self.slot_bytes:
            return
        with self._locked(self.slots):
            slot = int(self._turn[0]) % self.slots
            self._turn[0] += 1
        with self._locked(slot):
            self._owner[slot] = _NOBODY
            self._pixels[slot, : picture.size] = picture.reshape(-1)
            self._slot_of[index] = slot
            self._owner[slot] = index

    @contextmanager
    def _locked(self, number: int, exclusive: bool = True) -> Iterator[None]:
        """Hold the lock of a slot; number ``slots`` is that of the turn."""
        if fcntl is None:  # No processes are forked there, so every process has a ring of its own.
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, 1, number)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def __getstate__(self) -> dict:
        # Memory cannot travel to a spawned process: it starts with an empty ring of its own.
        return {"count": self.count, "slots": self.slots, "slot_bytes": self.slot_bytes}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._make()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)
