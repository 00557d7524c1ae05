"""What an assignment looks like from outside, whatever the family: which places answer for which objects."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AssignedPoints:
    """The n positive locations of a batch.

    Attributes:
        image: (n,) image index.
        object: (n,) index of the object among the rows of its image's labels.
        places: (n, 2) x and y in pixels of the network input.
    """

    image: Tensor
    object: Tensor
    places: Tensor
