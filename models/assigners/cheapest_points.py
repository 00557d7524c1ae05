"""Every object takes the points that cost it least, and every point goes to one object.

These are the last steps of SimOTA and of dynamic soft labels, which differ in what a pair costs and how many points an
object takes. Objects are weighed in pieces, so that memory is bounded whatever their number; nobody waits for a device.

Shape suffixes: B images, G objects (padded), g objects of a piece, P candidates (padded), T choices of an object,
S = G x T slots for positive points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.assigners.candidates import Candidates
from models.assigners.scored_points import pieces
from models.assigners.slots import contested_and_first

MOST_PAIRS = 1 << 22
"""Most pairs of a piece, unless one object of every image has more."""
LEAST_COST = 1e-30
_BIG = 1 << 31


@dataclass(frozen=True)
class Choices:
    """What every object takes, before objects compete.

    Attributes:
        position: (B, G, T) place of a candidate in its image's list.
        taken: (B, G, T) bool.
        cheapest: (B, P) the object to which a candidate costs least.
    """

    position: Tensor
    taken: Tensor
    cheapest: Tensor


@dataclass(frozen=True)
class Settled:
    """Who answers for whom, in S slots of which only some are used.

    Attributes:
        position: (B, S) place of a candidate in its image's list.
        owner: (B, S) index of the object that it answers for.
        used: (B, S) bool.
    """

    position: Tensor
    owner: Tensor
    used: Tensor


def choose(
    weigh: Callable[[slice], tuple[Tensor, Tensor]],
    candidates: Candidates,
    objects: int,
    most: int,
    columns: int | None = None,
    limit: float = math.inf,
) -> Choices:
    """Weigh all pairs, some objects at a time, and let every object choose.

    Args:
        weigh: returns for a slice of objects the costs (B, g, P), ``LEAST_COST`` or more, infinite for padding of both
            kinds, and how many points each takes (B, g, 1).
        candidates: of all images.
        objects: G.
        most: points that an object may take.
        columns: of the largest tensor over pairs that ``weigh`` makes; P if None.
        limit: a pair that costs as much is never chosen, nor is one that costs no number at all.

    Returns:
        The choices. Of equal costs the lower point's comes first, and the lower object's.
    """
    images, width = candidates.index.shape
    choices = min(most, width)
    order = torch.arange(width, device=candidates.index.device)
    places, taken = [], []
    least, cheapest = None, None
    for some in pieces(objects, images * (columns or width), MOST_PAIRS):
        cost, count = weigh(some)
        # A float above 0 sorts like the whole number of the same bits; with the place behind it no two are equal.
        key = (cost.view(torch.int32).long() * _BIG).add_(order).topk(choices, largest=False).values
        place = key & (_BIG - 1)
        first = torch.arange(choices, device=count.device) < count
        places.append(place)
        taken.append(first & (cost.gather(2, place) < limit))
        lowest, lowest_object = cost.min(1)
        if least is None:
            least, cheapest = lowest, lowest_object
        else:
            cheapest = (lowest_object + some.start).where(lowest < least, cheapest)
            least = torch.minimum(least, lowest)
    return Choices(torch.cat(places, 1), torch.cat(taken, 1), cheapest)


def settle(choices: Choices, candidates: Candidates) -> Settled:
    """Give every candidate that was taken to one object: of several to the one to which it costs least.

    That is the cheapest of all objects of the image, also if it did not take the candidate itself.
    """
    place, taken = choices.position.flatten(1), choices.taken.flatten(1)
    contested, used = contested_and_first(place, taken, candidates.index.shape[1])
    own = torch.arange(place.shape[1], device=place.device) // max(choices.position.shape[2], 1)
    return Settled(place, choices.cheapest.gather(1, place).where(contested, own), used)
