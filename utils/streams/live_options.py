"""How live sources are read, and what is counted while they are."""

from __future__ import annotations

from dataclasses import dataclass

MOST_FIRST_TRIES = 3
"""Tries before a source that has never delivered is given up: an address with a slip in it should not take minutes."""


@dataclass(frozen=True)
class LiveOptions:
    """How live sources are read.

    Attributes:
        queue: most frames that wait for somebody to take them; the oldest makes room for the newest.
        stride: every how-manieth frame is delivered.
        reconnect: tries in a row to reach a source again before it is given up; 0 for no end of tries. A source that
            has never delivered is given up after 3 at most.
        stale: age in seconds from which on a waiting frame is no longer delivered.
        first_delay: seconds before the second try; doubles with every further one.
        longest_delay: seconds between two tries at most.
    """

    queue: int = 2
    stride: int = 1
    reconnect: int = 10
    stale: float = 5.0
    first_delay: float = 0.5
    longest_delay: float = 30.0

    def delay(self, tries: int) -> float:
        """Return the seconds to wait after so many tries in a row, from 1."""
        # The exponent is bounded because a source may be tried for months.
        return min(self.first_delay * 2.0 ** min(tries - 1, 30), self.longest_delay)

    def gives_up(self, tries: int, delivered: bool) -> bool:
        """Return whether so many tries in a row are enough.

        Args:
            tries: that have failed in a row.
            delivered: whether the source has ever given a frame.
        """
        if self.reconnect == 0:
            return False
        return tries >= (self.reconnect if delivered else min(self.reconnect, MOST_FIRST_TRIES))


@dataclass
class LiveCounts:
    """What became of the frames of a live source.

    Attributes:
        delivered: frames that somebody took.
        dropped: frames that made room for newer ones.
        stale: frames that had become too old.
        reconnects: how often the source came back after its connection was lost.
    """

    delivered: int = 0
    dropped: int = 0
    stale: int = 0
    reconnects: int = 0

    def __str__(self) -> str:
        """Return the counts as words; what did not happen is left out, but for the frames."""
        parts = [f"{self.delivered} frame{'' if self.delivered == 1 else 's'}"]
        for count, what in ((self.dropped, "dropped"), (self.stale, "stale")):
            if count:
                parts.append(f"{count} {what}")
        if self.reconnects:
            parts.append(f"{self.reconnects} reconnect{'' if self.reconnects == 1 else 's'}")
        return ", ".join(parts)
