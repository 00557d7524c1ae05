"""A model that answers for pixels as a file with objects does: with the class of every pixel of the input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from models.inference import Inference, Sizes
from models.predictions import ClassMaps, Masks


class ChosenPixels(Inference):
    """Graphs whose masks are class maps at the size of the input.

    Enlarged to a picture's own size, class maps have other edges than logits. What a file is worth is measured beside
    a model that chooses at the same size, as it is beside one with the same thresholds.
    """

    def __call__(
        self, images: Tensor, heads: Iterable[str], dtype: torch.dtype | None = None, sizes: Sizes | None = None
    ) -> dict[str, Any]:
        """Return the decoded predictions of the asked heads, see ``Inference``."""
        answers = super().__call__(images, heads, dtype, sizes)
        return {head: _chosen(answer) if isinstance(answer, Masks) else answer for head, answer in answers.items()}


def _chosen(masks: Masks) -> ClassMaps:
    return ClassMaps(masks.logits.argmax(1).to(torch.uint8), masks.num_classes)
