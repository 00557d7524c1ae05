"""Reads one live source in a thread of its own: few frames wait, the newest win, a lost connection is made anew."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import cv2
import numpy as np

from data.frame import Frame
from utils.errors import DataError, YolographError
from utils.opencv_messages import quiet_opencv
from utils.streams.capture import announced_length, open_live, rate_of
from utils.streams.live_options import LiveCounts, LiveOptions
from utils.streams.live_source import LiveSource

LOGGER = logging.getLogger("yolograph")

PATIENCE = 1.0
"""Seconds to wait for a thread at the end; one that hangs in a decoder is left to end by its own time limit."""

MOST_TOLD, TOLD_EVERY = 10, 100
"""Losses of a connection that the log tells of one by one, and after them: a snapshot is a connection of its own."""

_LONGEST_HANG = 15.0
"""Seconds, more than the time limits of a connection, that the end of the process waits for such a thread."""


class LiveReader:
    """The newest frames of a webcam or a network stream.

    The thread begins with the reader and ends with ``close``, or when the source is given up. A recording behind an
    HTTP address is no live picture: it waits for its frames to be taken, loses none, and ends where it ends.

    Args:
        source: what to read.
        options: how to read it.
        changed: notified whenever a frame arrives and when the reader ends; several readers may share it.
        opener: makes a connection to an address.

    Attributes:
        source: as given.
        counts: what became of the frames so far.
        rate: frames per second that the source names; 25 where it names none, or before it is reached.
        error: why the source was given up; None while it is read, and where it came to its end.
    """

    def __init__(
        self,
        source: LiveSource,
        options: LiveOptions | None = None,
        changed: threading.Condition | None = None,
        opener: Callable[[LiveSource], cv2.VideoCapture] = open_live,
    ) -> None:
        self.source, self.options = source, options or LiveOptions()
        self.counts = LiveCounts()
        self.rate = rate_of(None)
        self.error: YolographError | None = None
        self._changed = changed or threading.Condition()
        self._opener = opener
        self._waiting: deque[tuple[float, float, np.ndarray]] = deque()
        self._stop = threading.Event()
        self._crash: Exception | None = None
        self._recording = False
        self._arrived = 0
        self._tries = 0
        self._losses = 0
        self._alive = True
        self._thread = threading.Thread(target=self._run, name=f"live {source.name}", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether a frame waits; it may turn out to be stale."""
        return bool(self._waiting)

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more; at once where it was asked to stop, even if its thread still hangs."""
        return (self._stop.is_set() or not self._alive) and not self._waiting

    @property
    def arrived(self) -> bool:
        """Whether the source has ever given a frame."""
        return self._arrived > 0

    def take(self) -> Frame | None:
        """Return the frame that has waited longest without being stale, or None where none waits.

        Raises:
            Exception: what ended the thread, if it was nothing that a further try could mend.
        """
        self.raise_fault()
        with self._changed:
            while self._waiting:
                seen, clock_time, image = self._waiting.popleft()
                self._changed.notify_all()
                if not self._recording and time.monotonic() - seen > self.options.stale:
                    self.counts.stale += 1
                    continue
                self.counts.delivered += 1
                return Frame(None, image, self.counts.delivered, self.source.name, clock_time)
        return None

    def raise_fault(self) -> None:
        """Raise what ended the thread, if it was nothing that a further try could mend."""
        if self._crash is not None:
            raise self._crash

    def stop(self) -> None:
        """Ask the thread to end; frames that wait are let go."""
        self._stop.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, but no longer than so many seconds."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            # A thread that comes back from a decoder while Python ends takes the process down, its exit code with it.
            atexit.register(self._outlast)

    def _outlast(self) -> None:
        # Ctrl-C leaves even that.
        with contextlib.suppress(KeyboardInterrupt):
            self._thread.join(_LONGEST_HANG)

    def close(self) -> None:
        """End the thread, and wait for that."""
        self.stop()
        self.join(PATIENCE)

    def __enter__(self) -> LiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._connection_ends_it() and not self._stop.is_set():
                self._tries += 1
                if self.options.gives_up(self._tries, self.arrived):
                    self.error = self._given_up()
                    return
                delay = self.options.delay(self._tries)
                # One line for a loss however long it lasts: months of tries would fill a disk with them.
                if self._tries == 1:
                    self._losses += 1
                    if self._is_told:
                        LOGGER.warning("%s: %s, trying again in %g s", self.source.shown, self._loss(), delay)
                self._stop.wait(delay)
        except Exception as error:
            # Raised to whoever takes the next frame: an exception in a thread would be printed and forgotten.
            self._crash = error
        finally:
            with self._changed:
                self._alive = False
                self._changed.notify_all()

    def _connection_ends_it(self) -> bool:
        """Connect once and read as long as it lasts; return whether that was all there is."""
        capture = self._opener(self.source)
        try:
            if not capture.isOpened():
                return False
            announced = announced_length(self.source, capture)
            self._recording = announced > 0
            self.rate = rate_of(capture)
            seen = self._pump(capture)
        finally:
            capture.release()
        if self._recording and 0 < seen < announced and not self._stop.is_set():
            LOGGER.warning("%s: announces %d frames, but only %d can be read", self.source.shown, announced, seen)
        return self._recording and seen > 0

    def _pump(self, capture: cv2.VideoCapture) -> int:
        """Read frames until there are none or the reader is closed; return how many there were."""
        position = 0
        # A damaged stream can make the decoder fail in any of its steps, and a silent one make it say so.
        with contextlib.suppress(cv2.error), quiet_opencv():
            while not self._stop.is_set() and capture.grab():
                position += 1
                if (position - 1) % self.options.stride:
                    continue
                found, image = capture.retrieve()
                if not found:
                    break
                self._put(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        return position

    def _put(self, image: np.ndarray) -> None:
        with self._changed:
            if self._tries and self.arrived:
                self.counts.reconnects += 1
                if self._is_told:
                    LOGGER.info("%s: connected again", self.source.shown)
            self._tries = 0
            self._arrived += 1
            if self._recording:
                self._changed.wait_for(lambda: len(self._waiting) < self.options.queue or self._stop.is_set())
            if self._stop.is_set():
                return
            if len(self._waiting) >= self.options.queue:
                self._waiting.popleft()
                self.counts.dropped += 1
            self._waiting.append((time.monotonic(), time.time(), image))
            self._changed.notify_all()

    @property
    def _is_told(self) -> bool:
        """Whether the log tells of the last loss."""
        return self._losses <= MOST_TOLD or self._losses % TOLD_EVERY == 0

    def _loss(self) -> str:
        if not self.arrived:
            return "not reached"
        often = f" {self._losses} times, told every {TOLD_EVERY} times from now on" if self._losses >= MOST_TOLD else ""
        return f"connection lost{often}"

    def _given_up(self) -> DataError:
        shown = self.source.shown
        tries = f"{self._tries} tr{'y' if self._tries == 1 else 'ies'}"
        if self.arrived:
            return DataError(f"{shown}: the connection was lost and {tries} did not bring it back; see to the source")
        if self._recording:
            mend = "the server may be unable to send parts of a file; download it and give its path"
        elif self.source.is_webcam:
            mend = "plug it in, close other programs that use it, or give another index"
        else:
            mend = "see whether the address is right, the source is on and its network can be reached"
        return DataError(f"{shown}: not one frame came in {tries}; {mend}")
