"""All faults of something that is read in one go and refused at its first: halves are read until each is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from utils.errors import DataError

MOST_FAULTS = 100
"""Of one file; a file with more is no labels at all, and the first hundred say so."""


@dataclass
class FaultyParts:
    """What was found.

    Attributes:
        places: positions of the faulty parts, in order.
        sentences: what is wrong with each.
        complete: False where there are more than ``MOST_FAULTS``.
    """

    places: list[int] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    complete: bool = True


def find_faulty_parts(count: int, read: Callable[[int, int], object]) -> FaultyParts:
    """Find each part that is refused, by reading ever smaller ranges of parts; few faults take few readings.

    Args:
        count: number of parts.
        read: called with begin and end of a range, raises DataError if a part within is refused.
    """
    found = FaultyParts()
    ranges = [(0, count)] if count else []
    while ranges:
        begin, end = ranges.pop()
        try:
            read(begin, end)
        except DataError as error:
            if len(found.places) == MOST_FAULTS:
                found.complete = False
                return found
            if end - begin == 1:
                found.places.append(begin)
                found.sentences.append(str(error))
            else:
                middle = (begin + end) // 2
                # The last one is taken first.
                ranges += [(middle, end), (begin, middle)]
    return found
