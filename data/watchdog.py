"""Which data worker is reading which file since when, and what is said and done when one of them hangs."""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.data import get_worker_info

from utils.errors import RunError

POLL_SECONDS = 2.0
"""How often a waiting main process looks after its workers."""
HANG_SECONDS = 60.0
"""Wait for one batch after which a first warning comes; the next ones after twice, four times ... as long."""
GIVE_UP_SECONDS = 600.0
"""Wait for one batch that ends the run."""
_MOST_NAMED = 4
_FIELDS = struct.Struct("=qdi")
_SLOT = 1024
_log = logging.getLogger("yolograph")


class Reading(NamedTuple):
    """What one worker is doing.

    Attributes:
        worker: its number, from 0.
        pid: its process; 0 before it has started.
        file: what it reads; empty while it waits for work.
        seconds: for how long; 0 while it waits.
    """

    worker: int
    pid: int
    file: str
    seconds: float

    def __str__(self) -> str:
        doing = f"busy with {self.file} for {self.seconds:.0f} s" if self.file else "idle"
        return f"data worker {self.worker} (pid {self.pid}): {doing}"


class ReadingTable:
    """One line per worker in memory that all processes share; a worker writes its own, the main process reads all.

    Nothing is locked, so a killed worker cannot leave a lock behind; a line that changes while it is read counts as
    idle. Writing one takes about a microsecond.

    Args:
        workers: number of lines.
    """

    def __init__(self, workers: int):
        self._shared = torch.zeros(workers * _SLOT, dtype=torch.uint8).share_memory_()
        self._bytes = memoryview(self._shared.numpy())

    def __getstate__(self) -> dict:
        return {"_shared": self._shared}

    def __setstate__(self, state: dict) -> None:
        self._shared = state["_shared"]
        self._bytes = memoryview(self._shared.numpy())

    def clear(self) -> None:
        """Empty all lines; for new workers."""
        self._shared.zero_()

    def begin(self, file: str) -> None:
        """Write down that this worker begins to read a file; outside a worker nothing happens."""
        info = get_worker_info()
        if info is not None:
            self.write(info.id, file)

    def end(self) -> None:
        """Write down that this worker waits for work."""
        self.begin("")

    def write(self, worker: int, file: str) -> None:
        """Write the line of a worker, which is the calling process; an empty name means that it waits."""
        start = worker * _SLOT
        # The end of a path tells more than its beginning.
        name = file.encode("utf-8", "surrogateescape")[-(_SLOT - _FIELDS.size) :]
        _FIELDS.pack_into(self._bytes, start, os.getpid(), 0.0, 0)
        self._bytes[start + _FIELDS.size : start + _FIELDS.size + len(name)] = name
        _FIELDS.pack_into(self._bytes, start, os.getpid(), time.monotonic() if name else 0.0, len(name))

    def read(self) -> list[Reading]:
        """Return what every worker is doing."""
        return [self._line(worker) for worker in range(len(self._bytes) // _SLOT)]

    def _line(self, worker: int) -> Reading:
        start = worker * _SLOT
        before = _FIELDS.unpack_from(self._bytes, start)
        pid, since, length = before
        name = bytes(self._bytes[start + _FIELDS.size : start + _FIELDS.size + length])
        if not length or _FIELDS.unpack_from(self._bytes, start) != before:
            return Reading(worker, pid, "", 0.0)
        return Reading(worker, pid, name.decode("utf-8", "replace"), time.monotonic() - since)


class Wait:
    """One wait of the main process for a batch, from the moment at which it has taken ``POLL_SECONDS``.

    A stretch in which this process itself stood still (stopped, asleep) counts as two polls at most.

    Args:
        table: what the workers are doing.
        clock: seconds, growing.
    """

    def __init__(self, table: ReadingTable, clock: Callable[[], float] = time.monotonic):
        self._table, self._clock = table, clock
        self._seen = clock()
        self._waited = POLL_SECONDS
        self._warn_at = HANG_SECONDS

    def look(self) -> None:
        """Warn or give up if it is time to; called about every ``POLL_SECONDS``.

        Raises:
            RunError: the wait has taken ``GIVE_UP_SECONDS``; names the file.
        """
        now = self._clock()
        self._waited += min(now - self._seen, 2 * POLL_SECONDS)
        self._seen = now
        if self._waited < min(self._warn_at, GIVE_UP_SECONDS):
            return
        busy = sorted((line for line in self._table.read() if line.file), key=lambda line: -line.seconds)
        if self._waited >= GIVE_UP_SECONDS:
            raise RunError(self._last_words(busy))
        while self._warn_at <= self._waited:
            self._warn_at *= 2
        told = "; ".join(map(str, busy[:_MOST_NAMED])) or "no data worker is reading anything"
        _log.warning("waiting for a batch for %.0f s; %s", self._waited, told)

    def _last_words(self, busy: list[Reading]) -> str:
        if not busy:
            return f"no batch came for {self._waited:.0f} s although no data worker is reading; try --workers 0"
        return (
            f"no batch came for {self._waited:.0f} s; {busy[0]}; check that this file and its disk can be read, "
            "or take the file out of the data set"
        )
