"""Steps of a job in threads: several items at a time, results in the order of the items, never many in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 5.0
"""Seconds to wait at the end for a thread that takes items; one that hangs in a decoder is left behind."""


class InOrder(Generic[Item, Result]):
    """The results of some work on items, in their order: a thread takes the items, others do the work.

    Use it in a ``with`` block, whose end also ends the threads; work that has not begun is not done then::

        with InOrder(read_image, paths, workers=4, ahead=8) as images:
            for image in images:
                ...

    What fails, in the work or in getting an item, is raised where its result would come.

    Args:
        work: an item to its result; it runs in several threads at a time.
        items: taken one after the other in one thread, which also closes a generator at the end.
        workers: threads that do the work.
        ahead: most items that are taken and whose results nobody has got; at least 1.
        prepare: called once in every thread that does the work, before it begins.
    """

    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        workers: int = 1,
        ahead: int = 2,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(workers, initializer=prepare)
        self._room = threading.Semaphore(ahead)
        self._results: queue.SimpleQueue[Future[Result] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed, args=(iter(items),), daemon=True)
        self._feeder.start()

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        future = self._results.get()
        if future is None:
            # Who asks again is told again.
            self._results.put(None)
            raise StopIteration
        try:
            return future.result()
        finally:
            self._room.release()

    def close(self) -> None:
        """End the threads; what they are at is finished first."""
        self._stop.set()
        self._room.release()
        self._feeder.join(PATIENCE)
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _feed(self, items: Iterator[Item]) -> None:
        try:
            # Room comes before the item, so that none is taken that would have to wait: a live one would grow old.
            while self._room.acquire() and not self._stop.is_set():
                try:
                    item = next(items)
                except StopIteration:
                    break
                if self._stop.is_set():
                    break
                self._results.put(self._pool.submit(self._work, item))
                del item
        except BaseException as error:
            self._results.put(_failed(error))
        finally:
            if hasattr(items, "close"):
                items.close()
            self._results.put(None)


class Outlet(Generic[Item, Result]):
    """Where items go for some work by threads and a last step, which one thread does, in the order of the items.

    Use it in a ``with`` block. Its end waits until everything is done, also when the user interrupts the block; with
    any other error what is not done is left. What fails in a thread is raised by the next ``put``, or at the end.

    Args:
        work: an item to its result; it runs in several threads at a time.
        last: does the last step with every result.
        workers: threads that do the work.
        ahead: most items that are put in and not done; ``put`` waits until there is room.
    """

    def __init__(
        self, work: Callable[[Item], Result], last: Callable[[Result], object], workers: int = 1, ahead: int = 2
    ) -> None:
        self._work, self._last = work, last
        self._pool = ThreadPoolExecutor(workers)
        self._room = threading.Semaphore(ahead)
        self._results: queue.SimpleQueue[Future[Result] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._leave = False
        self._thread = threading.Thread(target=self._finish, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand an item over, as soon as there is room.

        Raises:
            Exception: what has failed with an earlier one.
        """
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        self._results.put(self._pool.submit(self._work, item))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = kind is None or issubclass(kind, KeyboardInterrupt)
        self._leave = not complete
        self._results.put(None)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            # Whoever interrupts the end, too, waits for no more than what is being done.
            self._leave = True
            self._thread.join()
            raise
        finally:
            self._pool.shutdown()
        if complete and self._error is not None:
            raise self._error

    def _finish(self) -> None:
        while (future := self._results.get()) is not None:
            try:
                if self._leave or self._error is not None:
                    future.cancel()
                else:
                    self._last(future.result())
            except BaseException as error:
                self._error = error
            finally:
                del future
                self._room.release()


def _failed(error: BaseException) -> Future:
    future: Future = Future()
    future.set_exception(error)
    return future
