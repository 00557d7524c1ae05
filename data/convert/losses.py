"""What a conversion leaves out or changes, counted, so that nothing is lost in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from data.prepare.summary import first_of


class Losses:
    """Counts by sentence; the sentences come out in the order in which they were first needed."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._named: dict[str, list[str]] = {}

    def count(self, what: str, number: int = 1) -> None:
        """Count something.

        Args:
            what: a sentence without its subject's number, such as ``boxes without area left out``.
            number: 0 is not reported.
        """
        if number:
            self._counts[what] += int(number)

    def name(self, what: str, entries: Iterable[str]) -> None:
        """Count entries that the report names, the first of them."""
        for entry in entries:
            self._counts[what] += 1
            self._named.setdefault(what, []).append(entry)

    def lines(self) -> list[str]:
        """Return a line for every sentence."""
        return [
            f"{count} {what}" + (f": {first_of(self._named[what])}" if what in self._named else "")
            for what, count in self._counts.items()
        ]
