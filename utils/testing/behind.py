"""Work on results that goes on in a thread while the network looks at the next pictures."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch

from data.samples import Batch

MOST_WAITING = 2
"""Batches that wait for the thread; with more, whoever hands them over waits instead, so memory stays bounded."""

Work = Callable[[list[Any], Batch], None]
"""Takes the results of a batch, and the batch."""


class AtOnce:
    """Does some work batch by batch right away, for whoever wants the time of the network alone.

    Args:
        work: to do.
    """

    def __init__(self, work: Work) -> None:
        self.update = work


class Behind:
    """Does some work batch by batch, in order, in a thread of its own. Use it as a context; it ends with all work done.

    Measuring, drawing and writing hold nobody up then: a test's pass over the pictures is its only one. What the work
    raises is raised by the next ``update``, or at the end.

    Args:
        work: to do.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._waiting: queue.Queue[tuple[list[Any], Batch] | None] = queue.Queue(MOST_WAITING)
        self._error: BaseException | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="behind", daemon=True)

    def update(self, results: list[Any], batch: Batch) -> None:
        """Hand a batch over, as soon as there is room for it."""
        self._raise_error()
        self._waiting.put((results, batch))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._given_up.set()
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        # The mode belongs to a thread, and what was made in it may be changed in place only in it.
        with torch.inference_mode():
            while (item := self._waiting.get()) is not None:
                # After a failure the queue is still emptied, so that nobody waits for room in it for ever.
                if self._error is None and not self._given_up.is_set():
                    try:
                        self._work(*item)
                    except BaseException as error:
                        self._error = error
