"""Ctrl-C and SIGTERM as a wish that the training loop fulfils where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from utils.errors import StoppedRun

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Takes the place of the usual reaction to Ctrl-C and SIGTERM while a run is in progress.

    The loop reads ``wanted`` at the end of each step, saves and ends. A second Ctrl-C ends the command at once, as
    without this class.

    Attributes:
        signal_name: of the first signal that came, None before.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._at_once = False
        self._before: dict[signal.Signals, object] = {}

    @property
    def wanted(self) -> bool:
        """Whether a signal has come."""
        return self.signal_name is not None

    def __enter__(self) -> StopRequest:
        # Python lets only the main thread set handlers; a run in another one is stopped by its caller.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # A process that has lost the others of its run ignores signals from then on.
            if signal.getsignal(number) == self._take:
                signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this context a signal raises ``StoppedRun`` where it arrives, one that came earlier at the start."""
        self._raise_if_wanted()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.wanted:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            # What the first signal began, perhaps a save, is not to be broken off by a second SIGTERM.
            return
        self.signal_name = signal.Signals(number).name
        if self._at_once:
            self._raise_if_wanted()

    def _raise_if_wanted(self) -> None:
        if self.wanted:
            raise StoppedRun(f"stopped by {self.signal_name} before the first step")
