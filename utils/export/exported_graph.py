"""The module that is exported: from uint8 images to the decoded predictions of the chosen heads, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.graph import Graph
from models.layers.detr_queries import TwoStageQueries
from models.predictions import named_outputs
from utils.export.token_choices import TOKENS, TokenChoices, choosing_rows
from utils.image_size import round_up_to_stride

NCHW, NHWC = "NCHW", "NHWC"
"""The order of the input's axes: colours before rows and columns, or behind them as programs hold pictures."""
LEAST_SAMPLE = 64
"""Side in pixels of the picture that tells which outputs there are, rounded up to the stride; twice that at least."""


class ExportedGraph(nn.Module):
    """A graph with preprocessing in front and every head's decoding behind; no suppression, no top-k.

    An output is named ``HEAD_FIELD`` after the head and the field of its predictions, such as ``detect_boxes``. Where
    the order counts in which a head's queries are chosen (``ordered_heads``), ``HEAD_tokens`` tells it.

    Args:
        graph: the model; the wrapper puts it into eval mode.
        heads: names of the heads to run.
        layout: of the input's axes, ``NCHW`` or ``NHWC``.

    Class attributes:
        answers: what the outputs are, ``candidates`` or ``objects``.

    Raises:
        ModelError: the model has no such head.
    """

    answers: ClassVar[str] = "candidates"

    def __init__(self, graph: Graph, heads: Iterable[str], layout: str = NCHW) -> None:
        super().__init__()
        self.layout = layout
        # Not 'graph': the exporter copies attributes onto an fx.GraphModule, which has a graph of its own.
        self.model = graph
        self.heads = tuple(heads)
        graph.plan(self.heads)
        self.eval()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the named outputs.

        Args:
            images: uint8 RGB, (B, 3, H, W), or (B, H, W, 3) where the layout is ``NHWC``; H and W multiples of the
                graph's stride.
        """
        if self.layout == NHWC:
            images = images.permute(0, 3, 1, 2)
        return {name: tensor for outputs in self.by_head(images).values() for name, tensor in outputs.items()}

    def example(self, shape: tuple[int, int, int]) -> Tensor:
        """Return black pictures in the layout of the input.

        Args:
            shape: batch size, height and width.
        """
        batch, height, width = shape
        sides = {"N": batch, "C": self.model.spec.channels, "H": height, "W": width}
        device = next(self.model.parameters()).device
        return torch.zeros([sides[axis] for axis in self.layout], dtype=torch.uint8, device=device)

    def by_head(self, images: Tensor, choices: TokenChoices | None = None) -> dict[str, dict[str, Tensor]]:
        """Return the named outputs of every head.

        Args:
            images: (B, 3, H, W), whatever the layout of the input.
            choices: what looks on while the queries of ``ordered_heads`` are chosen, and may tell them what to take.
        """
        choices = choices or self.watched()
        if not choices.rows:
            return self._named(self._predictions(images))
        with choices:
            outputs = self._named(self._predictions(images))
        for head, tokens in choices.own.items():
            outputs[head][f"{head}_{TOKENS}"] = tokens
        return outputs

    def watched(self, told: Mapping[str, Tensor] | None = None) -> TokenChoices:
        """Return what looks on while the queries of ``ordered_heads`` are chosen.

        Args:
            told: by head, the tokens that its queries shall begin with, (B, Q) int64.
        """
        rows = {head: row for head, row in self._choosing().items() if row.mixed_selection}
        return TokenChoices(rows, told)

    def _named(self, predictions: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        return {
            head: {f"{head}_{field}": tensor for field, tensor in named_outputs(answer).items()}
            for head, answer in predictions.items()
        }

    def _predictions(self, images: Tensor) -> dict[str, Any]:
        raw = self.model(images, heads=self.heads)
        size = images.shape[-2], images.shape[-1]
        return {name: self.model.heads[name].predict(raw[name], size) for name in self.heads}

    @torch.no_grad()
    def output_names(self) -> dict[str, list[str]]:
        """Return the names of every head's outputs in the order of ``forward``."""
        return {head: list(outputs) for head, outputs in self.by_head(self._sample()).items()}

    @torch.no_grad()
    def distinct_heads(self) -> list[str]:
        """Return the heads whose every candidate stands for an object of its own, so that nothing is suppressed."""
        predictions = self._predictions(self._sample())
        return [head for head, answer in predictions.items() if getattr(answer, "distinct", False)]

    def set_heads(self) -> list[str]:
        """Return the heads whose queries are chosen, and whose answer is the same set in whatever order they are."""
        return [head for head, row in self._choosing().items() if not row.mixed_selection]

    def ordered_heads(self) -> list[str]:
        """Return the heads whose queries are chosen, and whose answers depend on the order of the choice."""
        return [head for head, row in self._choosing().items() if row.mixed_selection]

    def _choosing(self) -> dict[str, TwoStageQueries]:
        return {head: row for head, row in choosing_rows(self.model).items() if head in self.heads}

    def _sample(self) -> Tensor:
        """Return a small black picture."""
        side = max(2 * self.model.stride, round_up_to_stride(LEAST_SAMPLE, self.model.stride))
        device = next(self.model.parameters()).device
        return torch.zeros(1, self.model.spec.channels, side, side, dtype=torch.uint8, device=device)
