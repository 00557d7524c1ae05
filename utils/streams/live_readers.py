"""Several live sources at once: whatever has arrived is taken together, and no source waits for a slow one."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import cv2

from data.frame import Frame
from utils.errors import DataError, YolographError
from utils.streams.capture import open_live
from utils.streams.live_options import LiveOptions
from utils.streams.live_reader import PATIENCE, LiveReader
from utils.streams.live_source import LiveSource

LOGGER = logging.getLogger("yolograph")


class LiveReaders:
    """The frames of several live sources as they come.

    Use it in a ``with`` block, whose end also ends the threads::

        with LiveReaders(sources.live, LiveOptions(stale=2)) as readers:
            for frames in readers.batches(8):
                ...

    Args:
        sources: what to read.
        options: how to read it.
        opener: makes a connection to an address.

    Attributes:
        readers: one for each source, by its name.
        failures: why sources were given up, by their names; complete after the last batch.
    """

    def __init__(
        self,
        sources: Sequence[LiveSource],
        options: LiveOptions | None = None,
        opener: Callable[[LiveSource], cv2.VideoCapture] = open_live,
    ) -> None:
        self._changed = threading.Condition()
        self.failures: dict[str, YolographError] = {}
        self.readers = {source.name: LiveReader(source, options, self._changed, opener) for source in sources}

    def batches(self, most: int) -> Iterator[list[Frame]]:
        """Yield what is there now: one frame of a source at most, and never an empty list.

        Args:
            most: frames together, at least 1; where more sources have one, all get their turn.

        Raises:
            DataError: no source has delivered anything before the last one was given up.
            Exception: what ended a thread, if it was nothing that a further try could mend.
        """
        order = deque(self.readers.values())
        while order:
            with self._changed:
                self._changed.wait_for(lambda: any(reader.ready or reader.ended for reader in order))
            frames: list[Frame] = []
            for _ in range(len(order)):
                # Where there are more sources than places, the next batch begins with those that are left.
                order.rotate(-1)
                frame = order[-1].take()
                if frame is not None:
                    frames.append(frame)
                if len(frames) == most:
                    break
            for reader in [reader for reader in order if reader.ended]:
                order.remove(reader)
                self._note_end(reader)
            if frames:
                yield frames
        self._require_a_frame()

    def close(self) -> None:
        """End all threads; one that hangs in a decoder is left to end by its own time limit."""
        for reader in self.readers.values():
            reader.stop()
        deadline = time.monotonic() + PATIENCE
        for reader in self.readers.values():
            reader.join(max(deadline - time.monotonic(), 0))

    def __enter__(self) -> LiveReaders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note_end(self, reader: LiveReader) -> None:
        reader.raise_fault()
        if reader.error is not None:
            self.failures[reader.source.name] = reader.error
            # The only source's error is raised, and so told anyway.
            if reader.arrived or len(self.readers) > 1:
                LOGGER.warning("given up: %s", reader.error)

    def _require_a_frame(self) -> None:
        if not self.failures or any(reader.arrived for reader in self.readers.values()):
            return
        if len(self.failures) == 1:
            raise next(iter(self.failures.values()))
        shown = ", ".join(reader.source.shown for reader in self.readers.values())
        raise DataError(f"none of the {len(self.failures)} live sources gave a frame: {shown}; the lines above say why")
