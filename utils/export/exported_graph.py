"""The module that is exported: from uint8 images to the decoded predictions of the chosen heads, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from models.graph import Graph
from models.predictions import named_outputs
from utils.image_size import round_up_to_stride

LEAST_SAMPLE = 64
"""Side in pixels of the picture that tells which outputs there are, rounded up to the stride; twice that at least."""


class ExportedGraph(nn.Module):
    """A graph with preprocessing in front and every head's decoding behind; no suppression, no top-k.

    An output is named ``HEAD_FIELD`` after the head and the field of its predictions, such as ``detect_boxes``.

    Args:
        graph: the model; the wrapper puts it into eval mode.
        heads: names of the heads to run.

    Raises:
        ModelError: the model has no such head.
    """

    def __init__(self, graph: Graph, heads: Iterable[str]) -> None:
        super().__init__()
        # Not 'graph': the exporter copies attributes onto an fx.GraphModule, which has a graph of its own.
        self.model = graph
        self.heads = tuple(heads)
        graph.plan(self.heads)
        self.eval()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the named outputs.

        Args:
            images: (B, 3, H, W) uint8 RGB; H and W multiples of the graph's stride.
        """
        return {name: tensor for outputs in self.by_head(images).values() for name, tensor in outputs.items()}

    def by_head(self, images: Tensor) -> dict[str, dict[str, Tensor]]:
        """Return the named outputs of every head."""
        return {
            name: {f"{name}_{field}": tensor for field, tensor in named_outputs(predictions).items()}
            for name, predictions in self._predictions(images).items()
        }

    def _predictions(self, images: Tensor) -> dict[str, Any]:
        raw = self.model(images, heads=self.heads)
        size = images.shape[-2], images.shape[-1]
        return {name: self.model.heads[name].predict(raw[name], size) for name in self.heads}

    def output_names(self) -> dict[str, list[str]]:
        """Return the names of every head's outputs in the order of ``forward``."""
        return {
            head: [f"{head}_{field}" for field in named_outputs(predictions)]
            for head, predictions in self._sample().items()
        }

    def distinct_heads(self) -> list[str]:
        """Return the heads whose every candidate stands for an object of its own, so that nothing is suppressed."""
        return [head for head, predictions in self._sample().items() if getattr(predictions, "distinct", False)]

    @torch.no_grad()
    def _sample(self) -> dict[str, Any]:
        """Return what the heads say of a small black picture."""
        side = max(2 * self.model.stride, round_up_to_stride(LEAST_SAMPLE, self.model.stride))
        return self._predictions(torch.zeros(1, self.model.spec.channels, side, side, dtype=torch.uint8))
