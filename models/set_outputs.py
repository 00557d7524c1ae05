"""Raw outputs of heads that answer with a set: every query has classes and a box of its own, in no order.

Shape suffixes: B images, Q queries (detection tokens), L labels, S tokens of an encoder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.tokens import Sizes


class SetLayer(NamedTuple):
    """What one layer of a network says of a batch.

    Attributes:
        logits: (B, Q, L + 1) before a softmax, the last one that of no object; or (B, Q, L) before sigmoids.
        boxes: (B, Q, 4) centre x, centre y, width, height as fractions 0..1 of the picture's valid area.
    """

    logits: Tensor
    boxes: Tensor


class SetProposals(NamedTuple):
    """What a two-stage network says of every token of its encoder, float32, in training alone.

    Attributes:
        logits: (B, S, L) before sigmoids; that of class 0 says whether there is an object.
        boxes: (B, S, 4) proposed, centre x, centre y, width, height as fractions 0..1 of the picture's valid area.
        anchors: (B, S, 4) where each proposal began, in the same form, all numbers 1 where a token is never proposed;
            no gradient.
    """

    logits: Tensor
    boxes: Tensor
    anchors: Tensor


class SetOutputs(NamedTuple):
    """Raw output of a head for sets, float32.

    Attributes:
        logits: as in ``SetLayer``.
        boxes: as in ``SetLayer``.
        sizes: the valid areas of a padded batch; None where every picture fills its input.
        earlier: what earlier layers say, in training alone, in their order; auxiliary losses supervise them.
        one_to_many: what every layer says where several queries may answer for an object, in training alone, in the
            order of the layers, the last one included. Queries are those of the other outputs.
        proposals: of the encoder of a two-stage network, in training alone.
    """

    logits: Tensor
    boxes: Tensor
    sizes: Sizes | None = None
    earlier: tuple[SetLayer, ...] = ()
    one_to_many: tuple[SetLayer, ...] = ()
    proposals: SetProposals | None = None

    @property
    def last(self) -> SetLayer:
        """The layer that answers."""
        return SetLayer(self.logits, self.boxes)


def extents(
    sizes: Sizes | None, image_size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor] | tuple[int, int]:
    """Return height and width of the valid areas in input pixels, by which fractions of them are multiplied.

    Args:
        sizes: of every picture, or None where each fills its input.
        image_size: height and width of the input; plain numbers stay what they are, so that an export knows them.
        device: where to.

    Returns:
        Two tensors (B, 1) float32; the two numbers themselves where every picture fills its input.
    """
    if sizes is None:
        return image_size
    height, width = torch.tensor(sizes, dtype=torch.float32).view(-1, 2).to(device, non_blocking=True).unbind(1)
    return height[:, None], width[:, None]
