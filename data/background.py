"""One thread that works ahead: the next items are made while the last one is used."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.1
_working: weakref.WeakSet[Ahead] = weakref.WeakSet()


class Ahead(Generic[Item]):
    """The items of an iterator, in their order, made by a thread of its own; what it raises is raised here.

    Args:
        source: makes the items; used by the thread alone.
        depth: items that may wait to be fetched.
    """

    def __init__(self, source: Iterator[Item], depth: int):
        self._made: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        # The thread holds these and not the object, which can so be thrown away while the thread works.
        arguments = (source, self._made, self._stop)
        self._thread = threading.Thread(target=_work, args=arguments, name="batches ahead", daemon=True)
        _working.add(self)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._stop.is_set():
            raise StopIteration
        good, item = self._made.get()
        if good:
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """Let the thread end after the item that it is making, and wait for that."""
        self._stop.set()
        self._thread.join()

    def __del__(self) -> None:
        self._stop.set()


def _work(source: Iterator[Item], made: queue.Queue, stop: threading.Event) -> None:
    last: BaseException | None = None
    try:
        for item in source:
            if not _put(made, stop, (True, item)):
                return
            del item
    except BaseException as error:
        # Whatever it is, it belongs to the thread that asks for the items.
        last = error
    _put(made, stop, (False, last))


def _put(made: queue.Queue, stop: threading.Event, entry: tuple) -> bool:
    """Hand an entry over when there is room; return False where nobody wants it any more."""
    while not stop.is_set():
        try:
            made.put(entry, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False


@atexit.register
def _end_all() -> None:
    # A thread that still used the device while the interpreter ends would end the process with a fault.
    for ahead in list(_working):
        ahead.close()
