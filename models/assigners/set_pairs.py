"""Which queries learn which objects, for several layers at once, in slots so that sizes follow from shapes.

Shape suffixes: K layers, B images, Q queries, M padded objects, P slots of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.assigners.hungarian import Matches

NOTHING = -1
"""The owner of a query that learns no object."""


@dataclass(frozen=True)
class SetPairs:
    """Pairs of queries and objects.

    Attributes:
        query: (K, B, P) int64, query of the slot's pair.
        object: (K, B, P) int64, its object among the padded rows of the image's labels.
        used: (K, B, P) bool, False where the slot has no pair.
        owner: (K, B, Q) int64, the object whose class a query learns, ``NOTHING`` for none. A query of several pairs
            learns the boxes of all of them, but one class.
    """

    query: Tensor
    object: Tensor
    used: Tensor
    owner: Tensor

    def layers(self, wanted: slice) -> SetPairs:
        """Return the pairs of some layers; views."""
        return SetPairs(self.query[wanted], self.object[wanted], self.used[wanted], self.owner[wanted])


def pairs_of_matches(found: Sequence[Matches], images: int, queries: int, objects: int) -> SetPairs:
    """Return one-to-one matches with a slot for every object.

    Args:
        found: of every layer, at least one.
        images: B.
        queries: Q.
        objects: M.
    """
    device = found[0].image.device
    # Pictures of all layers one after the other.
    picture = torch.cat([match.image + layer * images for layer, match in enumerate(found)])
    query, column = (torch.cat([getattr(match, name) for match in found]) for name in ("query", "object"))
    of_object = torch.full((len(found) * images, objects), NOTHING, dtype=torch.int64, device=device)
    of_query = torch.full((len(found) * images, queries), NOTHING, dtype=torch.int64, device=device)
    of_object[picture, column] = query
    of_query[picture, query] = column
    of_object = of_object.view(len(found), images, objects)
    every = torch.arange(objects, device=device).expand_as(of_object)
    used = of_object != NOTHING
    return SetPairs(of_object.clamp(min=0), every, used, of_query.view(len(found), images, queries))
